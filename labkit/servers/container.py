"""Run a server's container in the foreground, and end it whatever ends first: its user, this process, or Docker's client.

    python -m labkit.servers.container NAME SECONDS docker run --name NAME ...

Killing `docker run` does not end its container. So SIGTERM becomes `docker stop` with SECONDS of grace, and a watcher in a session
of its own, which holds the read end of a pipe to this process, removes the container when this process is gone, however it went.
"""
from __future__ import annotations

import os
import signal
import subprocess
import sys


def docker(*words: str, timeout: float = 30.0) -> None:
    """Run a Docker command for its effect. A container that is gone already is as good as one that was removed."""
    nowhere = subprocess.DEVNULL
    subprocess.run(["docker", *words], stdin=nowhere, stdout=nowhere, stderr=nowhere, timeout=timeout, check=False)


def watch(name: str) -> None:
    """Fork the watcher. It outlives signals to our process group and our session."""
    read, write = os.pipe()
    if os.fork():
        os.close(read)
        return  # the write end stays open as long as this process lives
    os.close(write)
    os.setsid()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.read(read, 1)  # returns at the end of file: nobody writes
    docker("rm", "--force", name)
    os._exit(0)


def main(argv: list[str]) -> int:
    name, seconds, *command = argv
    watch(name)
    # Docker's client in a group of its own: it is asked through Docker, never by our group's signals.
    client = subprocess.Popen(command, stdin=subprocess.DEVNULL, process_group=0)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: docker("stop", "--time", seconds, name, timeout=float(seconds) + 10))
    status = client.wait()
    docker("rm", "--force", name)
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
