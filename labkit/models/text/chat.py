"""Conversations: every task as turns of user and assistant, in the model's chat format."""

from __future__ import annotations

from labkit.models.text.draw import Draw
from labkit.models.text.glossary import TALK, TERMS, WHY, asks
from labkit.models.text.lexicon import ANIMALS
from labkit.models.text.recall import recall
from labkit.models.text.story import a, story
from labkit.models.text.tasks import arithmetic, copying, sorting
from labkit.models.tokenizer import ASSISTANT, EOS, SYSTEM, USER

SYSTEMS = ("You are a helpful assistant.", "You are the tiny model of Serving Lab.", "Answer in few words.", "Be kind and short.")


def definition(draw: Draw) -> tuple[str, str]:
    """A question about a serving term, with its answer."""
    if draw.chance(0.85):
        term = draw.choose(tuple(TERMS))
        return draw.choose(asks(term)), TERMS[term]
    question = draw.choose(tuple(WHY))
    return question, WHY[question]


def talk(draw: Draw) -> tuple[str, str]:
    """A greeting or a question about the model itself."""
    question = draw.choose(tuple(TALK))
    return question, TALK[question]


def tale(draw: Draw) -> tuple[str, str]:
    """A story on demand."""
    match draw.weighted({"free": 2, "about": 4, "long": 1}):
        case "free":
            return "Tell me a story.", story(draw)
        case "about":
            animal = draw.choose(ANIMALS)
            return f"Tell me a story about {a(animal)}.", story(draw, animal)
        case _:
            animal = draw.choose(ANIMALS)
            return f"Tell me a long story about {a(animal)}.", story(draw, animal, chapters=draw.integer(3, 6))


def remembered(draw: Draw, tokens: int) -> list[tuple[str, str]]:
    """Facts in the first turn, and questions about them there and in the turns that follow."""
    sentences, asked = recall(draw, tokens)
    (question, answer), *rest = asked
    return [(" ".join([*sentences, question]), answer), *rest]


def chat(draw: Draw, tokens: int = 256) -> str:
    """A conversation of one to four turns, or one about remembered facts of about `tokens` tokens."""
    head = SYSTEM + draw.choose(SYSTEMS) if draw.chance(0.25) else ""
    if draw.chance(0.2):
        turns = remembered(draw, tokens)
    else:
        makers = {definition: 5.0, talk: 1.5, arithmetic: 1.0, sorting: 0.6, copying: 0.8, tale: 0.5}
        turns = [draw.weighted(makers)(draw) for _ in range(draw.integer(1, 4))]
    return head + (EOS).join(f"{USER}{question}{ASSISTANT}{answer}" for question, answer in turns)
