"""A real JupyterLab in a real Chromium: open a notebook, run it, look at what a user would see."""
from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from labkit.servers.preflight import free_ports

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]
NOTEBOOK = "window.jupyterapp.shell.currentWidget"


def chromium() -> str | None:
    """The browser to drive: LABKIT_CHROMIUM, or the first one on PATH."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return os.environ.get("LABKIT_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


def wait_for(what: str, condition: Callable[[], object], timeout: float = 60.0) -> object:
    """The first true value of `condition`; AssertionError naming `what` when there is none in time."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.1)
    raise AssertionError(f"{what}: not within {timeout:.0f} s")


@contextmanager
def jupyter(folder: Path, environment: dict[str, str] | None = None) -> Iterator[str]:
    """JupyterLab on `folder`, on a free port with a token; yields the address of a notebook, less its path: address.format(path)."""
    port = free_ports()[0]
    token = secrets.token_hex(16)
    settings = folder / ".jupyter-test"
    news = settings / "lab" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    news.parent.mkdir(parents=True, exist_ok=True)
    news.write_text('{"fetchNews": "false"}')
    env = {**os.environ, "JUPYTER_CONFIG_DIR": str(settings), "JUPYTERLAB_SETTINGS_DIR": str(settings / "lab"),
           "JUPYTERLAB_WORKSPACES_DIR": str(settings / "workspaces"), **(environment or {})}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}", "--ServerApp.ip=127.0.0.1",
               "--ServerApp.port_retries=0", f"--ServerApp.root_dir={folder}", f"--IdentityProvider.token={token}",
               "--LabApp.news_url=None", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
               "--LabApp.expose_app_in_browser=True"]
    with (settings / "log").open("wb") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
    root = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        if process.poll() is not None:
            raise AssertionError(f"JupyterLab ended: {(settings / 'log').read_text()[-2000:]}")
        try:
            return urllib.request.urlopen(f"{root}/api/status?token={token}", timeout=5).status == 200
        except OSError:
            return False

    try:
        wait_for("JupyterLab", answers)
        yield f"{root}/lab/tree/{{}}?token={token}"
    finally:
        process.terminate()
        process.wait(30)


class Notebook:
    """One notebook, open in a page."""

    def __init__(self, page, address: str):
        self.page = page
        page.goto(address)
        page.wait_for_selector(".jp-NotebookPanel .jp-Cell", timeout=90_000)
        status = f"{NOTEBOOK}?.sessionContext?.session?.kernel?.status"
        wait_for("an idle kernel", lambda: page.evaluate(status) == "idle", 90)

    def run_all(self) -> None:
        """Start running every cell; returns at once."""
        self.page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells'); }")

    def errors(self) -> list[str]:
        """Name and value of every error among the outputs."""
        return self.page.evaluate(f"""() => [...{NOTEBOOK}.content.model.cells].flatMap(c => c.toJSON().outputs ?? [])
            .filter(o => o.output_type === 'error').map(o => o.ename + ': ' + o.evalue)""")

    def busy(self) -> bool:
        """Whether a cell runs or is queued."""
        return self.page.evaluate(f"() => [...{NOTEBOOK}.content.model.cells].some(c => c.executionState === 'running')")

    def wait_until_done(self, timeout: float = 300.0) -> None:
        """Wait until the kernel has run what it was asked to; AssertionError with the errors among the outputs."""
        done = f"""() => [...{NOTEBOOK}.content.model.cells].filter(c => c.type === 'code' && c.sharedModel.source.trim())
            .every(c => c.executionState !== 'running' && c.executionCount !== null)"""
        wait_for("the end of the notebook", lambda: self.errors() or self.page.evaluate(done), timeout)
        assert not self.errors(), self.errors()


class View:
    """A live view in a page, seen through its accessibility tree. kind: kv-map, batch-timeline or waste-ledger."""

    def __init__(self, page, kind: str, timeout: float = 90.0):
        self.page = page
        self.root = page.locator(f".{kind}").first
        self.root.wait_for(state="attached", timeout=1000 * timeout)
        self.root.scroll_into_view_if_needed()

    @property
    def label(self) -> str:
        return self.root.locator("canvas").get_attribute("aria-label") or ""

    def number(self, pattern: str) -> int:
        """The first group of `pattern` in the label; -1 if it is not there."""
        found = re.search(pattern, self.label)
        return int(found.group(1)) if found else -1

    def colours(self) -> int:
        """How many different colours are on the canvas."""
        return self.root.locator("canvas").evaluate("""c => {
            const d = new Uint32Array(c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer); return new Set(d).size; }""")


class Map(View):
    """The KV map."""

    def __init__(self, page, timeout: float = 90.0):
        super().__init__(page, "kv-map", timeout)

    @property
    def step(self) -> int:
        return self.number(r"step (\d+)")

    @property
    def used(self) -> int:
        return self.number(r"(\d+) of \d+ blocks in use")

    @property
    def slider(self):
        return self.root.get_by_role("slider", name="Step")
