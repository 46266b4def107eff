"""Services for one test, and what must be left of their calls when it ends: nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mlports import CallError, Config, Orchestrator, ServiceConfig, SupervisorConfig
from mlports.runtime.dispatcher import Dispatcher
from tests.workers import until


@asynccontextmanager
async def running(
    intensity: int = 5, directory: Path = Path("."), **services: ServiceConfig
) -> AsyncIterator[Orchestrator]:
    """An orchestrator of these services. No callback may fail, and no call may be left when the test is over."""
    failures: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: failures.append(context))
    supervisor = SupervisorConfig(intensity=intensity)
    orch = Orchestrator(config=Config(service=services, supervisor=supervisor, directory=directory))
    try:
        async with orch:
            yield orch
            if orch.status()["state"] == "running":
                for name in services:
                    await nothing_left(dispatcher_of(orch, name))
    finally:
        loop.set_exception_handler(None)
    assert not failures


def dispatcher_of(orch: Orchestrator, service: str) -> Dispatcher:
    """The service's calls, seen from within."""
    return orch._services[service].dispatcher


async def nothing_left(calls: Dispatcher) -> None:
    """Returns when no call waits, none is in a worker's hands, and no replica is kept free for any."""
    await until(
        lambda: not calls.in_flight and not calls.waiting and not calls.sender.reserved,
        f"all calls of {calls.service} were settled: {calls.in_flight}, {calls.waiting}, {calls.sender.reserved}",
    )
    assert all(lane.reserved is None for lane in calls.lanes.values())
    calls.lines.close_gaps()
    calls.pump()
    assert len(calls.lines) == 0 == calls.lines.held


async def failure(call: asyncio.Future[Any]) -> Any:
    """What a call fails with."""
    with pytest.raises(CallError) as caught:
        await call
    return caught.value


async def outcomes(calls: list[asyncio.Future[Any]]) -> list[Any]:
    """What each of them came to: its result, or the exception that it failed with."""
    return await asyncio.gather(*calls, return_exceptions=True)
