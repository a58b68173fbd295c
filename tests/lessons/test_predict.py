import threading

import pytest

from labkit.lessons import Lesson
from labkit.lessons.predict import parse_number


@pytest.fixture
def lesson():
    return Lesson("a lesson", interactive=False)


def outcome(lesson):
    return next(outcome for (kind, _), outcome in lesson.outcomes.items() if kind == "prediction")


def blocks(lesson, **more):
    return lesson.predict.number("How many blocks?", 7, hints={6: "the last 4 tokens need one too", (50, 200): "one for each token?",
                                                               (lambda v: v != int(v)): "blocks are whole"}, explain="Rounded up.", **more)


@pytest.mark.parametrize(("text", "number"), [("7", 7), (" 7.5 ms", 7.5), ("1 024", 1024), ("1,024 B", 1024), ("60 %", 60), ("-2", -2),
                                              ("1e3", 1000), (".5", 0.5), ("12 345 678", 12345678)])
def test_numbers_are_read_as_people_type_them(text, number):
    assert parse_number(text) == number


@pytest.mark.parametrize("text", ["", "   ", "seven", "7 or 8", "ms 7"])
def test_what_is_no_number_is_asked_for_again_and_is_no_answer(lesson, text):
    prediction = blocks(lesson)
    card = prediction.submit(text)
    assert "number" in card.title and prediction.value is None and outcome(lesson).state == "open"


def test_a_right_prediction_is_explained(lesson):
    card = blocks(lesson).submit("7")
    assert card.state == "passed" and "Rounded up." in card.text and outcome(lesson).state == "passed"


@pytest.mark.parametrize(("typed", "words"), [("6", "the last 4 tokens"), ("100", "one for each token?"), ("6.25", "whole"),
                                              ("5", "Too low"), ("9", "Too high")])
def test_a_wrong_prediction_gets_its_diagnosis_and_not_the_answer(lesson, typed, words):
    card = blocks(lesson).submit(typed)
    assert card.state == "wrong" and words in card.text
    assert "Rounded up" not in str(card) and "7" not in str(card)


def test_a_second_try_replaces_the_first(lesson):
    prediction = blocks(lesson)
    prediction.submit("6")
    prediction.submit("7")
    assert prediction.value == 7 and outcome(lesson).state == "passed" and len(lesson.outcomes) == 1


def test_a_measured_answer_is_graded_when_it_is_revealed(lesson, capsys):
    prediction = lesson.predict.number("TTFT?", unit="ms", within=0.5)
    assert "Noted: 10 ms" in prediction.submit("10").title
    prediction.reveal(14)
    assert "You predicted 10 ms, it is 14 ms: right" in capsys.readouterr().out
    prediction.reveal(40)
    assert "it is 40 ms" in capsys.readouterr().out and outcome(lesson).state == "wrong"


def test_an_unanswered_prediction_says_so_and_goes_on(lesson, capsys):
    prediction = blocks(lesson)
    assert "Predict: How many blocks?" in capsys.readouterr().out
    prediction.reveal(7)
    assert "You did not predict it" in capsys.readouterr().out and outcome(lesson).state == "open"


def test_choices_have_diagnoses_too(lesson):
    prediction = lesson.predict.choice("Which first?", ["A", "B", "C"], "C", hints={"A": "A is the oldest"})
    assert prediction.submit("A").text == "A is the oldest"
    assert prediction.submit("B").state == "wrong"
    assert prediction.submit("C").state == "passed"
    with pytest.raises(ValueError, match="none of the options"):
        lesson.predict.choice("Which?", ["A"], "Z")


def test_the_form_answers_in_place_from_whatever_thread_the_browser_is_served_by(lesson):
    from labkit.lessons.widgets import ask

    form = ask(blocks(lesson))
    _, row, feedback = form.children
    field, button = row.children
    field.value = "6"  # Enter
    assert "the last 4 tokens" in feedback.value
    field.value = "7"
    thread = threading.Thread(target=button.click)
    thread.start()
    thread.join()
    assert "Rounded up" in feedback.value


def test_questions_and_answers_cannot_inject_markup(lesson):
    from labkit.lessons.widgets import ask

    form = ask(lesson.predict.number("Is <script>x</script> `a<b` so?", 1))
    assert "<script>" not in form.children[0].value and "<code>a&lt;b</code>" in form.children[0].value
