"""One life of a service's replica: from its start, perhaps after a pause, to the end of its process.

    waiting ──▶ starting ──hello──▶ warming up ──▶ up ──▶ gone

While it is up it may be recycled: a second process is started beside the first, takes its place when it is up, and the
first is stopped when it has answered all that it was asked. For the supervisor that is no end and no start.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlports.core.recycling import RecyclingLimits, brought_forward, due
from mlports.core.supervision import Reason
from mlports.core.supervision.specs import Shutdown
from mlports.core.verdict import Verdict
from mlports.runtime.health import Health
from mlports.runtime.life import Ending, LifeOwner
from mlports.runtime.port import Port
from mlports.runtime.process import SpawnFailed
from mlports_protocol import Answered, LocalProtocolError

if TYPE_CHECKING:
    from mlports.runtime.lane import Lane
    from mlports.runtime.service import Service

_FIRST_ANSWERS = 0.01  # seconds that one which stood by has to itself, before its successor is started
_TRY_AGAIN = 5.0  # seconds after which a worker is replaced again whose successor did not come up


class Replica:
    """One life of replica `number`; `pause` is the time to wait before its start, in seconds."""

    def __init__(self, service: Service, number: int, owner: LifeOwner, pause: float) -> None:
        self.service = service
        self.number = number
        self.port: Port | None = None  # its process; while it is recycled, the one that is in use
        self.successor: Port | None = None
        self.key = f"{service.name}/{number}"
        self.label: Mapping[str, Any] = {"service": service.name, "replica": number}
        self.pausing = False
        self._owner = owner
        self._pause = pause
        self._ports: set[Port] = set()  # all that are alive
        self._asked: str | None = None
        self._ending: Ending | None = None  # its own, as soon as it is known
        self._is_gone = False
        self._why_replaced = ""
        self._limits = RecyclingLimits(service.config.max_requests, service.config.max_age)
        self._share = random.random()
        self._health: dict[Port, Health] = {}
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None  # of the pause, or of its age
        # What comes from the worker and is about calls goes straight to where calls are.
        calls = service.dispatcher
        self.on_answered = calls.on_answered
        self.on_item = calls.on_item
        self.on_input_credit = calls.on_input_credit
        self.on_room = service.on_room
        self.on_request = service.calls_of_workers.make
        self.on_progress = service.on_progress
        self.on_log = service.on_log

    @property
    def pid(self) -> int | None:
        return self.port.pid if self.port is not None else None

    # -- what its supervisor asks for

    def start(self) -> None:
        self.service.count_start(self.number)
        # To start a process takes some milliseconds, in which nobody is answered: not while there is one to answer.
        pause = self._pause or (_FIRST_ANSWERS if self.service.promoted else 0.0)
        self.service.promoted = False
        if pause:
            self.pausing = True
            self._timer = self._loop.call_later(pause, self._start_late)
        else:
            try:
                self.port = self._spawn()
            except SpawnFailed as error:
                self.service.tell_unspawned(self.number, error)
                raise
        self.service.replicas[self.number] = self

    def _start_late(self) -> None:
        self.pausing = False
        try:
            self.port = self._spawn()
        except SpawnFailed as error:
            self.service.tell_unspawned(self.number, error)
            self._gone(Ending(("spawn",), str(error), False, 0.0, False))

    def ask(self, why: str, within: Shutdown | None = None) -> None:
        self._asked = self._asked or why
        self._cancel_timer()
        if self.pausing:
            self.pausing = False
            # Later, as every end is told.
            self._loop.call_soon(self._gone, Ending("shutdown", f"was stopped ({why})", False, 0.0, True))
        for port in list(self._ports):
            if within == "brutal_kill":
                port.kill(why)
            else:
                port.ask(why, within / 1000 if isinstance(within, int) else None)

    def kill(self, why: str) -> None:
        self._cancel_timer()
        if self.pausing:
            self.pausing = False
            self._loop.call_soon(self._gone, Ending("killed", f"was stopped ({why})", False, 0.0, True))
        for port in list(self._ports):
            if self._asked is not None:
                port.terminate()
            else:
                port.kill(why)

    # -- what its processes report

    def on_greeted(self, port: Port) -> None:
        self._warm_up(port, 0)

    def on_dead(self, port: Port, verdict: Verdict, unanswered: Sequence[Any]) -> None:
        self._ports.discard(port)
        health = self._health.pop(port, None)
        if health is not None:
            health.close()
        verdict, was_at_risk = self.service.on_dead(self, port, verdict, unanswered)
        if port is self.port and was_at_risk and self._start_again():
            return
        if port is self.port:
            self._cancel_timer()
            self._ending = Ending(
                _reason(verdict), str(verdict), verdict.ready, verdict.uptime, verdict.cause == "stopped"
            )
            # One that was replaced may take long with what it is still at: nobody is to wait for that.
            leaving = {port for port in self._ports if port is not self.successor}
            self._ports -= leaving
            self.service.leaving |= leaving
            if self.successor is not None:
                self.successor.kill("the worker that it was to replace has died")
        elif port is self.successor:
            self.successor = None
            self.service.on_recycled(self)
            if self._ending is None and self._asked is None:
                self._try_again()
        if self._ending is not None and not self._ports and not self._is_gone:
            self._gone(self._ending)

    def _start_again(self) -> bool:
        """After a death that was to be expected: the worker was given calls to see which of them kills.

        It says nothing of the worker, so its supervisor, which counts deaths, hears nothing of it.
        """
        if self._asked is not None or self.successor is not None:
            return False
        self._cancel_timer()
        self.service.count_start(self.number)
        try:
            self.port = self._spawn()
        except SpawnFailed as error:
            self.service.tell_unspawned(self.number, error)
            return False
        return True

    # -- its start

    def _spawn(self) -> Port:
        port = self.service.spawn(self, self.number)
        self._ports.add(port)
        return port

    def _warm_up(self, port: Port, done: int) -> None:
        """Makes the calls that the configuration asks for, one after the other; then it is up."""
        calls = self.service.config.warm_up
        if port.state != "starting":
            return
        if done == len(calls):
            port.come_up()
            self._on_up(port)
            return
        method, params = calls[done].method, list(calls[done].params)

        def answered(answer: Answered) -> None:
            if answer.error is not None:
                code, message = answer.error["code"], answer.error["message"]
                port.fail("warm_up", f"failed its warm-up: {method} answered {code}: {message:.500}")
            else:
                self._warm_up(port, done + 1)

        try:
            port.probe(method, params, answered)
        except LocalProtocolError as error:
            port.fail("warm_up", f"could not be warmed up: the params of {method} cannot be sent: {error}")

    def _on_up(self, port: Port) -> None:
        self.service.tell_ready(self.number, port)
        config = self.service.config
        self._health[port] = Health(port, config.heartbeat, config.memory_limit, self.service.memory, self._drain)
        if port is self.port:
            self.service.take_in(self, port)
            self._watch_wear(port)
            self._owner.on_up(self)
        else:
            self._take_over(port)

    # -- recycling

    def _watch_wear(self, port: Port) -> None:
        self._cancel_timer()  # of the one before
        age = brought_forward(self._limits, self._share).max_age
        if age is not None:
            self._timer = self._loop.call_later(age, self._on_age)
        lane = self.service.dispatcher.lanes.get(port)
        if lane is not None:
            self.watch_requests(lane)

    def watch_requests(self, lane: Lane) -> None:
        """Counts what it answers, if it is to be replaced after so many."""
        limit = brought_forward(self._limits, self._share).max_requests
        if limit is not None:
            lane.worn_at = limit
            lane.on_worn = lambda: self._wear_out(self._worn(lane.answered))

    def _on_age(self) -> None:
        self._timer = None
        self._wear_out(self._worn(0))

    def _worn(self, answered: int) -> str:
        age = self.port.uptime if self.port is not None else 0.0
        return due(self._limits, answered, age, self._share) or "its time has come"

    def _wear_out(self, why: str) -> None:
        self._why_replaced = why
        self.service.wants_recycling(self)

    def recycle(self) -> bool:
        """Starts a second process that is to take this one's place. False if there is nothing to replace."""
        port = self.port
        if port is None or port.state != "ready" or self._asked is not None or self.successor is not None:
            return False
        self.service.tell(self.number, "recycling", self._why_replaced)
        try:
            self.successor = self._spawn()
        except SpawnFailed as error:
            self.service.tell_unspawned(self.number, error)
            self._try_again()
            return False
        return True

    def _try_again(self) -> None:
        self._cancel_timer()
        self._timer = self._loop.call_later(_TRY_AGAIN, self._wear_out, self._why_replaced)

    def _take_over(self, port: Port) -> None:
        old, self.port, self.successor = self.port, port, None
        assert old is not None
        why = f"it was recycled: {self._why_replaced}"

        self.service.replace(self, old, port, lambda: self.service.stop_replaced(old, why))
        self._watch_wear(port)
        self.service.on_recycled(self)

    # -- its end

    def _drain(self, port: Port, detail: str) -> None:
        """It is too large: it may finish what it has."""
        self.service.drain(self, port, lambda: port.fail("memory_limit", detail))

    def _gone(self, ending: Ending) -> None:
        self._is_gone = True
        self.service.on_gone(self)
        self._owner.on_gone(self, ending)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _reason(verdict: Verdict) -> Reason:
    """A death as OTP would tell it."""
    if verdict.cause == "stopped":
        return "killed" if verdict.status == -9 else "shutdown"
    if verdict.cause == "exit" and verdict.status == 0:
        return "normal"
    return (verdict.cause, verdict.name)
