"""Nothing is produced that was not asked for: counted at the source, for every kind of stage."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import closing

import pytest

from mlports.core.flow import FAR, Demand, Pace, TokenBucket
from mlports.flow import Flow
from mlports.flow.callers import Setting
from mlports.flow.concurrent_stages import Concurrent


class Counting:
    """An endless source that counts what was taken of it."""

    def __init__(self) -> None:
        self.produced = 0

    def __iter__(self) -> Iterator[int]:
        while True:
            self.produced += 1
            yield self.produced - 1


def test_a_flow_that_is_not_run_takes_nothing() -> None:
    source = Counting()
    Flow.from_iterable(source).map(str).filter(bool).batch(3).window(count=2).explain()
    assert source.produced == 0


def test_iterating_produces_what_is_asked_for_and_no_more() -> None:
    """Guards a monitor that looks at one reading: the second is not taken before it is asked for."""
    source = Counting()
    items = iter(Flow.from_iterable(source).map(lambda x: -x).filter(lambda x: x <= 0))
    assert source.produced == 0
    assert next(items) == 0
    assert source.produced == 1
    assert [next(items), next(items)] == [-1, -2]
    assert source.produced == 3
    items.close()  # type: ignore[attr-defined]


def test_with_a_max_demand_of_one_every_item_is_asked_for_by_itself() -> None:
    source = Counting()
    for item in Flow.from_iterable(source, max_demand=1).map(int):
        assert source.produced == item + 1
        if item == 300:
            break


@pytest.mark.parametrize("count", [0, 1, 7, 1500])
def test_take_asks_for_exactly_so_many(count: int) -> None:
    source = Counting()
    assert Flow.from_iterable(source).map(int).take(count).collect() == list(range(count))
    assert source.produced == count


def test_batches_are_asked_for_in_items() -> None:
    source = Counting()
    assert Flow.from_iterable(source).batch(10).take(3).collect() == [list(range(n, n + 10)) for n in (0, 10, 20)]
    assert source.produced == 30


def test_an_item_that_unfolds_without_end_is_unfolded_as_far_as_it_is_asked_for() -> None:
    unfolded = Counting()
    assert Flow.from_iterable([1]).flat_map(lambda _: unfolded).take(5).collect() == [0, 1, 2, 3, 4]
    assert unfolded.produced == 5


def test_a_stage_of_its_own_max_demand_asks_for_no_more_at_a_time() -> None:
    """Guards a stage whose items are large: what it asks for is what is in memory."""
    source = Counting()
    at_once: list[int] = []
    seen = 0

    def look(item: int) -> int:
        nonlocal seen
        at_once.append(source.produced - seen)
        seen += 1
        return item

    Flow.from_iterable(source).map(look, max_demand=4).take(400).run()
    assert max(at_once) == 4


def test_threads_have_no_more_outstanding_than_max_demand_and_ask_again_at_min() -> None:
    """GenStage's rule: asked up to max; again only when what is outstanding has fallen to min."""
    source = Counting()
    let_go = threading.Semaphore(0)
    handed_on = 0
    asked: list[tuple[int, int]] = []  # what was outstanding when the source was asked, before and after

    def watched() -> Iterator[int]:
        for item in source:
            asked.append((source.produced - 1 - handed_on, source.produced - handed_on))
            yield item

    def work(item: int) -> int:
        let_go.acquire(timeout=10)
        return item

    flow = Flow.from_iterable(watched()).map(work, on="threads", workers=2, max_demand=8, min_demand=3)
    items = flow.stream()
    for _ in range(100):
        let_go.release()
    for expected in range(60):
        assert next(items) == expected
        handed_on = expected + 1
    assert max(after for _, after in asked) <= 9, "one is handed on by the very call that asks"
    # A run of requests begins at min or below, and goes on to max.
    begins = [before for number, (before, _) in enumerate(asked) if number and before < asked[number - 1][1]]
    assert begins
    assert max(begins) <= 4
    for _ in range(100):
        let_go.release()
    items.close()  # type: ignore[attr-defined]


def test_rate_limit_takes_nothing_before_its_time() -> None:
    source = Counting()
    Flow.from_iterable(source).rate_limit(1000, burst=5).take(7).run()
    assert source.produced == 7


@pytest.mark.parametrize(("most", "least"), [(0, None), (-1, None), (5, 5), (5, -1), (1, 1)])
def test_demands_that_mean_nothing_are_refused_when_the_flow_is_written(most: int, least: int | None) -> None:
    with pytest.raises(ValueError, match="demand"):
        Flow.from_iterable([1]).map(str, max_demand=most, min_demand=least)
    with pytest.raises(ValueError, match="demand"):
        Demand(most, least)


def test_a_pace_doubles_while_it_is_quick_and_halves_while_it_is_slow() -> None:
    pace = Pace(100)
    sizes = []
    for _ in range(9):
        sizes.append(pace.size)
        pace.took(pace.size, 0.001)
    assert sizes == [1, 2, 4, 8, 16, 32, 64, 100, 100]
    pace.took(100, 0.2)
    assert pace.size == 50
    pace.took(3, 0.2)
    assert pace.size == 1


def test_what_is_far_away_may_take_longer() -> None:
    """Guards chunks for workers on a busy machine, where the way there and back alone takes 5 ms."""
    pace = Pace(100, FAR)
    pace.took(1, 0.015)
    pace.took(2, 0.1)
    assert pace.size == 2
    pace.took(2, 0.3)
    assert pace.size == 1


def test_a_token_bucket_lets_burst_pass_and_then_its_rate() -> None:
    bucket = TokenBucket(10, burst=3)
    assert bucket.available(5.0) == 3
    bucket.pass_(3)
    assert bucket.available(5.0) == 0
    assert bucket.wait(5.0) == pytest.approx(0.1)
    assert bucket.available(5.1) == 1
    assert bucket.available(99.0) == 3
    with pytest.raises(ValueError, match="rate"):
        TokenBucket(0)
    with pytest.raises(ValueError, match="burst"):
        TokenBucket(1, 0)


def test_batches_for_a_quick_service_soon_travel_whole() -> None:
    """Guards against a `map` of each batch that begins with one item again, and sends ten requests for a batch."""
    told: list[int] = []

    def submit(chunk: list[int], together: int) -> Future[list[int]]:
        told.append(together)
        answered: Future[list[int]] = Future()
        answered.set_result(chunk)
        return answered

    with closing(Setting(None, None, "stop")) as setting:
        demand = Demand(64, 63)
        stage = Concurrent("s", submit, setting.failures, setting.stopped, lanes=1, demand=demand, fixed=64, quick=60.0)
        for _ in range(9):
            assert [*stage.feed([1] * 64), *stage.flush()] == [1] * 64
    assert told == [1, 2, 4, 8, 16, 32, 64, 64, 64]
