"""The two commands, as a newcomer types them, in a copy of this checkout. Packages come from uv's cache, which `make test` has filled."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
BASE = Path(sys.base_prefix) / "bin" / "python3"


def run(checkout: Path, *words: str, **environ: str) -> subprocess.CompletedProcess:
    command = ["make", *words, f"PYTHON={BASE}"]
    return subprocess.run(
        command, cwd=checkout, env=clean() | environ, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=600
    )


def clean() -> dict[str, str]:
    """This environment as it was before `make test` put the lab's own Python into it."""
    path = [part for part in os.environ["PATH"].split(os.pathsep) if Path(part) != Path(sys.executable).parent]
    kept = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "DISPLAY", "WAYLAND_DISPLAY", "PYTHONPATH")}
    return kept | {"PATH": os.pathsep.join(path), "MAKEFLAGS": ""}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A copy of the checkout with the lab set up in it."""
    folder = tmp_path_factory.mktemp("fresh") / "serving-lab"
    skipped = shutil.ignore_patterns(".venv", ".labkit", ".git", "build", "__pycache__", "*.egg-info", ".hypothesis", "*_cache")
    shutil.copytree(ROOT, folder, ignore=skipped)
    done = run(folder, "test", "ARGS=--version")
    assert done.returncode == 0, done.stderr
    assert "pytest" in done.stdout
    return folder


def test_the_lab_is_made_from_the_locks_with_labkit_editable(checkout):
    stamp = json.loads((checkout / ".venv" / "labkit.json").read_text())
    locked = dict(re.findall(r"^([a-z0-9-]+)==(\S+?)(?: ;.*)? \\$", (checkout / "requirements" / "lab.txt").read_text(), re.MULTILINE))
    for name in ("jupyterlab", "anywidget", "papermill", "aiohttp"):
        assert stamp["packages"][name] == locked[name]
    code = "import labkit, torch; print(labkit.__file__, torch.__version__)"
    done = subprocess.run([checkout / ".venv" / "bin" / "python", "-c", code], cwd="/", capture_output=True, text=True, check=True)
    assert done.stdout.startswith(str(checkout / "labkit"))


def test_the_second_time_nothing_is_installed(checkout):
    stamp = (checkout / ".venv" / "labkit.json").stat().st_mtime_ns
    done = run(checkout, "test", "ARGS=--version")
    assert done.returncode == 0
    assert "installing" not in done.stderr
    assert (checkout / ".venv" / "labkit.json").stat().st_mtime_ns == stamp


def test_make_lab_serves_the_first_notebook_behind_a_token_and_leaves_nothing_at_ctrl_c(checkout, tmp_path):
    log = tmp_path / "log"
    with log.open("w") as output:
        lab = subprocess.Popen(
            ["make", "lab", f"PYTHON={BASE}"],
            cwd=checkout,
            env=clean() | {"JUPYTER_CONFIG_DIR": str(tmp_path)},
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 120
        while not (found := re.search(r"http://127\.0\.0\.1:(\d+)(\S*)\?token=(\w{20,})", log.read_text())):
            assert time.monotonic() < deadline and lab.poll() is None, log.read_text()
            time.sleep(0.1)
        port, page, token = found.groups()
        assert page == "/lab/tree/notebooks/00_welcome.ipynb"
        api = f"http://127.0.0.1:{port}/api/contents/notebooks"
        request = urllib.request.Request(api, headers={"Authorization": f"token {token}"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert "00_welcome.ipynb" in {entry["name"] for entry in json.load(answer)["content"]}
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(api, timeout=30)
        family = [psutil.Process(lab.pid), *psutil.Process(lab.pid).children(recursive=True)]
        addresses = {c.laddr.ip for process in family for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN}
        assert addresses == {"127.0.0.1"}
    finally:
        os.killpg(lab.pid, signal.SIGINT)
    lab.wait(timeout=30)
    assert not psutil.wait_procs(family, timeout=10)[1]
    assert "Shut down this Jupyter server" not in log.read_text()


def test_an_old_python_is_told_what_is_needed(checkout):
    older = "import sys; sys.version_info, sys.version = (3, 9, 1), '3.9.1'"
    code = f"{older}; from labkit.environments.bootstrap import main; sys.exit(main(['lab']))"
    done = subprocess.run([BASE, "-c", code], cwd=checkout, capture_output=True, text=True)
    assert done.returncode == 1
    assert "needs Python 3.11 or newer; this is 3.9.1" in done.stderr
    assert "Traceback" not in done.stderr
