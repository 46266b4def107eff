"""Flows of steps, in the process that runs them and in workers, each beside the plain loop that does the same."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, ClassVar

from benchmarks.contenders.contender import Unavailable
from benchmarks.recovery.subject import Figures

BATCH = 100


def half(x: int) -> int:
    return x // 2


def even(x: int) -> bool:
    return not x % 2


class InProcess:
    """`run(items)` gives "us": microseconds an item that a flow of map, filter and batch takes more than a loop."""

    name: ClassVar[str] = "flow-in-process"
    title: ClassVar[str] = "flow, map, filter and batches of 100 in process"

    def open(self) -> None:
        from mlports.flow import Flow

        self._flow = Flow

    def close(self) -> None:
        pass

    def run(self, *request: Any) -> Figures:
        (count,) = request
        items = list(range(count))

        def by_flow() -> list[list[int]]:
            return self._flow.from_iterable(items).map(half).filter(even).batch(BATCH).collect()

        def by_loop() -> list[list[int]]:
            made = [y for y in map(half, items) if even(y)]
            return [made[at : at + BATCH] for at in range(0, len(made), BATCH)]

        loop, flow = _cpu(by_loop), _cpu(by_flow)
        return {"us": [(flow - loop) / count * 1e6]}


def _cpu(work: Callable[[], object]) -> float:
    """Processor seconds: what else the machine does is no cost of a flow's."""
    began = time.process_time()
    work()
    return time.process_time() - began


class InWorkers:
    """The example data_pipeline's step.

    `run(futures, customers)` gives "us", of one step in the loop, and "over": the speed of a flow with two workers,
    which run already, over the loop's.
    """

    name: ClassVar[str] = "flow-in-workers"
    title: ClassVar[str] = "flow, a step in two workers"

    def open(self) -> None:
        from examples.data_pipeline.pipeline import histories_of, timed
        from examples.data_pipeline.purchases import purchases

        try:
            self._histories = histories_of(purchases())
        except SystemExit as reason:
            raise Unavailable(str(reason)) from reason
        self._timed = timed

    def close(self) -> None:
        pass

    def run(self, *request: Any) -> Figures:
        futures, customers = request
        found = self._timed(self._histories[:customers], futures, (2,))
        return {"us": [found.us], "over": [found.speed_up(2)]}
