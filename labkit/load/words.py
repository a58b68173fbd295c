"""Numbers as they are read: three significant digits where they are measured, every digit where they are counted."""
from __future__ import annotations


def counted(number: float) -> str:
    """12 345, with a narrow no-break space."""
    return f"{number:,.0f}".replace(",", "\u202f")


def measured(number: float) -> str:
    """0.00123, 12.3, 1 230: three significant digits, no exponent in the range of times and rates."""
    rounded = float(f"{number:.2e}")
    return f"{rounded:.3g}" if abs(rounded) < 1000 else counted(rounded)
