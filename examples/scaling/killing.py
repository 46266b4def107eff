"""All tasks at once, a worker killed half-way, and the count of what became of each."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

from mlports import CallError, Orchestrator

from .tasks import steps
from .ways import config_for

_STEP = 0.01
"""Seconds between two points of the curve."""


@dataclass
class Settlement:
    """What became of the tasks. A task is a number from 1 on, and `settled[number - 1]` how often it was settled.

    `answers` are the results in the tasks' order, None where there was an error; `errors` those. `taken_in` is how many
    answers the orchestrator took from its workers, `sent_again` how many calls it sent a second time. `killed_at` is in
    seconds, `curve` has the seconds and how many tasks were under way then.
    """

    settled: bytearray
    answers: list[int | None] = field(default_factory=list)
    errors: list[CallError] = field(default_factory=list)
    deaths: list[str] = field(default_factory=list)
    taken_in: int = 0
    sent_again: int = 0
    killed_at: float = 0.0
    seconds: float = 0.0
    curve: list[tuple[float, int]] = field(default_factory=list)

    @property
    def once(self) -> bool:
        """Whether every task was answered, and no answer came twice."""
        count = len(self.settled)
        return not self.errors and self.settled == b"\1" * count and self.taken_in == count

    @cached_property
    def right(self) -> bool:
        """Whether every answer is what this process computes itself."""
        return self.answers == [steps(number) for number in range(1, len(self.settled) + 1)]


async def settle(count: int, kill: bool = True) -> Settlement:
    """Submits the tasks 1 to `count` at once; when half are answered, one of the two workers is killed (SIGKILL)."""
    found = Settlement(bytearray(count))
    died = asyncio.Event()
    orch = Orchestrator(config=config_for(count))
    orch.event_log.listen(lambda event: _note(event, found, died))
    async with orch:
        began = time.perf_counter()
        found.curve.append((0.0, 0))
        calls = []
        for number in range(1, count + 1):
            call = orch.call("tasks.steps", number)
            call.add_done_callback(partial(_count, found.settled, number))
            calls.append(call)
        found.curve.append((time.perf_counter() - began, count))
        killer = asyncio.create_task(_kill(orch, calls[count // 2], found, began)) if kill else None
        drawer = asyncio.create_task(_draw(found, began))
        for call in calls:
            try:
                found.answers.append(await call)
            except CallError as error:
                found.answers.append(None)
                found.errors.append(error)
        found.seconds = time.perf_counter() - began
        found.curve.append((found.seconds, 0))
        drawer.cancel()
        if killer is not None:
            await killer
            await asyncio.wait_for(died.wait(), 30)
        found.taken_in = _status(orch)["answered"]
    return found


def _count(settled: bytearray, number: int, _: asyncio.Future[Any]) -> None:
    settled[number - 1] += 1


async def _kill(orch: Orchestrator, half: asyncio.Future[Any], found: Settlement, began: float) -> None:
    await asyncio.wait([half])
    victim = max(_status(orch)["replicas"], key=lambda replica: replica["in_flight"])
    os.kill(victim["pid"], signal.SIGKILL)
    found.killed_at = time.perf_counter() - began


async def _draw(found: Settlement, began: float) -> None:
    while True:
        found.curve.append((time.perf_counter() - began, found.settled.count(0)))
        await asyncio.sleep(_STEP)


def _note(event: dict[str, Any], found: Settlement, died: asyncio.Event) -> None:
    if event["event"] == "died" and event["verdict"]["cause"] != "stopped":
        found.deaths.append(event["text"].splitlines()[0])
        died.set()
    elif event["event"] == "retried":
        found.sent_again += event["calls"]


def _status(orch: Orchestrator) -> Any:
    return orch.status()["services"]["tasks"]
