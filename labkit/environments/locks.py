"""`make locks`: resolve `requirements/*.in` into files with a hash for every package, and with no address in them.

torch-cpu.txt is kept by hand: its hashes are of files on PyTorch's own index.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from labkit.environments import bootstrap
from labkit.environments.recipes import PYTHON
from labkit.environments.uv import REQUIREMENTS, InstallError, find


@dataclass(frozen=True, slots=True)
class Lock:
    name: str
    platform: str | None = None  # None: one lock for every platform
    override: str | None = None

    def words(self) -> list[str]:
        """Arguments for uv, run in the repository's root so that comments name files by their relative path."""
        words = ["pip", "compile", "--quiet", "--upgrade", "--generate-hashes", "--no-header", "--python-version", PYTHON]
        words += ["--python-platform", self.platform] if self.platform else ["--universal"]
        words += ["--override", f"requirements/{self.override}"] if self.override else []
        return [*words, f"requirements/{self.name}.in", "--output-file", f"requirements/{self.name}.txt"]


LINUX = "x86_64-manylinux_2_28"
TRITON_LINUX = "x86_64-manylinux_2_35"  # nvidia-pytriton's wheel
LOCKS = (
    Lock("uv"),
    Lock("lab", override="torch-apart.override"),
    Lock("torch-cuda"),
    Lock("vllm", TRITON_LINUX, "vllm.override"),
    Lock("vllm-cuda", LINUX),
    Lock("triton", TRITON_LINUX, "torch-apart.override"),
    Lock("references", LINUX, "torch-apart.override"),
)


def main(names: list[str]) -> int:
    """Make all locks anew, or those named."""
    os.chdir(REQUIREMENTS.parent)
    try:
        uv = find(Path(".labkit"), bootstrap.say)
        for extra in ("UV_EXTRA_INDEX_URL", "UV_FIND_LINKS"):  # a lock names the files of the index, not this machine's
            uv.environ.pop(extra, None)
        for lock in LOCKS:
            if not names or lock.name in names:
                uv.run(*lock.words(), doing=f"locking {lock.name}", progress=bootstrap.say)
    except InstallError as error:
        bootstrap.say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
