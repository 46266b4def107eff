"""Is a worker that says nothing still there? A heartbeat asks, and waits for as long as it was told to.

The rules
- Whatever the worker sends shows that it is there, an answer to a ping no more than anything else.
- When nothing was heard for `interval` seconds a ping is due. A worker that talks all the time is never pinged, and
  while a ping is unanswered there is no second one.
- A ping is unanswered until something is heard that came after it. After `timeout` seconds of that the worker is
  silent, until something is heard after all or it is excused: it is then silent again `timeout` seconds later.
- What came may be told late, and more than once, but before the tick: else the silence may be the reader's own.
"""

from __future__ import annotations

from typing import Literal


class Heartbeat:
    """The heartbeat of one worker, who is heard at first at `now`. All times are in seconds, of one clock.

    `interval` and `timeout` are more than 0. Raises `ValueError`.
    """

    __slots__ = ("_asked", "_heard", "_silent_at", "interval", "timeout")

    def __init__(self, interval: float, timeout: float, now: float) -> None:
        if not (interval > 0 and timeout > 0):
            raise ValueError(f"interval and timeout must be more than 0, not {interval} and {timeout}")
        self.interval = interval
        self.timeout = timeout
        self._heard = now
        self._asked: float | None = None  # when the ping was sent that is unanswered
        self._silent_at = 0.0

    def heard(self, at: float) -> None:
        """Any frame came, at this time. One that came at the same moment as a ping was sent answers it."""
        self._heard = max(self._heard, at)
        if self._asked is not None and at >= self._asked:
            self._asked = None

    def pinged(self, now: float) -> None:
        """A ping was sent. While an earlier one is unanswered, the time counts from that."""
        if self._asked is None:
            self._asked = now
            self._silent_at = now + self.timeout

    def excuse(self, now: float) -> None:
        """The worker is silent, but demonstrably at work: it gets another `timeout` from now."""
        if self._asked is not None:
            self._silent_at = now + self.timeout

    def tick(self, now: float) -> Literal["ping", "silent"] | None:
        """What is to be done: send a ping, or give the worker up; the same again until it is done."""
        if now < self._due():
            return None
        return "ping" if self._asked is None else "silent"

    def next(self, now: float) -> float:
        """Seconds until `tick` may have something to say, if nothing is heard; 0.0 when it has."""
        return max(0.0, self._due() - now)

    def _due(self) -> float:
        return self._heard + self.interval if self._asked is None else self._silent_at
