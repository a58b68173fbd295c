"""uv, the installer: found, or fetched through pip into a private folder, and run with the user's pip settings. Standard library only."""

import codecs
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from labkit.environments import pipconfig
from labkit.environments.lockfile import locked

REQUIREMENTS = Path(__file__).parents[2] / "requirements"
Progress = Callable[[str], None]

CAUSES = [
    (r"No space left on device", "the disk is full. Free some space, or set LABKIT_HOME (and UV_CACHE_DIR) to a folder on a larger disk."),
    (
        r"[Hh]ash mismatch",
        "a downloaded file is not the one that was locked. If a mirror of yours rebuilds packages, take the original; otherwise try again.",
    ),
    (
        r"dns error|[Cc]onnection refused|timed out|[Ff]ailed to fetch|error sending request|Temporary failure in name resolution"
        r"|NewConnectionError|Network is unreachable|Max retries|network connectivity|tcp connect",
        "a package index cannot be reached. Check the network. Behind a proxy or a mirror, tell pip of it, "
        "`pip config set global.index-url ...`: labkit hands pip's settings on.",
    ),
    (r"certificate|UnknownIssuer", "the index's certificate is not trusted here. Tell pip of yours: `pip config set global.cert FILE`."),
    (
        r"No matching distribution|No solution found|no wheels with a matching|was not found in the package registry",
        "no index that pip is told of has a package for this machine and Python.",
    ),
    (r"[Pp]ermission denied", "a folder cannot be written. Set LABKIT_HOME (and UV_CACHE_DIR) to folders of your own."),
]


class InstallError(RuntimeError):
    """An environment that could not be made. The message names the cause and the remedy."""


def explain(output: str, doing: str) -> InstallError:
    """What went wrong `doing` something, from what pip or uv printed: the remedy first, then their own last words."""
    tail = "\n".join(line for line in output.strip().splitlines()[-8:])
    cause = next((text for pattern, text in CAUSES if re.search(pattern, output)), "see what the installer said:")
    return InstallError(f"{doing} failed: {cause}\n{tail}")


class Uv:
    """A uv executable and the environment variables it runs with."""

    __slots__ = ("binary", "environ")

    def __init__(self, binary: Path, environ: dict[str, str]):
        self.binary = binary
        self.environ = environ

    def run(self, *words: str | Path, doing: str, progress: Progress | None, keep: int | None = None) -> None:
        """Run `uv WORDS`; every line it prints goes to `progress`, None lets it draw its own bars on this terminal.

        `keep` is a file descriptor that uv inherits: a lock held through it lasts as long as uv does, even when this process is killed.
        Raises `InstallError`.
        """
        screen = progress is None and sys.stderr.isatty()
        reader, writer = terminal() if screen else os.pipe()
        process = subprocess.Popen(
            [str(self.binary), *map(str, words)],
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=writer,
            pass_fds=() if keep is None else (keep,),
        )
        os.close(writer)
        said = ""
        try:
            for piece in chunks(reader):
                said += piece
                if progress is None:
                    sys.stderr.write(piece)
                    sys.stderr.flush()
                else:
                    *lines, _ = said[said.rfind("\n", 0, len(said) - len(piece)) + 1 :].split("\n")
                    for line in lines:
                        if not line.startswith(" +"):
                            progress(line.strip())
            status = process.wait()
        except BaseException:
            process.terminate()
            process.wait()
            raise
        finally:
            os.close(reader)
        if status:
            raise explain(re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", said), doing)


def terminal() -> tuple[int, int]:
    """A pseudo-terminal of the size of the one on stderr: what is written to the second descriptor is read from the first."""
    import fcntl
    import pty
    import termios

    reader, writer = pty.openpty()
    fcntl.ioctl(writer, termios.TIOCSWINSZ, fcntl.ioctl(sys.stderr.fileno(), termios.TIOCGWINSZ, b"\0" * 8))
    return reader, writer


def chunks(descriptor: int) -> Iterator[str]:
    """Text as it arrives, to the end. A pseudo-terminal reports its end as an input error."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    while True:
        try:
            data = os.read(descriptor, 65536)
        except OSError:
            return
        if not data:
            return
        yield decoder.decode(data)


def find(workshop: Path, progress: Progress) -> Uv:
    """The locked uv: beside this Python, or in `workshop`, where pip puts it when it is in neither. Raises `InstallError`."""
    with locked(workshop / "uv.lock", progress):
        return find_or_fetch(workshop / "uv", progress)


def find_or_fetch(folder: Path, progress: Progress) -> Uv:
    environ = pipconfig.environment(os.environ)
    environ.pop("VIRTUAL_ENV", None)
    wanted = re.search(r"^uv==(\S+)", (REQUIREMENTS / "uv.txt").read_text(), re.MULTILINE).group(1)
    for binary in (Path(sys.executable).parent / "uv", folder / "bin" / "uv"):
        if version(binary) == wanted:
            return Uv(binary, environ)
    for python in dict.fromkeys((Path(sys.executable), Path(sys.base_prefix) / "bin" / "python3")):
        if subprocess.run([str(python), "-m", "pip", "--version"], capture_output=True, stdin=subprocess.DEVNULL).returncode:
            continue
        progress(f"fetching uv {wanted}")
        shutil.rmtree(folder, ignore_errors=True)
        command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps"]
        command += ["--require-hashes", "--target", str(folder), "-r", str(REQUIREMENTS / "uv.txt")]
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if done.returncode:
            raise explain(done.stdout + done.stderr, f"fetching uv {wanted} with pip")
        return Uv(folder / "bin" / "uv", environ)
    other = shutil.which("uv")
    if other:
        return Uv(Path(other), environ)
    raise InstallError(
        f"{sys.executable} has no pip, and there is no uv on PATH. Install either: `apt install python3-pip`, or a Python from python.org."
    )


def version(binary: Path) -> str | None:
    """`0.13.9`, or None when there is no uv that runs."""
    try:
        said = subprocess.run([str(binary), "--version"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    words = said.stdout.split()
    return words[1] if said.returncode == 0 and len(words) > 1 else None
