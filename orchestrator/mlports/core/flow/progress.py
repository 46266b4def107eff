"""How far a flow has come, how fast it is, and how long it will take."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

_SPAN = 10.0  # seconds over which the rate is taken
_POINTS = 100


class Progress(NamedTuple):
    """`done` and `total` are in the source's unit (items, or bytes of a file); `total` is None where nobody knows it.

    items: taken from the source. rate: items a second, lately. seconds: since the start. left: seconds to go, or None.
    """

    items: int
    done: int
    total: int | None
    rate: float
    seconds: float
    left: float | None

    def __str__(self) -> str:
        share = f" ({min(100, 100 * self.done // self.total)} %)" if self.total else ""
        left = f", {self.left:.0f} s left" if self.left is not None else ""
        return f"{self.items:,} items{share}, {self.rate:,.0f}/s{left}"


class ProgressMeter:
    """Takes what was done at which time; `now` is in monotonic seconds. Bounded: at most 100 points are kept."""

    def __init__(self, total: int | None, now: float) -> None:
        self._total = total
        self._began = now
        self._points: deque[tuple[float, int, int]] = deque([(now, 0, 0)], maxlen=_POINTS)

    def begin_at(self, items: int, done: int, now: float) -> None:
        """What an earlier run had done: it is no work of this one."""
        self._points.clear()
        self._points.append((now, items, done))

    def look(self, items: int, done: int, now: float) -> Progress:
        """`items` and `done` count from the very beginning of the source."""
        points = self._points
        if now - points[-1][0] >= _SPAN / _POINTS:
            points.append((now, items, done))
        while len(points) > 1 and points[1][0] <= now - _SPAN:
            points.popleft()
        at, items_then, done_then = points[0]
        span = now - at
        rate = (items - items_then) / span if span > 0 else 0.0
        left = None
        if self._total is not None and span > 0 and done > done_then:
            left = max(0.0, (self._total - done) * span / (done - done_then))
        return Progress(items, done, self._total, rate, now - self._began, left)
