"""Pairs of items of two sides that have the same key and lie no more than `within` apart in time.

An item waits for partners until the other side's watermark (its latest time less `lateness`) says that none can come.
Whoever feeds it should take from the side whose time is behind: then neither side's memory outgrows what `within` and
`lateness` span.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable
from typing import Any

LEFT, RIGHT = 0, 1


class IntervalJoin:
    """`feed` gives the pairs (left, right) that an item makes, in the order in which their partners came."""

    def __init__(self, within: float, lateness: float = 0.0) -> None:
        if not 0 <= within < math.inf:
            raise ValueError(f"within must be at least 0, not {within!r}")
        if not 0 <= lateness < math.inf:
            raise ValueError(f"lateness must be at least 0, not {lateness!r}")
        self._within, self._lateness = within, lateness
        self._latest = [-math.inf, -math.inf]
        self._kept: list[dict[Hashable, deque[tuple[float, Any]]]] = [{}, {}]
        self._count = 0
        self._fed = 0
        self.late = 0
        """Items that came after their side's watermark: partners of theirs may have been let go."""

    def __len__(self) -> int:
        """Items that wait for partners."""
        return self._count

    @property
    def behind(self) -> int:
        """The side whose time is behind: LEFT (0) or RIGHT (1)."""
        return LEFT if self._latest[LEFT] <= self._latest[RIGHT] else RIGHT

    def feed(self, side: int, key: Hashable, time: float, item: Any) -> list[tuple[Any, Any]]:
        """An item of a side. Raises `ValueError` for a time that is no finite number."""
        if not math.isfinite(time):
            raise ValueError(f"an item's time must be a finite number, not {time!r}")
        if time < self._watermark(side):
            self.late += 1
        self._latest[side] = max(self._latest[side], time)
        partners = self._kept[1 - side].get(key, ())
        near = [other for at, other in partners if abs(at - time) <= self._within]
        if time + self._within >= self._watermark(1 - side):
            self._kept[side].setdefault(key, deque()).append((time, item))
            self._count += 1
        self._fed += 1
        # To look at all keys costs as much as there are items, so it is done once in as many.
        if self._fed > self._count // 2 + 100:
            self._let_go()
        return [(item, other) for other in near] if side == LEFT else [(other, item) for other in near]

    def ended(self, side: int) -> None:
        """Nothing more comes of that side."""
        self._latest[side] = math.inf
        self._let_go()

    def _watermark(self, side: int) -> float:
        return self._latest[side] - self._lateness

    def _let_go(self) -> None:
        self._fed = 0
        for side in (LEFT, RIGHT):
            until = self._watermark(1 - side) - self._within
            kept = self._kept[side]
            for key in list(kept):
                alive = deque(each for each in kept[key] if each[0] >= until)
                self._count -= len(kept[key]) - len(alive)
                if alive:
                    kept[key] = alive
                else:
                    del kept[key]

    def state(self) -> Any:
        kept = [[[key, [list(pair) for pair in waiting]] for key, waiting in side.items()] for side in self._kept]
        return [list(self._latest), kept]

    def restore(self, state: Any) -> None:
        self._latest, kept = state
        self._kept = [{key: deque((at, item) for at, item in pairs) for key, pairs in side} for side in kept]
        self._count = sum(len(waiting) for side in self._kept for waiting in side.values())
