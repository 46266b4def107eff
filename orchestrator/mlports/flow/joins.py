"""Where several flows become one, or one flow feeds another: merge, join, branch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from mlports.core.flow import IntervalJoin
from mlports.flow.errors import FlowError
from mlports.flow.failures import Failures
from mlports.flow.links import PAUSE, Puller
from mlports.flow.plan import Assembly, Plan
from mlports.flow.sinks import Sink
from mlports.flow.stages import Stage

Key = Callable[[Any], Any]

_CHUNK = 1000


def _indented(plan: Plan) -> Iterator[str]:
    return (f"  │ {line}" for line in plan.lines())


@dataclass(frozen=True)
class Merge:
    """The items of several flows, a chunk of each in turn; those of one stay in their order."""

    plans: tuple[Plan, ...]

    def build(self, assembly: Assembly) -> Puller:
        return Merged([plan.build(assembly) for plan in self.plans])

    def lines(self) -> list[str]:
        told = [line for plan in self.plans for line in ("  ┌", *_indented(plan))]
        return [*told, f"merge of {len(self.plans)}"]


class Merged:
    """Asks each of the parts in turn."""

    def __init__(self, parts: list[Puller]) -> None:
        self._all = parts
        self._alive = deque(parts)

    def pull(self, count: int) -> list[Any]:
        while self._alive:
            chunk = self._alive[0].pull(count)
            if chunk:
                self._alive.rotate(-1)
                return chunk
            if chunk is PAUSE:
                return PAUSE
            self._alive.popleft()
        return []

    def drain(self) -> Iterator[list[Any]]:
        for part in self._all:
            yield from part.drain()


class HashJoin(Stage):
    """Pairs (item, match) with a finite right side, which is read into memory first; with `left`, (item, None) too."""

    def __init__(
        self, label: str, right: Puller, key: Key, right_key: Key, left: bool, failures: Failures, most: int
    ) -> None:
        super().__init__(label)
        self._right, self._key, self._right_key = right, key, right_key
        self._left, self._failures, self._most = left, failures, most
        self._table: dict[Any, list[Any]] | None = None

    def _read(self) -> dict[Any, list[Any]]:
        table: dict[Any, list[Any]] = {}
        count = 0
        while chunk := self._right.pull(_CHUNK):
            for item in chunk:
                try:
                    table.setdefault(self._right_key(item), []).append(item)
                except Exception as error:
                    self._failures.failed(self.label, item, error)
            count += len(chunk)
            if count > self._most:
                raise FlowError(
                    f"{self.label}: its right side has more than {self._most:,} items, and is kept in memory. "
                    "Put the larger flow on the left; if there is room, raise max_items; or join within= a time"
                )
        return table

    def feed(self, chunk: list[Any]) -> Iterator[Any]:
        table = self._table = self._read() if self._table is None else self._table
        for item in chunk:
            try:
                matches = table.get(self._key(item))
            except Exception as error:
                self._failures.failed(self.label, item, error)
                continue
            if matches is not None:
                for match in matches:
                    yield item, match
            elif self._left:
                yield item, None


@dataclass(frozen=True)
class Within:
    """Pairs of two flows' items with the same key, no more than `within` apart in time."""

    label: str
    plans: tuple[Plan, Plan]
    keys: tuple[Key, Key]
    times: tuple[Key, Key]
    within: float
    lateness: float
    most: int

    def build(self, assembly: Assembly) -> Puller:
        parts = [plan.build(assembly) for plan in self.plans]
        joined = JoinedWithin(assembly.name(self.label), parts, self, assembly.setting.failures)
        assembly.add_stage(joined)
        return joined

    def lines(self) -> list[str]:
        told = [line for plan in self.plans for line in ("  ┌", *_indented(plan))]
        return [*told, self.label]


class JoinedWithin(Stage):
    """Asks the side whose time is behind, so that neither waits in memory for longer than it has to."""

    def __init__(self, label: str, parts: list[Puller], plan: Within, failures: Failures) -> None:
        super().__init__(label)
        self._parts, self._plan, self._failures = parts, plan, failures
        self._join = IntervalJoin(plan.within, plan.lateness)
        self._ended = [False, False]
        self._rest: Iterator[Any] = iter(())

    def pull(self, count: int) -> list[Any]:
        while True:
            if made := list(islice(self._rest, count)):
                self.given += len(made)
                return made
            if all(self._ended):
                return []
            side = self._join.behind
            if self._ended[side]:
                side = 1 - side
            chunk = self._parts[side].pull(count)
            if chunk is PAUSE:
                return PAUSE
            if chunk:
                self._rest = self._pairs(side, chunk)
            else:
                self._ended[side] = True
                self._join.ended(side)

    def _pairs(self, side: int, chunk: list[Any]) -> Iterator[Any]:
        self.taken += len(chunk)
        key, time = self._plan.keys[side], self._plan.times[side]
        for item in chunk:
            try:
                pairs = self._join.feed(side, key(item), time(item), item)
            except Exception as error:
                self._failures.failed(self.label, item, error)
                continue
            yield from pairs
        if len(self._join) > self._plan.most:
            raise FlowError(
                f"{self.label}: more than {self._plan.most:,} items wait for partners in memory. Do both sides run in "
                "the order of time? If they do, and there is room, raise max_items"
            )

    @property
    def late(self) -> int:
        """Items that may have missed a partner, because they came too late."""
        return self._join.late

    def drain(self) -> Iterator[list[Any]]:
        for items in (self._rest, *(self._drained(side) for side in (0, 1))):
            while made := list(islice(items, _CHUNK)):
                self.given += len(made)
                yield made

    def _drained(self, side: int) -> Iterator[Any]:
        for chunk in self._parts[side].drain():
            yield from self._pairs(side, chunk)

    def state(self) -> Any:
        return self._join.state()

    def restore(self, state: Any) -> None:
        self._join.restore(state)


@dataclass(frozen=True)
class Fed:
    """The head of a branch: it is fed, and cannot be asked."""

    def build(self, assembly: Assembly) -> Puller:
        raise FlowError("a branch is fed by the flow that it branches off from, and cannot be run by itself")

    def lines(self) -> list[str]:
        return ["branch"]


class Branch(Stage):
    """Feeds items to a row of stages with a sink, and passes on: all of them, or those that `when` says no to."""

    def __init__(
        self, label: str, stages: list[Stage], sink: Sink, when: Callable[[Any], Any] | None, failures: Failures
    ) -> None:
        super().__init__(label)
        self._stages, self._sink, self._when, self._failures = stages, sink, when, failures

    def feed(self, chunk: list[Any]) -> list[Any]:
        if self._when is None:
            self._push(chunk)
            return chunk
        mine: list[Any] = []
        others: list[Any] = []
        for item in chunk:
            try:
                (mine if self._when(item) else others).append(item)
            except Exception as error:
                self._failures.failed(self.label, item, error)
        self._push(mine)
        return others

    def flush(self) -> tuple[()]:
        self._push([], lambda stage: stage.flush())
        return ()

    def finish(self) -> tuple[()]:
        self._push([], lambda stage: stage.finish())
        return ()

    def _push(self, chunk: list[Any], step: Callable[[Stage], Iterable[Any]] | None = None) -> None:
        chunks: Iterator[list[Any]] = iter([chunk] if chunk else [])
        for stage in self._stages:
            chunks = _through(stage, chunks, step)
        for made in chunks:
            self._sink.write(made)


def _through(
    stage: Stage, chunks: Iterator[list[Any]], step: Callable[[Stage], Iterable[Any]] | None
) -> Iterator[list[Any]]:
    for chunk in chunks:
        if not stage.full:
            stage.taken += len(chunk)
            yield from _in_chunks(stage, stage.feed(chunk))
    if step is not None:
        yield from _in_chunks(stage, step(stage))


def _in_chunks(stage: Stage, items: Iterable[Any]) -> Iterator[list[Any]]:
    items = iter(items)
    while chunk := list(islice(items, _CHUNK)):
        stage.given += len(chunk)
        yield chunk
