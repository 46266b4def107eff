"""The fewest frames that still kill a worker in the same way: each trial starts it anew, some at a time."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

from mlports.core.recording import Recording
from mlports.core.shrinking import Questions, shrink
from mlports.replay.batches import items_in, with_items
from mlports.replay.comparing import is_same_end, kind_of
from mlports.replay.feeding import Outcome, Pace, feed
from mlports.replay.playing import End
from mlports.replay.script import Script

_LEAST_PATIENCE = 1.0  # seconds
_MOST_AT_ONCE = 4

Unit = TypeVar("Unit")
Progress = Callable[[int, int], None]
"""Is told how many units are left, and how many trials there were."""


class Shrunk(NamedTuple):
    """`frames` are those to the worker without `$/hello`: `before`, and in the `recording` that is left.

    `minimal`: none of them can be left out. `first` is the outcome of the whole recording; unless `end`, which says how
    that ended, is "same", nothing was shrunk.
    """

    recording: Recording
    first: Outcome
    end: End
    before: int
    frames: int
    trials: int
    seconds: float
    minimal: bool


class _TimeUp(Exception):
    """There is no time for another trial."""


async def shrink_recording(
    recording: Recording,
    command: Sequence[str],
    *,
    seconds: float = 60.0,
    timeout: float = 30.0,
    transport: str = "stdio",
    on_progress: Progress = lambda left, trials: None,
) -> Shrunk:
    """Reduces a recording, within so many seconds. Raises `SpawnFailed`, `RecordingError`."""
    search = _Search(recording, command, seconds, timeout, transport, on_progress)
    return await search.run()


class _Search:
    def __init__(
        self,
        recording: Recording,
        command: Sequence[str],
        seconds: float,
        timeout: float,
        transport: str,
        on_progress: Progress,
    ) -> None:
        self._recording = recording
        self._command = command
        self._transport = transport
        self._on_progress = on_progress
        self._kind = kind_of(dict(recording.header["verdict"]))
        self._began = time.monotonic()
        self._latest = self._began + seconds
        self._pace = Pace(timeout=timeout)
        self._trials = 0
        self._at_once = max(1, min(_MOST_AT_ONCE, os.cpu_count() or 1))
        self._best = recording

    async def run(self) -> Shrunk:
        script = Script(self._recording)
        first = await feed(script, self._command, pace=self._pace, transport=self._transport)
        end = self._end_of(first)
        minimal = False
        if end == "same":
            if self._kind[0] not in ("hang", "start_timeout"):  # else it is the silence that tells
                patience = max(_LEAST_PATIENCE, 2 * first.seconds)
                self._pace = Pace(timeout=min(patience, self._pace.timeout or patience))
            with suppress(_TimeUp):
                await self._shrink_frames(script)
                await self._shrink_batches()
                minimal = True
        left = _writes(self._best)
        taken = time.monotonic() - self._began
        before = _writes(self._recording)
        return Shrunk(self._best, first, end, before, left, self._trials, taken, minimal)

    async def _shrink_frames(self, script: Script) -> None:
        async def kills(units: tuple[int, ...]) -> bool:
            kept = frozenset(units)
            return self._end_of(await feed(script, self._command, kept=kept, **self._how())) == "same"

        def keep(units: tuple[int, ...]) -> None:
            self._best = script.cut(units)
            self._on_progress(len(units), self._trials)

        await self._answer(shrink(script.units), kills, keep)

    async def _shrink_batches(self) -> None:
        whole = self._best
        items = items_in(whole)
        if not items:
            return

        async def kills(items: tuple[Any, ...]) -> bool:
            return self._end_of(await feed(Script(with_items(whole, items)), self._command, **self._how())) == "same"

        def keep(items: tuple[Any, ...]) -> None:
            self._best = with_items(whole, items)
            self._on_progress(len(items), self._trials)

        await self._answer(shrink(items), kills, keep)

    async def _answer(self, questions: Questions[Unit], kills: Any, keep: Callable[[Any], None]) -> None:
        """Answers all questions, keeping what was found so far. Raises `_TimeUp`."""
        known: dict[tuple[Unit, ...], bool] = {}
        candidates = next(questions)
        while True:
            found = await self._first(candidates, kills, known)
            if found is not None:
                keep(found[1])
            try:
                candidates = questions.send(None if found is None else found[0])
            except StopIteration:
                return

    async def _first(
        self, candidates: Iterator[Any], kills: Any, known: dict[Any, bool]
    ) -> tuple[int, tuple[Any, ...]] | None:
        """The first candidate that kills, and its place; trials of those behind it run meanwhile."""
        running: dict[asyncio.Task[bool], tuple[int, Any]] = {}
        best: tuple[int, tuple[Any, ...]] | None = None
        pending = enumerate(candidates)
        try:
            while True:
                while best is None and len(running) < self._at_once and (item := next(pending, None)) is not None:
                    if known.get(item[1]):
                        best = item
                    elif item[1] not in known:
                        if time.monotonic() >= self._latest:
                            raise _TimeUp
                        self._trials += 1
                        running[asyncio.ensure_future(kills(item[1]))] = item
                if not running:
                    return best
                left = max(0.0, self._latest - time.monotonic())
                done, _ = await asyncio.wait(running, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                if not done:
                    raise _TimeUp
                for task in done:
                    number, candidate = running.pop(task)
                    known[candidate] = task.result()
                    if task.result() and (best is None or number < best[0]):
                        best = (number, candidate)
                if best is not None:
                    await _cancel([task for task, (number, _) in running.items() if number > best[0]])
                    running = {task: item for task, item in running.items() if item[0] < best[0]}
        finally:
            await _cancel(list(running))

    def _end_of(self, outcome: Outcome) -> End:
        now = kind_of(outcome.verdict)
        if now == ("end", None):
            return "no_crash"
        return "same" if is_same_end(self._kind, now) else "differs"

    def _how(self) -> dict[str, Any]:
        return {"pace": self._pace, "transport": self._transport}


async def _cancel(tasks: list[asyncio.Task[bool]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


def _writes(recording: Recording) -> int:
    return sum(1 for _ in Script(recording).said())
