"""From the lines in which calls wait to ports: which line is next, which replica has room, what travels together."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any

from mlports.core.batching import columns_of, frame_size
from mlports.core.routing import least_in_flight
from mlports.runtime import refusals
from mlports.runtime.call import Call, Sent
from mlports.runtime.feedback import lets_through
from mlports.runtime.lane import Lane
from mlports.runtime.overdue import Overdue
from mlports.runtime.port import Port
from mlports.runtime.streaming import refusal
from mlports.runtime.waiting import Line
from mlports_protocol import (
    LocalProtocolError,
    OversizedMessage,
)

if TYPE_CHECKING:
    from mlports.config import ServiceConfig
    from mlports.core.routing import Policy
    from mlports.runtime.dispatcher import Dispatcher

_NEVER = float("inf")
_SAME_DEADLINE = 0.1  # seconds by which the deadlines of calls that travel together may differ


class Sender:
    """Sends one dispatcher's calls as far as there is room, and tells workers what nobody wants any more."""

    def __init__(self, calls: Dispatcher, config: ServiceConfig, policy: Policy | None) -> None:
        self.pump_scheduled = False
        self._calls = calls
        self._policy = policy  # None for the usual one, which is written out where lanes are chosen
        self._unused = frozenset(number for number, weight in enumerate(config.weights or ()) if not weight)
        self._overdue = Overdue(config.grace)
        self.reserved = 0  # replicas that are kept free for suspects
        self._pumping = False
        self._wake: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def close(self) -> None:
        """The last replica is gone."""
        self._overdue.close()
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None

    def pump_soon(self) -> None:
        """Sends what waits at the end of this turn of the loop."""
        if not self.pump_scheduled:
            self.pump_scheduled = True
            self._loop.call_soon(self._pump_later)

    def _pump_later(self) -> None:
        self.pump_scheduled = False
        self.pump()

    def pump(self) -> None:
        """Sends what waits, as far as there is room."""
        lines = self._calls.lines
        if self._pumping or not self._calls.ready or not (lines.main.calls or lines.busy):
            return
        self._pumping = True
        touched: list[Port] = []
        # What encoding allocates is garbage when it is done: the collector would look through everything in vain.
        collecting = gc.isenabled()
        gc.disable()
        try:
            now = time.monotonic()
            if not lines.busy:
                while lines.main.calls and self._serve(lines.main, now, touched):
                    pass
            else:
                misses = 0
                while misses <= len(lines.busy) and (line := lines.next_line()) is not None:
                    misses = 0 if self._serve(line, now, touched) else misses + 1
        finally:
            if collecting:
                gc.enable()
            self._pumping = False
            for port in touched:
                port.flush()
            if len(touched) == 1 and len(touched[0].session.asked) == 1:
                touched[0].await_answer_awake()

    def _serve(self, line: Line, now: float, touched: list[Port]) -> bool:
        """Sends one request with the first calls of a line. False when it has none, or none can be sent now."""
        calls = line.calls
        self._calls.lines.drop_done(line)
        if not calls:
            if line.isolated and line.lane is not None and line.lane.reserved is line:
                self.acquit(line.lane)
            return False
        lane = self._lane_for(line, calls[0], now)
        if lane is None:
            return False
        most = self._most_at_once(line, lane, now)
        if not most:
            return False
        if lane.breaker is not None and not lets_through(lane.breaker, calls[0], now):
            self._wake_for_trial(now)
            return False
        if self._send_some(line, lane, most, now) and lane.port not in touched:
            touched.append(lane.port)
        return True

    # -- which replica

    def _lane_for(self, line: Line, first: Call, now: float) -> Lane | None:
        if not self._is_within_limit(line, first):
            return None
        if line.isolated:
            return self._lane_for_suspects(line, first)
        lanes = self._calls.ready
        if line.lane is not None:
            lanes = [line.lane]
        elif self._calls.ring is not None:  # none of those that there are may have it
            return None
        if self.reserved or self._calls.feedback.breaker is not None:
            lanes = [lane for lane in lanes if lane.reserved is None and lane.lets_through(now)]
            if not lanes and self._calls.feedback.breaker is not None:
                self._wake_for_trial(now)
        if _is_nested(first):  # behind others it might wait in a pipe for what waits for it
            lanes = [lane for lane in lanes if lane.idle]
        if line.rule is not None:
            lane = self._idle_one([lane for lane in lanes if lane.idle and lane.port.takes_requests], now)
            if lane is not None:
                return lane
        if self._policy is not None and line.lane is None:
            index = self._policy.choose(lanes, None, now, first.weight)
        else:
            room = ((i, lane.window) for i, lane in enumerate(lanes) if lane.port.takes_requests)
            index = least_in_flight(room, now, first.weight)
        return None if index is None else lanes[index]

    def _idle_one(self, idle: list[Lane], now: float) -> Lane | None:
        """Whose turn it is of those that could begin at once."""
        idle = [lane for lane in idle if lane.number not in self._unused]
        index = self._policy.choose(idle, None, now) if self._policy is not None and len(idle) > 1 else None
        return min(idle, key=_load, default=None) if index is None else idle[index]

    def _is_within_limit(self, line: Line, first: Call) -> bool:
        """Whether the workers may have these calls in their hands too. What is larger than the limit goes alone."""
        limit = self._calls.feedback.limit
        if limit is None or not (in_flight := self._calls.in_flight):
            return True
        weight = sum(call.weight for call in line.calls) if line.isolated else first.weight
        return in_flight + weight <= limit.limit

    def _lane_for_suspects(self, line: Line, first: Call) -> Lane | None:
        """A replica that has nothing else to do, and is kept free until it has."""
        lane = line.lane
        if lane is None or lane.reserved is not line or not lane.open:
            lane = None
            reserved = sum(lane.reserved is not None for lane in self._calls.ready)
            free = [lane for lane in self._calls.ready if lane.reserved is None and lane.number not in self._unused]
            if self._calls.ring is not None:
                home = self._calls.entrance.home(first.slot)
                free = [home] if home in free else []
            if free and reserved < max(1, len(self._calls.ready) // 2):
                line.lane = lane = min(free, key=_load)
                lane.reserved = line
                self.reserved += 1
        if lane is None or lane.window.in_flight or not lane.port.takes_requests:
            return None
        return lane

    # -- what travels together

    def _most_at_once(self, line: Line, lane: Lane, now: float) -> int:
        """How many of a line's calls may go out in one request; 0 while they are to wait for company."""
        calls, window = line.calls, lane.window
        if line.isolated:
            return len(calls)
        if line.rule is not None:
            most = line.rule.take(len(calls), line.oldest, lane.idle, now)
            if not most:
                self._wake_at(line.rule.due(line.oldest), now)
        elif len(calls) > 1 and self._may_pack(lane.port, calls[0].method):
            most = frame_size(len(calls), window.room(now), len(self._calls.ready), window.pace, window.in_flight)
            if not most:
                return 0
        else:
            return 1
        if self._calls.feedback.limit is not None:
            most = min(most, max(1, self._calls.feedback.limit.limit - self._calls.in_flight))
        return most

    def _send_some(self, line: Line, lane: Lane, most: int, now: float) -> bool:
        """Takes the first calls that fit into one request, and queues it at the port. False when none could be sent."""
        waiting = line.calls
        calls = self._take(line, most, lane.idle)
        first = calls[0]
        latest = first.deadline
        if latest != _NEVER and len(calls) > 1:
            latest = max(call.deadline for call in calls)
        if line.rule is not None:
            line.oldest = waiting[0].since if waiting else _NEVER
        if self._calls.deadlines.next <= now:
            for call in calls:
                if call.deadline <= now:
                    self._calls.expire(call, now)
            calls = [call for call in calls if not call.done()]
            if not calls:
                return False
        if first.special is not None:
            if first.special.cast:
                return self._send_cast(lane.port, first)
            if first.special.stream is not None and not self._streams(lane.port, first.method):
                self._calls.refuse(first, refusals.does_not_stream(first))
                return False
        refused = refusal(
            first, lane.port, None if self._calls.methods is None else self._calls.methods.get(first.method)
        )
        if refused is not None:
            for call in calls:
                self._calls.refuse(call, refused)
            return False
        return self._send(lane, Sent(calls, len(calls) > 1, now, lane.port, line.isolated, line.suspicion), latest)

    def _take(self, line: Line, most: int, is_idle: bool) -> list[Call]:
        """Takes the first call of a line, and those behind it that may travel with it."""
        lines, waiting = self._calls.lines, line.calls
        first = waiting[0]
        if most == 1 or (first.special is not None and first.special.alone):
            return [lines.pop(line)]
        method, earliest = first.method, first.deadline
        latest = earliest + _SAME_DEADLINE  # what travels together has one deadline there
        if line.rule is not None or line.isolated:
            earliest, latest = 0.0, _NEVER
        calls: list[Call] = []
        for call in islice(waiting, most):
            if call.method != method or not earliest <= call.deadline <= latest:
                break
            if call.special is not None and (call.special.alone or (calls and not is_idle and _is_nested(call))):
                break
            calls.append(call)
        for _ in calls:
            waiting.popleft()
        if line is not lines.main:
            lines.held -= len(calls)
        return [call for call in calls if not call.done()] if lines.gaps else calls

    def _streams(self, port: Port, method: str) -> bool:
        return "stream" in port.session.features and (self._calls.methods is None or self._calls.methods[method].stream)

    def _may_pack(self, port: Port, method: str) -> bool:
        """Whether calls that wait together may travel together.

        Those of a batch method share a fate in the worker, so there it is for the user to say.
        """
        if "batch" not in port.session.features:
            return False
        info = self._calls.methods.get(method) if self._calls.methods is not None else None
        return info is None or not info.batch

    # -- to the port

    def _send(self, lane: Lane, sent: Sent, latest: float) -> bool:
        port, calls = lane.port, sent.calls
        first = calls[0]
        meta: dict[str, Any] = {}
        if latest != _NEVER:
            meta["deadline_ms"] = max(1, int((latest - sent.at) * 1000))
        if sent.packed:
            params: Sequence[Any] = [call.params for call in calls]
            meta["batch"] = len(params)
            params = self._by_columns(port, first.method, params, meta)
        else:
            params = first.params
            special = first.special
            if special is not None:
                if special.items is not None:
                    params = [[item] for item in params]
                    meta["batch"] = len(params)
                    params = self._by_columns(port, first.method, params, meta)
                if special.stream is not None:
                    meta["credit"] = special.stream.credit
                if special.trace is not None:
                    meta["traceparent"] = special.trace
                if special.input is not None:
                    meta["input"] = True
        try:
            buffers = port.session.request(first.method, list(params), meta, sent)
        except LocalProtocolError as error:
            return self._refuse_unsendable(lane, sent, error)
        sent.number = port.session.last_id
        sent.end = port.send(buffers)
        lane.window.sent(sent.weight, sent.at)
        if not first.attempts:
            self._calls.budget.calls(sent.weight, sent.at)
        for call in calls:
            call.request = sent
            call.attempts += 1
        if first.special is not None and first.special.stream is not None:
            first.special.stream.give_credit = lambda count: self._give_credit(port, sent, count)
        if (
            self._calls.hedges is not None
            and self._calls.methods is not None
            and self._calls.methods[first.method].idempotent
        ):
            self._calls.hedges.watch(sent)
        if first.special is not None and first.special.input is not None:
            first.special.input.start(port, sent.number)
        return True

    def _by_columns(
        self, port: Port, method: str, rows: Sequence[Sequence[Any]], meta: dict[str, Any]
    ) -> Sequence[Any]:
        """The argument lists of a batch for a method that takes batches, by columns where that is shorter."""
        if "columns" in port.session.features and self._calls.methods is not None and self._calls.methods[method].batch:
            columns = columns_of(rows)
            if columns is not None:
                meta["columns"] = True
                return columns
        return rows

    def _refuse_unsendable(self, lane: Lane, sent: Sent, error: LocalProtocolError) -> bool:
        """Fails the call that cannot be encoded; of several, each is tried by itself. Whether any was sent."""
        if sent.packed:
            sent_some = False
            for call in sent.calls:
                one = Sent([call], False, sent.at, lane.port, sent.isolated, sent.suspicion)
                sent_some |= self._send(lane, one, call.deadline)
            return sent_some
        call = sent.calls[0]
        self._calls.refuse(call, refusals.unsendable(call, error, lane.port.replica))
        return False

    def _send_cast(self, port: Port, call: Call) -> bool:
        try:
            port.send(port.session.notify(call.method, list(call.params)))
        except LocalProtocolError as error:
            refusal = refusals.unsendable(call, error, port.replica)
            call.fail(refusal)
            call.exception()  # seen: it may be too late for the caller, and nobody waits
            self._calls.tell("log", port.replica, level="error", text=refusal.message)
            return False
        call.set_result(None)
        return True

    def _give_credit(self, port: Port, sent: Sent, count: int) -> None:
        if port.state in ("ready", "stopping"):
            port.send(port.session.give_credit(sent.number, count))
            port.flush()

    # -- after that

    def give_up(self, sent: Sent) -> None:
        """Tells the worker that nobody wants this request's answer any more, if nobody does."""
        port = sent.port
        if all(call.done() for call in sent.calls) and port.session.asked.get(sent.number) is sent:
            with suppress(OversizedMessage):  # one that takes no frame of this length works in vain
                port.send(port.session.cancel(sent.number))
                port.flush()
            self._overdue.add(port, sent)
            if self._calls.on_given_up is not None:
                self._calls.on_given_up(sent)

    def other_lane(self, port: Port, now: float) -> Lane | None:
        """The least loaded replica besides this one that could begin with a call at once."""
        lanes = [
            lane
            for lane in self._calls.ready
            if lane.port is not port
            and lane.number not in self._unused
            and lane.reserved is None
            and lane.idle
            and lane.lets_through(now)
        ]
        return min(lanes, key=_load, default=None)

    def _wake_at(self, when: float, now: float) -> None:
        """Looks again then, though nothing may have happened."""
        if self._wake is not None:
            if self._wake.when() <= self._loop.time() + (when - now):
                return
            self._wake.cancel()
        self._wake = self._loop.call_later(max(0.0, when - now), self._on_wake)

    def _wake_for_trial(self, now: float) -> None:
        pauses = [lane.breaker.retry_after(now) for lane in self._calls.ready if lane.breaker is not None]
        if any(pauses):
            self._wake_at(now + max(0.01, min(filter(None, pauses))), now)

    def _on_wake(self) -> None:
        self._wake = None
        self.pump()

    def acquit(self, lane: Lane) -> None:
        """The suspects that this replica was kept free for did no harm."""
        if lane.reserved is not None:
            lane.reserved = None
            self.reserved -= 1


def _is_nested(call: Call) -> bool:
    """Whether a worker waits for it."""
    return call.special is not None and call.special.parent is not None


def _load(lane: Lane) -> int:
    return lane.window.in_flight
