"""Two greedy continuations of one prompt, by a model and by its quantized self, up to where they part and beyond."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from labkit.quantization.quality import greedy

if TYPE_CHECKING:
    from labkit.models.measure import Ruler


@dataclass(slots=True)
class Generations:
    """`place` is that of the first token that differs, None where there is none. `probabilities` are (original's token, other's token)
    there, for the original model and for the quantized one."""

    prompt: str
    original: list[str]  # the text of each token
    quantized: list[str]
    place: int | None
    probabilities: tuple[tuple[float, float], tuple[float, float]] | None


def generations(original: Ruler, quantized: Ruler, prompt: str, tokens: int = 64) -> Generations:
    """`tokens` greedy tokens each after the prompt."""
    head = original.tokenizer(prompt).input_ids
    first, second = (greedy(ruler, head, tokens) for ruler in (original, quantized))
    texts = [[original.tokenizer.decode([token]) for token in tail] for tail in (first, second)]
    place = next((n for n, (a, b) in enumerate(zip(first, second, strict=True)) if a != b), None)
    if place is None:
        return Generations(prompt, *texts, None, None)
    ids = head + first[: place + 1]
    tables = [ruler.log_probabilities(ids)[-1].exp() for ruler in (original, quantized)]
    both = tuple((table[first[place]].item(), table[second[place]].item()) for table in tables)
    return Generations(prompt, *texts, place, both)
