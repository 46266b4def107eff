"""Requests of all kinds through one orchestrator, also while one service is slow and another is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mlports import CallError, Orchestrator

from .clients import Client
from .services import BAYES, Data, configure

QUIET, TROUBLED = "quiet", "troubled"
AT_ARCHIVE = 8
"""Calls that the slow service has in times of trouble: one at work, and the others behind it."""

_TOO_LONG = 600.0  # seconds: it is given up long before


@dataclass
class Found:
    """What came of it.

    `neighbours` are the clients of the services that nothing happens to, `market` that of the one that is killed.
    `slow_answers`: how many calls of the slow service were answered, of `slow_calls`. `meanwhile`: for each death, how
    many answers the neighbours had until the killed service gave its next one. `refusals`: what callers of what is not
    there hear. `position`: how many bars the killed service knows in the end.
    """

    neighbours: list[Client]
    market: Client
    slow_calls: int = 0
    slow_answers: int = 0
    deaths: list[str] = field(default_factory=list)
    meanwhile: list[int] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    position: int = 0

    def accuracy(self, service: str, known: Data) -> float | None:
        """The share of its digits that a service got right; None where there is no such service."""
        for client in self.neighbours:
            if client.service == service:
                wanted = known.new_labels[np.arange(len(client.answers)) % len(known.new_labels)]
                return float((np.ravel(client.answers) == wanted).mean())
        return None

    def problems(self) -> list[str]:
        """What did not hold of what this example is to show."""
        told = []
        for client in (*self.neighbours, self.market):
            if client.errors:
                told.append(f"{len(client.errors)} calls of {client.service} failed, the first: {client.errors[0]}")
        if self.slow_answers:
            told.append(f"{self.slow_answers} calls of the slow service ended before the others did")
        if self.position != self.market.sent:
            told.append(f"the market's service knows {self.position} bars, of {self.market.sent}")
        return told


def clients_of(orch: Orchestrator, known: Data) -> Found:
    """A client for each service that is there, but for the slow one."""

    def image(number: int) -> Any:
        place = number % len(known.new_images)
        return known.new_images[place : place + 1]

    neighbours = [
        Client("digits", lambda number: orch.call("digits", image(number))),
        Client("anomaly", lambda number: orch.call("anomaly.judge", known.readings[number % len(known.readings)])),
    ]
    if BAYES in orch.config.service:
        neighbours.insert(1, Client(BAYES, lambda number: orch.call(f"{BAYES}.predict", image(number).tolist())))
    bars = known.bars
    return Found(neighbours, Client("market", lambda number: orch.call("market.update", "AAPL", number, bars[number])))


async def manage(known: Data, rounds: int, count: int) -> Found:
    """So many rounds of `count` calls of each service in quiet times and at least as many in trouble, by turns."""
    with tempfile.TemporaryDirectory() as folder:
        config = await asyncio.to_thread(configure, known, Path(folder))
        async with Orchestrator(config=config) as orch:
            found = clients_of(orch, known)
            orch.event_log.listen(lambda event: _note(event, found))
            for _ in range(rounds):
                await asyncio.gather(*(client.run(count, QUIET) for client in (*found.neighbours, found.market)))
                await _trouble(orch, found, count)
            found.position = await orch.call("market.position", "AAPL")
            for target in ("weather.predict", "anomaly.predict"):
                try:
                    await orch.call(target, 0)
                except CallError as error:
                    found.refusals.append(f"{type(error).__name__}: {error}")
    return found


async def _trouble(orch: Orchestrator, found: Found, count: int) -> None:
    """A round while the slow service is at a call, with others behind it, and the market's worker is killed."""
    slow = [orch.call("archive.search", _TOO_LONG, timeout=None) for _ in range(AT_ARCHIVE)]

    def answered() -> int:
        return sum(len(client.answers) for client in found.neighbours)

    async def be_killed() -> None:
        await found.market.run(count // 2, TROUBLED)
        os.kill(orch.status()["services"]["market"]["replicas"][0]["pid"], signal.SIGKILL)
        before = answered()
        await found.market.run(1, TROUBLED)
        found.meanwhile.append(answered() - before)
        await found.market.run(count - count // 2 - 1, TROUBLED)

    async with asyncio.TaskGroup() as group:
        killed = group.create_task(be_killed())
        for client in found.neighbours:
            group.create_task(client.run(count, TROUBLED, lambda: not killed.done()))
    found.slow_calls += len(slow)
    found.slow_answers += sum(call.done() for call in slow)
    for call in slow:
        call.cancel()
        with suppress(asyncio.CancelledError, CallError):
            await call


def _note(event: dict[str, Any], found: Found) -> None:
    if event["event"] == "died" and event["verdict"]["cause"] != "stopped":
        found.deaths.append(event["text"].splitlines()[0])
