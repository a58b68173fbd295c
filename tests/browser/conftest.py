"""A browser, a page whose errors fail the test, and notebooks to open in it."""
from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest

import labkit
from labkit.bench.browser import FLAGS, View, chromium, jupyter, wait_for

ROOT = Path(labkit.__file__).parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if chromium() is None:
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="needs Chromium: install it, or name one in LABKIT_CHROMIUM"))


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as play:
        running = play.chromium.launch(executable_path=chromium(), args=FLAGS)
        yield running
        running.close()


@pytest.fixture
def page(browser):
    context = browser.new_context(viewport={"width": 1400, "height": 1000}, reduced_motion="no-preference")
    fresh = context.new_page()
    errors: list[str] = []
    fresh.on("pageerror", lambda error: errors.append(str(error)))
    yield fresh
    context.close()
    assert not [error for error in errors if "lab-" in error.lower() or "blob:" in error], errors


@pytest.fixture
def lab(tmp_path):
    return jupyter(tmp_path, {"PYTHONPATH": str(ROOT)})


@pytest.fixture
def write(tmp_path) -> Callable[..., str]:
    """Writes a notebook of these cells; returns its name."""

    def to(*cells: str) -> str:
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(notebook, tmp_path / "view.ipynb")
        return "view.ipynb"

    return to


@pytest.fixture
def shows() -> Callable[..., None]:
    """Waits for a pattern in a view's words."""

    def check(view: View, pattern: str, timeout: float = 20.0) -> None:
        wait_for(f"{pattern!r} in the view's words", lambda: re.search(pattern, view.label), timeout)

    return check
