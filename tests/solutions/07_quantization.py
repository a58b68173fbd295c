"""Right and typical wrong answers to the exercises of notebook 07."""

from __future__ import annotations


def codes(weights: list[float], scale: float, bits: int, whole=round) -> list[int]:
    return [min(max(whole(w / scale), -(2 ** (bits - 1))), 2 ** (bits - 1) - 1) for w in weights]


def scale_of(weights: list[float], bits: int) -> float:
    return 2 * max(map(abs, weights)) / (2**bits - 1) or 1.0


def round_to_nearest(weights: list[float], bits: int) -> list[float]:
    scale = scale_of(weights, bits)
    return [code * scale for code in codes(weights, scale, bits)]


def truncated(weights: list[float], bits: int) -> list[float]:
    """Cuts off instead of rounding."""
    scale = scale_of(weights, bits)
    return [code * scale for code in codes(weights, scale, bits, int)]


def not_clamped(weights: list[float], bits: int) -> list[float]:
    scale = scale_of(weights, bits)
    return [round(w / scale) * scale for w in weights]


def sixteen_steps(weights: list[float], bits: int) -> list[float]:
    """Takes as many steps as there are levels."""
    scale = 2 * max(map(abs, weights)) / 2**bits or 1.0
    return [code * scale for code in codes(weights, scale, bits)]


def half_a_grid(weights: list[float], bits: int) -> list[float]:
    """A grid that only reaches from 0 to the greatest."""
    scale = max(map(abs, weights)) / (2**bits - 1) or 1.0
    return [code * scale for code in codes(weights, scale, bits)]


def divides_by_zero(weights: list[float], bits: int) -> list[float]:
    scale = 2 * max(map(abs, weights)) / (2**bits - 1)
    return [code * scale for code in codes(weights, scale, bits)] if scale else []


def loudest(x: list[list[float]]) -> int:
    peaks = [max(map(abs, column)) for column in zip(*x, strict=True)]
    return peaks.index(max(peaks))


def loudest_by(measure):
    """The column for which `measure` is greatest."""

    def answer(x: list[list[float]]) -> int:
        values = [measure(column) for column in zip(*x, strict=True)]
        return values.index(max(values))

    return answer


def loudest_token(x: list[list[float]]) -> int:
    peaks = [max(map(abs, token)) for token in x]
    return peaks.index(max(peaks))


def best_bits(weights: int, budget: int, group_size: int) -> int | None:
    return next((bits for bits in range(8, 1, -1) if weights * bits / 8 + weights / group_size * 2 <= budget), None)


def bits_by(nbytes, order=range(8, 1, -1)):
    """The first of the bits in `order` whose bytes fit."""
    return lambda weights, budget, group_size: next((bits for bits in order if nbytes(weights, bits, group_size) <= budget), None)


WRONG = {
    "round_to_nearest": [
        (lambda weights, bits: codes(weights, scale_of(weights, bits), bits), "Those are the codes"),
        (truncated, "cut off"),
        (not_clamped, "clamp it"),
        (sixteen_steps, "15 steps"),
        (half_a_grid, "twice the greatest"),
        (divides_by_zero, "do not divide"),
    ],
    "loudest": [
        (loudest_by(max), "absolute values"),
        (loudest_token, "A feature is a column"),
        (loudest_by(lambda column: sum(map(abs, column))), "The mean hides"),
        (lambda x: max(abs(value) for token in x for value in token), "Asked is which feature"),
    ],
    "best_bits": [
        (bits_by(lambda weights, bits, group_size: weights * bits / 8), "scales are missing"),
        (bits_by(lambda weights, bits, group_size: weights * bits / 8 + weights / group_size), "not one"),
        (bits_by(lambda weights, bits, group_size: weights * bits / 8 + weights / group_size * 2, range(2, 9)), "least number"),
        (bits_by(lambda weights, bits, group_size: weights * bits + weights / group_size * 2), "half a byte"),
        (lambda weights, budget, group_size: best_bits(weights, budget, group_size) or 2, "do not fit any more"),
        (bits_by(lambda weights, bits, group_size: weights * bits / 8 + weights / group_size * 2, range(16, 1, -1)), "Stop at 8"),
    ],
}
PREDICTIONS = {
    "all in all": [("4", "scales are stored"), ("20", "shared by 64")],
    "finest steps": [("all the same", "weight times input"), ("the greatest weights", "near zero")],
    "How many blocks more": [("20", "Bits or bytes")],
}
