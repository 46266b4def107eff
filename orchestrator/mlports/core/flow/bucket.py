"""How many items may pass at a given rate: a token bucket."""

from __future__ import annotations

import math


class TokenBucket:
    """`rate` tokens a second flow in, and `burst` at most are kept. `now` is in seconds, and may stand still.

    Raises `ValueError` unless rate is positive and finite and burst at least 1.
    """

    __slots__ = ("_at", "_tokens", "burst", "rate")

    def __init__(self, rate: float, burst: int = 1) -> None:
        if not 0 < rate < math.inf:
            raise ValueError(f"a rate must be a positive number of items a second, not {rate}")
        if burst < 1:
            raise ValueError(f"burst must be at least 1, not {burst}: with less nothing ever passes")
        self.rate = rate
        self.burst = burst
        self._tokens = float(burst)
        self._at: float | None = None

    def available(self, now: float) -> int:
        """How many items may pass at once."""
        self._fill(now)
        return int(self._tokens)

    def wait(self, now: float) -> float:
        """Seconds until one may pass; 0 when one may now."""
        self._fill(now)
        return max(0.0, (1 - self._tokens) / self.rate)

    def pass_(self, count: int) -> None:
        """So many pass."""
        self._tokens -= count

    def _fill(self, now: float) -> None:
        if self._at is not None and now > self._at:
            full = self._tokens + (now - self._at) * self.rate
            # A wait that was slept to the microsecond must not leave a hair less than one token.
            self._tokens = min(float(self.burst), full + 1e-9)
        if self._at is None or now > self._at:
            self._at = now
