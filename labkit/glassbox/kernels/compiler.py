"""`kernel`: how the lab's kernels are compiled."""
from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from pathlib import Path

import numba

FOLDER = Path(__file__).parent
CACHE = FOLDER / "__pycache__"  # where Numba keeps machine code, unless it may not write here
STAMP = CACHE / "kernels.sha256"


def forget_old_code() -> None:
    """Numba compares a function with its own file. A kernel holds a copy of those that it calls, which may be in another: when any of these
    files has changed, all machine code goes."""
    sources = b"".join(path.read_bytes() for path in sorted(FOLDER.glob("*.py")))
    digest = hashlib.sha256(sources).hexdigest()
    with contextlib.suppress(OSError):  # a folder that cannot be written to holds no machine code
        if STAMP.exists() and STAMP.read_text() == digest:
            return
        for path in CACHE.glob("*.nb[ic]"):
            path.unlink(missing_ok=True)
        CACHE.mkdir(exist_ok=True)
        STAMP.write_text(digest)


def kernel(function: Callable) -> Callable:
    """Compiled when it is first called with arrays of such types, kept for the next process; gives other threads Python's lock meanwhile.

    Sums may be taken in any order (fastmath), which is what lets a loop become vector instructions.
    """
    return numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")(function)


forget_old_code()
