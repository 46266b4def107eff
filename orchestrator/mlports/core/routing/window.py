"""How many requests a replica may hold at once, and which of several holds the fewest."""

from __future__ import annotations

from collections.abc import Iterable

_AHEAD = 0.002  # seconds of work that may wait in a replica's pipe
_STALL = 0.005  # seconds without an answer after which a busy replica gets no more
_MOST = 1024
_SHARE = 0.25  # weight of the newest measurement in the average
_ALONE, _WAKING = 8, 0.00005  # paces, and seconds: what an answer that comes alone may count for, see `answered`


class Window:
    """How many requests one replica may hold at once: enough to keep it busy, and not more.

    A request that waits in a replica's pipe can be taken by no other replica, and is lost with it. So a replica gets
    as many as it answers within 2 ms, by its own measured pace, and at least `floor`: those that it works on at the
    same time, and one to begin with at once after that. While its answers fail to appear it gets only what it can begin
    with at once: behind a slow call, quick ones would wait for nothing.
    """

    __slots__ = ("floor", "in_flight", "last", "pace", "size")

    def __init__(self, floor: int) -> None:
        self.floor = floor
        self.size = floor
        self.in_flight = 0
        self.pace: float | None = None  # seconds an answer, averaged
        self.last = 0.0  # when an answer came, or the first request went out, in monotonic seconds

    def sent(self, count: int, now: float) -> None:
        """`count` requests went out."""
        if not self.in_flight:
            self.last = now
        self.in_flight += count

    def answered(self, count: int, now: float) -> None:
        """`count` of them came back, in one frame.

        A frame of one tells of the wake-up of a worker that slept at least as much as of its work. It does not turn a
        quick worker into a slow one, with which each call would travel alone: several in a row do.
        """
        self.in_flight -= count
        sample, pace = (now - self.last) / count, self.pace
        self.last = now
        if pace is None:
            self.pace = sample
        else:
            if count == 1:
                sample = min(sample, max(_ALONE * pace, _WAKING))
            self.pace = pace + _SHARE * (sample - pace)
        fitting = int(_AHEAD / self.pace) if self.pace > 0 else _MOST
        self.size = max(self.floor, min(fitting, 2 * self.size, _MOST))

    def room(self, now: float, weight: int = 1) -> int:
        """How many more calls may be sent in requests of `weight` calls each; two of those always fit."""
        if self.in_flight and now - self.last > _STALL:
            return max(0, self.floor - 1 - self.in_flight)
        return max(0, max(self.size, 2 * weight) - self.in_flight)


def least_in_flight(windows: Iterable[tuple[int, Window]], now: float, weight: int = 1) -> int | None:
    """The index that stands with the least loaded window that has room; None when none has. Ties go to the first."""
    best, least = None, None
    for index, window in windows:
        if not window.in_flight:
            return index  # none has less, and it has room
        if (least is None or window.in_flight < least) and window.room(now, weight) > 0:
            best, least = index, window.in_flight
    return best
