"""Prompts for lessons and load: of a wanted kind and length, seeded, with the right answer where there is one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from labkit.models.text.draw import Draw

if TYPE_CHECKING:
    from tokenizers import Tokenizer

KINDS = ("story", "recall", "shared", "copy", "arithmetic", "sort", "question")


@dataclass(slots=True)
class Prompt:
    """`text` goes to /v1/completions, `messages` to /v1/chat/completions; `answer` is how the text goes on (None: any way will do)."""

    kind: str
    text: str
    question: str
    answer: str | None

    @property
    def messages(self) -> list[dict[str, str]]:
        """The question as a conversation of one turn."""
        return [{"role": "user", "content": self.question}]


def prompt(
    kind: str, seed: int | str = 0, tokens: int | None = None, *, distance: int | None = None, keys: int = 1, group: int | str = 0
) -> Prompt:
    """The prompt of this kind and seed.

    `tokens` is the wanted length in tokens of the shipped model's tokenizer, beginning token included; None: as the kind has it. "story"
    is met exactly, "recall" and "shared" within one sentence, the others (short tasks) take no length. `distance` ("recall") is how many
    tokens before the end the key stands, `keys` how many keys there are to choose from. Prompts of kind "shared" with the same `group`
    and `tokens` hold up to eight keys and are equal up to their question.
    """
    draw = Draw(f"prompt/{kind}/{seed}")
    match kind:
        case "story":
            return story_opening(draw, tokens)
        case "recall":
            return recall_prompt(draw, draw, tokens or 256, distance, keys)
        case "shared":
            tokens = tokens or 256
            return recall_prompt(Draw(f"prompt/shared/group/{group}"), draw, tokens, None, max(1, min(8, tokens // 40)))
        case "copy" | "arithmetic" | "sort" | "question":
            if tokens is not None:
                raise ValueError(f"a prompt of kind {kind!r} has the length of its task: leave `tokens` out, or take 'story' or 'recall'")
            return task_prompt(kind, draw)
    raise ValueError(f"no kind of prompt {kind!r}: there are {', '.join(KINDS)}")


def story_opening(draw: Draw, tokens: int | None) -> Prompt:
    """The beginning of a story; with `tokens`, so many of its tokens."""
    from labkit.models.text.lexicon import ANIMALS, NAMES
    from labkit.models.text.story import a, opening, story

    animal = draw.choose(ANIMALS)
    question = f"Tell me a story about {a(animal)}."
    if tokens is None:
        return Prompt("story", opening(draw, animal, draw.choose(NAMES)), question, None)
    encoder = tokenizer()
    ids = encoder.encode(story(draw, animal, chapters=1 + tokens // 60)).ids
    return Prompt("story", encoder.decode(ids[:tokens]), question, None)


def recall_prompt(context: Draw, ask: Draw, tokens: int, distance: int | None, keys: int) -> Prompt:
    """Keys among other sentences, then a question about one of them. `context` draws the sentences, `ask` the question."""
    from labkit.models.text.lexicon import NAMES
    from labkit.models.text.story import filler

    names = context.several(NAMES, keys)
    facts = [(name, context.digits(4)) for name in names]
    name, key = facts[0] if distance is not None else ask.choose(facts)
    question = f"What is the key of {name}?"
    tail = f" {question} The key of {name} is"
    sentences = [f"The key of {owner} is {digits}." for owner, digits in facts]
    room = tokens - length(" ".join(sentences) + tail)
    if room < 0:
        raise ValueError(f"a recall prompt of {tokens} tokens is too short: its keys and question need {tokens - room}")
    between: list[str] = []
    while True:
        sentence = filler(context)
        room -= length(sentence) - 1
        if room < 0:
            break
        between.append(sentence)
    if distance is None:
        places = sorted(context.index(len(between) + 1) for _ in sentences)
        for place, sentence in reversed(list(zip(places, sentences, strict=True))):
            between.insert(place, sentence)
    else:
        between = [*sentences[1:], *between]
        between.insert(place_before_end(between, distance - length(tail)), sentences[0])
    text = " ".join(between)
    return Prompt("recall", text + tail, f"{text} {question}", f" {key}")


def place_before_end(sentences: list[str], distance: int) -> int:
    """The index at which about `distance` tokens of sentences follow."""
    place = len(sentences)
    while place and distance > 0:
        place -= 1
        distance -= length(sentences[place]) - 1
    return place


def task_prompt(kind: str, draw: Draw) -> Prompt:
    """A short task with one right answer."""
    from labkit.models.text.chat import definition
    from labkit.models.text.tasks import arithmetic, copying, sorting

    maker = {"copy": copying, "arithmetic": arithmetic, "sort": sorting, "question": definition}[kind]
    question, answer = maker(draw)
    if kind == "question":
        return Prompt(kind, f"Question: {question}\nAnswer:", question, f" {answer}")
    if kind == "arithmetic":
        left, right = answer.split("=")
        return Prompt(kind, f"{left}=", question, right.rstrip("."))
    label, result = answer.split(":")
    return Prompt(kind, f"{question}\n{label}:", question, result)


@lru_cache(1)
def tokenizer() -> Tokenizer:
    """The shipped model's tokenizer."""
    from labkit.models.registry import folder
    from labkit.models.tokenizer import load_tokenizer

    return load_tokenizer(folder("tiny"))


def length(text: str) -> int:
    """Tokens of the text, with the beginning token."""
    return len(tokenizer().encode(text).ids)
