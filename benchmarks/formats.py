"""Numbers as the tables show them."""

from __future__ import annotations

from benchmarks.measure import Spread


def number(value: float) -> str:
    """Three figures, without an exponent."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def spread(value: Spread | None, unit: str = "x") -> str:
    """`2.1x (1.9 to 2.4)`, or a dash."""
    if value is None:
        return "-"
    if value.low == value.high:
        return f"{number(value.median)}{unit}"
    return f"{number(value.median)}{unit} ({number(value.low)} to {number(value.high)})"


def time_of(microseconds: float) -> str:
    return f"{number(microseconds)} µs" if microseconds < 1000 else f"{number(microseconds / 1000)} ms"


def duration(value: Spread | None) -> str:
    """A spread of seconds, all three in the unit that suits the median."""
    if value is None:
        return "-"
    scale, unit = next(((s, u) for s, u in ((1, " s"), (1e3, " ms")) if value.median * s >= 1), (1e6, " µs"))
    return spread(Spread(value.median * scale, value.low * scale, value.high * scale), unit)
