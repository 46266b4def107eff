"""Which window an item is in, and when a window is over.

The rules
- Count: every `size` items of a key are a window; the last one may be smaller.
- Time: [start, start + size), starts at multiples of `every` (tumbling where it is `size`, sliding where it is less).
- Session: items of a key that lie less than `gap` apart; a window's end is `gap` after its last item.
- The watermark is the latest time seen less `lateness`: nothing older is waited for. A window is over when the
  watermark has reached its end. An item all of whose windows are over is late: it is in none.
(Akidau et al., "The Dataflow Model", VLDB 2015.)

A window is reduced item by item: it holds an accumulator, never its items. Times are numbers of any one unit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable
from typing import Any, NamedTuple, Protocol

Step = Callable[[Any, Any], Any]


class Window(NamedTuple):
    """A window that is over: its key (None without a partition), its bounds, its number of items, what they came to.

    `start` and `end` are times; of a window by count the numbers, from 0, of its first item and the one after its last.
    """

    key: Hashable
    start: float
    end: float
    size: int
    value: Any


class Windows(Protocol):
    """What the three kinds have in common. `feed` gives whether the item was in time; `over` what has closed since."""

    def feed(self, key: Hashable, item: Any, time: float) -> bool: ...
    def over(self) -> list[Window]: ...
    def end(self) -> list[Window]: ...
    def state(self) -> Any: ...
    def restore(self, state: Any) -> None: ...
    def __len__(self) -> int: ...


def _positive(name: str, value: float) -> float:
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be a positive number, not {value!r}")
    return value


class CountWindows:
    """Windows of `size` items of each key. `make()` gives a new accumulator, `step(accumulator, item)` the next."""

    def __init__(self, size: int, make: Callable[[], Any], step: Step) -> None:
        self._size = int(_positive("a window's count", size))
        self._make, self._step = make, step
        self._open: dict[Hashable, tuple[int, int, Any]] = {}
        self._over: list[Window] = []

    def __len__(self) -> int:
        return len(self._open)

    def feed(self, key: Hashable, item: Any, time: float) -> bool:
        start, count, value = self._open.get(key) or (0, 0, self._make())
        if count == self._size:
            start, count, value = start + count, 0, self._make()
        value = self._step(value, item)
        self._open[key] = (start, count + 1, value)
        if count + 1 == self._size:
            self._over.append(Window(key, start, start + self._size, self._size, value))
            self._open[key] = (start + self._size, 0, self._make())
        return True

    def over(self) -> list[Window]:
        over, self._over = self._over, []
        return over

    def end(self) -> list[Window]:
        rest = [Window(key, start, start + n, n, value) for key, (start, n, value) in self._open.items() if n]
        self._open.clear()
        return self.over() + rest

    def state(self) -> Any:
        return [[key, *kept] for key, kept in self._open.items()]

    def restore(self, state: Any) -> None:
        self._open = {key: (start, count, value) for key, start, count, value in state}


class TimeWindows:
    """Windows of `size`, one every `every` (None: of `size`). A window is closed `lateness` after its end was seen."""

    def __init__(
        self, size: float, make: Callable[[], Any], step: Step, every: float | None = None, lateness: float = 0.0
    ) -> None:
        self._size = _positive("a window's time", size)
        self._every = size if every is None else _positive("every", every)
        if self._every > size:
            raise ValueError(f"every ({every:g}) is longer than the window ({size:g}): items between would be in none")
        if not 0 <= lateness < math.inf:
            raise ValueError(f"lateness must be at least 0, not {lateness!r}")
        self._make, self._step = make, step
        self._lateness = lateness
        self.watermark = -math.inf
        self._open: dict[float, dict[Hashable, tuple[int, Any]]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._open.values()))

    def feed(self, key: Hashable, item: Any, time: float) -> bool:
        if not math.isfinite(time):
            raise ValueError(f"an item's time must be a finite number, not {time!r}")
        in_time = False
        for start in self._starts(time):
            if start + self._size <= self.watermark:
                continue
            in_time = True
            window = self._open.setdefault(start, {})
            count, value = window[key] if key in window else (0, self._make())
            window[key] = (count + 1, self._step(value, item))
        self.watermark = max(self.watermark, time - self._lateness)
        return in_time

    def _starts(self, time: float) -> Iterable[float]:
        last = math.floor(time / self._every)
        # Rounding may put the multiple that is meant just above the time.
        if last * self._every > time:
            last -= 1
        while last * self._every + self._size > time:
            yield last * self._every
            last -= 1

    def over(self) -> list[Window]:
        closed = sorted(start for start in self._open if start + self._size <= self.watermark)
        return [window for start in closed for window in self._close(start)]

    def _close(self, start: float) -> list[Window]:
        kept = self._open.pop(start)
        return [Window(key, start, start + self._size, count, value) for key, (count, value) in kept.items()]

    def end(self) -> list[Window]:
        return [window for start in sorted(self._open) for window in self._close(start)]

    def state(self) -> Any:
        kept = [[s, [[key, *each] for key, each in window.items()]] for s, window in self._open.items()]
        return [self.watermark, kept]

    def restore(self, state: Any) -> None:
        self.watermark, kept = state
        self._open = {start: {key: (count, value) for key, count, value in window} for start, window in kept}


class SessionWindows:
    """Windows of a key that end after `gap` without an item of it. Sessions that a late item bridges become one.

    `join(earlier, later)` gives the accumulator of two that become one.
    """

    def __init__(
        self, gap: float, make: Callable[[], Any], step: Step, join: Step | None = None, lateness: float = 0.0
    ) -> None:
        self._gap = _positive("a session's gap", gap)
        if not 0 <= lateness < math.inf:
            raise ValueError(f"lateness must be at least 0, not {lateness!r}")
        self._make, self._step, self._join = make, step, join
        self._lateness = lateness
        self.watermark = -math.inf
        self._open: dict[Hashable, list[tuple[float, float, int, Any]]] = {}
        self._next_end = math.inf

    def __len__(self) -> int:
        return sum(map(len, self._open.values()))

    def feed(self, key: Hashable, item: Any, time: float) -> bool:
        if not math.isfinite(time):
            raise ValueError(f"an item's time must be a finite number, not {time!r}")
        sessions = self._open.get(key, [])
        # One that is over already is not lengthened, even if nobody has asked for it yet.
        near: list[tuple[float, float, int, Any]] = []
        apart: list[tuple[float, float, int, Any]] = []
        for each in sessions:
            alive = each[1] + self._gap > self.watermark
            (near if alive and each[0] - self._gap < time < each[1] + self._gap else apart).append(each)
        if not near and time + self._gap <= self.watermark:
            return False
        if near:
            first, last, count, value = near[0]
            for _, last_too, count_too, value_too in near[1:]:
                last, count, value = max(last, last_too), count + count_too, self._joined(value, value_too)
            merged = (min(first, time), max(last, time), count + 1, self._step(value, item))
        else:
            merged = (time, time, 1, self._step(self._make(), item))
        self._open[key] = sorted([*apart, merged], key=lambda each: each[0])
        self.watermark = max(self.watermark, time - self._lateness)
        self._next_end = min(self._next_end, merged[1] + self._gap)
        return True

    def _joined(self, earlier: Any, later: Any) -> Any:
        if self._join is None:
            raise ValueError(
                "a late item makes one session of two, and nobody said how two accumulators become one: "
                "give reduce() a `join`"
            )
        return self._join(earlier, later)

    def over(self) -> list[Window]:
        if self.watermark < self._next_end:
            return []
        return self._close(self.watermark)

    def _close(self, until: float) -> list[Window]:
        closed = []
        self._next_end = math.inf
        for key in list(self._open):
            kept = []
            for first, last, count, value in self._open[key]:
                if last + self._gap <= until:
                    closed.append(Window(key, first, last + self._gap, count, value))
                else:
                    kept.append((first, last, count, value))
                    self._next_end = min(self._next_end, last + self._gap)
            if kept:
                self._open[key] = kept
            else:
                del self._open[key]
        return sorted(closed, key=lambda window: (window.end, window.start))

    def end(self) -> list[Window]:
        return self._close(math.inf)

    def state(self) -> Any:
        return [self.watermark, [[key, [list(each) for each in kept]] for key, kept in self._open.items()]]

    def restore(self, state: Any) -> None:
        self.watermark, kept = state
        self._open = {key: [(a, b, count, value) for a, b, count, value in each] for key, each in kept}
        self._next_end = min((each[1] + self._gap for all_ in self._open.values() for each in all_), default=math.inf)
