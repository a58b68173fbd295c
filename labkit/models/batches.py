"""Training batches: rows packed with documents. Batch n depends on the seed and n alone, so a resumed run sees what it would have seen."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labkit.models.text.corpus import document
from labkit.models.tokenizer import BOS, EOS

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor

EARLY = {256: 1.0}
MIDDLE = {256: 0.55, 512: 0.25, 1024: 0.1, 2048: 0.1}
LATE = {256: 0.3, 512: 0.2, 1024: 0.15, 2048: 0.35}


@dataclass(slots=True)
class Batch:
    """ids [rows, length + 1] and positions [rows, length]; both int64."""

    ids: Tensor
    positions: Tensor


def length_of(seed: int, step: int, progress: float, longest: int) -> int:
    """The row length of this step: short rows first, the whole context towards the end."""
    mix = EARLY if progress < 0.45 else MIDDLE if progress < 0.75 else LATE
    length = random.Random(f"length/{seed}/{step}").choices(list(mix), weights=list(mix.values()))[0]
    return min(length, longest)


def batch(
    tokenizer: Tokenizer, seed: int, step: int, tokens: int, length: int, longest: int, kinds: tuple[str | None, ...] = (None,)
) -> Batch:
    """The batch of a step: about `tokens` tokens in rows of `length`. A row's documents are of one of `kinds`, in turn; None: of any."""
    import torch

    rows = [row(tokenizer, f"{seed}/{step}/{n}", length, kinds[(step + n) % len(kinds)]) for n in range(max(1, tokens // length))]
    places = [positions(f"places/{seed}/{step}/{n}", length, longest) for n in range(len(rows))]
    return Batch(torch.tensor(rows), torch.tensor(places))


def row(tokenizer: Tokenizer, seed: str, length: int, kind: str | None = None) -> list[int]:
    """length + 1 ids: documents, each between its beginning and end tokens; the last one is cut."""
    begin, end = tokenizer.token_to_id(BOS), tokenizer.token_to_id(EOS)
    ids: list[int] = []
    n = 0
    while len(ids) < length + 1:
        text = document(f"train/{seed}/{n}", length, kind).text
        ids += [begin, *tokenizer.encode(text, add_special_tokens=False).ids, end]
        n += 1
    return ids[: length + 1]


def positions(seed: str, length: int, longest: int) -> list[int]:
    """Ascending positions below `longest`; in half of the short rows with gaps.

    The gaps teach attention over long distances at the price of short rows (after "PoSE", Zhu et al., 2023, arXiv:2309.10400).
    """
    choice = random.Random(seed)
    if length >= longest or choice.random() < 0.5:
        return list(range(length))
    gaps = choice.randint(1, 3)
    cuts = sorted(choice.sample(range(1, length), gaps)) + [length]
    spare = choice.randint(0, longest - length)
    jumps = sorted(choice.randint(0, spare) for _ in range(gaps))
    places = list(range(cuts[0]))
    for start, end, jump in zip(cuts, cuts[1:], jumps, strict=False):
        places += range(start + jump, end + jump)
    return places
