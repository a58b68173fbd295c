"""Where labkit keeps what it makes: `LABKIT_HOME`, by default the user's cache folder."""

import hashlib
import os
import tempfile
from pathlib import Path

LONGEST_SOCKET = 100  # bytes; sun_path holds 108 on Linux and 104 on macOS, the terminating zero included


def home() -> Path:
    """The root folder (created): `$LABKIT_HOME`, or `labkit` in the user's cache folder."""
    chosen = os.environ.get("LABKIT_HOME")
    if chosen:
        root = Path(chosen).expanduser().absolute()
    else:
        import platformdirs

        root = platformdirs.user_cache_path("labkit")
    return _folder(root)


def environments() -> Path:
    """One folder per installed server environment."""
    return _folder(home() / "environments")


def runs() -> Path:
    """Run files, `*.jsonl`."""
    return _folder(home() / "runs")


def logs() -> Path:
    """What servers print."""
    return _folder(home() / "logs")


def servers() -> Path:
    """Runtime records and sockets, for this user only (mode 0700).

    A Unix socket's path is limited by the kernel: where a name of 40 characters would not fit below `home()`, the folder is a short one
    below the system's temporary folder, the same for every process with the same home and user.
    """
    folder = home() / "servers"
    if len(os.fsencode(folder)) + 41 > LONGEST_SOCKET:
        digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:8]
        folder = Path(tempfile.gettempdir()) / f"labkit-{os.getuid()}-{digest}"
    _folder(folder, mode=0o700)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to another user. Remove it, or set LABKIT_HOME to a short path of your own.")
    folder.chmod(0o700)
    return folder


def _folder(path: Path, mode: int = 0o777) -> Path:
    try:
        path.mkdir(mode=mode, parents=True, exist_ok=True)
    except OSError as error:
        remedy = f"labkit cannot make its folder ({error.strerror}); set LABKIT_HOME to a folder you can write"
        raise type(error)(error.errno, remedy, str(path)) from error
    return path
