"""How long to wait before a child is started again: longer each time it ends soon after its start.

The rules
- The first wait is `initial` seconds; each one after that is `factor` times the one before, and at most `longest`.
- After a life of at least `healthy` seconds the next wait is `initial` again.
- Jitter only takes away, up to its share of the wait, so that children that ended together are not started together,
  and none waits longer than `longest`. What it took away does not make later waits shorter.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple


class BackoffLimits(NamedTuple):
    """`initial`, `longest` and `healthy` are in seconds; `jitter` is a share, from 0 to 1."""

    initial: float
    factor: float
    longest: float
    jitter: float
    healthy: float


class Backoff:
    """The waits of one child. `random` gives a number from 0 up to, and without, 1. Raises `ValueError`."""

    def __init__(self, limits: BackoffLimits, random: Callable[[], float]) -> None:
        if not 0 < limits.initial <= limits.longest or math.isinf(limits.longest):
            raise ValueError(
                f"initial must be more than 0 and at most longest, which must be finite, "
                f"not {limits.initial} and {limits.longest}"
            )
        if not limits.factor >= 1:
            raise ValueError(f"factor must be at least 1, not {limits.factor}")
        if not 0 <= limits.jitter <= 1:
            raise ValueError(f"jitter must be from 0 to 1, not {limits.jitter}")
        if not limits.healthy > 0:
            raise ValueError(f"healthy must be more than 0, not {limits.healthy}")
        self.limits = limits
        self._random = random
        self._next = limits.initial

    def delay(self, uptime: float) -> float:
        """Seconds to wait before the next start, after a life of `uptime` seconds; 0.0 is one that never came up."""
        limits = self.limits
        base = limits.initial if uptime >= limits.healthy else self._next
        self._next = min(base * limits.factor, limits.longest)
        return base * (1 - limits.jitter * self._random())
