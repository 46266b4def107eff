"""The same work as a flow and as a loop."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from mlports.flow import Flow, Window

from .outlook import SPLIT, History, bought, outlook
from .purchases import Purchase


class Found(NamedTuple):
    """outlooks: what `outlook` says of each customer. weeks: the revenue of each week, in its order."""

    outlooks: list[list[Any]]
    weeks: list[float]


def by_flow(events: Iterable[Purchase], futures: int, workers: int) -> Found:
    """Weeks in windows on one branch, on the other histories by customer and their outlooks, in so many workers."""
    weeks: list[Window] = []
    flow = (
        Flow.from_iterable(events)
        .branch(lambda all: all.window(time=7, at=lambda one: one.day).reduce(float, _plus_dollars).to(weeks.append))
        .filter(lambda one: one.day < SPLIT)
        .partition(lambda one: one.customer)
        .reduce(list, bought)
        .map(lambda pair: [*pair, futures])
    )
    outlooks = (flow.map(outlook, on="workers", workers=workers) if workers else flow.map(outlook)).collect()
    return Found(outlooks, [window.value for window in weeks])


def _plus_dollars(total: float, one: Purchase) -> float:
    return total + one.dollars


def by_loop(events: Iterable[Purchase], futures: int) -> Found:
    histories: dict[int, History] = {}
    weeks: dict[int, float] = {}
    for one in events:
        weeks[one.day // 7] = weeks.get(one.day // 7, 0.0) + one.dollars
        if one.day < SPLIT:
            histories[one.customer] = bought(histories.get(one.customer, []), one)
    outlooks = [outlook([customer, history, futures]) for customer, history in histories.items()]
    return Found(outlooks, list(weeks.values()))


# -- what one step costs


def histories_of(events: list[Purchase]) -> list[list[Any]]:
    """[customer, history] of all that had bought before the split."""
    found: dict[int, Any] = {}
    for one in events:
        if one.day < SPLIT:
            found[one.customer] = bought(found.get(one.customer, []), one)
    return [[customer, history] for customer, history in found.items()]


class Timed(NamedTuple):
    """Seconds for the same items: of the loop, and of flows by their number of workers.

    us: microseconds of a step in the loop, of the processor's time: other work on the machine does not make it dearer.
    """

    us: float
    loop: float
    flows: dict[int, float]

    def speed_up(self, workers: int) -> float:
        return self.loop / self.flows[workers]


def timed(histories: list[list[Any]], futures: int, workers: Iterable[int] = (1, 2)) -> Timed:
    """One round. The start of the workers is not in it: the clock starts when the first item is taken."""
    items = [[customer, history, futures] for customer, history in histories]
    began, cpu = time.perf_counter(), time.process_time()
    expected = [outlook(item) for item in items]
    loop, us = time.perf_counter() - began, (time.process_time() - cpu) / len(items) * 1e6
    flows = {count: _timed_flow(items, count, expected) for count in workers}
    return Timed(us, loop, flows)


def _timed_flow(items: list[Any], workers: int, expected: list[Any]) -> float:
    began = 0.0

    def watched() -> Iterator[Any]:
        nonlocal began
        began = time.perf_counter()
        yield from items

    found = Flow.from_iterable(watched()).map(outlook, on="workers", workers=workers).collect()
    seconds = time.perf_counter() - began
    if found != expected:
        raise RuntimeError(f"{workers} workers say something else than the loop")
    return seconds


def break_even(costs: list[tuple[float, float]]) -> float | None:
    """The µs of a step from which on it is quicker in workers, of pairs (µs, speed-up); None where it never is.

    Between two measured costs it is read off the line that joins them, of the speed-up over the logarithm of the cost.
    """
    costs = sorted(costs)
    slower = [place for place, (_, speed_up) in enumerate(costs) if speed_up < 1]
    if not slower:
        return costs[0][0]
    last = slower[-1]
    if last == len(costs) - 1:
        return None
    (us, low), (more, high) = costs[last], costs[last + 1]
    part: float = (1 - low) / (high - low)
    return float(us * (more / us) ** part)
