"""The size of batches that gives the most calls a second without an absurd latency, found by measuring.

The rules
- Sizes are powers of two, from 1 to 4096. A batch of 33 … 64 calls says how well 64 does: what counts is its time for
  each call, and of a size the median of the last 7 batches. Three will do for a new size that is clearly better.
- A size is doubled while that pays: at least 10 % more calls a second. It is halved again when it gives less than 3 %
  more than half of it.
- While a batch takes less than 1 ms, a larger one pays unless it is clearly slower for each call: the frame around a
  batch costs something too, and nobody feels such a latency.
- A batch may take 10 times as long as a single call and, however short that is, 20 ms. Past that the size is halved.
- Once found, a size is looked at again from time to time, after 64 batches at first and at most 512: the double, the
  half and, where the latency comes near its bound, a single call.
"""

from __future__ import annotations

from collections import deque
from statistics import median

MOST_IN_BATCH = 4096

_GAIN = 1.1  # calls a second of the double size over those of a size, for it to pay
_KEPT = 1.03  # … and for it not to be given up again
_CLEAR = 1.3
_HARDLY_SLOWER = 0.9
_QUICK = 0.001  # seconds
_TIMES = 10  # a batch's time over a single call's
_ALWAYS = 0.020  # seconds that a batch may take
_FEW, _MANY = 3, 7  # batches that a judgement is made on
_SOON, _LATE = 64, 512  # batches between two looks
_SHORTEST = 1e-6  # seconds; a clock may be coarser than a batch


class AutoSize:
    """The size for the batches of one method; starts at 1, and is `size` at any time."""

    def __init__(self) -> None:
        self.size = 1
        self._most = MOST_IN_BATCH.bit_length() - 1
        self._times: dict[int, deque[float]] = {}  # seconds a call, by level: the size is 2 to the power of it
        self._level = 0  # the best that is known
        self._plan: list[int] = [0, 1]  # levels to be measured, the first of them now
        self._fresh = 0  # batches that measured it
        self._rest = self._patience = _SOON  # batches until the next look

    def answered(self, count: int, seconds: float) -> None:
        """A batch of `count` calls took `seconds` in the worker."""
        if count < 1 or not 0 <= seconds < float("inf"):
            return
        level = (count - 1).bit_length()
        trial = self._plan[0] if self._plan else None
        times = self._times.setdefault(level, deque(maxlen=_MANY))
        if level == trial:
            if not self._fresh:
                times.clear()
            self._fresh += 1
        times.append(max(seconds, _SHORTEST) / count)
        if trial is None:
            self._rest -= 1
            if self._rest <= 0 or (level == self._level and len(times) == _MANY and self._too_long(level)):
                self._look_again()
        elif level == trial and self._is_known(trial):
            self._measure(self._plan[1:])
            if not self._plan:
                self._decide()

    def refused(self, count: int) -> None:
        """A batch of `count` calls was too large to be sent or to be answered: none is that large again."""
        self._most = max(0, min(self._most, (count - 1).bit_length() - 1))
        self._level = min(self._level, self._most)
        self._measure([level for level in self._plan if level <= self._most])

    def _measure(self, plan: list[int]) -> None:
        self._plan, self._fresh = plan, 0
        self.size = 1 << (plan[0] if plan else self._level)

    def _look_again(self) -> None:
        level = self._level
        plan = [level + 1] if level < self._most and not self._too_long(level) else []
        if not plan:
            self._times.pop(level + 1, None)  # what it was once decides nothing now
        if level:
            plan.append(level - 1)
        if level > 1 and 2 * self._latency(level) > _ALWAYS:
            plan.append(0)
        self._measure(plan)
        self._rest = self._patience

    def _is_known(self, level: int) -> bool:
        """Whether the batches of a level that is being measured are enough to judge by."""
        if self._fresh >= _MANY:
            return True
        return self._fresh >= _FEW and (level == 0 or (level > self._level and self._gain(level) >= _CLEAR))

    def _decide(self) -> None:
        """All levels of the plan are measured: the next one up, the next one down, or rest."""
        level = self._level
        if level and (self._too_long(level) or not self._pays(level, _KEPT)):
            self._move(level - 1, level - 2)
        elif level < self._most and self._does_better(level + 1):
            self._move(level + 1, level + 2)
        else:
            self._rest = self._patience
            self._patience = min(2 * self._patience, _LATE)
            self._measure([])

    def _move(self, level: int, beyond: int) -> None:
        self._level, self._rest, self._patience = level, _SOON, _SOON
        self._measure([beyond] if 0 <= beyond <= self._most else [])

    def _latency(self, level: int) -> float:
        """Seconds that a full batch takes; 0 when that is not known."""
        times = self._times.get(level)
        return median(times) * (1 << level) if times else 0.0

    def _gain(self, level: int) -> float:
        """Calls a second over those of half the size; 1 when that is not known."""
        full, half = self._latency(level), self._latency(level - 1)
        return 2 * half / full if full and half else 1.0

    def _pays(self, level: int, gain: float) -> bool:
        return self._gain(level) >= (gain if self._latency(level) >= _QUICK else _HARDLY_SLOWER)

    def _does_better(self, level: int) -> bool:
        return level in self._times and self._pays(level, _GAIN) and not self._too_long(level)

    def _too_long(self, level: int) -> bool:
        return level > 0 and self._latency(level) > max(_ALWAYS, _TIMES * self._latency(0))
