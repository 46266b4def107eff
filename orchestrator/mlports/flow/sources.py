"""Where items come from: anything that can be iterated, also asynchronously, and the streams of services."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sized
from itertools import islice
from pathlib import Path
from time import monotonic
from typing import Any

from mlports.flow.errors import CheckpointError
from mlports.flow.failures import Failures

_PATIENCE = 0.05  # seconds that an item waits at most for those that come with it

Await = Callable[[Coroutine[Any, Any, Any]], Any]
"""Runs a coroutine where the flow's event loop is, and gives its result in this thread."""


class Source:
    """What a flow takes its items from.

    `taken` counts what was taken so far, what is no item too, such as a bad line. `done` and `total` say how far that
    is, in a unit of the source's own; a `total` of None is unknown. `file` is what it reads, where that is a file.
    """

    file: Path | None = None
    total: int | None = None

    def __init__(self, label: str) -> None:
        self.label = label
        self.taken = 0
        self.over = False

    @property
    def done(self) -> int:
        return self.taken

    def read(self, count: int) -> list[Any]:
        """Up to `count` items. An empty list is the end if `over` is set, and else says: ask again."""
        raise NotImplementedError

    def state(self) -> Any:
        """The place of the next item, from which `restore` goes on; taken between two reads."""
        return self.taken

    def restore(self, state: Any) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Lets go of what it holds; closes what it opened itself, and nothing else."""


class IterableSource(Source):
    """Any iterable. One that can be iterated again is, for each run; of an iterator each run takes what is left.

    Items of an iterator are looked at one by one, because it may be a live one: those that are there do not wait for
    the next. To go on after a checkpoint, the items before it are taken again and dropped.
    """

    def __init__(self, label: str, items: Iterable[Any]) -> None:
        super().__init__(label)
        self._iterator: Iterator[Any] = iter(items)
        self._at_hand = isinstance(items, list | tuple | range)
        self.total = len(items) if isinstance(items, Sized) else None

    def read(self, count: int) -> list[Any]:
        if self._at_hand:
            chunk = list(islice(self._iterator, count))
        else:
            chunk = []
            take, end = chunk.append, monotonic() + _PATIENCE
            for item in islice(self._iterator, count):
                take(item)
                if monotonic() > end:
                    break
        self.taken += len(chunk)
        self.over = not chunk
        return chunk

    def restore(self, state: Any) -> None:
        dropped = sum(1 for _ in islice(self._iterator, state))
        if dropped < state:
            raise CheckpointError(
                f"{self.label} has {dropped:,} items only, and {state:,} were taken before the checkpoint: "
                "it must give the same items again"
            )
        self.taken = state


class AsyncSource(Source):
    """An async iterable, also a service's stream: iterated where the event loop is, and left when the flow ends."""

    def __init__(self, label: str, items: Callable[[], AsyncIterable[Any]], run: Await, replayable: bool) -> None:
        super().__init__(label)
        self._items, self._run, self._replayable = items, run, replayable
        self._iterator: AsyncIterator[Any] | None = None
        self._next: asyncio.Task[Any] | None = None

    def read(self, count: int) -> list[Any]:
        chunk: list[Any] = self._run(self._take(count))
        self.taken += len(chunk)
        self.over = not chunk
        return chunk

    async def _take(self, count: int) -> list[Any]:
        if self._iterator is None:
            self._iterator = aiter(self._items())
        chunk: list[Any] = []
        end = None
        while len(chunk) < count:
            if self._next is None:
                self._next = asyncio.ensure_future(_next_of(self._iterator))
            # It is waited for and not cancelled: an item that comes just then would be lost.
            await asyncio.wait([self._next], timeout=None if end is None else max(0.0, end - monotonic()))
            if not self._next.done():
                break
            arrived, self._next = self._next, None
            try:
                chunk.append(arrived.result())
            except StopAsyncIteration:
                break
            if end is None:
                end = monotonic() + _PATIENCE
        return chunk

    def state(self) -> Any:
        if not self._replayable:
            raise CheckpointError(
                f"{self.label} cannot be asked again for what it gave before, so there is no return to a "
                "checkpoint. If it gives the same items each time, say replayable=True"
            )
        return self.taken

    def restore(self, state: Any) -> None:
        while self.taken < state:
            if not self.read(min(1000, state - self.taken)):
                raise CheckpointError(f"{self.label} has ended before the place of the checkpoint, item {state:,}")

    def close(self) -> None:
        if self._iterator is not None:
            self._run(self._leave())

    async def _leave(self) -> None:
        if self._next is not None:
            self._next.cancel()
            await asyncio.wait([self._next])
        close = getattr(self._iterator, "aclose", None)
        if close is not None:
            await close()


async def _next_of(iterator: AsyncIterator[Any]) -> Any:
    return await anext(iterator)


class BlockingStream(IterableSource):
    """A service's stream through a blocking orchestrator."""

    def __init__(self, label: str, items: Iterator[Any], replayable: bool) -> None:
        super().__init__(label, items)
        self._replayable = replayable

    def state(self) -> Any:
        if not self._replayable:
            raise CheckpointError(f"{self.label} cannot be asked again for what it gave before: say replayable=True")
        return super().state()

    def close(self) -> None:
        close = getattr(self._iterator, "close", None)
        if close is not None:
            close()


class Rows(Source):
    """What the files have in common: a row that is no good goes where failures go."""

    def __init__(self, label: str, failures: Failures) -> None:
        super().__init__(label)
        self._failures = failures

    def bad(self, row: Any, problem: str) -> None:
        """A row that cannot be used. Raises `FlowFailed` where that stops the flow."""
        self._failures.failed(self.label, row, ValueError(problem))
