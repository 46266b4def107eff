"""The dispatcher: from the queue of calls to whichever replica has room, and from its answer back to the caller.

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
import time
from collections import deque
from collections.abc import Callable, Container, Sequence
from contextlib import suppress
from typing import Any

from mlports.core.batching import frame_size
from mlports.core.routing import least_in_flight
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
from mlports.runtime.lane import Lane
from mlports.runtime.outcomes import outcomes, take_apart
from mlports.runtime.overdue import Overdue
from mlports.runtime.port import Port
from mlports.telemetry import EventLog
from mlports_protocol import (
    Answered,
    Item,
    LocalProtocolError,
    MethodInfo,
    OversizedMessage,
    Progressed,
)

_NEVER = float("inf")
_LONGEST = 1e9  # seconds: a longer timeout is none, and fits no integer of the protocol's
_SAME_DEADLINE = 0.1  # seconds by which the deadlines of calls that travel together may differ
_EXPIRY_STEP = 0.005  # seconds between two looks for calls whose time is up


class Dispatcher:
    """One service's calls: those that wait, in order, and those that its replicas are at.

    At most `queue` calls wait; one whose worker died is tried at most `retries` times again; a worker has `grace`
    seconds to answer what nobody wants any more.
    """

    def __init__(self, service: str, queue: int, retries: int, grace: float | None, events: EventLog) -> None:
        self.service = service
        self.methods: dict[str, MethodInfo] | None = None  # None until a worker has said which it has, or said nothing
        self.ready: list[Lane] = []  # those that get requests
        self.lanes: dict[Port, Lane] = {}  # and those besides that still have some
        self.closed: str | None = None  # why no more calls are accepted
        self._known: Container[str] | None = None  # the methods that may be called now; None: any
        self.answered = 0
        self.failed = 0
        self.retried = 0
        self._queue = queue
        self._retries = retries
        self._overdue = Overdue(grace)
        self._events = events
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Call] = deque()
        self._gaps = False  # among them are some that were given up since
        self._pumping = False
        self._pump_scheduled = False
        self._next_expiry = _NEVER
        self._expiry: asyncio.TimerHandle | None = None
        self._ready_waiters: list[asyncio.Future[None]] = []

    @property
    def waiting(self) -> int:
        """How many calls wait for a replica."""
        return sum(not call.done() for call in self._waiting)

    # -- calling

    def call(self, method: str, params: Sequence[Any], timeout: float | None, special: Special | None = None) -> Call:
        """Accepts a call, or refuses it: what is returned is then settled already."""
        call = Call(loop=self._loop)
        call.dispatcher = self
        call.method = method
        call.params = params
        call.special = special
        call.request = None
        call.attempts = 0
        call.deadline = deadline = _NEVER if timeout is None or timeout > _LONGEST else time.monotonic() + timeout
        waiting = self._waiting
        if (
            (self._known is not None and method not in self._known)
            or len(waiting) >= self._queue
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
            if len(waiting) == 1 and not any(lane.window.in_flight for lane in self.ready):
                self.pump()
            if waiting:
                self._pump_scheduled = True
                self._loop.call_soon(self._pump_later)
        return call

    def _refusal(self, call: Call, timeout: float | None) -> CallError | None:
        if self.closed is not None:
            why = self.closed
            return ServiceDown(f"service {self.service} is down: {why}", service=self.service, method=call.method)
        if timeout is not None and not timeout > 0:
            return self._too_late(call, f"its timeout was {timeout:g} s when it was made")
        if self.methods is not None and call.method not in self.methods:
            return self._unknown_method(call)
        self.pump()  # calls of this turn of the loop may be waiting only for the turn's end
        if self._gaps:
            self._gaps = False
            live = [call for call in self._waiting if not call.done()]
            self._waiting.clear()
            self._waiting += live
        waiting, most = len(self._waiting), self._queue
        if waiting < most or (waiting == most == 0 and self._has_room()):
            return None
        text = (
            f"service {self.service} is overloaded: {waiting} calls wait in its queue, which is full. "
            "Try again later, call more slowly, or raise replicas or queue"
        )
        return Overloaded(text, service=self.service, method=call.method, retryable=True)

    def _unknown_method(self, call: Call) -> UnknownMethod:
        known = ", ".join(sorted(self.methods or ())) or "none"
        text = f"service {self.service} has no method {call.method!r}; it has: {known}"
        return UnknownMethod(text, service=self.service, method=call.method)

    def _has_room(self) -> bool:
        now = time.monotonic()
        return any(lane.window.room(now) > 0 and lane.port.takes_requests for lane in self.ready)

    async def takes_batches(self) -> bool:
        """Whether the workers take several calls in one request; waits until one is ready to say so."""
        while not self.ready and self.closed is None:
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._ready_waiters.append(waiter)
            await waiter
        return bool(self.ready) and "batch" in self.ready[0].port.session.features

    def _wake_ready_waiters(self) -> None:
        waiters, self._ready_waiters = self._ready_waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def on_cancelled(self, call: Call) -> None:
        """The caller gave a call up."""
        if call.request is not None:
            self._cancel_sent(call.request)
        else:  # it is skipped when its turn comes
            self._gaps = True

    # -- from the queue to a port

    def _pump_later(self) -> None:
        self._pump_scheduled = False
        self.pump()

    def pump(self) -> None:
        """Sends what waits, as far as there is room."""
        if self._pumping or not self._waiting or not self.ready:
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
                lanes = ((i, lane.window) for i, lane in enumerate(self.ready) if lane.port.takes_requests)
                index = least_in_flight(lanes, now, self._waiting[0].weight)
                if index is None:
                    break
                lane = self.ready[index]
                if self._send_some(lane, len(self.ready), now) and lane.port not in touched:
                    touched.append(lane.port)
        finally:
            if collecting:
                gc.enable()
            self._pumping = False
            for port in touched:
                port.flush()
            if len(touched) == 1 and len(touched[0].session.asked) == 1:
                touched[0].await_answer_awake()

    def _send_some(self, lane: Lane, lanes: int, now: float) -> bool:
        """Takes the first calls that fit into one request, and queues it at the port. False when none could be sent."""
        waiting, window, port = self._waiting, lane.window, lane.port
        first = waiting.popleft()
        calls = [first]
        latest = first.deadline
        if first.special is None and waiting and self._may_pack(port, first.method):
            most = frame_size(len(waiting) + 1, window.room(now), lanes, window.pace)
            while len(calls) < most and waiting:
                call = waiting[0]
                if call.special is not None or call.method != first.method:
                    break
                # What travels together has one deadline there.
                if not first.deadline <= call.deadline <= first.deadline + _SAME_DEADLINE:
                    break
                waiting.popleft()
                if not call.done():
                    calls.append(call)
                    if call.deadline > latest:
                        latest = call.deadline
        if self._next_expiry <= now:
            for call in calls:
                if call.deadline <= now:
                    self._expire(call, now)
            calls = [call for call in calls if not call.done()]
            if not calls:
                return False
        if first.special is not None and first.special.cast:
            return self._send_cast(port, first)
        if first.stream is not None and not self._streams(port, first.method):
            self.failed += 1
            text = f"{self.service}.{first.method} does not stream: it is called, and answers once"
            first.fail(UnknownMethod(text, service=self.service, method=first.method))
            return False
        return self._send(lane, Sent(calls, len(calls) > 1, now), latest)

    def _streams(self, port: Port, method: str) -> bool:
        return "stream" in port.session.features and (self.methods is None or self.methods[method].stream)

    def _may_pack(self, port: Port, method: str) -> bool:
        """Whether calls that wait together may travel together.

        Those of a batch method share a fate in the worker, so there it is for the user to say.
        """
        if "batch" not in port.session.features:
            return False
        info = self.methods.get(method) if self.methods is not None else None
        return info is None or not info.batch

    def _send(self, lane: Lane, sent: Sent, latest: float) -> bool:
        port, calls = lane.port, sent.calls
        first = calls[0]
        meta: dict[str, Any] = {}
        if latest != _NEVER:
            meta["deadline_ms"] = max(1, int((latest - sent.at) * 1000))
        if sent.packed:
            params: Sequence[Any] = [call.params for call in calls]
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
            buffers = port.session.request(first.method, list(params), meta, sent)
        except LocalProtocolError as error:
            return self._refuse_unsendable(lane, sent, error)
        sent.number = port.session.last_id
        sent.end = port.send(buffers)
        lane.window.sent(sent.weight, sent.at)
        for call in calls:
            call.request = sent
            call.attempts += 1
        if first.special is not None and first.special.stream is not None:
            first.special.stream.give_credit = lambda count: self._give_credit(port, sent, count)
        return True

    def _refuse_unsendable(self, lane: Lane, sent: Sent, error: LocalProtocolError) -> bool:
        """Fails the call that cannot be encoded; of several, each is tried by itself. Whether any was sent."""
        if sent.packed:
            sent_some = False
            for call in sent.calls:
                sent_some |= self._send(lane, Sent([call], False, sent.at), call.deadline)
            return sent_some
        call = sent.calls[0]
        self.failed += 1
        text = f"the arguments of {self.service}.{call.method} cannot be sent: {error}"
        call.fail(InvalidArgument(text, service=self.service, method=call.method, replica=lane.port.replica))
        return False

    def _send_cast(self, port: Port, call: Call) -> bool:
        try:
            port.send(port.session.notify(call.method, list(call.params)))
        except LocalProtocolError as error:
            text = f"the arguments of {self.service}.{call.method} cannot be sent: {error}"
            call.fail(InvalidArgument(text, service=self.service, method=call.method, replica=port.replica))
            call.exception()  # seen: it may be too late for the caller, and nobody waits
            self._events.emit("log", service=self.service, replica=port.replica, level="error", text=text)
            return False
        call.set_result(None)
        return True

    def _give_credit(self, port: Port, sent: Sent, count: int) -> None:
        if port.state in ("ready", "stopping"):
            port.send(port.session.give_credit(sent.number, count))
            port.flush()

    def _cancel_sent(self, sent: Sent) -> None:
        if all(call.done() for call in sent.calls):
            for port in self.lanes:
                if port.session.asked.get(sent.number) is sent:
                    with suppress(OversizedMessage):  # one that takes no frame of this length works in vain
                        port.send(port.session.cancel(sent.number))
                        port.flush()
                    self._overdue.add(port, sent)

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
        sent_ones = [sent for port in self.lanes for sent in port.session.asked.values() if type(sent) is Sent]
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
            self._gaps = True
            reason = "it was still waiting for a replica" if self.ready else "no replica was ready"
        else:
            reason = f"a worker had been at it for {now - call.request.at:.3g} s"
        call.fail(self._too_late(call, reason))

    def _too_late(self, call: Call, reason: str) -> DeadlineExceeded:
        return DeadlineExceeded(
            f"{self.service}.{call.method} was not answered within its timeout: {reason}",
            service=self.service,
            method=call.method,
        )

    # -- what comes back

    def on_answered(self, port: Port, answer: Answered, now: float) -> None:
        sent: Sent = answer.tag
        lane = self.lanes[port]
        lane.window.answered(sent.weight, now)
        self.answered += sent.weight
        try:
            self._settle(sent, answer, port)
        except Exception as error:  # a fault of ours, which nobody foresaw: no caller may wait for ever because of it
            for call in sent.calls:
                text = f"the answer of {self.service}.{call.method} could not be taken in: {error!r}"
                call.fail(CallError(text, code="internal", service=self.service, method=call.method))
            raise
        lane.count(sent.weight)

    def _settle(self, sent: Sent, answer: Answered, port: Port) -> None:
        if answer.error is not None:
            for call in sent.calls:
                self._settle_failed(call, answer.error, port)
        elif sent.packed:
            for call, (error, result) in zip(sent.calls, outcomes(answer.result, len(sent.calls)), strict=True):
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
                    result = take_apart(outcomes(result, special.items))
            call.set_result(result)

    def _settle_failed(self, call: Call, error: dict[str, Any], port: Port) -> None:
        if not call.done():
            self.failed += 1
            call.fail(call_error(error, service=self.service, method=call.method, replica=port.replica))

    def on_item(self, port: Port, item: Item) -> None:
        call = item.tag.calls[0]
        if not call.done() and call.stream is not None:
            call.stream.add(item.value)

    def on_progress(self, port: Port, progress: Progressed) -> None:
        """A handler reports how far it has come."""
        sent = port.session.asked.get(progress.id)
        for call in sent.calls if sent is not None else ():
            if call.special is not None and call.special.progress is not None and not call.done():
                try:
                    call.special.progress(progress.done, progress.total, progress.text)
                except Exception as error:  # the caller's own; what else was read is still to be seen to
                    told = f"the progress callback of {self.service}.{call.method} failed"
                    self._loop.call_exception_handler({"message": told, "exception": error})

    # -- replicas that come and go

    def add(self, port: Port) -> Lane:
        """A replica is ready."""
        self.methods = self._known = port.methods
        lane = self.lanes[port] = Lane(port)
        self.ready.append(lane)
        if self.methods is not None:  # calls were accepted before any worker could say what it has
            for call in self._waiting:
                if call.method not in self.methods and not call.done():
                    self.failed += 1
                    call.fail(self._unknown_method(call))
        self._wake_ready_waiters()
        self.pump()
        return lane

    def retire(self, port: Port, on_empty: Callable[[], None]) -> None:
        """A replica gets no more requests; `on_empty` is called when it has answered those that it has."""
        lane = self.lanes[port]
        self.ready.remove(lane)
        lane.retire(on_empty)

    def remove(self, port: Port, verdict: Verdict, unanswered: Sequence[Sent]) -> None:
        """A replica died and left these requests, oldest first: each call in them is sent again, or fails."""
        lane = self.lanes.pop(port, None)
        if lane is not None and not lane.retired:
            self.ready.remove(lane)
        again: list[Call] = []
        for sent in unanswered:
            never_left = sent.end > port.written  # a part of a frame is nothing that can have been done
            for call in sent.calls:
                if not call.done():
                    if never_left or self._may_retry(call):
                        again.append(call)
                    else:
                        self._fail_crashed(call, verdict)
        if again:
            self.retried += len(again)
            self._events.emit("retried", service=self.service, replica=port.replica, calls=len(again))
            for call in reversed(again):
                call.request = None
                self._waiting.appendleft(call)
        if self.closed is not None:
            self.fail_waiting()
        self.pump()

    def close(self, why: str) -> None:
        """Accepts no more calls, and fails those that wait; those that a worker is at may finish."""
        self.closed = why
        self._known = ()
        self.fail_waiting()

    def reopen(self) -> None:
        """Accepts calls again: there will be replicas after all."""
        self.closed = None
        self._known = self.methods

    def end(self) -> None:
        """The last replica is gone."""
        self._overdue.close()
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None

    def _may_retry(self, call: Call) -> bool:
        if call.stream is not None or call.attempts > self._retries:
            return False
        info = self.methods.get(call.method) if self.methods is not None else None
        return info is not None and info.idempotent

    def _fail_crashed(self, call: Call, verdict: Verdict) -> None:
        self.failed += 1
        tried = f" (attempt {call.attempts})" if call.attempts > 1 else ""
        kind = ProtocolViolation if verdict.cause == "protocol" else WorkerCrashed
        call.fail(
            kind(
                f"{self.service}.{call.method} got no answer{tried}: {verdict}",
                verdict=verdict,
                service=self.service,
                method=call.method,
                replica=verdict.replica,
                retryable=True,
            )
        )

    def fail_waiting(self) -> None:
        self._wake_ready_waiters()
        waiting, self._waiting = self._waiting, deque()
        for call in waiting:
            if not call.done():
                self.failed += 1
                why = self.closed
                text = f"{self.service}.{call.method} was not sent: service {self.service} is down: {why}"
                call.fail(ServiceDown(text, service=self.service, method=call.method))
