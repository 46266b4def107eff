"""How many items a stage asks of the one before it.

GenStage's rule (the documentation of Elixir's `GenStage`, "Demand"): a consumer asks for `max_demand` items at first;
what it has asked for and not handed on is outstanding; when that has fallen to `min_demand`, it asks for the rest up to
`max_demand` again. Nothing is produced that was not asked for, so no buffer outgrows `max_demand`.
"""

from __future__ import annotations

from typing import Any

MAX_DEMAND = 1000
"""Items; GenStage's own default, as is half of it for `min_demand`."""

QUICK = 0.005
"""Seconds: what takes less may be asked for in twice the number; what takes ten times as long, in half."""

FAR = 0.02
"""The same for what other processes do: on a busy machine the way there and back alone takes longer than QUICK, and
chunks that stayed small for that would make it longer still."""


def whole(name: str, number: Any, least: int = 1) -> int:
    """The number. Raises `ValueError` unless it is a whole one, at least `least`."""
    if not isinstance(number, int) or number < least:
        raise ValueError(f"{name} must be a whole number, at least {least}, not {number!r}")
    return number


class Demand:
    """What one stage has asked for. Raises `ValueError` unless 0 <= min < max."""

    __slots__ = ("max", "min", "outstanding")

    def __init__(self, max: int = MAX_DEMAND, min: int | None = None) -> None:
        self.max = whole("max demand", max)
        self.min = max // 2 if min is None else min
        if not 0 <= self.min < max:
            raise ValueError(f"min demand must be at least 0 and less than max ({max}), not {self.min}")
        self.outstanding = 0

    @property
    def wanted(self) -> int:
        """How many items to ask for now; 0 while more than `min` are outstanding."""
        return self.max - self.outstanding if self.outstanding <= self.min else 0

    def taken(self, count: int) -> None:
        """So many came in. Raises `AssertionError` when they were never asked for."""
        self.outstanding += count
        assert self.outstanding <= self.max, f"{self.outstanding} items are outstanding, and {self.max} may be"

    def settled(self, count: int) -> None:
        """What was made of so many items has been handed on."""
        self.outstanding -= count
        assert self.outstanding >= 0, f"{-self.outstanding} items more were handed on than had come in"


class Pace:
    """How many items to ask for at a time: doubled from 1 while they come quickly, halved while they come slowly.

    So the first result is not held up by the five hundredth, and a fast flow pays for asking once in 1,000 items.
    """

    __slots__ = ("most", "quick", "size")

    def __init__(self, most: int = MAX_DEMAND, quick: float = QUICK) -> None:
        self.most, self.quick = most, quick
        self.size = 1

    def took(self, count: int, seconds: float) -> None:
        """`count` items took so long, from asking to having them all worked off."""
        if seconds < self.quick and count >= self.size:
            self.size = min(2 * self.size, self.most)
        elif seconds > 10 * self.quick and self.size > 1:
            self.size = max(1, min(self.size, count) // 2)
