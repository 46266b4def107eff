"""What answers tell of a service: to its limit of concurrency, its breakers, its batch sizes and its hedges."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlports.core.breaker import Breaker
from mlports.core.concurrency import AdaptiveLimit, FixedLimit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlports.config import ServiceConfig
    from mlports.core.batching import BatchRule
    from mlports.runtime.call import Call, Sent
    from mlports.runtime.hedging import Hedges
    from mlports.runtime.lane import Lane

# What speaks against a service; that a call made no sense, or was cancelled, does not.
_FAILURES = frozenset(["unknown", "internal", "unavailable", "data_loss", "deadline_exceeded", "resource_exhausted"])


class Feedback:
    """Who is told of each outcome. `wanted`: whether anybody is."""

    def __init__(self, config: ServiceConfig, rules: dict[str, BatchRule], hedges: Hedges | None) -> None:
        self.limit: FixedLimit | AdaptiveLimit | None = None
        if config.concurrency == "auto":
            self.limit = AdaptiveLimit()
        elif config.concurrency is not None:
            self.limit = FixedLimit(config.concurrency)
        self._settings = config.breaker
        self.breaker = self.new_breaker()  # the service's own
        self._rules = rules
        self._hedges = hedges

    @property
    def wanted(self) -> bool:
        """Whether anybody learns from answers."""
        return bool(self.limit is not None or self.breaker is not None or self._rules or self._hedges is not None)

    def new_breaker(self) -> Breaker | None:
        """A breaker as configured, for a replica."""
        settings = self._settings
        return None if settings is None else Breaker(settings.failures, settings.of, settings.pause)

    def answered(
        self,
        lane: Lane,
        sent: Sent,
        code: str | None,
        codes: Sequence[str | None],
        began: float,
        in_flight: int,
        now: float,
    ) -> None:
        """A request was answered, with this error `code` or none; the worker began with it at `began` or later.

        `codes` are those of the calls in it that were not given up.
        """
        if self.limit is not None:
            self.limit.sample(now - sent.at, in_flight, now, failed=code in ("deadline_exceeded", "resource_exhausted"))
        for breaker in (self.breaker, lane.breaker):
            if breaker is not None:
                for each in codes:
                    _tell(breaker, each, now)
        rule = self._rules.get(sent.calls[0].method)
        special = sent.calls[0].special
        if rule is not None and code is None and (special is None or not special.alone):
            rule.answered(sent.weight, now - began)
        if self._hedges is not None:
            self._hedges.delay.sample(now - sent.at)

    def crashed(self, now: float) -> None:
        """A worker died with calls in its hands."""
        if self.breaker is not None:
            self.breaker.failed(now)

    def expired(self, lane: Lane | None, in_flight: int, now: float) -> None:
        """The time of a call is up; `lane` has it, or none."""
        if self.limit is not None and lane is not None:
            self.limit.sample(0.0, in_flight, now, failed=True)
        for breaker in (self.breaker, lane.breaker if lane is not None else None):
            if breaker is not None and lane is not None:
                breaker.failed(now)


def lets_through(breaker: Breaker, call: Call, now: float) -> bool:
    """Whether a breaker lets a call through. Whatever becomes of its trial, it hears of that."""
    is_trial = breaker.state(now) == "half_open"
    if not breaker.allows(now):
        return False
    if is_trial:
        # By then it knows of every outcome; there was none when the call was cancelled, or could not be sent.
        call.add_done_callback(lambda _: breaker.abandoned(now))
    return True


def _tell(breaker: Breaker, code: str | None, now: float) -> None:
    if code in _FAILURES:
        breaker.failed(now)
    elif code == "cancelled":
        breaker.abandoned(now)
    else:
        breaker.succeeded(now)
