"""How often may a supervisor restart children: at most `intensity` times within `period` seconds, as OTP counts."""

from __future__ import annotations

from collections import deque


class RestartIntensity:
    """The restarts of late, newest last. `now` is in whole seconds, from any clock that never goes back.

    Exactly `intensity` restarts within a period are allowed; with 0 the first is one too many.
    """

    def __init__(self, intensity: int, period: int) -> None:
        if intensity < 0 or period < 1:
            raise ValueError(f"intensity must be at least 0 and period at least 1, not {intensity} in {period}")
        self.intensity = intensity
        self.period = period
        self._restarts: deque[int] = deque()

    def allow(self, now: int) -> bool:
        """Counts a restart at `now`; says whether the supervisor may go on."""
        restarts, oldest = self._restarts, now - self.period
        while restarts and restarts[0] < oldest:
            restarts.popleft()
        restarts.append(now)
        return len(restarts) <= self.intensity
