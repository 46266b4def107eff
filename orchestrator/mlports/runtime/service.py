"""A service: the replicas of one command. It starts and stops their processes and hears of all that they do.

supervisor ──start, stop──▶ service ──▶ port ──▶ process
           ◀─started, died──        ◀──
its calls: dispatcher
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlports.core.verdict import Verdict
from mlports.errors import CallError
from mlports.runtime.dispatcher import Dispatcher
from mlports.runtime.port import Port, Shutdown
from mlports.runtime.process import resolve
from mlports.telemetry import EventLog
from mlports_protocol import Answered, Item, LocalProtocolError, Progressed, Request

if TYPE_CHECKING:
    from mlports.config import ServiceConfig

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_LINES_A_SECOND = 1000  # of a worker's stderr that become events

Route = Callable[[str, list[Any], float | None], "asyncio.Future[Any]"]


class Service:
    """n replicas of one command. `on_started` and `on_death` tell the supervisor how its children fare."""

    def __init__(
        self,
        name: str,
        config: ServiceConfig,
        directory: Path,
        events: EventLog,
        route: Route,
        on_started: Callable[[int], None],
        on_death: Callable[[int, Verdict], None],
    ) -> None:
        self.name = name
        self.config = config
        self.dispatcher = Dispatcher(name, config.queue, config.retries, events)
        self.restarts = [-1] * config.replicas  # of each replica; -1 before its first start
        self._directory = directory
        self._events = events
        self._route = route
        self._on_started = on_started
        self._on_death = on_death
        self._ports: dict[int, Port] = {}  # every process there is, by replica
        self._down: str | None = None  # why there will be no more replicas
        self._lines = _LineBudget()

    # -- what ports report

    def on_answered(self, port: Port, answer: Answered, now: float) -> None:
        self.dispatcher.on_answered(port, answer, now)

    def on_item(self, port: Port, item: Item) -> None:
        self.dispatcher.on_item(port, item)

    def on_request(self, port: Port, request: Request) -> None:
        """A worker calls a service: the call is made in its name, and its outcome sent back."""
        deadline: Any = (request.meta or {}).get("deadline_ms")
        timeout = deadline / 1000 if isinstance(deadline, int | float) and deadline is not True else None
        future = self._route(request.method, request.params, timeout)

        def settle(future: asyncio.Future[Any]) -> None:
            if port.state == "dead" or request.id not in port.session.open:
                return
            error: dict[str, Any] | None
            if future.cancelled():
                error = {"code": "cancelled", "message": f"{request.method} was cancelled"}
            else:
                exception = future.exception()
                error = None if exception is None else _as_error(exception)
            try:
                result = future.result() if error is None else None
                buffers = port.session.answer(request.id, error, result)
            except LocalProtocolError as unsendable:
                text = f"the answer of {request.method} cannot be sent on: {unsendable}"
                try:
                    buffers = port.session.answer(request.id, {"code": "internal", "message": text[:1000]})
                except LocalProtocolError:  # it takes no frame of this length, and waits in vain
                    return
            port.send(buffers)
            port.flush()

        future.add_done_callback(settle)

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

    def on_ready(self, port: Port) -> None:
        self._events.emit(
            "ready",
            service=self.name,
            replica=port.replica,
            pid=port.pid,
            seconds=round(port.uptime, 4),
            bare=port.peer.bare or None,
        )
        self._on_started(port.replica)
        self.dispatcher.add(port)

    def on_dead(self, port: Port, verdict: Verdict, unanswered: Sequence[Any]) -> None:
        if self._ports.get(port.replica) is port:
            del self._ports[port.replica]
        self._events.emit(
            "stopped" if verdict.cause == "stopped" else "died",
            service=self.name,
            replica=port.replica,
            pid=port.pid,
            verdict=verdict.as_dict(),
            text=str(verdict),
        )
        self.dispatcher.remove(port, verdict, unanswered)
        self._on_death(port.replica, verdict)

    # -- what the supervisor asks for

    def start_replica(self, number: int) -> None:
        """Starts a process for this replica. Raises `SpawnFailed`."""
        config = self.config
        self.restarts[number] += 1
        self._events.emit("starting", service=self.name, replica=number)
        self._ports[number] = Port(
            self,
            self.name,
            number,
            command=resolve(config.command, config.python, self._directory),
            cwd=self._directory / config.cwd,
            env=self._environment(),
            config=dict(config.config),
            transport=config.transport,
            max_frame=config.max_frame,
            start_timeout=config.start_timeout,
            restarts=self.restarts[number],
        )

    def _environment(self) -> dict[str, str]:
        own = {"MLPORTS_WORKER": "1", "MLPORTS_TRANSPORT": "fd34" if self.config.transport == "fd34" else ""}
        shared = {}
        if self.config.replicas > 1:
            # Every replica would start a thread for every processor, and they would be in each other's way.
            threads = str(max(1, (os.cpu_count() or 1) // self.config.replicas))
            shared = dict.fromkeys(_THREAD_VARIABLES, threads)
        return {**shared, **os.environ, **self.config.env, **own}

    async def stop_replica(self, number: int, shutdown: Shutdown, reason: str) -> None:
        """Stops this replica's process, if there is one; returns when it is gone."""
        port = self._ports.get(number)
        if port is not None:
            await port.stop(shutdown, reason)

    def give_up(self, reason: str) -> None:
        """There will be no more replicas: everything that waits fails, and every call from now on."""
        self._down = reason
        self._events.emit("gave_up", service=self.name, text=reason)
        self.dispatcher.close(reason)

    def close(self) -> None:
        """Takes no more calls; those that wait fail, those that a worker is at may finish."""
        self.dispatcher.close(self._down or "it is being stopped")

    def end(self) -> None:
        """The last replica is gone."""
        self.dispatcher.end()

    def kill_all(self) -> None:
        """SIGKILL to every replica."""
        for port in self._ports.values():
            port.kill()

    # -- what people ask for

    @property
    def state(self) -> str:
        """'up' with a ready replica, 'starting' before one, 'down' after the supervisor gave up."""
        if self._down is not None:
            return "down"
        if self.dispatcher.closed is not None:
            return "stopping"
        return "up" if self.dispatcher.ready else "starting"

    def status(self) -> dict[str, Any]:
        """The service's figures, as plain values."""
        ready = {replica.port: replica for replica in self.dispatcher.ready}
        replicas = []
        for number in range(self.config.replicas):
            port = self._ports.get(number)
            replica = ready.get(port) if port is not None else None
            replicas.append(
                {
                    "replica": number,
                    "state": port.state if port is not None else "dead",
                    "pid": port.pid if port is not None else None,
                    "uptime": round(port.uptime, 3) if port is not None else None,
                    "restarts": max(0, self.restarts[number]),
                    "in_flight": replica.window.in_flight if replica is not None else 0,
                    "answered": replica.answered if replica is not None else 0,
                }
            )
        calls = self.dispatcher
        return {
            "state": self.state,
            "reason": self._down,
            "waiting": calls.waiting,
            "answered": calls.answered,
            "failed": calls.failed,
            "retried": calls.retried,
            "methods": sorted(calls.methods) if calls.methods is not None else None,
            "replicas": replicas,
        }


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


def _as_error(exception: BaseException) -> dict[str, Any]:
    if isinstance(exception, CallError):
        return exception.as_error()
    return {"code": "internal", "message": f"{type(exception).__name__}: {exception}"}
