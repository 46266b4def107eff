"""Sensors that give a reading only when one is asked for, and what the service `monitor` finds in them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np

from mlports import Orchestrator

AT_MOST = 66
"""Readings that may be on their way: 32 to the worker and one before that, 32 back and one in its hands.

Each way a stream lets 32 items be ahead, see docs/streams.md.
"""

DEMAND = 16
"""Readings that the monitor asks for ahead. An alert waits for those before it, so fewer are sooner, up to a point."""


class Sensors:
    """A producer, as in GenStage: `readings` (n × features) one after the other, each when there is demand for it.

    With a `pace`, no more than so many a second, as sensors give them that are not a file. With `at_most`, that many
    are given, and one more for each that `demand()` asks for; without it, as many as the stream takes.
    """

    def __init__(self, readings: Any, pace: float | None = None, at_most: int | None = None) -> None:
        self.readings = readings
        self.given = 0
        self._demand = None if at_most is None else asyncio.Semaphore(at_most)
        self._between = 0.0 if pace is None else 1 / pace
        self.given_at = np.zeros(len(readings))  # seconds, by the monotonic clock

    def demand(self) -> None:
        """One more reading may be given."""
        if self._demand is not None:
            self._demand.release()

    async def __aiter__(self) -> AsyncIterator[Any]:
        due = time.monotonic()
        for reading in self.readings:
            if self._demand is not None:
                await self._demand.acquire()
            if self._between:
                due += self._between
                await asyncio.sleep(max(due - time.monotonic(), 0))
            self.given_at[self.given] = time.monotonic()
            self.given += 1
            yield reading


class Monitor:
    """The consumer: takes what is found for each reading, and notes how late it is and how many more are on their way.

    `scores`, `alerts` and `delays` (seconds) have an element for each reading; `most_in_flight` is the most readings
    that the sensors had given and that had not come back. `pace` is that of the sensors, which give DEMAND ahead.
    """

    def __init__(self, readings: Any, pace: float | None = None) -> None:
        count, sensors = len(readings), Sensors(readings, pace, DEMAND)
        self.scores, self.alerts, self.delays = np.full(count, np.nan), np.zeros(count, bool), np.zeros(count)
        self.most_in_flight = self.received = 0
        self._sensors = sensors

    async def run(self, orch: Orchestrator, tell: Callable[[int], None] = lambda number: None) -> None:
        """Until the last reading. `tell` is called with the number of each reading that raises an alert.

        Raises `AssertionError` if the sensors were asked for more than may be on its way.
        """
        async for found in orch.stream("monitor.watch", input=self._sensors):
            in_flight = self._sensors.given - self.received
            assert in_flight <= DEMAND, f"{in_flight} readings are on their way, and {DEMAND} may be"
            self.most_in_flight = max(self.most_in_flight, in_flight)
            self.scores[self.received], self.alerts[self.received] = found["score"], found["alert"]
            self.delays[self.received] = time.monotonic() - self._sensors.given_at[self.received]
            if found["alert"]:
                tell(self.received)
            self.received += 1
            self._sensors.demand()
