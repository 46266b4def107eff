"""Carries out what a service's supervision machine decides: starts and stops its replicas.

Each service has a supervisor of its own, so that one whose workers keep dying takes no other service down with it.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING

from mlports.core.intensity import RestartIntensity
from mlports.core.supervision import GiveUp, Instruction, OneForOne, Start, Stop
from mlports.core.verdict import Verdict
from mlports.runtime.process import SpawnFailed
from mlports.runtime.service import Route, Service
from mlports.telemetry import EventLog

if TYPE_CHECKING:
    from mlports.config import ServiceConfig, SupervisorConfig


class ServiceSupervisor:
    """The supervisor of one service's replicas. `settled` is done when all of them are up, or will not be."""

    def __init__(
        self,
        name: str,
        config: ServiceConfig,
        limits: SupervisorConfig,
        directory: Path,
        events: EventLog,
        route: Route,
    ) -> None:
        self.service = Service(name, config, directory, events, route, self._on_started, self._on_death)
        self._config = config
        self._events = events
        self._loop = asyncio.get_running_loop()
        self._machine = OneForOne(config.replicas, config.restart, RestartIntensity(limits.intensity, limits.period))
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        self.settled: asyncio.Future[None] = self._loop.create_future()

    def start(self) -> None:
        """Starts every replica."""
        self._carry_out(self._machine.start())

    async def stop(self, reason: str) -> None:
        """Stops every replica; returns when they are gone and every call is settled."""
        self._stopping = True
        self.service.close()
        stops = self._machine.stop()
        await self._stop_children([stop.child for stop in stops if isinstance(stop, Stop)], reason)
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._settle()
        self.service.end()

    def kill(self) -> None:
        """Kills every replica, for good, and waits for nothing."""
        self._stopping = True
        self.service.close()
        self._machine.stop()
        self.service.kill_all()
        self._settle()

    async def gone(self) -> None:
        """Returns when no process of the service is left."""
        await self._stop_children(list(range(self._config.replicas)), "it was killed")
        self.service.end()

    def _carry_out(self, instructions: list[Instruction]) -> None:
        stops = []
        for instruction in instructions:
            if isinstance(instruction, Start):
                self._start_child(instruction.child)
            elif isinstance(instruction, Stop):
                stops.append(instruction.child)
            else:
                self.service.give_up(instruction.reason)
                self._settle()
        if stops:
            reason = next(i.reason for i in instructions if isinstance(i, GiveUp))
            task = self._loop.create_task(self._stop_children(stops, reason))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _stop_children(self, children: list[int], reason: str) -> None:
        # They are alike, and nothing depends on their order: they are asked in reverse, and then awaited together.
        await asyncio.gather(*(self.service.stop_replica(child, self._config.shutdown, reason) for child in children))

    def _start_child(self, child: int) -> None:
        try:
            self.service.start_replica(child)
        except SpawnFailed as error:
            verdict = Verdict(self.service.name, child, None, "spawn", str(error))
            self._events.emit(
                "died", service=self.service.name, replica=child, verdict=verdict.as_dict(), text=str(error)
            )
            # Later, because a start that fails at once may be followed by another.
            self._loop.call_soon(self._on_start_failed, child, str(error))

    def _on_start_failed(self, child: int, why: str) -> None:
        if not self._stopping:
            self._carry_out(self._machine.start_failed(child, why, _now()))

    def _on_started(self, child: int) -> None:
        self._carry_out(self._machine.started(child))
        if all(state == "running" for state in self._machine.states):
            self._settle()

    def _on_death(self, child: int, verdict: Verdict) -> None:
        if verdict.ready or verdict.cause == "stopped":
            instructions = self._machine.exited(child, verdict.normal, str(verdict), _now())
        else:
            instructions = self._machine.start_failed(child, str(verdict), _now())
        for instruction in instructions:
            if isinstance(instruction, Start):
                self._events.emit("restarting", service=self.service.name, replica=child)
        self._carry_out(instructions)
        if not self._stopping and self.service.state != "down" and set(self._machine.states) == {"undefined"}:
            reason = f"every replica has ended, and restart is {self._machine.restart!r}; the last: {verdict}"
            self.service.give_up(reason)
            self._settle()

    def _settle(self) -> None:
        if not self.settled.done():
            self.settled.set_result(None)


def _now() -> int:
    return int(time.monotonic())
