"""Every notebook from top to bottom by papermill, on every server it applies to: no cell fails, pictures are there, the run is a true one."""
from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from labkit.trace import Step, read

ROOT = Path(__file__).resolve().parents[2]
LONGEST = 900  # seconds for one notebook; vLLM's first start in it included


def labkit_run(notebook: str, server: str, output: Path) -> dict:
    """The one notebook's entry in the JSON of `labkit run`."""
    done = subprocess.run([sys.executable, "-m", "labkit", "run", notebook, "--server", server, "--output", str(output), "--json"],
                          cwd=ROOT, capture_output=True, text=True, timeout=LONGEST)
    report = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 0 and report["ok"], f"{report['notebooks'][0]['error']}\n{done.stderr[-2000:]}"
    return report["notebooks"][0]


def pictures(path: Path) -> list[tuple[bytes, dict]]:
    """Every PNG in the outputs of an executed notebook, with the metadata it carries."""
    outputs = [output for cell in nbformat.read(path, as_version=4).cells for output in cell.get("outputs", [])]
    return [(base64.b64decode(output.data["image/png"]), output.metadata) for output in outputs if "image/png" in output.get("data", {})]


@pytest.mark.timeout(LONGEST)
@pytest.mark.parametrize("server", ["glassbox", "vllm"])
@pytest.mark.parametrize("notebook", ["00", "01", "02", "03", "07"])
def test_a_notebook_runs_unattended_and_shows_what_happened_inside_the_engine(notebook, server, tmp_path):
    told = labkit_run(notebook, server, tmp_path)
    assert told["parameters"]["server"] == server
    assert told["outcomes"]["check"].keys() == {"passed"}  # every claim of the lesson holds
    run = read(told["values"]["run_file"])
    assert (run.header.source, run.header.badge) == (server, "live")
    given = [(block, state.num_blocks) for event, state in run.states() if isinstance(event, Step)
             for blocks in event.given.values() for block in blocks]  # a pool may grow while it runs
    assert given and all(0 <= block < there for block, there in given)
    found = pictures(Path(told["executed"]))
    assert len(found) >= 2 and all(data.startswith(b"\x89PNG") and len(data) > 10_000 for data, _ in found)


def test_notebooks_are_paired_stripped_and_have_one_cell_of_parameters():
    paths = sorted((ROOT / "notebooks").glob("*.ipynb"))
    assert paths
    for path in paths:
        assert path.with_suffix(".py").exists(), f"{path.name} has no paired .py"
        cells = nbformat.read(path, as_version=4).cells
        assert sum("parameters" in cell.metadata.get("tags", []) for cell in cells) == 1
        assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells), f"{path.name} carries outputs"
        said = subprocess.run([sys.executable, "-m", "jupytext", "--to", "py:percent", "--output", "-", str(path)], capture_output=True, text=True)
        assert code(said.stdout) == code(path.with_suffix(".py").read_text()), f"{path.name} and its .py differ: jupytext --sync"


def code(text: str) -> list[str]:
    """The lines of a percent file after its header."""
    lines = text.splitlines()
    return [line for line in lines[lines.index("# ---", 1) + 1:] if line.strip()]
