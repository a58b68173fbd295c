import numpy
import pytest

from labkit.lessons import Lesson, LessonError

CASES = [((100, 16), 7), ((96, 16), 6), ((1, 16), 1)]
DIAGNOSES = [(lambda f: f(96, 16) == 7, "96 tokens fill 6 blocks exactly"), (lambda f: f(100, 16) == 6, "you round down")]


@pytest.fixture
def tried():
    """Tries a solution and gives back what became of it."""
    def attempt(solution, cases=CASES, diagnoses=DIAGNOSES, **more):
        lesson = Lesson("a lesson", interactive=False)
        lesson.check.exercise("blocks_needed", solution, cases, diagnoses=diagnoses, explain="Rounded up.", **more)
        return lesson.outcomes["exercise", "blocks_needed"]

    return attempt


def todo(tokens, size):
    raise NotImplementedError


@pytest.mark.parametrize("stub", [..., None, lambda tokens, size: None, lambda tokens, size: ..., todo])
def test_an_unsolved_exercise_is_open_and_raises_nothing(tried, stub):
    assert tried(stub).state == "open" and "Still to do" in tried(stub).message


def test_a_right_solution_passes_with_the_explanation(tried):
    assert tried(lambda tokens, size: -(-tokens // size)).state == "passed"
    assert tried(lambda tokens, size: -(-tokens // size)).message == "Rounded up."


@pytest.mark.parametrize(("wrong", "words"), [
    (lambda tokens, size: tokens // size + 1, "96 tokens fill 6 blocks exactly"),
    (lambda tokens, size: tokens // size, "you round down"),
    (lambda tokens, size: 42, "`blocks_needed(100, 16)` gave 42, expected 7"),
    (lambda tokens, size: 1 // 0, "raised ZeroDivisionError"),
    (lambda tokens: 7, "raised TypeError"),
    (lambda tokens, size: 7 if tokens == 100 else None, "does every way through it return something?"),
])
def test_a_wrong_solution_is_diagnosed_and_raises_nothing(tried, wrong, words):
    assert tried(wrong).state == "wrong" and words in tried(wrong).message


def test_a_diagnosis_that_cannot_be_tried_is_passed_over(tried):
    found = tried(lambda tokens, size: 42, diagnoses=[(lambda f: f("x") == 1, "never"), (lambda f: f(1, 1) == 42, "it is always 42")])
    assert "it is always 42" in found.message


def test_laws_are_tried_after_the_cases(tried):
    laws = [("more tokens never need fewer blocks", lambda f: f(200, 16) >= f(100, 16))]
    assert tried(lambda tokens, size: -(-tokens // size), laws=laws).state == "passed"
    broken = tried(lambda tokens, size: 0 if tokens == 200 else -(-tokens // size), laws=laws)
    assert broken.state == "wrong" and "more tokens never need fewer blocks" in broken.message


def test_a_solution_that_changes_its_arguments_does_not_spoil_the_cases(tried):
    def pops(items):
        return items.pop()

    assert tried(pops, cases=[(([1, 2, 3],), 3)]).state == "passed"
    assert tried(pops, cases=[(([1, 2, 3],), 3)]).state == "passed"


@pytest.mark.parametrize(("given", "expected", "same"), [
    (0.1 + 0.2, 0.3, True), (1, 1.0, True), (1.1, 1.0, False), ((1, 2), [1, 2], True), ([1, 2, 3], [1, 2], False), ("a", "b", False),
    ({"a": 0.3}, {"a": 0.1 + 0.2}, True), (numpy.array([1.0, 2.0]), numpy.array([1.0, 2.0 + 1e-9]), True),
    (numpy.array([1.0]), numpy.array([1.0, 2.0]), False),
])
def test_results_are_compared_by_meaning(tried, given, expected, same):
    assert (tried(lambda: given, cases=[((), expected)], diagnoses=[]).state == "passed") is same


def test_a_filled_in_value_is_open_wrong_or_right():
    lesson = Lesson("a lesson", interactive=False)

    def state(given):
        lesson.check.answer("free", given, 12, hints={64: "that is the whole pool"})
        return lesson.outcomes["exercise", "free"]

    assert state(...).state == "open" and state(None).state == "open"
    assert state(64).state == "wrong" and "whole pool" in state(64).message
    assert state(12).state == "passed"


def test_a_claim_that_does_not_hold_stops_the_notebook_with_words_and_no_machinery():
    lesson = Lesson("a lesson", interactive=False)
    lesson.check.that("water is wet", True)
    with pytest.raises(LessonError, match="look at the log") as caught:
        lesson.check.that("the server answers", [], otherwise="look at the log")
    assert "the server answers" in caught.value._render_traceback_()[0]
    assert [outcome.state for outcome in lesson.outcomes.values()] == ["passed", "wrong"]


def test_an_expected_failure_is_shown_and_kept(capsys):
    lesson = Lesson("a lesson", interactive=False)
    with lesson.expect(ValueError, match=r"too \w+", why="that is the point") as caught:
        raise ValueError("too long")
    assert str(caught.error) == "too long" and "that is the point" in capsys.readouterr().out


def test_a_failure_that_stays_away_or_says_something_else_is_an_error_of_the_lesson():
    lesson = Lesson("a lesson", interactive=False)
    with pytest.raises(LessonError, match="did not fail"), lesson.expect(ValueError):
        pass
    with pytest.raises(LessonError, match="it says: too short"), lesson.expect(ValueError, match="too long"):
        raise ValueError("too short")
    with pytest.raises(KeyError), lesson.expect(ValueError):
        raise KeyError("x")


def test_the_summary_counts_and_names_what_is_open(capsys):
    lesson = Lesson("a lesson", interactive=False)
    lesson.predict.number("How many?", 7)
    lesson.check.answer("free", ..., 12)
    lesson.summary()
    said = capsys.readouterr().out
    assert "Predictions: 1 open" in said and "Open: free" in said
