"""Documents of every kind in their proportions, without end and seeded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from labkit.models.text.chat import chat, definition
from labkit.models.text.draw import Draw
from labkit.models.text.recall import drill, recall
from labkit.models.text.story import story
from labkit.models.text.tasks import arithmetic, copying, echo, sorting

KINDS = {"story": 0.2, "recall": 0.3, "drill": 0.2, "copy": 0.12, "arithmetic": 0.13, "sort": 0.08, "question": 0.06, "chat": 0.25}
"""How often each kind of document comes. "echo" is for the first lesson only."""


@dataclass(slots=True)
class Document:
    """One text of the corpus: `nats` is its information, by the generator's own account. Beginning and end tokens are not in `text`."""

    kind: str
    text: str
    nats: float


def document(seed: int | str, tokens: int = 256, kind: str | None = None) -> Document:
    """The document of this seed, of about `tokens` tokens; of this kind, if one is given."""
    draw = Draw(seed)
    kind = kind or draw.weighted(KINDS)
    return Document(kind, write(draw, kind, tokens), draw.nats)


def write(draw: Draw, kind: str, tokens: int) -> str:
    """The text of a document."""
    match kind:
        case "story":
            return story(draw, chapters=draw.integer(1, max(1, tokens // 110 - 1)))
        case "recall":
            sentences, asked = recall(draw, tokens)
            return " ".join([*sentences, *(f"{question} {answer}" for question, answer in asked)])
        case "drill":
            return drill(draw)
        case "copy":
            longest = max(4, min(120, tokens // 4))
            return lines(copying(draw, longest) for _ in range(draw.integer(1, 3)))
        case "arithmetic":
            return "\n".join(arithmetic(draw)[1] for _ in range(draw.integer(4, 16)))
        case "sort":
            return lines(sorting(draw) for _ in range(draw.integer(1, 4)))
        case "question":
            pairs = [definition(draw) for _ in range(draw.integer(1, 4))]
            return lines((f"Question: {question}", f"Answer: {answer}") for question, answer in pairs)
        case "chat":
            return chat(draw, tokens)
        case "echo":
            return echo(draw, max(4, tokens // 6))
    raise ValueError(f"no kind of document {kind!r}: there are {', '.join(KINDS)}")


def lines(pairs: Iterator[tuple[str, str]]) -> str:
    """Questions and answers, each on a line."""
    return "\n".join(f"{question}\n{answer}" for question, answer in pairs)


def corpus(seed: int, tokens: int = 256) -> Iterator[Document]:
    """Documents without end; the same seed gives the same ones."""
    n = 0
    while True:
        yield document(f"{seed}/{tokens}/{n}", tokens)
        n += 1
