"""Tasks with one right answer: arithmetic, sorting, copying. Each gives a question and its answer."""

from __future__ import annotations

from labkit.models.text.draw import Draw
from labkit.models.text.lexicon import WORDS


def arithmetic(draw: Draw) -> tuple[str, str]:
    """A sum or a difference of numbers up to 99, or a product of digits: ("What is 12 + 7?", "12 + 7 = 19.")."""
    match draw.weighted({"+": 4, "-": 3, "x": 1}):
        case "+":
            left, right = draw.integer(0, 99), draw.integer(0, 99)
            task, result = f"{left} + {right}", left + right
        case "-":
            left = draw.integer(0, 99)
            right = draw.integer(0, left)
            task, result = f"{left} - {right}", left - right
        case _:
            left, right = draw.integer(0, 9), draw.integer(0, 9)
            task, result = f"{left} x {right}", left * right
    return f"What is {task}?", f"{task} = {result}."


def sorting(draw: Draw) -> tuple[str, str]:
    """Three to eight different numbers of two digits, to be put in order: ("Sort: 31 12 57", "Sorted: 12 31 57")."""
    numbers = draw.several(range(10, 100), draw.integer(3, 8))
    return "Sort: " + " ".join(map(str, numbers)), "Sorted: " + " ".join(map(str, sorted(numbers)))


def copying(draw: Draw, longest: int = 24) -> tuple[str, str]:
    """Different words, or different digits, to be written again: ("Copy: lamp fox", "Copied: lamp fox")."""
    if draw.chance(0.8):
        things = draw.several(WORDS, draw.integer(2, longest))
    else:
        things = draw.several("0123456789", draw.integer(2, min(longest, 10)))
    text = " ".join(things)
    return f"Copy: {text}", f"Copied: {text}"


def echo(draw: Draw, longest: int = 12, times: int = 4) -> str:
    """A short list of different words, copied again and again: the first lesson, from which attention learns to look back."""
    text = " ".join(draw.several(WORDS, draw.integer(3, longest)))
    return "\n".join([f"Copy: {text}", *[f"Copied: {text}"] * times])
