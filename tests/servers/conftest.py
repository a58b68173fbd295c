"""What the tests of servers share: a home of their own, users in processes of their own, and waiting without sleeping blindly."""
from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

TOY = "tests.servers.toy:Toy"
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A fresh LABKIT_HOME, so that no test meets another's servers. Its path is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="lab-", ignore_cleanup_errors=True) as folder:
        monkeypatch.setenv("LABKIT_HOME", folder)
        yield Path(folder)


def eventually(condition: Callable[[], bool], seconds: float = 15.0) -> bool:
    """Whether `condition` comes true within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class User:
    """A process of its own that serves and then does as it is told, line by line."""

    PROGRAM = """
import json, os, sys
import labkit.servers as servers
server = servers.serve(sys.argv[1], progress=False, **json.loads(sys.argv[2]))
import psutil
family = [p.pid for p in psutil.Process(server.record.guard).children(recursive=True)] if server.record.guard else []
print(json.dumps({"pid": server.pid, "url": server.url, "id": server.record.id, "family": family}), flush=True)
for line in sys.stdin:
    exec(line)
    print("{}", flush=True)
"""

    def __init__(self, name: str, **settings: object):
        self.process = subprocess.Popen([sys.executable, "-c", self.PROGRAM, name, json.dumps(settings)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, cwd=REPOSITORY, start_new_session=True)
        line = self.process.stdout.readline()
        assert line, "the user could not serve"
        self.server = json.loads(line)

    def do(self, code: str) -> None:
        self.process.stdin.write(code + "\n")
        self.process.stdin.flush()
        self.process.stdout.readline()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture
def user(home: Path) -> Iterator[Callable[..., User]]:
    """Starts users; ends those that are left."""
    started: list[User] = []

    def start(name: str = TOY, **settings: object) -> User:
        started.append(User(name, **settings))
        return started[-1]

    yield start
    for each in started:
        each.end()
