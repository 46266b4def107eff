"""A service: calls wait in one queue, and go to whichever replica has room.

    call() ──▶ queue ──pump()──▶ a port's request ──answer──▶ settled
                 ▲                      │
                 └──── retried ◀── the worker died

Every call that is accepted is settled exactly once. It leaves the queue when it is sent, when its deadline passes or
when it is cancelled; one that a dying worker leaves unanswered goes back to the head of the queue if it never left
this process or its method is idempotent, and fails with `WorkerCrashed` otherwise.
"""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlports.core.batching import frame_size
from mlports.core.routing import Window, least_in_flight
from mlports.core.verdict import Verdict
from mlports.errors import (
    CallError,
    DeadlineExceeded,
    InvalidArgument,
    Overloaded,
    ProtocolViolation,
    ServiceDown,
    UnknownMethod,
    WorkerCrashed,
    call_error,
)
from mlports.runtime.call import Call, Sent, Special
from mlports.runtime.port import Port, Shutdown
from mlports.runtime.process import resolve
from mlports.telemetry import EventLog
from mlports_protocol import (
    Answered,
    InvalidMessage,
    Item,
    LocalProtocolError,
    MethodInfo,
    OversizedMessage,
    Progressed,
    Request,
)
from mlports_protocol.messages import parse_error

if TYPE_CHECKING:
    from mlports.config import ServiceConfig

_NEVER = float("inf")
_LONGEST = 1e9  # seconds: a longer timeout is none, and fits no integer of the protocol's
_EXPIRY_STEP = 0.005  # seconds between two looks for calls whose time is up
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_LINES_A_SECOND = 1000  # of a worker's stderr that become events

Route = Callable[[str, list[Any], float | None], "asyncio.Future[Any]"]


class Replica:
    """A ready port, and how much it holds."""

    __slots__ = ("answered", "port", "window")

    def __init__(self, port: Port, concurrency: int) -> None:
        self.port = port
        self.window = Window(concurrency + 1)
        self.answered = 0


class Service:
    """n replicas of one command behind one queue. `on_started` and `on_death` tell the supervisor of its children."""

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
        self.answered = 0
        self.failed = 0
        self.retried = 0
        self.restarts = [-1] * config.replicas  # of each replica; -1 before its first start
        self.methods: dict[str, MethodInfo] | None = None
        self._directory = directory
        self._events = events
        self._route = route
        self._on_started = on_started
        self._on_death = on_death
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Call] = deque()
        self._ports: dict[int, Port] = {}  # every process there is, by replica
        self._ready: list[Replica] = []
        self._down: str | None = None  # why there will be no more replicas
        self._closing = False
        self._accepting = True  # neither down nor closing
        self._pumping = False
        self._pump_scheduled = False
        self._next_expiry = _NEVER
        self._expiry: asyncio.TimerHandle | None = None
        self._lines = _LineBudget()
        self._ready_waiters: list[asyncio.Future[None]] = []

    # -- calling

    def call(self, method: str, params: list[Any], timeout: float | None, special: Special | None = None) -> Call:
        """Accepts a call, or refuses it: what is returned is then settled already."""
        call = Call(loop=self._loop)
        call.service = self
        call.method = method
        call.params = params
        call.special = special
        call.request = None
        call.attempts = 0
        call.deadline = deadline = _NEVER if timeout is None or timeout > _LONGEST else time.monotonic() + timeout
        waiting = self._waiting
        if (
            not self._accepting
            or (self.methods is not None and method not in self.methods)
            or len(waiting) >= self.config.queue
            or (timeout is not None and not timeout > 0)  # NaN too
        ):
            refusal = self._refusal(call, timeout)
            if refusal is not None:
                self.failed += 1
                call.fail(refusal)
                return call
        waiting.append(call)
        if deadline < self._next_expiry:
            self._expect_expiry(deadline)
        if not self._pump_scheduled:
            # The first call of a burst leaves at once; those that follow in the same turn of the loop leave together.
            self._pump_scheduled = True
            self._loop.call_soon(self._pump_later)
            if len(waiting) == 1 and not any(replica.window.in_flight for replica in self._ready):
                self.pump()
        return call

    def _refusal(self, call: Call, timeout: float | None) -> CallError | None:
        if not self._accepting:
            why = self._down or "it is being stopped"
            return ServiceDown(f"service {self.name} is down: {why}", service=self.name, method=call.method)
        if timeout is not None and not timeout > 0:
            return self._too_late(call, f"its timeout was {timeout:g} s when it was made")
        if self.methods is not None and call.method not in self.methods:
            return self._unknown_method(call)
        self.pump()  # calls of this turn of the loop may be waiting only for the turn's end
        waiting, most = len(self._waiting), self.config.queue
        if waiting < most or (waiting == most == 0 and self._has_room()):
            return None
        text = (
            f"service {self.name} is overloaded: {waiting} calls wait in its queue, which is full. "
            "Try again later, call more slowly, or raise replicas or queue"
        )
        return Overloaded(text, service=self.name, method=call.method, retryable=True)

    def _unknown_method(self, call: Call) -> UnknownMethod:
        known = ", ".join(sorted(self.methods or ())) or "none"
        text = f"service {self.name} has no method {call.method!r}; it has: {known}"
        return UnknownMethod(text, service=self.name, method=call.method)

    def _has_room(self) -> bool:
        now = time.monotonic()
        return any(replica.window.room(now) > 0 and not replica.port.congested for replica in self._ready)

    async def takes_batches(self) -> bool:
        """Whether the workers take several calls in one request; waits until one is ready to say so."""
        while not self._ready and self._accepting:
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._ready_waiters.append(waiter)
            await waiter
        return bool(self._ready) and "batch" in self._ready[0].port.session.features

    def _wake_ready_waiters(self) -> None:
        waiters, self._ready_waiters = self._ready_waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def on_cancelled(self, call: Call) -> None:
        """The caller gave a call up."""
        if call.request is not None:
            self._cancel_sent(call.request)
        # One that waits is skipped when its turn comes.

    # -- from the queue to a port

    def _pump_later(self) -> None:
        self._pump_scheduled = False
        self.pump()

    def pump(self) -> None:
        """Sends what waits, as far as there is room."""
        if self._pumping or not self._waiting or not self._ready:
            return
        self._pumping = True
        touched: list[Port] = []
        # What encoding allocates is garbage when it is done: the collector would look through everything in vain.
        collecting = gc.isenabled()
        gc.disable()
        try:
            now = time.monotonic()
            while self._waiting:
                if self._waiting[0].done():
                    self._waiting.popleft()
                    continue
                open_replicas = [(i, r.window) for i, r in enumerate(self._ready) if not r.port.congested]
                index = least_in_flight(open_replicas, now, self._waiting[0].weight)
                if index is None:
                    break
                replica = self._ready[index]
                if self._send_some(replica, len(open_replicas), now) and replica.port not in touched:
                    touched.append(replica.port)
        finally:
            if collecting:
                gc.enable()
            self._pumping = False
            for port in touched:
                port.flush()
            if len(touched) == 1 and len(touched[0].session.asked) == 1:
                touched[0].await_answer_awake()

    def _send_some(self, replica: Replica, replicas: int, now: float) -> bool:
        """Takes the first calls that fit into one request, and queues it at the port. False when none could be sent."""
        waiting, window, port = self._waiting, replica.window, replica.port
        first = waiting.popleft()
        calls = [first]
        earliest = latest = first.deadline
        if first.special is None and waiting and self._may_pack(port, first.method):
            most = frame_size(len(waiting) + 1, window.room(now), replicas, window.pace)
            while len(calls) < most and waiting:
                call = waiting[0]
                if call.special is not None or call.method != first.method:
                    break
                waiting.popleft()
                if not call.done():
                    calls.append(call)
                    if call.deadline < earliest:
                        earliest = call.deadline
                    elif call.deadline > latest:
                        latest = call.deadline
        if earliest <= now:
            for call in calls:
                if call.deadline <= now:
                    self._expire(call, now)
            calls = [call for call in calls if not call.done()]
            if not calls:
                return False
        if first.special is not None and first.special.cast:
            return self._send_cast(port, first)
        return self._send(replica, Sent(calls, len(calls) > 1, now), latest)

    def _may_pack(self, port: Port, method: str) -> bool:
        """Whether calls that wait together may travel together.

        Those of a batch method share a fate in the worker, so there it is for the user to say.
        """
        if "batch" not in port.session.features:
            return False
        info = self.methods.get(method) if self.methods is not None else None
        return info is None or not info.batch

    def _send(self, replica: Replica, sent: Sent, latest: float) -> bool:
        port, calls = replica.port, sent.calls
        first = calls[0]
        meta: dict[str, Any] = {}
        if latest != _NEVER:
            meta["deadline_ms"] = max(1, int((latest - sent.at) * 1000))
        if sent.packed:
            params: list[Any] = [call.params for call in calls]
            meta["batch"] = len(params)
        else:
            params = first.params
            if first.special is not None:
                if first.special.items is not None:
                    params = [[item] for item in params]
                    meta["batch"] = len(params)
                if first.special.stream is not None:
                    meta["credit"] = first.special.stream.credit
        try:
            buffers = port.session.request(first.method, params, meta, sent)
        except LocalProtocolError as error:
            return self._refuse_unsendable(replica, sent, error)
        sent.number = port.session.last_id
        sent.place = port.send(buffers)
        replica.window.sent(sent.weight, sent.at)
        for call in calls:
            call.request = sent
            call.attempts += 1
        if first.special is not None and first.special.stream is not None:
            first.special.stream.give_credit = lambda count: self._give_credit(port, sent, count)
        return True

    def _refuse_unsendable(self, replica: Replica, sent: Sent, error: LocalProtocolError) -> bool:
        """Fails the call that cannot be encoded; of several, each is tried by itself. Whether any was sent."""
        if sent.packed:
            sent_some = False
            for call in sent.calls:
                sent_some |= self._send(replica, Sent([call], False, sent.at), call.deadline)
            return sent_some
        call = sent.calls[0]
        self.failed += 1
        text = f"the arguments of {self.name}.{call.method} cannot be sent: {error}"
        call.fail(InvalidArgument(text, service=self.name, method=call.method, replica=replica.port.replica))
        return False

    def _send_cast(self, port: Port, call: Call) -> bool:
        try:
            port.send(port.session.notify(call.method, call.params))
        except LocalProtocolError as error:
            text = f"the arguments of {self.name}.{call.method} cannot be sent: {error}"
            call.fail(InvalidArgument(text, service=self.name, method=call.method, replica=port.replica))
            return False
        call.set_result(None)
        return True

    def _give_credit(self, port: Port, sent: Sent, count: int) -> None:
        if port.state in ("ready", "stopping"):
            port.send(port.session.give_credit(sent.number, count))
            port.flush()

    def _cancel_sent(self, sent: Sent) -> None:
        if all(call.done() for call in sent.calls):
            for replica in self._ready:
                port = replica.port
                if port.session.asked.get(sent.number) is sent:
                    with suppress(OversizedMessage):  # one that takes no frame of this length works in vain
                        port.send(port.session.cancel(sent.number))
                        port.flush()

    # -- deadlines

    def _expect_expiry(self, when: float) -> None:
        self._next_expiry = when
        if self._expiry is not None:
            self._expiry.cancel()
        self._expiry = self._loop.call_later(max(_EXPIRY_STEP, when - time.monotonic()), self._expire_due)

    def _expire_due(self) -> None:
        self._expiry = None
        now = time.monotonic()
        following = _NEVER
        sent_ones = [sent for port in self._ports.values() for sent in port.session.asked.values() if sent is not None]
        for call in [*self._waiting, *(call for sent in sent_ones for call in sent.calls)]:
            if call.done():
                continue
            if call.deadline <= now:
                self._expire(call, now)
                if call.request is not None:
                    self._cancel_sent(call.request)
            elif call.deadline < following:
                following = call.deadline
        while self._waiting and self._waiting[0].done():
            self._waiting.popleft()
        self._next_expiry = _NEVER
        if following != _NEVER:
            self._expect_expiry(following)

    def _expire(self, call: Call, now: float) -> None:
        self.failed += 1
        if call.request is None:
            reason = "it was still waiting for a replica" if self._ready else "no replica was ready"
        else:
            reason = f"a worker had been at it for {now - call.request.at:.3g} s"
        call.fail(self._too_late(call, reason))

    def _too_late(self, call: Call, reason: str) -> DeadlineExceeded:
        return DeadlineExceeded(
            f"{self.name}.{call.method} was not answered within its timeout: {reason}",
            service=self.name,
            method=call.method,
        )

    # -- what ports report

    def on_answered(self, port: Port, answer: Answered, now: float) -> None:
        sent: Sent = answer.tag
        replica = self._replica_of(port)
        replica.window.answered(sent.weight, now)
        replica.answered += sent.weight
        self.answered += sent.weight
        if answer.error is not None:
            for call in sent.calls:
                self._settle_failed(call, answer.error, port)
        elif sent.packed:
            for call, (error, result) in zip(sent.calls, _outcomes(answer.result, len(sent.calls)), strict=True):
                if error is not None:
                    self._settle_failed(call, error, port)
                elif not call.done():
                    call.set_result(result)
        elif not sent.calls[0].done():
            call, special = sent.calls[0], sent.calls[0].special
            result = answer.result
            if special is not None:
                if special.stream is not None:
                    special.stream.end()
                if special.items is not None:
                    result = _take_apart(_outcomes(result, special.items))
            call.set_result(result)

    def _settle_failed(self, call: Call, error: dict[str, Any], port: Port) -> None:
        if not call.done():
            self.failed += 1
            call.fail(call_error(error, service=self.name, method=call.method, replica=port.replica))

    def on_item(self, port: Port, item: Item) -> None:
        call = item.tag.calls[0]
        if not call.done() and call.stream is not None:
            call.stream.add(item.value)

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
        sent = port.session.asked.get(progress.id)
        for call in sent.calls if sent is not None else ():
            if call.special is not None and call.special.progress is not None and not call.done():
                call.special.progress(progress.done, progress.total, progress.text)
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
        self.pump()

    def on_ready(self, port: Port) -> None:
        self.methods = port.methods
        self._ready.append(Replica(port, port.peer.concurrency))
        self._events.emit(
            "ready",
            service=self.name,
            replica=port.replica,
            pid=port.pid,
            seconds=round(port.uptime, 4),
            bare=port.peer.bare or None,
        )
        self._refuse_unknown_methods()
        self._wake_ready_waiters()
        self._on_started(port.replica)
        self.pump()

    def on_dead(self, port: Port, verdict: Verdict, unanswered: Sequence[Any]) -> None:
        self._ready = [replica for replica in self._ready if replica.port is not port]
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
        again: list[Call] = []
        for sent in unanswered:
            never_left = sent.place >= port.written
            for call in sent.calls:
                if not call.done():
                    if never_left or self._may_retry(call):
                        again.append(call)
                    else:
                        self._fail_crashed(call, verdict)
        if again:
            self.retried += len(again)
            self._events.emit("retried", service=self.name, replica=port.replica, calls=len(again))
            for call in reversed(again):
                call.request = None
                self._waiting.appendleft(call)
        self._on_death(port.replica, verdict)
        if not self._accepting:
            self._fail_waiting()
        self.pump()

    def _may_retry(self, call: Call) -> bool:
        if call.stream is not None or call.attempts > self.config.retries:
            return False
        info = self.methods.get(call.method) if self.methods is not None else None
        return info is not None and info.idempotent

    def _fail_crashed(self, call: Call, verdict: Verdict) -> None:
        self.failed += 1
        tried = f" (attempt {call.attempts})" if call.attempts > 1 else ""
        kind = ProtocolViolation if verdict.cause == "protocol" else WorkerCrashed
        call.fail(
            kind(
                f"{self.name}.{call.method} got no answer{tried}: {verdict}",
                verdict=verdict,
                service=self.name,
                method=call.method,
                replica=verdict.replica,
                retryable=True,
            )
        )

    def _refuse_unknown_methods(self) -> None:
        """Calls that were accepted before any worker could say what it has."""
        if self.methods is None:
            return
        for call in self._waiting:
            if call.method not in self.methods and not call.done():
                self.failed += 1
                call.fail(self._unknown_method(call))

    def _replica_of(self, port: Port) -> Replica:
        for replica in self._ready:
            if replica.port is port:
                return replica
        return Replica(port, 1)

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
        own = {"MLPORTS_WORKER": "1"}
        if self.config.transport == "fd34":
            own["MLPORTS_TRANSPORT"] = "fd34"
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
        self._accepting = False
        self._events.emit("gave_up", service=self.name, text=reason)
        self._fail_waiting()

    def close(self) -> None:
        """Takes no more calls; those that wait fail, those that a worker is at may finish."""
        self._closing = True
        self._accepting = False
        self._fail_waiting()

    def end(self) -> None:
        """The last replica is gone."""
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None

    def kill_all(self) -> None:
        """SIGKILL to every replica."""
        for port in self._ports.values():
            port.kill()

    def _fail_waiting(self) -> None:
        self._wake_ready_waiters()
        waiting, self._waiting = self._waiting, deque()
        for call in waiting:
            if not call.done():
                self.failed += 1
                why = self._down or "it is being stopped"
                text = f"{self.name}.{call.method} was not sent: service {self.name} is down: {why}"
                call.fail(ServiceDown(text, service=self.name, method=call.method))

    # -- what people ask for

    @property
    def state(self) -> str:
        """ "up" with a ready replica, "starting" before one, "down" after the supervisor gave up."""
        if self._down is not None:
            return "down"
        if self._closing:
            return "stopping"
        return "up" if self._ready else "starting"

    def status(self) -> dict[str, Any]:
        """The service's figures, as plain values."""
        ready = {replica.port: replica for replica in self._ready}
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
        methods = sorted(self.methods) if self.methods is not None else None
        return {
            "state": self.state,
            "reason": self._down,
            "waiting": sum(not call.done() for call in self._waiting),
            "answered": self.answered,
            "failed": self.failed,
            "retried": self.retried,
            "methods": methods,
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


def _outcomes(result: Any, count: int) -> list[list[Any]]:
    """The `count` pairs [error, result] in the answer to a batch; where there are none such, errors that say so."""
    if type(result) is not list or len(result) != count:
        text = f"the worker answered a batch of {count} with {_counted(result)}, not with as many pairs [error, result]"
        return [[{"code": "internal", "message": text}, None]] * count
    for index, pair in enumerate(result):
        if type(pair) is list and len(pair) == 2:
            if pair[0] is None:
                continue
            try:
                pair[0] = parse_error(pair[0])
                continue
            except InvalidMessage as error:
                text = f"the worker's error for an item of a batch is none: {error}"
        else:
            text = f"the worker's outcome for an item of a batch is no pair [error, result]: {pair!r:.80}"
        result[index] = [{"code": "internal", "message": text}, None]
    return result


def _take_apart(pairs: list[list[Any]]) -> tuple[list[Any], dict[int, dict[str, Any]]]:
    """The results of a batch, and the errors in it by their place."""
    errors = {index: error for index, (error, _) in enumerate(pairs) if error is not None}
    return [result for _, result in pairs], errors


def _counted(value: Any) -> str:
    return f"{len(value)} outcomes" if type(value) is list else f"{value!r:.80}"


def _as_error(exception: BaseException) -> dict[str, Any]:
    if isinstance(exception, CallError):
        return exception.as_error()
    return {"code": "internal", "message": f"{type(exception).__name__}: {exception}"}
