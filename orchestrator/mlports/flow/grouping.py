"""The stages that make something of groups of items: of all, of those with the same key, of those in a window."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from time import time
from typing import Any

from mlports.core.flow import Windows
from mlports.flow.errors import FlowError, written_to
from mlports.flow.failures import Failures
from mlports.flow.stages import Stage


def maker(initial: Any) -> Callable[[], Any]:
    """What gives each group an accumulator of its own: `initial` itself if it can be called, else what copies it."""
    if callable(initial):
        make: Callable[[], Any] = initial
        return make
    return lambda: copy.deepcopy(initial)


def too_many(label: str, most: int) -> FlowError:
    """The error for more groups than memory was allowed for."""
    return FlowError(
        f"{label}: more than {most:,} groups at a time, each of which is kept in memory. "
        "Is the key as it was meant? If it is, and there is room, raise max_keys"
    )


class Reduce(Stage):
    """What all items come to, given at the end."""

    def __init__(self, label: str, make: Callable[[], Any], step: Callable[[Any, Any], Any], failures: Failures):
        super().__init__(label)
        self._value, self._step, self._failures = make(), step, failures

    def feed(self, chunk: list[Any]) -> tuple[()]:
        step, items = self._step, iter(chunk)
        while True:
            try:
                for item in items:
                    self._value = step(self._value, item)
                return ()
            except Exception as error:
                self._failures.failed(self.label, item, error)

    def finish(self) -> list[Any]:
        return [self._value]

    def state(self) -> Any:
        return [self._value]

    def restore(self, state: Any) -> None:
        (self._value,) = state


class ReduceByKey(Stage):
    """What the items of each key come to, given at the end as (key, value), in the order in which keys first came."""

    def __init__(
        self,
        label: str,
        key: Callable[[Any], Any],
        make: Callable[[], Any],
        step: Callable[[Any, Any], Any],
        failures: Failures,
        most: int,
    ) -> None:
        super().__init__(label)
        self._key, self._make, self._step, self._failures, self._most = key, make, step, failures, most
        self._values: dict[Any, Any] = {}

    def feed(self, chunk: list[Any]) -> tuple[()]:
        key, step, values, items = self._key, self._step, self._values, iter(chunk)
        while True:
            try:
                for item in items:
                    k = key(item)
                    values[k] = step(values[k] if k in values else self._make(), item)
                break
            except Exception as error:
                self._failures.failed(self.label, item, error)
        if len(values) > self._most:
            raise too_many(self.label, self._most)
        return ()

    def finish(self) -> Iterator[Any]:
        return iter(self._values.items())

    def state(self) -> Any:
        return [list(pair) for pair in self._values.items()]

    def restore(self, state: Any) -> None:
        self._values = dict(state)


class LateFile:
    """A file of JSON lines to which late items are added; what JSON cannot hold, as its repr."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with written_to(path):
            self._file = path.open("ab")

    def __call__(self, item: Any) -> None:
        line = json.dumps(item, ensure_ascii=False, default=repr) + "\n"
        with written_to(self._path):
            self._file.write(line.encode("utf-8", "backslashreplace"))

    def flush(self) -> None:
        """What was written is on the disk."""
        with written_to(self._path):
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        with written_to(self._path):
            self._file.close()


class Windowed(Stage):
    """Windows of items, each given when it is over. What is late goes to `late`, or is dropped; it is counted."""

    def __init__(
        self,
        label: str,
        windows: Windows,
        failures: Failures,
        *,
        key: Callable[[Any], Any] | None,
        at: Callable[[Any], float] | None,
        late: Callable[[Any], object] | None,
        most: int,
    ) -> None:
        super().__init__(label)
        self._windows, self._failures, self._most = windows, failures, most
        self._key, self._at, self._late = key, at, late
        self.late = 0

    def feed(self, chunk: list[Any]) -> Iterable[Any]:
        key, at, feed, now = self._key, self._at, self._windows.feed, time()
        for item in chunk:
            try:
                in_time = feed(None if key is None else key(item), item, now if at is None else at(item))
            except Exception as error:
                self._failures.failed(self.label, item, error)
                continue
            if not in_time:
                self.late += 1
                if self._late is not None:
                    self._late(item)
        over = self._windows.over()
        if len(self._windows) > self._most:
            raise too_many(self.label, self._most)
        return over

    def flush(self) -> tuple[()]:
        if isinstance(self._late, LateFile):
            self._late.flush()
        return ()

    def finish(self) -> list[Any]:
        windows: list[Any] = list(self._windows.end())
        return windows

    def state(self) -> Any:
        return self._windows.state()

    def restore(self, state: Any) -> None:
        self._windows.restore(state)
