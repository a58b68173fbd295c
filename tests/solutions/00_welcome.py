"""Right and typical wrong answers to the exercises of notebook 00."""
import math


def blocks_needed(tokens: int, size: int) -> int:
    return math.ceil(tokens / size)


WRONG = {
    "blocks_needed": [
        (lambda tokens, size: tokens // size, "round down"),
        (lambda tokens, size: tokens // size + 1, "exactly"),
        (lambda tokens, size: tokens / size, "whole things"),
        (lambda tokens, size: max(1, math.ceil(tokens / size)), "without tokens"),
    ]
}
PREDICTIONS = {"How many blocks of": [("6", "does not fill it"), ("100", "block size of 1")]}
