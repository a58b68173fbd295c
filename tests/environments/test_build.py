import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from labkit.environments import build as building
from labkit.environments.build import Environment, build
from labkit.environments.uv import InstallError, Uv, explain

from .conftest import Quarry, lock, wheel

CHILD = """
import sys
from pathlib import Path
from labkit.environments.build import Environment, build
from labkit.environments.recipes import Recipe
folder, lock, proof = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
recipe = Recipe(locks=(lock,), torch=None, proof=proof, disk=0, download=0)
print(build(Environment("pebble", folder / "environments" / "pebble"), recipe, folder, lambda line: print(line, file=sys.stderr)))
"""


def make(quarry: Quarry, **options) -> bool:
    return build(quarry.environment, quarry.recipe(**options), quarry.workshop, lambda line: None)


def begin(quarry: Quarry, proof: str) -> subprocess.Popen:
    """Make the environment in a process of its own, the leader of its group."""
    command = [sys.executable, "-c", CHILD, str(quarry.folder), str(quarry.lock), proof]
    root = Path(__file__).parents[2]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=root, start_new_session=True)


def await_file(path: Path, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.02)


def colour(environment: Environment) -> str:
    command = [environment.python, "-c", "import pebble; print(pebble.COLOUR)"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_a_lock_becomes_a_working_environment_once(quarry):
    assert quarry.environment.flaw(quarry.recipe()) == "not installed"
    assert make(quarry) is True
    assert colour(quarry.environment) == "grey"
    assert quarry.environment.packages() == {"pebble": "1.0"}
    stamp = (quarry.environment.folder / building.STAMP).stat().st_mtime_ns
    assert make(quarry) is False
    assert (quarry.environment.folder / building.STAMP).stat().st_mtime_ns == stamp


def test_the_environment_sees_nothing_of_the_labs_own_packages(quarry):
    make(quarry)
    done = subprocess.run([quarry.environment.python, "-c", "import pytest"], capture_output=True, text=True)
    assert "No module named 'pytest'" in done.stderr


def test_an_installation_killed_before_its_end_is_made_anew(quarry):
    reached = quarry.folder / "reached"
    child = begin(quarry, f"open({str(reached)!r}, 'w').close(); import time; time.sleep(600)")
    await_file(reached)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    junk = quarry.environment.site_packages / "pebble" / "half_written.py"
    junk.write_text("")
    assert quarry.environment.flaw(quarry.recipe()) == "an interrupted installation"
    assert make(quarry) is True
    assert not junk.exists()
    assert colour(quarry.environment) == "grey"


def test_of_two_processes_that_install_at_once_one_does_the_work(quarry):
    both = [begin(quarry, "import pebble") for _ in range(2)]
    said = sorted(child.communicate(timeout=120)[0].strip() for child in both)
    assert said == ["False", "True"]


def test_a_lock_is_held_for_as_long_as_the_installer_lives_even_when_its_parent_is_killed(quarry, tmp_path):
    from labkit.environments.lockfile import locked

    path = tmp_path / "held.lock"
    script = (
        "import subprocess, sys; from pathlib import Path; from labkit.environments.lockfile import locked\n"
        f"with locked(Path({str(path)!r}), print) as lock:\n"
        "    child = subprocess.Popen(['cat'], stdin=subprocess.PIPE, pass_fds=(lock,)); print(child.pid, flush=True); child.wait()\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    installer = int(parent.stdout.readline())
    os.kill(installer, signal.SIGSTOP)  # it lives on when its parent's end closes its input
    parent.kill()
    parent.wait()
    waited: list[str] = []

    def release(line: str) -> None:
        waited.append(line)
        os.kill(installer, signal.SIGKILL)

    with locked(path, release):
        assert len(waited) == 1
        assert "waiting" in waited[0]


def test_a_package_that_vanished_is_noticed_and_put_back(quarry):
    make(quarry)
    shutil.rmtree(next(quarry.environment.site_packages.glob("pebble-*.dist-info")))
    assert quarry.environment.flaw(quarry.recipe()) == "pebble missing or changed"
    assert make(quarry) is True
    assert colour(quarry.environment) == "grey"


def test_a_file_cut_short_is_found_by_its_packages_record(quarry):
    make(quarry)
    assert quarry.environment.damage() == []
    module = quarry.environment.site_packages / "pebble" / "__init__.py"
    module.unlink()  # it may be a link into uv's cache: never write through it
    module.write_text("COL")
    assert quarry.environment.damage() == ["pebble/__init__.py"]


def test_a_new_lock_makes_the_environment_anew(quarry):
    make(quarry)
    lock(quarry.folder, [wheel(quarry.wheels, version="2.0", text="COLOUR = 'red'\n")])
    assert quarry.environment.flaw(quarry.recipe()) == "made from an older lock"
    assert make(quarry) is True
    assert colour(quarry.environment) == "red"


def test_a_moved_environment_is_not_trusted(quarry):
    make(quarry)
    moved = Environment("pebble", quarry.folder / "elsewhere")
    quarry.environment.folder.rename(moved.folder)
    assert "moved here from" in moved.flaw(quarry.recipe())


def test_packages_that_do_not_work_here_are_reported_and_not_trusted(quarry):
    with pytest.raises(InstallError, match="do not work on this machine:\n(.|\n)*granite"):
        make(quarry, proof="import granite")
    assert quarry.environment.flaw(quarry.recipe()) == "an interrupted installation"


def test_a_disk_without_room_is_reported_before_anything_is_fetched(quarry, monkeypatch):
    usage = shutil.disk_usage(quarry.folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=400_000_000))
    with pytest.raises(InstallError, match=r"needs about 3\.0 GB .* 0\.4 GB free\. Free some space, or set LABKIT_HOME"):
        make(quarry, disk=3_000_000_000)
    assert not quarry.environment.folder.exists()


def test_a_disk_that_fills_up_on_the_way_is_named(quarry, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    if os.getuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "none", str(small)], capture_output=True).returncode:
        pytest.skip("no right to mount a small disk")
    try:
        wheel(quarry.wheels, version="3.0", text=f"COLOUR = {'x' * 400_000!r}\n")
        lock(quarry.folder, [quarry.wheels / "pebble-3.0-py3-none-any.whl"])
        cramped = Environment("pebble", small / "pebble")
        with pytest.raises(InstallError, match="the disk is full. Free some space, or set LABKIT_HOME"):
            build(cramped, quarry.recipe(), quarry.workshop, lambda line: None)
        assert cramped.flaw(quarry.recipe()) is not None
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_wheel_that_is_not_the_locked_one_is_refused(quarry):
    wheel(quarry.wheels, text="COLOUR = 'forged'\n")
    with pytest.raises(InstallError, match="not the one that was locked"):
        make(quarry)
    assert quarry.environment.flaw(quarry.recipe()) is not None


def test_an_index_that_does_not_answer_is_reported_with_the_remedy(quarry, monkeypatch):
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    with pytest.raises(InstallError, match="index cannot be reached. Check the network"):
        make(quarry)


def test_progress_is_told_line_by_line(quarry):
    lines: list[str] = []
    build(quarry.environment, quarry.recipe(), quarry.workshop, lines.append)
    assert any("installing" in line for line in lines)
    assert any("Installed 1 package" in line for line in lines)
    assert not any("\x1b" in line or "\n" in line for line in lines)


def test_an_unknown_failure_shows_the_installers_own_words():
    error = explain("first line\nthe sky fell\n", "installing pebble")
    assert "installing pebble failed" in str(error)
    assert "the sky fell" in str(error)


def test_a_uv_that_cannot_start_is_an_install_error(tmp_path):
    broken = tmp_path / "uv"
    broken.write_text("#!/bin/sh\necho broken >&2\nexit 3\n")
    broken.chmod(0o755)
    with pytest.raises(InstallError, match="broken"):
        Uv(broken, dict(os.environ)).run("pip", doing="trying", progress=lambda line: None)
