"""An orchestrator with a faulty service and a healthy neighbour, and what is seen of them from outside."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from mlports import CallError, Config, NotRunning, Orchestrator, ServiceConfig, SupervisorConfig, Verdict

ROOT = Path(__file__).resolve().parents[2]
FAULTY = ROOT / "workers" / "faulty" / "faulty.py"
CARELESS = ROOT / "workers" / "faulty" / "careless.py"
NEIGHBOUR = Path(__file__).with_name("neighbour.py")

_PATIENCE = 30.0  # seconds that a call to the neighbour, or the stop, may take on a busy machine


def faulty(fault: str) -> list[str]:
    """The command of a worker that has this fault."""
    return [sys.executable, str(FAULTY), fault]


def careless(*arguments: str) -> list[str]:
    """The command of the worker with a careless author."""
    return [sys.executable, str(CARELESS), *arguments]


class Scene:
    """What happens around the service `faulty`: its events but for log lines, and how its neighbour fares."""

    def __init__(self, orch: Orchestrator) -> None:
        self.orch = orch
        self.events: list[dict[str, Any]] = []
        self.log: list[str] = []
        self.failures: list[dict[str, Any]] = []  # of the event loop's callbacks
        self.ticks = 0
        self.stopped = False  # the test itself stopped the orchestrator
        self._changed = asyncio.Event()
        orch.event_log.listen(self._note)

    def _note(self, event: dict[str, Any]) -> None:
        if event.get("service") != "faulty":
            return
        if event["event"] == "log":
            if len(self.log) < 1000:
                self.log.append(event["text"])
        else:
            self.events.append(event)
        self._changed.set()

    def call(self, method: str, *params: Any, timeout: float | None = 20) -> asyncio.Future[Any]:
        """Calls the faulty service."""
        return self.orch.call(f"faulty.{method}", *params, timeout=timeout)

    async def until(self, name: str, count: int = 1) -> list[dict[str, Any]]:
        """The faulty service's events of this name, as soon as there are `count`."""
        while len(found := [event for event in self.events if event["event"] == name]) < count:
            self._changed.clear()
            await self._changed.wait()
        return found

    async def until_logged(self, text: str) -> str:
        """The first line of the faulty service's log that holds `text`, as soon as there is one."""
        while not (found := [line for line in self.log if text in line]):
            self._changed.clear()
            await self._changed.wait()
        return found[0]

    def deaths(self) -> list[dict[str, Any]]:
        """The verdicts of all deaths of the faulty service that nobody asked for."""
        return [event["verdict"] for event in self.events if event["event"] == "died"]

    def replica(self, number: int = 0) -> dict[str, Any]:
        """A replica of the faulty service, as `status()` tells of it."""
        replica: dict[str, Any] = self.orch.status()["services"]["faulty"]["replicas"][number]
        return replica

    async def neighbour_ticks(self, more: int = 3) -> None:
        """Calls the neighbour so many times, one after the other."""
        for _ in range(more):
            number = self.ticks
            self.ticks += 1
            assert await self.orch.call("neighbour.tick", number, timeout=_PATIENCE) == number

    async def keep_neighbour_busy(self) -> None:
        """Calls the neighbour, one call after the other, for ever."""
        while True:
            await self.neighbour_ticks()


@asynccontextmanager
async def scene(
    command: Sequence[str], *, intensity: int = 5, directory: Path = ROOT, **settings: Any
) -> AsyncIterator[Scene]:
    """Runs `command` as the service `faulty` beside the service `neighbour`; `settings` are those of `ServiceConfig`.

    The neighbour is called all the while, and must answer every call, also after what the test does; the orchestrator
    must stop within seconds; no callback of the event loop may fail.
    """
    services = {
        "neighbour": ServiceConfig(command=[sys.executable, str(NEIGHBOUR)]),
        # Whether Python holds printed text back is not left to who runs the tests.
        "faulty": ServiceConfig(command=list(command), env={"PYTHONUNBUFFERED": ""}, **{"shutdown": 2.0, **settings}),
    }
    supervisor = SupervisorConfig(intensity=intensity)
    orch = Orchestrator(config=Config(service=services, supervisor=supervisor, directory=directory))
    seen = Scene(orch)
    asyncio.get_running_loop().set_exception_handler(lambda _, context: seen.failures.append(context))
    await orch.start()
    try:
        busy = asyncio.create_task(seen.keep_neighbour_busy())
        try:
            yield seen
            assert seen.stopped or not busy.done(), busy
        finally:
            busy.cancel()
            with suppress(asyncio.CancelledError, *([CallError, NotRunning] if seen.stopped else [])):
                await busy
        if not seen.stopped:
            await seen.neighbour_ticks()
        assert orch.status()["services"]["neighbour"]["replicas"][0]["restarts"] == 0
    finally:
        async with asyncio.timeout(_PATIENCE):
            await orch.stop()
    assert orch.status()["state"] == "stopped"
    assert not seen.failures


async def outcome(call: asyncio.Future[Any]) -> Any:
    """What a call came to: its result, or the exception that it failed with."""
    return (await asyncio.gather(call, return_exceptions=True))[0]


def verdict_of(error: BaseException) -> Verdict:
    """The verdict in a `WorkerCrashed`."""
    verdict = getattr(error, "verdict", None)
    assert isinstance(verdict, Verdict)
    return verdict
