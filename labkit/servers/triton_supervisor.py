"""Run tritonserver and end it when one of its stub processes has died.

    python -m labkit.servers.triton_supervisor SHARED_MEMORY_PREFIX TRITONSERVER ARGUMENT...

Triton answers new requests of a model whose Python stub is dead with an error, but never ends the streams that were open: their
clients would wait for ever. Ending the server closes their connections. Exits with tritonserver's own status, or with 70.
"""
from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

LOOK = 0.25  # seconds between two looks at the stubs
LOOKS = 4  # in a row at which a stub is dead, until it is believed
STOPS = (signal.SIGTERM, signal.SIGINT)
DEAD_STUB = 70  # exit status
DIED = "the process of a Triton model has died; streams in flight would never end, so Triton is stopped"
SHARED_MEMORY = Path("/dev/shm")


def children(parent: int) -> set[int]:
    """The processes that any thread of `parent` has started."""
    found = set()
    for file in Path(f"/proc/{parent}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # that thread has ended
            found |= set(map(int, file.read_text().split()))
    return found


def state(pid: int) -> str:
    """The one-letter state of a process in /proc, "" when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def watch(server: subprocess.Popen, stopping: list[int], stubs: set[int]) -> int:
    """Wait for the end of `server` and return its status; end it if a stub stays dead. Adds to `stubs` all it sees."""
    dead: dict[int, int] = {}  # at so many looks in a row
    end = os.pidfd_open(server.pid)
    while not select.select([end], [], [], LOOK)[0]:
        stubs |= (alive := children(server.pid))
        # Triton collects a stub only when it unloads the model itself.
        dead = {pid: dead.get(pid, 0) + 1 for pid in alive if state(pid) == "Z"}
        if max(dead.values(), default=0) >= LOOKS and not stopping:
            print(f"labkit: {DIED}", file=sys.stderr, flush=True)
            server.kill()
            server.wait()
            return DEAD_STUB
    return server.wait()


def main(argv: list[str]) -> int:
    prefix, *command = argv
    stopping: list[int] = []
    # A process group of its own: a signal to ours reaches the stubs only through Triton, which then unloads its models in order.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)  # one that comes before there is a server waits until there is
    server = subprocess.Popen([*command, f"--backend-config=python,shm-region-prefix-name={prefix}"], process_group=0,
                              preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS))

    def stop(number: int, _: object) -> None:
        if not stopping:
            server.send_signal(signal.SIGTERM)
        stopping.append(number)

    for number in STOPS:
        signal.signal(number, stop)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
    stubs: set[int] = set()
    try:
        status = watch(server, stopping, stubs)
        return status if status >= 0 else 128 - status
    finally:
        for pattern in (f"{prefix}*", *(f"__KMP_REGISTERED_LIB_{pid}_*" for pid in stubs)):  # Triton's, and torch's OpenMP's
            for region in SHARED_MEMORY.glob(pattern):
                region.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
