"""One notebook, executed from top to bottom by papermill in a kernel of this very interpreter."""
from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labkit.lessons.lesson import REPORT
from labkit.lessons.notebook import Notebook

KERNEL = "labkit-run"
START_TIMEOUT = 120  # seconds for the kernel itself


@dataclass(slots=True)
class Execution:
    """What became of one notebook with one set of parameters. `status`: "passed", "failed", "timeout", "died" or "interrupted"."""

    notebook: str
    parameters: dict[str, Any]
    executed: Path  # the executed copy
    status: str = "passed"
    error: str = ""
    cell: int | None = None  # of the executed copy, counted from 1
    seconds: float = 0.0
    cells: int = 0
    pictures: int = 0
    outcomes: dict[str, dict[str, int]] = field(default_factory=dict)  # kind -> state -> how many
    values: dict[str, Any] = field(default_factory=dict)  # what the notebook reported

    @property
    def name(self) -> str:
        return "_".join([self.notebook, *([self.parameters["server"]] if "server" in self.parameters else [])])


def execute(notebook: Notebook, parameters: dict[str, Any], build: Path, timeout: float) -> Execution:
    """Execute a copy below `build`. `timeout` is in seconds, for each cell. Never raises for what happens inside the notebook."""
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    run = Execution(notebook.name, parameters, Path())
    run.executed = build / f"{run.name}.ipynb"
    report = build / "reports" / f"{run.name}.json"
    report.parent.mkdir(parents=True, exist_ok=True)
    report.unlink(missing_ok=True)
    bar = {"desc": run.name, "file": sys.stderr, "mininterval": 0.1 if sys.stderr.isatty() else 10.0, "unit": " cells"}
    begun = time.monotonic()
    try:
        with _kernel(build / "jupyter", report):
            papermill.execute_notebook(
                notebook.path, run.executed, parameters, kernel_name=KERNEL, language="python", cwd=notebook.path.parent, progress_bar=bar,
                start_timeout=START_TIMEOUT, execution_timeout=timeout, autosave_cell_every=10, coalesce_streams=True,
            )
    except papermill.PapermillExecutionError as error:
        run.status, run.error = "failed", f"{error.ename}: {error.evalue}"
    except CellTimeoutError:
        run.status, run.error = "timeout", f"a cell took longer than {timeout:g} s; --timeout allows more"
    except DeadKernelError:
        run.status, run.error = "died", "the kernel died: killed for want of memory, perhaps"
    except KeyboardInterrupt:
        run.status, run.error = "interrupted", "stopped by Ctrl-C"
    run.seconds = round(time.monotonic() - begun, 1)
    _read_copy(run)
    _read_report(run, report)
    return run


def _read_copy(run: Execution) -> None:
    import nbformat

    if not run.executed.exists():
        return
    cells = nbformat.read(run.executed, as_version=4).cells
    run.cells = sum(cell.cell_type == "code" for cell in cells)
    run.pictures = sum("image/png" in output.get("data", {}) for cell in cells for output in cell.get("outputs", []))
    if run.status != "passed":
        marked = (i for i, cell in enumerate(cells, 1) if cell.metadata.get("papermill", {}).get("status") in ("failed", "running"))
        run.cell = next(marked, None)


def _read_report(run: Execution, report: Path) -> None:
    if not report.exists():
        return
    told = json.loads(report.read_text())
    run.values = told["values"]
    for kind in ("prediction", "exercise", "check", "expected"):
        if states := Counter(outcome["state"] for outcome in told["outcomes"] if outcome["kind"] == kind):
            run.outcomes[kind] = dict(states)
    wrong = [outcome for outcome in told["outcomes"] if outcome["kind"] == "exercise" and outcome["state"] == "wrong"]
    if wrong and run.status == "passed":
        run.status, run.error = "failed", f"exercise {wrong[0]['name']}: {wrong[0]['message']}"


@contextmanager
def _kernel(share: Path, report: Path) -> Iterator[None]:
    """Let Jupyter find a kernel that is this interpreter with this labkit, whatever the user has registered."""
    place = share / "kernels" / KERNEL
    place.mkdir(parents=True, exist_ok=True)
    root = str(Path(__file__).resolve().parents[2])
    environment = {
        REPORT: str(report), "MPLBACKEND": "module://matplotlib_inline.backend_inline", "LABKIT_INTERACTIVE": "0",
        "PYTHONPATH": os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    (place / "kernel.json").write_text(json.dumps({
        "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"], "display_name": "labkit run", "language": "python",
        "env": environment,
    }))
    before = os.environ.get("JUPYTER_PATH")
    os.environ["JUPYTER_PATH"] = os.pathsep.join([str(share), *filter(None, [before])])
    try:
        yield
    finally:
        if before is None:
            del os.environ["JUPYTER_PATH"]
        else:
            os.environ["JUPYTER_PATH"] = before
