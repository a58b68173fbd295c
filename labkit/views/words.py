"""Numbers as the views write them: a thin space in thousands, a space before the unit, three significant digits in read-outs."""
from __future__ import annotations


def thousands(n: float) -> str:
    """Digits in groups of three, a thin space between."""
    return f"{n:,.0f}".replace(",", "\u202f")


def percent(fraction: float) -> str:
    return f"{100 * fraction:.0f} %" if fraction >= 0.0995 or fraction < 0.0005 else f"{100 * fraction:.1f} %"


def duration(seconds: float) -> tuple[str, str]:
    """Number and unit: ("8.1", "ms"), ("1\u202f620", "ms"), ("12.4", "s"), ("3.5", "min")."""
    if seconds == 0:
        return "0", "ms"
    if seconds < 9.9995:
        return (f"{1e3 * seconds:.1f}" if seconds < 0.09995 else thousands(1e3 * seconds)), "ms"
    if seconds < 599.5:
        return (f"{seconds:.1f}" if seconds < 99.95 else thousands(seconds)), "s"
    return (f"{seconds / 60:.1f}" if seconds < 5997 else thousands(seconds / 60)), "min"


def spoken(seconds: float) -> str:
    """The same as one word."""
    return " ".join(duration(seconds))


def count(n: int, noun: str) -> str:
    """1 request, 2 requests."""
    return f"{thousands(n)} {noun}{'' if n == 1 else 's'}"
