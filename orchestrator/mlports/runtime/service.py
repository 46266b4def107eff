"""A service: the replicas of one command, those that are in use and those that stand by.

supervisor ──▶ replica ──▶ port ──▶ process
                  │ up, dead, recycled
                  ▼
               service ──▶ dispatcher: its calls
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlports.core.memory_limit import FAR_OVER
from mlports.core.quarantine import Quarantine
from mlports.core.verdict import Verdict
from mlports.runtime.calls_of_workers import CallsOfWorkers
from mlports.runtime.cgroup import MemoryGroup
from mlports.runtime.dispatcher import Dispatcher
from mlports.runtime.guard import Guard
from mlports.runtime.memory_watch import MemoryWatcher
from mlports.runtime.port import Port
from mlports.runtime.port_owner import PortOwner
from mlports.runtime.process import SpawnFailed, resolve
from mlports.runtime.segments import SegmentPool
from mlports.runtime.shadowing import Shadowing
from mlports.runtime.template import THREAD_VARIABLES, Template, Templates
from mlports.telemetry import EventLog
from mlports_protocol import Progressed

if TYPE_CHECKING:
    from mlports.config import ServiceConfig, ShadowConfig
    from mlports.runtime.recording import Recordings
    from mlports.runtime.replica import Replica

_LINES_A_SECOND = 1000  # of a worker's stderr that become events


class Service:
    """The replicas of one command: `config.replicas` are in use, as far as they are up; those beyond that stand by."""

    def __init__(
        self,
        name: str,
        config: ServiceConfig,
        directory: Path,
        events: EventLog,
        calls_of_workers: CallsOfWorkers,
        quarantine: Quarantine,
        guard: Guard,
        memory: MemoryWatcher,
        segments: SegmentPool | None = None,
        recordings: Recordings | None = None,
    ) -> None:
        self.name = name
        self.config = config
        self.memory = memory
        # What is in shared memory is gone when a recording is replayed.
        shares = config.shared_memory and config.transport != "inline" and config.record is None
        self._segments = segments if shares else None
        self._recordings = recordings
        self.dispatcher = Dispatcher(name, config, quarantine, events)
        self.replicas: dict[int, Replica] = {}  # every life there is
        self._restarts: dict[int, int] = {}  # of each replica that was ever started
        self._standby: list[Replica] = []  # up, and not in use; the longest waiting first
        self.promoted = False  # one that stood by took the place of the last that died
        self.leaving: set[Port] = set()  # replaced, still at something, and nobody's child any more
        self._all_left: asyncio.Future[None] | None = None
        self._recycling: Replica | None = None
        self._worn: deque[Replica] = deque()  # those that are to be recycled
        self._directory = directory
        self._events = events
        self.calls_of_workers = calls_of_workers
        self.dispatcher.on_given_up = calls_of_workers.cancel_for
        self._guard = guard
        self._down: str | None = None  # why there will be no more replicas
        self._closing = False
        self._groups: dict[Port, MemoryGroup] = {}
        self._env: Mapping[bytes, bytes] | None = None
        self._lines = _LineBudget()
        self._template: Template | None = None

    def copy_to(self, target: Service, settings: ShadowConfig) -> None:
        """From now on a share of its calls is made of another service too."""
        self.dispatcher.shadowing = Shadowing(self.name, settings, lambda: target.dispatcher, self._events)
        self.dispatcher.look_closer()

    # -- what ports report

    def on_progress(self, port: Port, progress: Progressed) -> None:
        self.dispatcher.on_progress(port, progress)
        self._events.emit(
            "progress",
            service=self.name,
            replica=port.replica,
            done=progress.done,
            total=progress.total,
            text=progress.text or None,
        )

    def on_log(self, port: Port, level: str, text: str, fields: Mapping[str, Any]) -> None:
        if level == "stderr":
            dropped = self._lines.spend(time.monotonic())
            if dropped is None:
                return
            if dropped:
                self._events.emit(
                    "log", service=self.name, replica=port.replica, level="warning", text=f"{dropped} lines left out"
                )
        self._events.emit(
            "log", service=self.name, replica=port.replica, level=level, text=text, fields=dict(fields) or None
        )

    def on_room(self, port: Port) -> None:
        self.dispatcher.pump()

    # -- replicas that come and go

    def spawn(self, owner: PortOwner, number: int) -> Port:
        """Starts a process for this replica. Raises `SpawnFailed`."""
        config = self.config
        self.tell(number, "starting")
        port = self._port_kind()(
            owner,
            self.name,
            number,
            command=resolve(config.command, config.python, self._directory),
            cwd=self._directory / config.cwd,
            env=self._environment(),
            config=dict(config.config),
            transport=config.transport,
            max_frame=config.max_frame,
            start_timeout=config.start_timeout,
            restarts=self._restarts.get(number, 0),
            template=self._template,
            segments=self._segments,
        )
        if not port.in_process:
            self._guard.add(port.pid)
        if config.memory_limit is not None:
            self._limit_memory(port, config.memory_limit)
        return port

    def _port_kind(self) -> Callable[..., Port]:
        # What only some services need is not loaded for the others.
        if self.config.record is not None:
            from mlports.runtime.recording import RecordedPort

            return partial(RecordedPort, self.config.record)
        if self.config.transport != "inline":
            return Port
        from mlports.runtime.inline import InlinePort

        return InlinePort

    def preload(self, templates: Templates) -> None:
        """Has its workers started from a template, if there is anything that it is to import for them."""
        config = self.config
        if config.preload:
            command, cwd = resolve(config.command, config.python, self._directory), self._directory / config.cwd
            self._template = templates.of(
                self.name, command, cwd, self._environment(), config.preload, config.start_timeout
            )

    def _limit_memory(self, port: Port, limit: int) -> None:
        """Where the system has it, a limit that holds at any moment, above the one that is looked after."""
        name = f"mlports-{os.getpid()}-{self.name}-{port.replica}-{port.pid}"
        group = MemoryGroup.create(name, int(limit * FAR_OVER))
        if group is not None:
            group.add(port.pid)
            self._groups[port] = group

    def count_start(self, number: int) -> None:
        """A life of this replica begins: its first, or a restart."""
        self._restarts[number] = self._restarts.get(number, -1) + 1
        if self._down is not None and not self._closing:
            self._down = None
            self.dispatcher.reopen()

    def take_in(self, replica: Replica, port: Port) -> None:
        """A replica is up: it is used if there are too few, and stands by if there are enough."""
        if self._closing:
            return
        if len(self.dispatcher.ready) < self._wanted:
            self.dispatcher.add(port, self._wanted)
        else:
            self._standby.append(replica)

    @property
    def _wanted(self) -> int:
        """How many are to be in use; a simple_one_for_one may have more of them than at first."""
        return max(self.config.replicas, len(self.replicas) - self.config.standby)

    def _replace_used(self) -> None:
        """One that was in use is not any more: one that stands by takes its place."""
        self.promoted = False
        while self._standby and len(self.dispatcher.ready) < self._wanted and not self._closing:
            replica = self._standby.pop(0)
            if replica.port is not None and replica.port.state == "ready":
                self.tell(replica.number, "promoted", "it stood by, and takes the place of one that is gone")
                self.promoted = True
                replica.watch_requests(self.dispatcher.add(replica.port, self._wanted))

    def replace(self, replica: Replica, old: Port, new: Port, stop_old: Callable[[], None]) -> None:
        """A recycled replica's new process takes the old one's place; `stop_old` when that has nothing left to do."""
        lane = self.dispatcher.lanes.get(old)
        if lane is None:
            stop_old()
        elif lane.retired:  # it is drained because it is too large, and one that stood by may have its place
            self.take_in(replica, new)
            lane.retire(stop_old)
        elif self._closing:
            self.dispatcher.retire(old, stop_old)
        else:
            self.dispatcher.replace(old, new, stop_old)

    def drain(self, replica: Replica, port: Port, then: Callable[[], None]) -> None:
        """Gives a worker nothing more to do; `then` when it has nothing left."""
        if replica in self._standby:
            self._standby.remove(replica)
        lane = self.dispatcher.lanes.get(port)
        if lane is None:
            then()
        elif not lane.retired:
            self.dispatcher.retire(port, then)
            self._replace_used()

    def on_dead(
        self, replica: Replica, port: Port, verdict: Verdict, unanswered: Sequence[Any]
    ) -> tuple[Verdict, bool]:
        """A process is gone: what it was at is sent again, or fails.

        Gives the verdict, with all that is known of it, and whether the worker was put at risk knowingly: it had been
        given calls that may have killed another.
        """
        if not port.in_process:
            self._guard.remove(port.pid)
        self.leaving.discard(port)
        if self._all_left is not None and not self.leaving and not self._all_left.done():
            self._all_left.set_result(None)
        group = self._groups.pop(port, None)
        if group is not None:
            if group.oom_kills() and verdict.cause in ("signal", "out_of_memory"):
                told = f"was killed by the kernel when it had grown over {FAR_OVER:g} times its memory_limit"
                verdict = dataclasses.replace(verdict, cause="memory_limit", detail=told)
            group.kill()
            group.remove()
        if self._recordings is not None:
            verdict = self._recordings.of(port, verdict)
        if replica in self._standby and port is replica.port:
            self._standby.remove(replica)
        self._events.emit(
            "stopped" if verdict.cause == "stopped" else "died",
            service=self.name,
            replica=port.replica,
            pid=port.pid,
            verdict=verdict.as_dict(),
            text=str(verdict),
        )
        self.calls_of_workers.cancel_of(port)
        was_at_risk = self.dispatcher.remove(port, verdict, unanswered)
        self._replace_used()
        return verdict, was_at_risk and verdict.cause != "stopped"

    def wants_recycling(self, replica: Replica) -> None:
        """This replica's process is to be replaced, as soon as no other is being replaced."""
        if replica not in self._worn and replica is not self._recycling:
            self._worn.append(replica)
            self._recycle_next()

    def on_recycled(self, replica: Replica) -> None:
        """This replica's process was replaced, or could not be."""
        if replica is self._recycling:
            self._recycling = None
            self._recycle_next()

    def _recycle_next(self) -> None:
        while self._recycling is None and self._worn and not self._closing:
            replica = self._worn.popleft()
            if replica.recycle():
                self._recycling = replica

    def on_gone(self, replica: Replica) -> None:
        """A life has ended."""
        if self.replicas.get(replica.number) is replica:
            del self.replicas[replica.number]
        if replica in self._worn:
            self._worn.remove(replica)
        self.on_recycled(replica)

    # -- what is told of it

    def tell(self, number: int, event: str, text: str | None = None) -> None:
        """An event of this replica's."""
        self._events.emit(event, service=self.name, replica=number, text=text)

    def tell_ready(self, number: int, port: Port) -> None:
        """A process is up."""
        self._events.emit(
            "ready",
            service=self.name,
            replica=number,
            pid=port.pid,
            seconds=round(port.uptime, 4),
            bare=port.peer.bare or None,
        )

    def tell_unspawned(self, number: int, error: SpawnFailed) -> None:
        """A process could not be started at all."""
        restarts = self._restarts.get(number, 0)
        verdict = Verdict(self.name, number, None, "spawn", str(error), restarts=restarts, time=time.time())
        self._events.emit("died", service=self.name, replica=number, verdict=verdict.as_dict(), text=str(error))

    def _environment(self) -> Mapping[bytes, bytes]:
        # Once for all replicas, and as the system takes it: a thousand of them are started in a row.
        if self._env is None:
            variables = self._variables()
            self._env = {os.fsencode(name): os.fsencode(value) for name, value in variables.items()}
        return self._env

    def _variables(self) -> dict[str, str]:
        own = {"MLPORTS_WORKER": "1", "MLPORTS_TRANSPORT": "fd34" if self.config.transport == "fd34" else ""}
        shared = {}
        if self.config.replicas > 1:
            # Every replica would start a thread for every processor, and they would be in each other's way.
            threads = str(max(1, (os.cpu_count() or 1) // self.config.replicas))
            shared = dict.fromkeys(THREAD_VARIABLES, threads)
        return {**shared, **os.environ, **self.config.env, **own, **self._guard.environment}

    def give_up(self, reason: str) -> None:
        """There will be no more replicas: everything that waits fails, and every call from now on."""
        if self._down is None and not self._closing:
            self._down = reason
            self._events.emit("gave_up", service=self.name, text=reason)
            self.dispatcher.close(reason)

    def close(self) -> None:
        """Takes no more calls, for good; those that wait fail, those that a worker is at may finish."""
        self._closing = True
        self.dispatcher.close(self._down or "it is being stopped")
        for port in list(self.leaving):
            self.stop_replaced(port, "it is being stopped")

    def stop_replaced(self, port: Port, why: str) -> None:
        """Stops a process that is no child any more: no supervisor sees to it that it heeds that."""
        shutdown = self.config.shutdown
        if shutdown == "brutal_kill":
            port.kill(why)
        else:
            port.ask(why, None if shutdown == "infinity" else shutdown)

    async def left(self) -> None:
        """Returns when those are gone too that were replaced. Cancelled, it kills them first."""
        if not self.leaving:
            return
        self._all_left = asyncio.get_running_loop().create_future()
        try:
            await asyncio.shield(self._all_left)
        except asyncio.CancelledError:
            self.kill_leaving()
            await self._all_left
            raise

    def kill_leaving(self) -> None:
        """Kills those that were replaced."""
        for port in self.leaving:
            port.kill("it was killed")

    def end(self) -> None:
        """The last replica is gone."""
        self.dispatcher.end()

    # -- what people ask for

    @property
    def state(self) -> str:
        """'up' with a ready replica, 'starting' before one, 'down' after the supervisor gave up."""
        if self._down is not None:
            return "down"
        if self.dispatcher.closed is not None:
            return "stopping"
        return "up" if self.dispatcher.ready else "starting"

    @property
    def is_short(self) -> bool:
        """Whether fewer replicas are in use than are to be, and more will come."""
        return self._down is None and len(self.dispatcher.ready) < self._wanted

    def status(self) -> dict[str, Any]:
        """The service's figures, as plain values."""
        numbers = sorted({*range(self.config.replicas + self.config.standby), *self.replicas})
        calls = self.dispatcher
        return {
            "state": self.state,
            "reason": self._down,
            "waiting": calls.waiting,
            "answered": calls.answered,
            "failed": calls.failed,
            "retried": calls.retried,
            "methods": sorted(calls.methods) if calls.methods is not None else None,
            **calls.status(),
            "replicas": [self._status_of(number) for number in numbers],
        }

    def _status_of(self, number: int) -> dict[str, Any]:
        replica = self.replicas.get(number)
        port = replica.port if replica is not None else None
        lane = self.dispatcher.lanes.get(port) if port is not None else None
        return {
            "replica": number,
            "state": self._state_of(replica),
            "pid": port.pid if port is not None else None,
            "uptime": round(port.uptime, 3) if port is not None else None,
            "restarts": max(0, self._restarts.get(number, 0)),
            "in_flight": lane.window.in_flight if lane is not None else 0,
            "answered": lane.answered if lane is not None else 0,
            "silent": round(time.monotonic() - port.heard, 3) if port is not None else None,
        }

    def _state_of(self, replica: Replica | None) -> str:
        if replica is None:
            return "dead"
        if replica.port is None:
            return "pausing"
        if replica.port.state == "ready":
            if replica in self._standby:
                return "standby"
            lane = self.dispatcher.lanes.get(replica.port)
            return "draining" if lane is not None and lane.retired else "ready"
        return replica.port.state


class _LineBudget:
    """Lets through so many lines a second, and counts the others."""

    def __init__(self) -> None:
        self._second = 0
        self._spent = 0
        self._dropped = 0

    def spend(self, now: float) -> int | None:
        """None for a line that is too many, else how many were left out since the last that was not."""
        if int(now) != self._second:
            self._second = int(now)
            self._spent = 0
        self._spent += 1
        if self._spent > _LINES_A_SECOND:
            self._dropped += 1
            return None
        dropped, self._dropped = self._dropped, 0
        return dropped
