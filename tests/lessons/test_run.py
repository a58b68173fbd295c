"""`labkit run` on notebooks made here, executed by papermill in real kernels."""
import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import psutil
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from labkit.lessons import command
from labkit.lessons.rehearsal import Rehearsal

ROOT = Path(__file__).resolve().parents[2]
PARAMETERS = 'server = "glassbox"  # or vllm\nscale = 1.0\ninteractive = None'
SETUP = 'from labkit.lessons import Lesson\nlesson = Lesson("a lesson", interactive)\npredict, check = lesson.predict, lesson.check'
PICTURE = "import matplotlib.pyplot as plt\nplt.plot([1, 2, 4])\nplt.show()"
STUB = "def double(n):\n    ..."
CHECK = 'check.exercise("double", double, cases=[((2,), 4), ((3,), 6)], diagnoses=[(lambda f: f(3) == 9, "that is the square")])'


@pytest.fixture
def workshop(tmp_path, monkeypatch):
    """A working directory with notebooks; `write(name, *cells)` adds one, a cell is a source or (source, tag)."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notebooks").mkdir()

    def write(name, *cells):
        made = [new_code_cell(cell) if isinstance(cell, str) else new_code_cell(cell[0], metadata={"tags": [cell[1]]}) for cell in cells]
        nbformat.write(new_notebook(cells=made), tmp_path / "notebooks" / f"{name}.ipynb")

    return write


def run(capsys, *argv):
    status = command.main([*argv, "--json"])
    return status, json.loads(capsys.readouterr().out.splitlines()[-1])


def test_a_notebook_runs_with_each_server_it_is_about_and_its_pictures_are_in_the_gallery(workshop, capsys, tmp_path):
    workshop("00_first", (PARAMETERS, "parameters"), (SETUP, "setup"), 'predict.number("How many?", 7)', (STUB, "exercise"),
             (CHECK, "check"), PICTURE, "lesson.report(server=server, scale=scale, interactive=lesson.interactive)")
    status, said = run(capsys, "00", "--server", "glassbox,vllm,triton", "-p", "scale=0.5")
    assert status == 0 and said["ok"]
    assert [one["name"] for one in said["notebooks"]] == ["00_first_glassbox", "00_first_vllm"]  # Triton is not in its comment
    first = said["notebooks"][0]
    assert first["values"] == {"server": "glassbox", "scale": 0.5, "interactive": False}
    assert first["outcomes"] == {"prediction": {"open": 1}, "exercise": {"open": 1}} and first["pictures"] == 1
    index = Path(said["gallery"])
    assert index.is_relative_to(tmp_path / "build")
    picture = index.parent / "00_first_vllm-1.png"
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.name in index.read_text()
    page = (index.parent / "00_first_glassbox.html").read_text()
    assert "data:image/png;base64," in page and '<script src="http' not in page


def test_a_notebook_that_a_server_does_not_apply_to_runs_with_its_default_and_one_without_servers_once(workshop, capsys):
    workshop("00_a", (PARAMETERS, "parameters"), "1 + 1")
    workshop("01_b", ("scale = 1", "parameters"), "1 + 1")
    status, said = run(capsys, "--server", "triton")
    assert status == 0 and [one["name"] for one in said["notebooks"]] == ["00_a_glassbox", "01_b"]


@pytest.mark.parametrize(("cells", "status", "words"), [
    (["1 / 0"], "failed", "ZeroDivisionError"),
    (["import time", "time.sleep(60)"], "timeout", "longer than 4 s"),
    (["import os, signal", "os.kill(os.getpid(), signal.SIGKILL)"], "died", "kernel died"),
    ([SETUP.replace("interactive", "False", 1).replace(", interactive", ", False"), "def double(n):\n    return n * n", CHECK], "failed",
     "that is the square"),
    ([SETUP.replace(", interactive", ", False"), 'check.that("pigs fly", False, "they do not")'], "failed", "pigs fly"),
])
def test_what_goes_wrong_is_named_and_the_exit_status_says_so(workshop, capsys, cells, status, words):
    workshop("00_bad", *cells)
    workshop("01_good", "1 + 1")
    code, said = run(capsys, "00", "01", "--timeout", "4" if status == "timeout" else "120")
    bad, good = said["notebooks"]
    assert code == 1 and not said["ok"] and bad["status"] == status and words in bad["error"]
    assert good["status"] == "passed" and Path(said["gallery"]).exists()


def test_no_kernel_is_left_after_a_timeout(workshop, capsys, tmp_path):
    workshop("00_bad", f"import os, time\nopen({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)")
    run(capsys, "00", "--timeout", "6")
    pid = int((tmp_path / "pid").read_text())
    if psutil.pid_exists(pid):
        psutil.wait_procs([psutil.Process(pid)], timeout=20)
    assert not psutil.pid_exists(pid)


@pytest.mark.parametrize("names", [["07"], ["nowhere.ipynb"], ["broken.ipynb"]])
def test_a_notebook_that_is_not_there_is_named_before_anything_runs(workshop, capsys, names, tmp_path):
    (tmp_path / "broken.ipynb").write_text("{}")
    code, said = run(capsys, *names)
    assert code == 1 and names[0] in said["error"]


def test_the_run_uses_this_interpreter_and_the_users_jupyter_settings_stay(workshop, capsys):
    before = os.environ.get("JUPYTER_PATH")
    workshop("00_who", (SETUP.replace(", interactive", ""), "setup"), "import sys; lesson.report(python=sys.executable)")
    _, said = run(capsys, "00")
    assert said["notebooks"][0]["values"] == {"python": sys.executable} and os.environ.get("JUPYTER_PATH") == before


def test_a_rehearsal_tries_answers_without_running_untagged_cells(workshop, tmp_path):
    question = 'predict.number("How many blocks?", 7, hints={6: "one more"})'
    workshop("00_first", (PARAMETERS, "parameters"), (SETUP, "setup"), (question, "predict"),
             "raise SystemExit('a server would start here')", (STUB, "exercise"), (CHECK, "check"))
    notebook = tmp_path / "notebooks" / "00_first.ipynb"
    assert Rehearsal(notebook).exercises["double"].state == "open"
    assert Rehearsal(notebook, {"double": lambda n: 2 * n}).exercises["double"].state == "passed"
    wrong = Rehearsal(notebook, {"double": lambda n: n * n})
    assert wrong.exercises["double"].state == "wrong" and "square" in wrong.exercises["double"].message
    assert wrong.predict("blocks", "6").message == "one more" and wrong.predict("blocks", "7").state == "passed"
    with pytest.raises(KeyError, match="treble"):
        Rehearsal(notebook, {"treble": 3})
    with pytest.raises(KeyError, match="How many blocks"):
        wrong.predict("tokens", "6")


def test_lessons_can_be_imported_in_little_time_and_without_heavy_packages():
    code = "import sys, labkit.lessons; print([m for m in ('numpy', 'matplotlib', 'torch', 'papermill', 'ipywidgets') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT).strip() == "[]"
