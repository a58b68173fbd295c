"""The supervisor, over programs that treat their children as tritonserver does its stubs."""
from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from labkit.servers.triton_supervisor import DEAD_STUB, DIED
from tests.servers.conftest import eventually

REPOSITORY = Path(__file__).parents[2]
FORGETS = "import subprocess, time; child = subprocess.Popen(['true']); time.sleep(60)"  # a child that ends and is never collected
COLLECTS = "import subprocess, time; [(subprocess.run(['true']), time.sleep(0.1)) for _ in range(15)]"
OBEYS = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(3)); print('up', flush=True); time.sleep(60)"


def supervise(program: str, prefix: str = "labkit-test-") -> subprocess.Popen:
    command = [sys.executable, "-m", "labkit.servers.triton_supervisor", prefix, sys.executable, "-c", program]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY)


def test_a_child_that_stays_dead_ends_the_server_and_the_log_says_why():
    _, said = (supervisor := supervise(FORGETS)).communicate(timeout=20)
    assert supervisor.returncode == DEAD_STUB
    assert DIED in said


def test_children_that_are_collected_are_no_reason_to_end_anything():
    _, said = (supervisor := supervise(COLLECTS)).communicate(timeout=20)
    assert supervisor.returncode == 0
    assert DIED not in said


def test_a_signal_reaches_the_server_once_and_its_status_comes_back():
    supervisor = supervise(OBEYS)
    assert supervisor.stdout.readline() == "up\n"
    supervisor.send_signal(signal.SIGTERM)
    supervisor.communicate(timeout=20)
    assert supervisor.returncode == 3


def test_shared_memory_of_a_server_that_was_killed_is_removed():
    region = Path("/dev/shm/labkit-test-left-behind")
    region.touch()
    supervise(FORGETS, prefix="labkit-test-left").communicate(timeout=20)
    assert eventually(lambda: not region.exists(), 1)
