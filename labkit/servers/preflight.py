"""What can be known before a server starts: a free port, enough memory, room on the disk."""
from __future__ import annotations

import contextlib
import random
import shutil
import socket
from pathlib import Path

import psutil

from labkit.servers.driver import ServerError

LEAST_DISK = 64 << 20  # bytes for logs and run files
HOST = "127.0.0.1"
PORTS = range(20_000, 32_768)  # below those that systems give to outgoing connections and to whoever asks for any


def free_ports(count: int = 1) -> list[int]:
    """Different ports on which nobody listens. They are not held, but nobody gets one without naming it: a server that takes long to start
    finds them as they were. Raises `ServerError` when there are not so many."""
    found: list[int] = []
    untried = iter(random.SystemRandom().sample(PORTS, len(PORTS)))  # a user's seed would send two notebooks to the same ports
    while len(found) < count:
        port = next(untried, None)
        if port is None:
            raise ServerError(f"fewer than {count} ports from {PORTS[0]} to {PORTS[-1]} are free: stop some servers, or give a port")
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((HOST, port))
            found.append(port)
    return found


def check_port(port: int) -> int:
    """`port`, if a server could listen on it. Raises `ServerError` that names who has it."""
    if not 1 <= port <= 65535:
        raise ServerError(f"{port} is no port: give one from 1 to 65535, or none and labkit finds a free one")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except PermissionError:
            raise ServerError(f"port {port} needs an administrator's rights: give one above 1023, or none") from None
        except OSError:
            raise ServerError(f"port {port} is taken{_holder(port)}. Stop that process, give another port, "
                              f"or give none and labkit finds a free one") from None
    return port


def _holder(port: int) -> str:
    with contextlib.suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                process = psutil.Process(connection.pid)
                return f" by process {connection.pid} ({' '.join(process.cmdline())[:80] or process.name()})"
    return ""


def check_disk(folder: Path) -> None:
    """Raises `ServerError` if logs and run files would not fit into `folder`."""
    free = shutil.disk_usage(folder).free
    if free < LEAST_DISK:
        raise ServerError(f"the disk that holds {folder} is full ({free / 2**20:.0f} MiB free, {LEAST_DISK >> 20} MiB needed for logs and "
                          f"run files). Free some room, or set LABKIT_HOME to a folder on another disk")


def check_memory(name: str, needed: int) -> None:
    """Raises `ServerError` if fewer than `needed` bytes of main memory are available."""
    available = available_memory()
    if available < needed:
        raise ServerError(f"{name} needs about {needed / 2**30:.1f} GiB of memory and {available / 2**30:.1f} GiB are available. "
                          f"Stop other servers or notebooks, or give it a smaller model")


def available_memory() -> int:
    """Bytes that can be had now, a container's limit included."""
    available = psutil.virtual_memory().available
    group = Path("/sys/fs/cgroup")
    with contextlib.suppress(OSError, ValueError):
        limit, used = int((group / "memory.max").read_text()), int((group / "memory.current").read_text())
        cache = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())["inactive_file"]
        available = min(available, limit - used + int(cache))
    return available
