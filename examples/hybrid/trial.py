"""The whole of it at work: the stream trains the model, clients ask it, its worker is killed, and then is too slow."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlports import Orchestrator, load_config

from .clients import Answer, crowd, persistent, session
from .front import serving
from .stream import Case, pipeline, prepared

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIG = Path(__file__).with_name("mlports.toml")
SERVICE = "sites"
LEAVING = 10
"""Clients that go away while their requests wait."""


@dataclass
class Found:
    """What came of it. Times are seconds by the monotonic clock."""

    taught: list[Case] = field(default_factory=list)
    expected: list[float] = field(default_factory=list)
    """What the model took each case for before it learned it."""
    answers: list[Answer] = field(default_factory=list)
    killed_at: list[float] = field(default_factory=list)
    retried: int = 0
    """Calls that were in the hands of a worker that was killed, and were made again."""
    burst: list[list[Answer]] = field(default_factory=list)
    """Of each client of the burst that stayed, its answers: refusals, and the last."""
    released_at: float = 0.0
    """When the worker, which was held during the burst, went on."""
    dropped: int = 0
    """Calls that left the queue because their clients had gone away."""

    @property
    def refusals(self) -> list[Answer]:
        return [answer for answers in self.burst for answer in answers[:-1]]


@asynccontextmanager
async def hybrid() -> AsyncIterator[tuple[Orchestrator, str]]:
    """The orchestrator with its front, and the front's address. The model begins with nothing learned."""
    config = load_config(CONFIG)
    with tempfile.TemporaryDirectory() as folder:
        config.service[SERVICE].config["snapshot"]["dir"] = folder
        async with Orchestrator(config=config) as orch, serving(orch) as url:
            yield orch, url


async def live(
    orch: Orchestrator, url: str, rows: list[dict[str, str]], clients: int, asked: float, taught: float, kills: int
) -> Found:
    """The stream teaches `taught` cases a second while `clients` ask `asked` times a second, and workers are killed."""
    found, enough = Found([prepared(row) for row in rows]), asyncio.Event()
    loop, killing = asyncio.get_running_loop(), []
    due = [len(rows) * (kill + 1) // (kills + 1) for kill in range(kills)]

    def learned(lesson: dict[str, Any]) -> None:  # in the flow's thread
        found.expected += lesson["expected"]
        if due and lesson["cases"] >= due[0]:
            due.pop(0)
            killing.append(asyncio.run_coroutine_threadsafe(kill_at_work(orch, found.killed_at.append), loop))

    asking = asyncio.create_task(crowd(url, [case.site for case in found.taught], clients, asked, enough))
    try:
        await pipeline(rows, taught).to(learned).arun(orch)
        await asyncio.gather(*map(asyncio.wrap_future, killing))
    finally:
        enough.set()
        found.answers = await asking
    found.retried = orch.status()["services"][SERVICE]["retried"]
    return found


async def kill_at_work(orch: Orchestrator, tell: Callable[[float], None]) -> None:
    """Kills the worker when it has requests in its hands: it is stopped first, so that it cannot answer them."""
    pid = await worker_of(orch)
    os.kill(pid, signal.SIGSTOP)
    try:
        await until(lambda: in_hand(orch) > 0)
    finally:
        os.kill(pid, signal.SIGKILL)
        tell(time.monotonic())


async def too_much(orch: Orchestrator, url: str, found: Found, requests: int) -> None:
    """So many ask at the same time while the worker does nothing: what finds no place is told to come back.

    Some clients that have a place go away. Then the worker goes on.
    """
    sites = [case.site for case in found.taught]
    async with session(requests) as http:
        await asyncio.gather(*(persistent(http, url, client, sites[client % len(sites)]) for client in range(8)))
        with holding(await worker_of(orch)):
            asked: list[asyncio.Task[list[Answer]]] = []
            first: list[Answer] = []
            for client in range(requests):
                site = sites[client % len(sites)]
                asked.append(asyncio.create_task(persistent(http, url, client, site, first.append)))
            await until(lambda: waiting(orch) + in_hand(orch) + len(first) >= requests)
            full = waiting(orch)
            refused = {answer.client for answer in first}
            staying = [task for client, task in enumerate(asked) if client in refused]
            inside = [task for client, task in enumerate(asked) if client not in refused]
            for task in inside[-LEAVING:]:
                task.cancel()
            await until(lambda: waiting(orch) <= full - LEAVING)
            found.dropped = full - waiting(orch)
            found.released_at = time.monotonic()
        found.burst = await asyncio.gather(*staying, *inside[:-LEAVING])


@contextmanager
def holding(pid: int) -> Iterator[None]:
    """Inside, the process does nothing, as one that is far too busy."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def waiting(orch: Orchestrator) -> int:
    """Calls in the service's queue."""
    found: int = orch.status()["services"][SERVICE]["waiting"]
    return found


def in_hand(orch: Orchestrator) -> int:
    """Calls that the worker has got, and not answered."""
    return sum(replica["in_flight"] for replica in orch.status()["services"][SERVICE]["replicas"])


async def worker_of(orch: Orchestrator) -> int:
    """The worker's process id, as soon as there is one that is ready."""
    pid: int | None = None

    def ready() -> bool:
        nonlocal pid
        replica = orch.status()["services"][SERVICE]["replicas"][0]
        pid = replica["pid"] if replica["state"] == "ready" else None
        return pid is not None

    await until(ready)
    assert pid is not None
    return pid


async def until(condition: Callable[[], bool], patience: float = 20.0) -> None:
    """Looks every 2 ms. Raises `TimeoutError` after `patience` seconds."""
    async with asyncio.timeout(patience):
        while not condition():  # noqa: ASYNC110 (another process changes it)
            await asyncio.sleep(0.002)
