"""Recall: keys and words told early, among other sentences, and asked for later."""

from __future__ import annotations

from labkit.models.text.draw import Draw
from labkit.models.text.lexicon import NAMES, PLACES, THINGS
from labkit.models.text.size import size
from labkit.models.text.story import filler

QUERY = 21
"""Tokens of one question with its answer, the longer kind."""


def fact(draw: Draw, name: str, keys: float = 2 / 3) -> tuple[str, str]:
    """A question and the sentence that answers it: a key of four digits (with this share) or a secret word."""
    if draw.chance(keys):
        return f"What is the key of {name}?", f"The key of {name} is {draw.digits(4)}."
    return f"What is the word of {name}?", f"The word of {name} is {draw.choose(THINGS + PLACES)}."


def recall(draw: Draw, tokens: int = 256) -> tuple[list[str], list[tuple[str, str]]]:
    """Sentences of about `tokens` tokens, questions included, and the questions with their answers in the order asked.

    Every name has one fact. How much is filler differs from one text to the next, from none to nearly all.
    """
    most = max(2, min(len(NAMES), tokens // 36))
    names = draw.several(NAMES, draw.integer(1, most))
    facts = [fact(draw, name) for name in names]
    asked = draw.several(facts, min(len(facts), max(1, tokens // 50)))
    room = tokens - sum(size(answer) for _, answer in facts) - QUERY * len(asked)
    room = int(room * draw.weighted({0.0: 1, 0.5: 1, 1.0: 2}))
    between: list[str] = []
    while room > 0:
        between.append(filler(draw))
        room -= size(between[-1])
    return mix(draw, [answer for _, answer in facts], between), asked


def drill(draw: Draw) -> str:
    """Two to six facts, all keys or all words, and then told again and again, in any order: only the name says which one it is."""
    keys = float(draw.chance(2 / 3))
    facts = [fact(draw, name, keys)[1] for name in draw.several(NAMES, draw.integer(2, 6))]
    return " ".join([*facts, *(draw.choose(facts) for _ in range(draw.integer(2 * len(facts), 4 * len(facts))))])


def mix(draw: Draw, facts: list[str], between: list[str]) -> list[str]:
    """Both lists, each in its order, interleaved at random; all interleavings are equally likely."""
    sentences, facts, between = [], facts[::-1], between[::-1]
    while facts or between:
        take_fact = draw.chance(len(facts) / (len(facts) + len(between))) if facts and between else bool(facts)
        sentences.append((facts if take_fact else between).pop())
    return sentences
