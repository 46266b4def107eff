"""The stages that run where they are: chunks of items in, chunks of items out.

A stage is asked for nothing: it says how many items it would take to give so many (`wants`), and makes the most of what
it is fed. What it gives may be a list, or an iterator where one item can become any number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from time import monotonic, sleep
from typing import Any

from mlports.core.flow import TokenBucket
from mlports.flow.failures import Failures

_LONGEST_NAP = 0.1  # seconds, so that a flow that is cancelled while it waits ends soon


class Stage:
    """A part of a flow between its source and its sink.

    `taken` and `given` count items. `full` says that it takes no more. `state()` is what a checkpoint keeps of it, once
    `flush()` has given all that can be given before more comes.
    """

    full = False

    def __init__(self, label: str) -> None:
        self.label = label
        self.taken = 0
        self.given = 0

    def wants(self, count: int) -> int:
        """How many items to take in, to give up to `count`."""
        return count

    def feed(self, chunk: list[Any]) -> Iterable[Any]:
        """What comes of these items, for now."""
        raise NotImplementedError

    def flush(self) -> Iterable[Any]:
        """What can be given without taking in more, before a checkpoint."""
        return ()

    def finish(self) -> Iterable[Any]:
        """What is left, when nothing more comes."""
        return self.flush()

    def state(self) -> Any:
        return None

    def restore(self, state: Any) -> None:
        """Takes up what `state()` gave in an earlier run."""

    def close(self) -> None:
        """Lets go of what it holds, at the end, however it came."""


class Map(Stage):
    """Each item's `f(item)`."""

    def __init__(self, label: str, f: Callable[[Any], Any], failures: Failures) -> None:
        super().__init__(label)
        self._f, self._failures = f, failures

    def feed(self, chunk: list[Any]) -> list[Any]:
        f = self._f
        made: list[Any] = []
        give, items = made.append, iter(chunk)
        while True:
            try:
                for item in items:
                    give(f(item))
                return made
            except Exception as error:
                self._failures.failed(self.label, item, error)


class Filter(Stage):
    """The items for which `f(item)` is true."""

    def __init__(self, label: str, f: Callable[[Any], Any], failures: Failures) -> None:
        super().__init__(label)
        self._f, self._failures = f, failures

    def feed(self, chunk: list[Any]) -> list[Any]:
        f = self._f
        made: list[Any] = []
        give, items = made.append, iter(chunk)
        while True:
            try:
                for item in items:
                    if f(item):
                        give(item)
                return made
            except Exception as error:
                self._failures.failed(self.label, item, error)


class FlatMap(Stage):
    """All that `f(item)` yields, taken from it one by one as it is wanted."""

    def __init__(self, label: str, f: Callable[[Any], Iterable[Any]], failures: Failures) -> None:
        super().__init__(label)
        self._f, self._failures = f, failures

    def feed(self, chunk: list[Any]) -> Iterator[Any]:
        for item in chunk:
            try:
                yield from self._f(item)
            except Exception as error:
                self._failures.failed(self.label, item, error)


class Batch(Stage):
    """Lists of `size` items; the last one may be shorter."""

    def __init__(self, label: str, size: int, most: int) -> None:
        super().__init__(label)
        self._size, self._most = size, most
        self._begun: list[Any] = []

    def wants(self, count: int) -> int:
        batches = max(1, min(count, self._most // self._size))
        return batches * self._size - len(self._begun)

    def feed(self, chunk: list[Any]) -> list[Any]:
        size = self._size
        if self._begun:
            chunk = self._begun + chunk
        whole = len(chunk) - len(chunk) % size
        self._begun = chunk[whole:]
        return [chunk[at : at + size] for at in range(0, whole, size)]

    def finish(self) -> list[Any]:
        rest, self._begun = self._begun, []
        return [rest] if rest else []

    def state(self) -> Any:
        return self._begun

    def restore(self, state: Any) -> None:
        self._begun = state


class Take(Stage):
    """The first `count` items; no more than that are ever asked for."""

    def __init__(self, label: str, count: int) -> None:
        super().__init__(label)
        self._left = count
        self.full = not count

    def wants(self, count: int) -> int:
        return min(count, self._left)

    def feed(self, chunk: list[Any]) -> list[Any]:
        taken = chunk[: self._left]
        self._left -= len(taken)
        self.full = not self._left
        return taken

    def state(self) -> Any:
        return self._left

    def restore(self, state: Any) -> None:
        self._left = state
        self.full = not state


class RateLimit(Stage):
    """The same items, at most so many a second. Waits before it asks, so that nothing is taken that may not pass."""

    def __init__(self, label: str, rate: float, burst: int, stopped: Callable[[], None]) -> None:
        super().__init__(label)
        self._bucket = TokenBucket(rate, burst)
        self._stopped = stopped

    def wants(self, count: int) -> int:
        while not (available := self._bucket.available(monotonic())):
            self._stopped()
            sleep(min(_LONGEST_NAP, self._bucket.wait(monotonic())))
        return min(count, available)

    def feed(self, chunk: list[Any]) -> list[Any]:
        # In a branch nobody asks first.
        while self._bucket.available(monotonic()) < min(len(chunk), self._bucket.burst):
            self._stopped()
            sleep(min(_LONGEST_NAP, 1 / self._bucket.rate))
        self._bucket.pass_(len(chunk))
        return chunk
