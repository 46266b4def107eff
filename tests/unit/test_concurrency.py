"""How many calls may be in the workers' hands at once, against a simulated server with a queue."""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Callable

import pytest

from mlports.core.concurrency import AdaptiveLimit, FixedLimit

Served = Callable[[float], float]


class Server:
    """Answers `capacity` calls at once, each within what `served` says of the time; the others wait in a queue.

    As many calls as the limit allows, and at most `demand`, are in flight at all times.
    """

    def __init__(self, limit: AdaptiveLimit, capacity: int, served: Served, demand: int = 10_000) -> None:
        self.limit = limit
        self.capacity = capacity
        self.served = served
        self.demand = demand
        self.now = 1000.0
        self.lowest, self.highest = limit.limit, limit.limit
        self._busy: list[tuple[float, int, float]] = []
        self._waiting: deque[float] = deque()
        self._sent = 0

    def run(self, answers: int) -> float:
        """Until there were so many more answers; gives the average of the limit over that time."""
        began, area = self.now, 0.0
        for _ in range(answers):
            while len(self._busy) + len(self._waiting) < min(self.limit.limit, self.demand):
                self._waiting.append(self.now)
                self._begin()
            done, _, sent = heapq.heappop(self._busy)
            area += self.limit.limit * (done - self.now)
            self.now = done
            self.limit.sample(done - sent, len(self._busy) + 1 + len(self._waiting), done)
            self.lowest, self.highest = min(self.lowest, self.limit.limit), max(self.highest, self.limit.limit)
            self._begin()
        return area / (self.now - began)

    def _begin(self) -> None:
        while self._waiting and len(self._busy) < self.capacity:
            self._sent += 1
            heapq.heappush(self._busy, (self.now + self.served(self.now), self._sent, self._waiting.popleft()))


def even(seconds: float) -> Served:
    """Nearly the same for each; those that are begun together do not end together to the last digit."""
    draw = random.Random(7)
    return lambda now: seconds * draw.uniform(0.9, 1.1)


def uneven(seconds: float) -> Served:
    draw = random.Random(7)
    return lambda now: draw.expovariate(1 / seconds)


@pytest.mark.parametrize("served", [even, uneven])
@pytest.mark.parametrize("seconds", [0.001, 0.3])
@pytest.mark.parametrize(("capacity", "initial"), [(1, 4), (1, 32), (4, 1), (16, 4), (64, 4)])
def test_it_comes_to_rest_near_what_the_capacity_needs(
    served: Callable[[float], Served], seconds: float, capacity: int, initial: int
) -> None:
    server = Server(AdaptiveLimit(initial), capacity, served(seconds))
    server.run(40_000)
    assert 0.8 * capacity <= server.run(10_000) <= 2 * capacity + 2


@pytest.mark.parametrize(("spell", "capacity"), [(0.1, 8), (0.01, 1)], ids=["slow", "few"])
def test_it_recovers_after_a_bad_spell(spell: float, capacity: int) -> None:
    server = Server(AdaptiveLimit(), 8, even(0.01))
    server.run(10_000)
    server.served, server.capacity = even(spell), capacity
    server.run(10_000)
    assert 0.8 * capacity <= server.run(2000) <= 2 * capacity + 2
    server.served, server.capacity = even(0.01), 8
    server.run(20_000)
    assert 0.8 * 8 <= server.run(10_000) <= 2 * 8 + 2


def test_it_falls_at_once_when_answers_take_longer() -> None:
    server = Server(AdaptiveLimit(), 32, even(0.01))
    server.run(10_000)
    before = server.limit.limit
    server.capacity = 8
    server.run(300)
    assert server.limit.limit < 0.75 * before


def test_a_first_answer_that_took_long_is_not_taken_for_the_pace() -> None:
    limit = AdaptiveLimit()
    cold = 1000.0 + 40 * 0.05
    server = Server(limit, 4, lambda now: 0.5 if now < cold else 0.01)
    server.run(1000)
    assert server.run(2000) <= 2 * 4 + 2


def test_it_does_not_grow_while_it_is_not_used() -> None:
    server = Server(AdaptiveLimit(16), 64, even(0.01), demand=7)
    server.run(20_000)
    assert server.highest == 16
    server.demand = 1000
    server.run(2000)
    assert server.limit.limit > 32


def test_it_grows_while_half_of_it_is_used() -> None:
    server = Server(AdaptiveLimit(16), 64, even(0.01), demand=8)
    server.run(1000)
    assert server.limit.limit > 16


@pytest.mark.parametrize(("least", "most"), [(1, 3), (20, 30), (5, 5)])
def test_it_keeps_within_its_bounds(least: int, most: int) -> None:
    server = Server(AdaptiveLimit(least, least, most), 8, uneven(0.01))
    server.run(5000)
    server.capacity = 1
    server.run(5000)
    server.capacity = 1000
    server.run(5000)
    assert least <= server.lowest <= server.highest <= most


def test_each_failure_takes_it_to_7_tenths_once_for_what_was_sent_before() -> None:
    limit = AdaptiveLimit(100)
    for _ in range(50):
        limit.sample(1.0, 100, 10.0, failed=True)
    assert limit.limit == 70
    limit.sample(1.0, 70, 10.9, failed=True)  # sent before the first was known
    assert limit.limit == 70
    limit.sample(1.0, 70, 11.1, failed=True)
    assert limit.limit == 49
    for later in range(100):
        limit.sample(1.0, 1, 20.0 + 2 * later, failed=True)
    assert limit.limit == 1


def test_it_grows_again_after_failures() -> None:
    server = Server(AdaptiveLimit(), 16, even(0.01))
    server.run(10_000)
    for _ in range(20):
        server.now += 1
        server.limit.sample(0.01, 1, server.now, failed=True)
    assert server.limit.limit == 1
    server.run(10_000)
    assert server.limit.limit >= 16


def test_answers_that_took_no_time_are_no_reason_to_fail() -> None:
    limit = AdaptiveLimit()
    for number in range(10_000):
        limit.sample(0.0, limit.limit, float(number))
    assert 4 <= limit.limit <= 1024


def test_a_limit_that_is_not_kept_to_is_not_halved_for_good() -> None:
    """Guards against waiting forever for fewer calls, as where each request is of many."""
    limit, now, halved = AdaptiveLimit(16, 16, 40), 0.0, 0
    for _ in range(100_000):
        now += 0.001
        limit.sample(0.01, 100, now)
        halved += limit.limit == 20
    assert 0 < halved < 20_000


def test_a_fixed_limit_is_fixed() -> None:
    limit = FixedLimit(8)
    limit.sample(100.0, 8, 0.0, failed=True)
    assert limit.limit == 8
    with pytest.raises(ValueError, match="at least 1 call, not 0"):
        FixedLimit(0)


@pytest.mark.parametrize(("initial", "least", "most"), [(0, 0, 4), (1, 2, 4), (5, 1, 4), (4, 5, 4)])
def test_bounds_that_mean_nothing_are_refused(initial: int, least: int, most: int) -> None:
    with pytest.raises(ValueError, match=f"not least {least}, initial {initial} and most {most}"):
        AdaptiveLimit(initial, least, most)


def test_no_time_is_needed_to_begin() -> None:
    """Guards against a clock that begins at 0, or below."""
    limit = AdaptiveLimit(4)
    for number in range(200):
        limit.sample(0.01, limit.limit, -math.pi + 0.02 * number)
    assert limit.limit > 4
