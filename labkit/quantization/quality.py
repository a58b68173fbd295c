"""What quantization does to what a model says: divergence from the original model, token by token, and the first token that differs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from labkit.models.prompts import prompt
from labkit.models.text.corpus import document

if TYPE_CHECKING:
    from torch import Tensor

    from labkit.models.measure import Ruler

KINDS = ("story", "recall", "copy", "question")


@dataclass(slots=True)
class Reference:
    """What the original model says: log-probabilities on held-out documents, and greedy continuations of prompts."""

    documents: list[list[int]]
    log_probabilities: list[Tensor]  # [tokens - 1, vocabulary] of each document
    prompts: list[list[int]]
    continuations: list[list[int]]
    continuation_log_probabilities: list[Tensor]  # [tokens, vocabulary] of each continuation


def reference(ruler: Ruler, documents: int = 40, prompts: int = 50, tokens: int = 64, seed: int = 1) -> Reference:
    """Let the original model speak: `documents` of about 256 tokens, and `tokens` greedy tokens on each of `prompts`. Seeded."""
    texts = [ruler.tokenizer(document(f"held out/divergence/{seed}/{n}", 256).text).input_ids for n in range(documents)]
    cases = [prompt(KINDS[n % len(KINDS)], f"divergence/{seed}/{n}") for n in range(prompts)]
    heads = [ruler.tokenizer(case.text).input_ids for case in cases]
    tails = [greedy(ruler, head, tokens) for head in heads]
    tables = [ruler.log_probabilities(head + tail)[len(head) - 1 :] for head, tail in zip(heads, tails, strict=True)]
    return Reference(texts, [ruler.log_probabilities(text) for text in texts], heads, tails, tables)


def greedy(ruler: Ruler, head: list[int], tokens: int) -> list[int]:
    """The `tokens` most likely tokens after `head`, one after the other; the end token does not end it."""
    import torch

    with torch.inference_mode():
        ids, cache, found = torch.tensor([head], device=ruler.device), None, []
        for _ in range(tokens):
            out = ruler.model(ids, past_key_values=cache, use_cache=True)
            cache, ids = out.past_key_values, out.logits[:, -1:].argmax(-1)
            found.append(ids.item())
    return found


def divergence(ruler: Ruler, wanted: Reference) -> dict[str, float]:
    """Per token of the held-out documents: the mean Kullback-Leibler divergence from the original's distribution in nats, and the share
    of tokens for which both find the same one most likely."""
    total = agreed = count = 0
    for text, theirs in zip(wanted.documents, wanted.log_probabilities, strict=True):
        ours = ruler.log_probabilities(text)
        total += (theirs.exp() * (theirs - ours)).sum().item()
        agreed += (theirs.argmax(-1) == ours.argmax(-1)).sum().item()
        count += len(theirs)
    return {"kl": round(total / count, 6), "same_top": round(agreed / count, 5), "tokens": count}


@dataclass(slots=True)
class Split:
    """Where a greedy continuation leaves the original's: the place of the first token that differs, both tokens, and how close the choice
    was."""

    prompt: int
    place: int
    wanted: int
    found: int
    gap: float  # nats by which the original preferred its token


def splits(ruler: Ruler, wanted: Reference) -> list[Split]:
    """The first difference of each continuation that has one.

    One pass over the original's continuation decides it: up to the first difference both have the same tokens before them.
    """
    found = []
    for number, (head, tail, table) in enumerate(
        zip(wanted.prompts, wanted.continuations, wanted.continuation_log_probabilities, strict=True)
    ):
        best = ruler.log_probabilities(head + tail)[len(head) - 1 :].argmax(-1).tolist()
        place = next((place for place, (ours, theirs) in enumerate(zip(best, tail, strict=True)) if ours != theirs), None)
        if place is not None:
            gap = (table[place, tail[place]] - table[place, best[place]]).item()
            found.append(Split(number, place, tail[place], best[place], gap))
    return found


def summary(found: Iterable[Split], prompts: int, tokens: int) -> dict:
    """For JSON: the share of continuations that are the same to the end, and the median place of the first difference (`tokens`: none)."""
    places = {split.prompt: split.place for split in found}
    everything = [places.get(number, tokens) for number in range(prompts)]
    same = round(1 - len(places) / prompts, 4)
    return {"prompts": prompts, "tokens": tokens, "same": same, "median_first": median(everything), "first": everything}
