"""How much may be tried again: a share of what is called, so that retries cannot multiply an overload.

The rules
- Within the last `span` seconds there are at most `floor` retries, and `share` more for each new call. `floor` lets a
  service that is called seldom, or whose worker died with a window full of calls, try again all the same.
- Time is counted in whole seconds, so what happened up to a second more than `span` ago may count too.
- Several that are to be tried again together, as those that one worker left, all may or none.

Twitter's Finagle limits retries so too: a share of the calls of the last 10 s, and some that are always allowed
(`RetryBudget` in its documentation).
"""

from __future__ import annotations

import math
from collections import deque


class _Second:
    """What happened within one second, `at` of the clock."""

    __slots__ = ("at", "calls", "retries")

    def __init__(self, at: int) -> None:
        self.at = at
        self.calls = 0
        self.retries = 0


class RetryBudget:
    """The calls and retries of late. `now` is in monotonic seconds; a `share` of None is no limit.

    Memory is bounded: one bucket for each second of `span`. Raises `ValueError` for limits that mean nothing.
    """

    __slots__ = ("_calls", "_retries", "_seconds", "floor", "share", "span")

    def __init__(self, share: float | None, floor: int = 256, span: float = 10.0) -> None:
        if share is not None and not 0 <= share < math.inf:
            raise ValueError(f"the share of calls that may be tried again must be at least 0, and finite, not {share}")
        if floor < 0:
            raise ValueError(f"floor must be at least 0, not {floor}")
        if not 0 < span <= 3600:
            raise ValueError(f"span must be more than 0 and at most 3600 seconds, not {span}")
        self.share = share
        self.floor = floor
        self.span = span
        self._seconds: deque[_Second] = deque()
        self._calls = 0
        self._retries = 0

    def calls(self, count: int, now: float) -> None:
        """`count` new calls came; retries are none."""
        if self.share is not None:
            self._second(now).calls += count
            self._calls += count

    def allows(self, count: int, now: float) -> bool:
        """Whether `count` calls may be tried again now. They are counted if they may, and only then."""
        if self.share is None:
            return True
        second = self._second(now)
        if self._retries + count > self.floor + self.share * self._calls:
            return False
        second.retries += count
        self._retries += count
        return True

    def _second(self, now: float) -> _Second:
        """The bucket of `now`, or the newest one if the clock went back; those that are too old are forgotten."""
        seconds = self._seconds
        while seconds and seconds[0].at + 1 <= now - self.span:
            old = seconds.popleft()
            self._calls -= old.calls
            self._retries -= old.retries
        if not seconds or seconds[-1].at < int(now):
            seconds.append(_Second(int(now)))
        return seconds[-1]
