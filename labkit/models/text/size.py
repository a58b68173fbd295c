"""How long a text will be in tokens, before there is a tokenizer."""

from __future__ import annotations

import re

PIECE = re.compile(r" ?\d| ?[A-Za-z]+| ?[^\sA-Za-z\d]+|\s")


def size(text: str) -> int:
    """The number of pieces the tokenizer cannot merge any further: at most a few per cent below the number of tokens."""
    return len(PIECE.findall(text)) + 1
