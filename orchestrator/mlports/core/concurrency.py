"""How many calls of a service may be in its workers' hands at once: a fixed number, or as many as it takes.

The rules of the adaptive limit
- A round is of at least 32 answers, and as many as are in flight, to calls that were sent since the last change; where
  they vary much it is up to 8 times as long, until the standard error of their average is 15 %. After each

      limit ← limit × gradient + 1 + limit / 8        gradient = base / latency, from ½ to 1

  where `latency` is the round's average and `base` what an answer takes when none waits. With a capacity of c calls at
  once, latency is base × limit / c, so the limit comes to rest where 1 + limit / 8 calls wait: at 8/7 × (c + 1).
  That is the window of FAST TCP (Wei, Jin, Low and Hegde, "FAST TCP: Motivation, Architecture, Algorithms,
  Performance", IEEE/ACM ToN 2006, equation 4, with γ = 1) and of the Gradient limits of Netflix's concurrency-limits.
  Limits are whole and rounds are noisy: in simulation it is on average between 0.8 × c and 2 × c + 2.
- An average of few answers is uncertain: latency is taken two standard errors shorter than it was measured, so that
  chance does not pass for a queue.
- A limit that is not used, with fewer than half of it in flight throughout a round, does not grow.
- `base` is measured with half of the limit, as BBR does with 4 packets (Cardwell and others, "BBR: Congestion-Based
  Congestion Control", ACM Queue 2016): every 10 s or, where that takes long, as seldom as costs a twentieth of the
  time. So a service that has become slower for good is found out, and one's own queue is not taken for its speed. When
  it was found a fifth lower, or more, it is measured again as soon as that cost allows.
- In between, a round replaces it that is faster by three standard errors, or that has less than half of the limit with
  which it was measured: where so many fewer calls take as long, it is not the queue that takes the time.
- A failure (a call that timed out, a worker that said it has too much to do) takes the limit to 0.7 of it, as CUBIC
  does (RFC 9438), once for all calls that were sent before.
"""

from __future__ import annotations

import math

_ROUND = 32  # answers
_PATIENCE = 10.0  # seconds between two measurements of the base
_COST = 20  # how many times a measurement's length it is to the next
_LOWER = 0.8
_BACKOFF = 0.7
_CERTAIN, _BEYOND_DOUBT = 2.0, 3.0  # standard errors
_EXACT = 0.15  # the standard error of a round's average, relative
_LONGEST = 8  # in the length that a round has at least


class FixedLimit:
    """`limit` calls, at least 1, whatever happens. Raises `ValueError`."""

    __slots__ = ("limit",)

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise ValueError(f"the limit must be at least 1 call, not {limit}")
        self.limit = limit

    def sample(self, seconds: float, in_flight: int, now: float, failed: bool = False) -> None:
        """As `AdaptiveLimit.sample`; nothing follows from it."""


class AdaptiveLimit:
    """As many calls at once as keep the workers busy, and few more: found out by how long answers take.

    `limit` is how many may be in flight now, from `least` to `most`; it begins with `initial`. All are in calls.
    Raises `ValueError` unless 1 ≤ least ≤ initial ≤ most.
    """

    __slots__ = (
        "_base",
        "_due",
        "_measured_at",
        "_probing",
        "_round",
        "_since",
        "_size",
        "_unfit",
        "least",
        "limit",
        "most",
    )

    def __init__(self, initial: int = 4, least: int = 1, most: int = 1024) -> None:
        if not 1 <= least <= initial <= most:
            raise ValueError(
                f"least must be at least 1, and initial from least to most, not least {least}, initial {initial} "
                f"and most {most}"
            )
        self.least = least
        self.most = most
        self.limit = initial
        self._size = float(initial)  # the limit, but for measurements of the base
        self._base: float | None = None  # seconds an answer, when none waits
        self._measured_at = 0.0  # the size by which that was found
        self._probing: float | None = None  # since when the base is being measured
        self._unfit = 0  # answers of which nothing could be learned since then
        self._due = math.inf  # when it is to be measured next
        self._since = -math.inf  # what was sent before counts no more
        self._round = _Round()

    def sample(self, seconds: float, in_flight: int, now: float, failed: bool = False) -> None:
        """A call came to its end, `seconds` after it was sent to a worker; with it, `in_flight` were in hand until now.

        `now` is in monotonic seconds. `failed` says that it took too long, or that there was too much to do; an error
        of its handler is an answer like any other.
        """
        if now - seconds < self._since:
            return
        if failed:
            self._changed(self._size * _BACKOFF, now)
            return
        if self._probing is not None and in_flight > self.limit:
            self._too_many(now)
            return
        self._round.add(seconds, in_flight)
        if self._round.told_enough():
            self._over(self._round, now)

    def _too_many(self, now: float) -> None:
        """More are in flight than the base is measured with: what was sent so far may have waited behind them."""
        self._since = now
        self._round = _Round()
        self._unfit += 1
        if self._unfit > _LONGEST * max(_ROUND, self._size):  # the limit is not kept to, so it cannot be measured
            self._measured(None, now)

    def _over(self, last: _Round, now: float) -> None:
        if self._probing is not None or self._base is None:
            self._measured(last, now)
        elif now >= self._due:
            self._probing = now
            self._unfit = 0
            self._changed(self._size, now)
        else:
            self._adapt(last, self._base, now)

    def _adapt(self, last: _Round, base: float, now: float) -> None:
        if last.mean + _BEYOND_DOUBT * last.error < base or self._size < self._measured_at / 2:
            base = self._base = last.mean
            self._measured_at = self._size
        latency = last.mean - _CERTAIN * last.error
        gradient = max(0.5, min(base / latency, 1.0)) if latency > 0 else 1.0
        size = self._size * gradient + 1 + self._size / 8
        if last.most_in_flight < self._size / 2:
            size = min(size, self._size)
        self._changed(size, now)

    def _measured(self, last: _Round | None, now: float) -> None:
        took = 0.0 if self._probing is None else now - self._probing
        wait = max(_PATIENCE, _COST * took)
        if last is not None:
            if self._base is None or last.mean < _LOWER * self._base:
                wait = _COST * took
            self._base = last.mean
            self._measured_at = self._size
        self._probing = None
        self._due = now + wait
        self._changed(self._size, now)

    def _changed(self, size: float, now: float) -> None:
        self._size = max(self.least, min(size, self.most))
        self.limit = int(self._size)
        if self._probing is not None:
            self.limit = max(self.least, self.limit // 2)
        self._since = now
        self._round = _Round()


class _Round:
    """The answers since the last change; times are in seconds."""

    __slots__ = ("_squares", "count", "mean", "most_in_flight")

    def __init__(self) -> None:
        self.count = 0
        self.mean = 0.0
        self.most_in_flight = 0
        self._squares = 0.0  # of the differences from the mean, by Welford's method

    def add(self, seconds: float, in_flight: int) -> None:
        self.count += 1
        difference = seconds - self.mean
        self.mean += difference / self.count
        self._squares += difference * (seconds - self.mean)
        self.most_in_flight = max(self.most_in_flight, in_flight)

    def told_enough(self) -> bool:
        """Whether the average says something."""
        least = max(_ROUND, self.most_in_flight)
        return self.count >= least and (self.error <= _EXACT * self.mean or self.count >= _LONGEST * least)

    @property
    def error(self) -> float:
        """The standard error of the mean."""
        return math.sqrt(self._squares / (self.count * (self.count - 1))) if self.count > 1 else 0.0
