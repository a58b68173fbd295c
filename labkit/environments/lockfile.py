"""One maker at a time. Standard library only."""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(path: Path, progress: Callable[[str], None]) -> Iterator[int]:
    """Hold the lock file `path`. Yields the descriptor that holds it: the kernel frees it when its last holder ends, however it ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress(f"another process is installing {path.stem}; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()
