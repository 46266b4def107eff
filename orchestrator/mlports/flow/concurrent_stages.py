"""The stages that run elsewhere, on threads, in workers, in services: several chunks at a time, within bounds."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from itertools import chain, islice
from time import monotonic
from typing import Any

from mlports.core.flow import QUICK, Demand, Pace
from mlports.flow.failures import Failures
from mlports.flow.links import PAUSE, Puller
from mlports.flow.stages import Stage

Submit = Callable[[list[Any], int], "Future[list[Any]]"]
"""Starts the work on a chunk, of which so many items may well be sent in one request; its future has an outcome for
each item, in order: a result, or the exception."""

Settle = Callable[[list[Any], list[Any], Failures, str], Iterable[Any]]
"""What is given of a chunk and its outcomes."""

_LOOK = 0.1  # seconds between two looks at whether the flow is to stop


def results(chunk: list[Any], outcomes: list[Any], failures: Failures, label: str) -> Iterable[Any]:
    """The results of those that have one."""
    if not any(isinstance(outcome, Exception) for outcome in outcomes):
        return outcomes
    made = []
    for item, outcome in zip(chunk, outcomes, strict=True):
        if isinstance(outcome, Exception):
            failures.failed(label, item, outcome)
        else:
            made.append(outcome)
    return made


def kept(chunk: list[Any], outcomes: list[Any], failures: Failures, label: str) -> Iterable[Any]:
    """The items whose result is true."""
    made = []
    for item, outcome in zip(chunk, outcomes, strict=True):
        if isinstance(outcome, Exception):
            failures.failed(label, item, outcome)
        elif outcome:
            made.append(item)
    return made


def unfolded(chunk: list[Any], outcomes: list[Any], failures: Failures, label: str) -> Iterable[Any]:
    """What is in the results, one after the other."""
    return list(chain.from_iterable(results(chunk, outcomes, failures, label)))


class Concurrent(Stage):
    """Chunks under way elsewhere: at most `lanes` of them, and no more items than `demand` allows.

    fixed: items of each chunk; None for as many as take some `quick` seconds, found while it runs. ordered: results
    come in the order of the items; else those that are done first come first.
    """

    def __init__(
        self,
        label: str,
        submit: Submit,
        failures: Failures,
        stopped: Callable[[], None],
        *,
        lanes: int,
        demand: Demand,
        ordered: bool = True,
        fixed: int | None = None,
        quick: float = QUICK,
        settle: Settle = results,
    ) -> None:
        super().__init__(label)
        self.demand = demand
        self.fixed = fixed
        self._submit, self._failures, self._stopped, self._settle = submit, failures, stopped, settle
        self._lanes, self._ordered = lanes, ordered
        self._pace = Pace(max(1, demand.max // lanes), quick)
        self._under_way: deque[tuple[Future[list[Any]], list[Any], float]] = deque()

    @property
    def size(self) -> int:
        """Items for the next chunk."""
        return self._pace.size if self.fixed is None else self.fixed

    @property
    def free(self) -> bool:
        """Whether another chunk may be begun."""
        return len(self._under_way) < self._lanes

    @property
    def busy(self) -> bool:
        return bool(self._under_way)

    def begin(self, chunk: list[Any]) -> None:
        self.demand.taken(len(chunk))
        began = monotonic()
        future = self._submit(chunk, self._pace.size)
        # Chunks wait for each other, so the time of one is not that from its beginning: it is told when it is done.
        self._under_way.append((future, chunk, began))

    def next(self) -> Iterable[Any]:
        """Waits for a chunk, the oldest one if the order is kept, and gives what came of it."""
        place = self._wait()
        future, chunk, began = self._under_way[place]
        del self._under_way[place]
        self._pace.took(len(chunk), (monotonic() - began) / (len(self._under_way) + 1))
        self.demand.settled(len(chunk))
        try:
            outcomes = future.result()
        except Exception as error:
            for item in chunk:
                self._failures.failed(self.label, item, error)
            return ()
        return self._settle(chunk, outcomes, self._failures, self.label)

    def _wait(self) -> int:
        """The place of one that is done."""
        waited_for = [self._under_way[0][0]] if self._ordered else [each[0] for each in self._under_way]
        while True:
            self._stopped()
            done, _ = wait(waited_for, timeout=_LOOK, return_when=FIRST_COMPLETED)
            if done:
                return next(place for place, future in enumerate(waited_for) if future in done)

    def feed(self, chunk: list[Any]) -> Iterator[Any]:
        """Where nobody asks, in a branch or before a checkpoint: begins all of it, and gives what is in the way."""
        while chunk:
            if not self.free or self.demand.outstanding == self.demand.max:
                yield from self.next()
                continue
            count = min(self.size, self.demand.max - self.demand.outstanding)
            self.begin(chunk[:count])
            chunk = chunk[count:]

    def flush(self) -> Iterator[Any]:
        while self.busy:
            yield from self.next()

    def close(self) -> None:
        for future, _, _ in self._under_way:
            future.cancel()
        self._under_way.clear()


class ConcurrentLink:
    """A concurrent stage and the part before it, of which it asks ahead as its demand allows."""

    def __init__(self, stage: Concurrent, upstream: Puller) -> None:
        self._stage, self._upstream = stage, upstream
        self._rest: Iterator[Any] = iter(())
        self._begun: list[Any] = []
        self._over = False

    def pull(self, count: int) -> list[Any]:
        stage = self._stage
        while True:
            if made := list(islice(self._rest, count)):
                stage.given += len(made)
                return made
            if not self._ask():
                return PAUSE
            if not stage.busy:
                return []
            self._rest = iter(stage.next())

    def _ask(self) -> bool:
        """Begins chunks until demand is met or no lane is free; False when a checkpoint is due first."""
        stage = self._stage
        wanted = stage.demand.wanted - len(self._begun)
        while not self._over and wanted > 0 and stage.free:
            chunk = self._upstream.pull(min(wanted, stage.size - len(self._begun)))
            if chunk is PAUSE:
                return False
            self._over = not chunk
            stage.taken += len(chunk)
            wanted -= len(chunk)
            self._begun += chunk
            full = stage.fixed is None or len(self._begun) == stage.fixed or self._over or not wanted
            if self._begun and full:
                stage.begin(self._begun)
                self._begun = []
        return True

    def drain(self) -> Iterator[list[Any]]:
        stage = self._stage
        begun, self._begun = self._begun, []
        sources = chain([begun], self._counted())
        made = chain(self._rest, chain.from_iterable(map(stage.feed, sources)), _late(stage.flush))
        while chunk := list(islice(made, stage.demand.max)):
            stage.given += len(chunk)
            yield chunk

    def _counted(self) -> Iterator[list[Any]]:
        for chunk in self._upstream.drain():
            self._stage.taken += len(chunk)
            yield chunk


def _late(items: Callable[[], Iterable[Any]]) -> Iterator[Any]:
    yield from items()
