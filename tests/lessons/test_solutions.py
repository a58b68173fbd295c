"""Every exercise and prediction of every notebook: right answers pass, typical wrong ones get the diagnosis that names the mistake.

`tests/solutions/NN_name.py` holds the answers to `notebooks/NN_*.ipynb`: right ones under the names of the exercises,
WRONG = {exercise: [(wrong answer, words of its diagnosis)]} and PREDICTIONS = {part of the question: [(typed, words of its diagnosis)]}.
"""
import runpy
from pathlib import Path

import pytest

from labkit.lessons.rehearsal import Rehearsal

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return request.param


def answers(notebook: Path) -> dict:
    files = sorted((ROOT / "tests" / "solutions").glob(f"{notebook.stem[:2]}_*.py"))
    return runpy.run_path(str(files[0])) if files else {}


def test_a_fresh_notebook_has_only_open_exercises(notebook):
    assert all(outcome.state == "open" for outcome in Rehearsal(notebook).exercises.values())


def test_every_exercise_has_a_right_answer_that_passes(notebook):
    exercises = Rehearsal(notebook).exercises
    right = {name: answers(notebook)[name] for name in exercises}
    solved = Rehearsal(notebook, right).exercises
    assert solved.keys() == exercises.keys() and all(outcome.state == "passed" for outcome in solved.values()), solved


def test_every_exercise_has_typical_wrong_answers_and_each_gets_its_diagnosis(notebook):
    wrong = answers(notebook).get("WRONG", {})
    for name in Rehearsal(notebook).exercises:
        assert wrong.get(name), f"tests/solutions has no wrong answer to {name}"
        for answer, words in wrong[name]:
            outcome = Rehearsal(notebook, {name: answer}).exercises[name]
            assert outcome.state == "wrong" and words in outcome.message, outcome


def test_typical_wrong_predictions_get_their_diagnosis(notebook):
    for question, typed in answers(notebook).get("PREDICTIONS", {}).items():
        for text, words in typed:
            outcome = Rehearsal(notebook).predict(question, text)
            assert outcome.state == "wrong" and words in outcome.message, outcome
