"""The text generator: seeded, and right about the probability of what it writes."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator

import pytest

from labkit.models.text import recall, story, tasks
from labkit.models.text.chat import definition, talk
from labkit.models.text.corpus import KINDS, corpus, document
from labkit.models.text.draw import Draw
from labkit.models.text.glossary import TERMS, asks
from labkit.models.text.lexicon import WORDS


class Scripted(Draw):
    """A Draw that follows a script of indices and notes how many options each choice had."""

    def __init__(self, script: list[int]) -> None:
        super().__init__(0)
        self.script, self.sizes = script, []

    def index(self, n: int) -> int:
        self.nats += math.log(n)
        return self.follow(n)

    def weighted(self, options):
        key = list(options)[self.follow(len(options))]
        self.nats -= math.log(options[key] / sum(options.values()))
        return key

    def follow(self, n: int) -> int:
        place = len(self.sizes)
        self.sizes.append(n)
        if place == len(self.script):
            self.script.append(0)
        return self.script[place]


def every(write: Callable[[Draw], object]) -> Iterator[tuple[object, float]]:
    """All results of a generator with their probabilities, by walking its whole tree of choices."""
    script: list[int] = []
    while True:
        draw = Scripted(script)
        result = write(draw)
        yield result, math.exp(-draw.nats)
        while script and script[-1] == draw.sizes[len(script) - 1] - 1:
            script.pop()
        if not script:
            return
        script[-1] += 1


def small(write: Callable[[Draw], object], monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, float]]:
    """Everything the generator can write with a lexicon of two or three words a class."""
    for module in (story, recall, tasks):
        for name in ("ANIMALS", "COLORS", "FEELINGS", "FOODS", "MOODS", "NAMES", "PLACES", "THINGS", "TIMES", "VERBS", "WEATHER", "WORDS"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, getattr(module, name)[: 3 if name in ("PLACES", "NAMES", "WORDS") else 2])
    return list(every(write))


@pytest.mark.parametrize("plot", [story.lost, story.journey, story.gift, story.contest, story.storm], ids=lambda plot: plot.__name__)
def test_the_probabilities_of_all_stories_of_a_small_grammar_add_up_to_one_and_no_story_comes_twice(plot, monkeypatch):
    found = small(lambda draw: plot(draw, "Anna", "Ben"), monkeypatch)
    assert sum(probability for _, probability in found) == pytest.approx(1)
    assert len({text for text, _ in found}) == len(found) > 5


@pytest.mark.parametrize(
    "write", [story.filler, definition, talk, lambda draw: tasks.copying(draw, 3)], ids=["filler", "definition", "talk", "copying"]
)
def test_different_choices_give_different_text(write, monkeypatch):
    found = small(write, monkeypatch)
    assert sum(probability for _, probability in found) == pytest.approx(1)
    assert len({text for text, _ in found}) == len(found)


def test_interleavings_of_facts_and_filler_are_all_equally_likely():
    found = dict(every(lambda draw: "".join(recall.mix(draw, list("ab"), list("xyz")))))
    assert len(found) == math.comb(5, 2)
    assert set(found) == {
        "".join(p) for p in itertools.permutations("abxyz") if p.index("a") < p.index("b") and p.index("x") < p.index("y") < p.index("z")
    }
    assert all(probability == pytest.approx(0.1) for probability in found.values())


def test_a_sample_has_the_frequencies_that_its_probabilities_promise():
    counts: dict[bool, int] = {True: 0, False: 0}
    for seed in range(4000):
        counts[Draw(seed).chance(0.2)] += 1
    assert counts[True] == pytest.approx(800, abs=4 * math.sqrt(4000 * 0.2 * 0.8))


def test_the_information_of_a_choice_without_repetition_is_that_of_its_permutation():
    draw = Draw(0)
    assert len(set(draw.several(range(10), 4))) == 4
    assert draw.nats == pytest.approx(math.log(10 * 9 * 8 * 7))


def test_the_same_seed_gives_the_same_documents_and_another_seed_others():
    first, again, other = (list(itertools.islice(corpus(seed), 50)) for seed in (3, 3, 4))
    assert first == again
    assert sum(a.text == b.text for a, b in zip(first, other, strict=True)) < 3
    assert {one.kind for one in itertools.islice(corpus(0), 300)} == set(KINDS)


def test_an_unknown_kind_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="no kind of document 'poem'.*story"):
        document(0, kind="poem")


def test_every_answer_to_a_task_is_right():
    for seed in range(300):
        draw = Draw(seed)
        task, result = tasks.arithmetic(draw)[1].rstrip(".").split(" = ")
        left, sign, right = task.split()
        assert int(result) == {"+": int(left) + int(right), "-": int(left) - int(right), "x": int(left) * int(right)}[sign]
        question, answer = tasks.sorting(draw)
        assert [int(n) for n in answer.split()[1:]] == sorted(int(n) for n in question.split()[1:])
        question, answer = tasks.copying(draw)
        assert question.removeprefix("Copy: ") == answer.removeprefix("Copied: ")


@pytest.mark.parametrize("tokens", [256, 2048])
def test_every_question_of_a_recall_text_has_its_answer_in_the_text_and_only_one(tokens):
    for seed in range(30):
        sentences, asked = recall.recall(Draw(seed), tokens)
        assert asked
        for question, answer in asked:
            subject = re.fullmatch(r"What is (the (?:key|word) of \w+)\?", question)[1]
            assert [sentence for sentence in sentences if sentence.startswith(f"T{subject[1:]} ")] == [answer]


def test_every_term_is_defined_in_a_sentence_or_two_and_asked_for_in_different_ways():
    ways = [way for term in TERMS for way in asks(term)]
    assert len(set(ways)) == len(ways)
    for term, definition_ in TERMS.items():
        assert definition_.endswith(".") and len(definition_.split()) <= 30, term


def test_no_word_of_the_lexicon_comes_twice():
    assert len(set(WORDS)) == len(WORDS)
