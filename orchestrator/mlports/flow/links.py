"""How demand goes up a flow and chunks come down: each part is asked for up to n items, and asks the one before it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Protocol

from mlports.flow.sources import Source
from mlports.flow.stages import Stage

PAUSE: list[Any] = []
"""What a pull gives, itself and no equal of it, when a checkpoint is due before the next item; `[]` is the end."""

_DRAINED = 1000  # items that are handed on at a time while a flow is emptied for a checkpoint


class Puller(Protocol):
    """What a stage asks: another stage, or where the items come from."""

    def pull(self, count: int) -> list[Any]:
        """1 to `count` items; `PAUSE`; or `[]` at the end, then and ever after."""

    def drain(self) -> Iterator[list[Any]]:
        """All that has been taken from the source and is still on its way, in chunks; for a checkpoint."""


class Origin:
    """A source, as far as it is asked. `gate(count)` says how many may be taken now: 0 when a checkpoint is due."""

    def __init__(self, source: Source, gate: Callable[[int], int], counted: Callable[[Source, int], None]) -> None:
        self._source, self._gate, self._counted = source, gate, counted
        self._over = False

    def pull(self, count: int) -> list[Any]:
        while not self._over:
            allowed = self._gate(count)
            if not allowed:
                return PAUSE
            before = self._source.taken
            chunk = self._source.read(allowed)
            self._counted(self._source, self._source.taken - before)
            if chunk:
                return chunk
            self._over = self._source.over
        return []

    def drain(self) -> Iterator[list[Any]]:
        return iter(())


class Link:
    """A stage and the part before it. `most` is its max demand, where it has one of its own."""

    def __init__(self, stage: Stage, upstream: Puller, most: int | None) -> None:
        self._stage, self._upstream, self._most = stage, upstream, most
        self._rest: Iterator[Any] = iter(())
        self._over = False

    def pull(self, count: int) -> list[Any]:
        stage = self._stage
        while True:
            if made := list(islice(self._rest, count)):
                stage.given += len(made)
                return made
            if self._over:
                return []
            if stage.full:
                made_of = self._end()
            else:
                wanted = stage.wants(count)
                chunk = self._upstream.pull(wanted if self._most is None else min(wanted, self._most))
                if chunk is PAUSE:
                    return PAUSE
                stage.taken += len(chunk)
                made_of = stage.feed(chunk) if chunk else self._end()
            if type(made_of) is list and len(made_of) <= count:
                if made_of:
                    stage.given += len(made_of)
                    return made_of
            else:
                self._rest = iter(made_of)

    def _end(self) -> Iterable[Any]:
        self._over = True
        return self._stage.finish()

    def drain(self) -> Iterator[list[Any]]:
        yield from self._counted(self._rest)
        for chunk in self._upstream.drain():
            if not self._stage.full:
                self._stage.taken += len(chunk)
                yield from self._counted(self._stage.feed(chunk))
        if not self._over:
            yield from self._counted(self._stage.flush())

    def _counted(self, items: Iterable[Any]) -> Iterator[list[Any]]:
        items = iter(items)
        while chunk := list(islice(items, _DRAINED)):
            self._stage.given += len(chunk)
            yield chunk
