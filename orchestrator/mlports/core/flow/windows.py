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
from heapq import heappop, heappush
from typing import Any, NamedTuple, Protocol

from mlports.core.flow.demand import whole

Step = Callable[[Any, Any], Any]

_MOST_AT_ONCE = 100_000  # windows that one item is in: with more, a single item would take seconds


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


def _positive(name: str, value: Any) -> float:
    if not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError(f"{name} must be a positive number, not {value!r}")
    return value


class CountWindows:
    """Windows of `size` items of each key. `make()` gives a new accumulator, `step(accumulator, item)` the next."""

    def __init__(self, size: int, make: Callable[[], Any], step: Step) -> None:
        self._size = whole("a window's count", size)
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
        if size / self._every > _MOST_AT_ONCE:
            raise ValueError(f"each item would be in {size / self._every:,.0f} windows: make every longer than {every}")
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
        # Rounding may put the multiple that is meant just above the time, or one too few below it.
        if last * self._every > time:
            last -= 1
        elif (last + 1) * self._every <= time:
            last += 1
        if self._every == self._size:
            return (last * self._every,)
        return self._sliding(last, time)

    def _sliding(self, last: int, time: float) -> Iterable[float]:
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


_Session = tuple[float, float, int, Any]
"""The times of its first and last items, how many there are, and what they came to."""


def _start(session: _Session) -> float:
    return session[0]


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
        self._open: dict[Hashable, list[_Session]] = {}
        self._over: list[Window] = []
        # When to look at which key: a session that has grown since is looked at again when it is really over.
        self._looks: list[tuple[float, int, Hashable]] = []
        self._look_times: dict[Hashable, float] = {}
        self._looked = 0

    def __len__(self) -> int:
        return sum(map(len, self._open.values()))

    def feed(self, key: Hashable, item: Any, time: float) -> bool:
        if not math.isfinite(time):
            raise ValueError(f"an item's time must be a finite number, not {time!r}")
        sessions = self._close(key, self.watermark)
        near = [each for each in sessions if each[0] - self._gap < time < each[1] + self._gap]
        if not near:
            if time + self._gap <= self.watermark:
                return False
            sessions.append((time, time, 1, self._step(self._make(), item)))
            self._look_at(time + self._gap, key)
        else:
            grown = self._grown(near, item, time)
            sessions[:] = [each for each in sessions if not any(each is one for one in near)] + [grown]
        sessions.sort(key=_start)
        self._open[key] = sessions
        self.watermark = max(self.watermark, time - self._lateness)
        return True

    def _grown(self, near: list[_Session], item: Any, time: float) -> _Session:
        """The sessions as one, with this item."""
        first, last, count, value = near[0]
        for _, last_too, count_too, value_too in near[1:]:
            last, count, value = max(last, last_too), count + count_too, self._joined(value, value_too)
        return (min(first, time), max(last, time), count + 1, self._step(value, item))

    def _joined(self, earlier: Any, later: Any) -> Any:
        if self._join is None:
            raise ValueError(
                "a late item makes one session of two, and nobody said how two accumulators become one: "
                "give reduce() a `join`"
            )
        return self._join(earlier, later)

    def over(self) -> list[Window]:
        while self._looks and self._looks[0][0] <= self.watermark:
            time, _, key = heappop(self._looks)
            if self._look_times.get(key) != time:
                continue  # it was to be looked at earlier, and was
            del self._look_times[key]
            if sessions := self._close(key, self.watermark):
                self._look_at(min(each[1] for each in sessions) + self._gap, key)
        over, self._over = self._over, []
        return sorted(over, key=lambda window: (window.end, window.start))

    def _close(self, key: Hashable, until: float) -> list[_Session]:
        """Closes the key's sessions that are over by then, and gives the others."""
        sessions = self._open.get(key, [])
        alive = [each for each in sessions if each[1] + self._gap > until]
        if len(alive) < len(sessions):
            for first, last, count, value in sessions:
                if last + self._gap <= until:
                    self._over.append(Window(key, first, last + self._gap, count, value))
            self._open[key] = alive
        if not alive:
            self._open.pop(key, None)
        return alive

    def _look_at(self, time: float, key: Hashable) -> None:
        if time < self._look_times.get(key, math.inf):
            self._look_times[key] = time
            self._looked += 1  # keys need not be comparable
            heappush(self._looks, (time, self._looked, key))

    def end(self) -> list[Window]:
        for key in list(self._open):
            self._close(key, math.inf)
        self._looks.clear()
        self._look_times.clear()
        return self.over()

    def state(self) -> Any:
        return [self.watermark, [[key, [list(each) for each in kept]] for key, kept in self._open.items()]]

    def restore(self, state: Any) -> None:
        self.watermark, kept = state
        self._open = {key: [(a, b, count, value) for a, b, count, value in each] for key, each in kept}
        for key, sessions in self._open.items():
            for session in sessions:
                self._look_at(session[1] + self._gap, key)
