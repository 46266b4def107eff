"""What is done about a worker that takes more memory than it may: it is drained, and killed if that does not help.

The rules
- Over the limit it is drained, once: it gets no more calls, may finish what it has, and is replaced.
- It is killed when it is over 1¼ times the limit, drained or not: it grows faster than it can finish.
- It is killed when `patience` seconds after it was to be drained it is still there and over the limit. One that has
  come back under the limit by then may take its time, for as long as it stays there.
"""

from __future__ import annotations

from typing import Literal

FAR_OVER = 1.25
"""Times the limit: from there on nothing is waited for."""


class MemoryWatch:
    """The memory of one worker's life: `limit` is in bytes, at least 1, `patience` in seconds. Raises `ValueError`."""

    __slots__ = ("_drained_at", "limit", "patience")

    def __init__(self, limit: int, patience: float) -> None:
        if limit < 1 or not patience >= 0:
            raise ValueError(f"limit must be at least 1 and patience at least 0, not {limit} and {patience}")
        self.limit = limit
        self.patience = patience
        self._drained_at: float | None = None

    def measured(self, size: int, now: float) -> Literal["drain", "kill"] | None:
        """It takes `size` bytes at `now`, in seconds of any clock that never goes back. "kill" may come repeatedly."""
        if size <= self.limit:
            return None
        if size > FAR_OVER * self.limit:
            return "kill"
        if self._drained_at is None:
            self._drained_at = now
            return "drain"
        return "kill" if now - self._drained_at >= self.patience else None
