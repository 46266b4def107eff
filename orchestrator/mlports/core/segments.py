"""Which segments of shared memory there are, who holds them, and which are idle: numbers only.

take ──▶ held by 1 ──hold──▶ held by n ──release, n times──▶ idle ──▶ taken again, or closed
                                                                      when idle for long, or to make room
"""

from __future__ import annotations

from typing import NamedTuple

_PAGE = 4096
_STEPS = 4  # sizes between one power of two and the next
_LARGER = 2  # times as large as asked for: what may be taken in place of a new one


class Taken(NamedTuple):
    """A segment that now has one holder; `close` are idle ones that have to go for it."""

    number: int
    size: int
    is_new: bool
    close: tuple[int, ...]


class Segments:
    """The accounts of all segments.

    most_bytes, most_segments: what there may be of them, idle ones counted. idle_bytes: what may be idle; idle_seconds:
    and for how long.
    """

    def __init__(self, most_bytes: int, most_segments: int, idle_bytes: int, idle_seconds: float) -> None:
        self.most_bytes = most_bytes
        self.most_segments = most_segments
        self.bytes = 0
        self._idle_bytes = 0
        self._most_idle = idle_bytes
        self._idle_seconds = idle_seconds
        self._sizes: dict[int, int] = {}
        self._holders: dict[int, int] = {}  # of those that are not idle
        self._idle: dict[int, float] = {}  # since when; the longest first
        self._next = 0

    def __len__(self) -> int:
        return len(self._sizes)

    @property
    def in_use(self) -> int:
        """How many are held."""
        return len(self._holders)

    def take(self, nbytes: int) -> Taken | None:
        """A segment of at least so many bytes, rather one that was in use just now; None when there is no room."""
        if nbytes > self.most_bytes:
            return None
        for number in reversed(self._idle):
            size = self._sizes[number]
            if nbytes <= size <= _LARGER * size_for(nbytes):
                self._use(number)
                return Taken(number, size, False, ())
        size = size_for(nbytes)
        if size > self.most_bytes:
            return None
        # Not begun, if it cannot be done: what is idle would be lost for nothing.
        held = self.bytes - self._idle_bytes
        if held + size > self.most_bytes or len(self._holders) >= self.most_segments:
            return None
        close = []
        while self.bytes + size > self.most_bytes or len(self._sizes) >= self.most_segments:
            close.append(next(iter(self._idle)))
            self._close(close[-1])
        number = self._next
        self._next += 1
        self._sizes[number] = size
        self._holders[number] = 1
        self.bytes += size
        return Taken(number, size, True, tuple(close))

    def holders(self, number: int) -> int:
        """How many hold it."""
        return self._holders.get(number, 0)

    def hold(self, number: int) -> None:
        """One more holds it, beside those who do."""
        self._holders[number] += 1

    def release(self, number: int, now: float) -> None:
        """One less holds it; the last leaves it idle from `now` on, monotonic seconds."""
        left = self._holders[number] - 1
        if left:
            self._holders[number] = left
        else:
            del self._holders[number]
            self._idle[number] = now
            self._idle_bytes += self._sizes[number]

    def forget(self, number: int) -> None:
        """It could not be made after all, or is of no use: it is no more, whoever holds it."""
        self._holders.pop(number, None)
        if number in self._idle:
            self._use(number)
            del self._holders[number]
        self.bytes -= self._sizes.pop(number)

    def due(self, now: float) -> list[int]:
        """Those to be closed: idle for too long, or too many of them. They are forgotten."""
        close = []
        for number, since in list(self._idle.items()):
            if self._idle_bytes <= self._most_idle and now - since < self._idle_seconds:
                break
            close.append(number)
            self._close(number)
        return close

    def _use(self, number: int) -> None:
        del self._idle[number]
        self._idle_bytes -= self._sizes[number]
        self._holders[number] = 1

    def _close(self, number: int) -> None:
        del self._idle[number]
        size = self._sizes.pop(number)
        self._idle_bytes -= size
        self.bytes -= size


def size_for(nbytes: int) -> int:
    """The size of a segment for so many bytes: whole pages, at most a quarter more, so that few sizes occur."""
    step = max(_PAGE, (1 << max(0, nbytes - 1).bit_length()) // (2 * _STEPS))
    return max(step, -(-nbytes // step) * step)
