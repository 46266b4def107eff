"""Tells from real purchases who will buy again, by a flow in worker processes, and what that costs beside a loop.

python -m examples.data_pipeline
python -m examples.data_pipeline --futures 200 --rounds 5      # heavier steps, calmer figures
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from ..options import whole
from ..pictures import picture
from .drawing import draw
from .outlook import SPLIT, offer
from .pipeline import Timed, break_even, by_flow, by_loop, histories_of, timed
from .purchases import Purchase, purchases

COSTS = ((0, 10_000), (2, 5_000), (10, 2_000), (100, 250), (1000, 100))
"""Futures played for each customer, and of how many customers, so that each takes a fraction of a second."""

HEAVY = 1000
LEAST = 0.9
"""The speed over the loop's that two workers promise for a heavy step."""


def measure(histories: list[list[Any]], rounds: int) -> list[Timed]:
    """For each cost the medians of so many rounds, the costs taking turns; of the heavy one at least three."""
    found: dict[int, list[Timed]] = {futures: [] for futures, _ in COSTS}
    for number in range(max(rounds, 3)):
        for futures, customers in COSTS:
            if number < rounds or futures == HEAVY:
                workers = (1, 2) if number < rounds else (2,)
                found[futures].append(timed(histories[:customers], futures, workers))
    return [_median(each) for each in found.values()]


def _median(rounds: list[Timed]) -> Timed:
    """Of the ratios to the loop of the same round, put back onto the median loop."""
    loop = statistics.median(each.loop for each in rounds)
    ratios = {
        count: statistics.median(each.speed_up(count) for each in rounds if count in each.flows)
        for count in rounds[0].flows
    }
    us = statistics.median(each.us for each in rounds)
    return Timed(us, loop, {count: loop / ratio for count, ratio in ratios.items()})


def shares(events: list[Purchase], outlooks: list[list[Any]], part: float = 0.1) -> tuple[float, float]:
    """Of the revenue after the split: the share of the customers with the best outlook, and of those who spent most."""
    later: dict[int, float] = {}
    spent: dict[int, float] = {}
    for one in events:
        total = spent if one.day < SPLIT else later
        total[one.customer] = total.get(one.customer, 0.0) + one.dollars
    chosen = round(part * len(outlooks))
    best = sorted(outlooks, key=lambda one: -one[3])[:chosen]
    most = sorted(spent, key=lambda customer: -spent[customer])[:chosen]
    whole = sum(later.get(each[0], 0.0) for each in outlooks)
    return (
        sum(later.get(each[0], 0.0) for each in best) / whole,
        sum(later.get(customer, 0.0) for customer in most) / whole,
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.data_pipeline", description=__doc__)
    parser.add_argument("--futures", type=whole(1), default=5, help="played for each of the 23,570 customers (5)")
    parser.add_argument("--rounds", type=whole(1), default=1, help="of the measurement (1; the heavy step has 3)")
    parser.add_argument("--out", type=Path, default=Path("pictures"), help="where the picture goes")
    options = parser.parse_args()
    if not run(options.futures, options.rounds, options.out):
        sys.exit(f"the finding does not hold: the same results, and {LEAST} times the loop's speed for heavy steps")


def run(futures: int, rounds: int, out: Path) -> bool:
    """Prints the story; whether its finding holds."""
    events = purchases()
    began = time.perf_counter()
    looped = by_loop(events, futures)
    loop = time.perf_counter() - began
    began = time.perf_counter()
    found = by_flow(events, futures, workers=2)
    flow = time.perf_counter() - began
    same = found == looped
    print(f"{len(events):,} purchases in {len(found.weeks)} weeks, {len(found.outlooks):,} customers")
    week, most = max(enumerate(found.weeks, 1), key=lambda pair: pair[1])
    print(f"the best week was number {week}: ${most:,.0f}; the last one: ${found.weeks[-1]:,.0f}")
    for customer, there, expected, dollars in sorted(found.outlooks, key=lambda one: -one[3])[:3]:
        told = f"{there:.0%} still there, {expected:.1f} purchases to come, ${dollars:,.0f}"
        print(f"  customer {customer:05}: {told}: {offer(there, expected, dollars)!r}")
    best, spent = shares(events, found.outlooks)
    print(f"of the next 39 weeks' revenue, {best:.0%} came from the best tenth of them, {spent:.0%} from those who")
    print("had spent most, and 10% would have come from any tenth")
    faster = loop / flow
    print(f"all of it: loop {loop:.2f} s, flow {flow:.2f} s with the start of two workers: {faster:.2f} times as fast")
    print(f"the same results: {'yes' if same else 'NO'}")
    measured = measure(histories_of(events), rounds)
    print("µs a step      1 worker   2 workers   (speed over the loop's, workers running)")
    for each in measured:
        print(f"{each.us:9,.1f} {each.speed_up(1):13.2f} {each.speed_up(2):11.2f}")
    even = break_even([(each.us, each.speed_up(2)) for each in measured])
    print("two workers never paid" if even is None else f"two workers pay from {even:,.0f} µs a step")
    picture(out / "data_pipeline.png", lambda figure: draw(figure, measured, even), size=(8, 5))
    return same and measured[-1].speed_up(2) >= LEAST


if __name__ == "__main__":
    main()
