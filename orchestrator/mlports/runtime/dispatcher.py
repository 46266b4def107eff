"""The dispatcher: from the queue of calls to whichever replica has room, and from its answer back to the caller.

    call() ──▶ a line ──pump()──▶ a port's request ──answer──▶ settled
                 ▲                      │
                 └──── aftermath ◀── the worker died

Every call that is accepted is settled exactly once. It leaves its line when it is sent, when its deadline passes, when
it is cancelled, or when it gives way to another; what a dying worker leaves unanswered is the aftermath's.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any

from mlports.core.admission import retry_after
from mlports.core.batching import MOST_IN_BATCH, BatchRule, batch_key, columns_of, frame_size
from mlports.core.quarantine import Quarantine
from mlports.core.retry_budget import RetryBudget
from mlports.core.routing import ABSENT, Broadcast, HashRing, key_of, least_in_flight, policy_of
from mlports.core.verdict import Verdict
from mlports.errors import CallError, call_error
from mlports.runtime import refusals
from mlports.runtime.aftermath import Aftermath
from mlports.runtime.call import Call, Sent, Special
from mlports.runtime.deadlines import Deadlines
from mlports.runtime.feedback import Feedback, lets_through
from mlports.runtime.hedging import Hedges
from mlports.runtime.joining import Copies, Errors, Parts
from mlports.runtime.lane import Lane
from mlports.runtime.outcomes import outcomes, plain_results, take_apart
from mlports.runtime.overdue import Overdue
from mlports.runtime.port import Port
from mlports.runtime.streaming import refusal
from mlports.runtime.waiting import Line, Waiting
from mlports.telemetry import EventLog
from mlports_protocol import (
    Answered,
    InputCreditGiven,
    Item,
    LocalProtocolError,
    MethodInfo,
    OversizedMessage,
    Progressed,
)

if TYPE_CHECKING:
    from mlports.config import ServiceConfig
    from mlports.runtime.shadowing import Shadowing

_NEVER = float("inf")
_LONGEST = 1e9  # seconds: a longer timeout is none, and fits no integer of the protocol's
_SAME_DEADLINE = 0.1  # seconds by which the deadlines of calls that travel together may differ


class Dispatcher:
    """One service's calls: those that wait, in their lines, and those that its replicas are at."""

    def __init__(self, service: str, config: ServiceConfig, quarantine: Quarantine, events: EventLog) -> None:
        self.service = service
        self.methods: dict[str, MethodInfo] | None = None  # None until a worker has said which it has, or said nothing
        self.ready: list[Lane] = []  # those that get requests
        self.lanes: dict[Port, Lane] = {}  # and those besides that still have some
        self.closed: str | None = None  # why no more calls are accepted
        self._known: Container[str] | None = None  # the methods that may be called now; None: any
        self.answered = 0
        self.failed = 0
        self.budget = RetryBudget(config.retry_budget)
        self.quarantine = quarantine
        self.shadowing: Shadowing | None = None
        self.on_given_up: Callable[[Sent], None] | None = None
        self.retried = 0
        self._queue = config.queue
        self._batch = config.batch
        self._key_place = config.key
        self._rules: dict[str, BatchRule] = {}  # of the batch methods
        policy = policy_of(config.route, config.weights, replicas=config.replicas, standby=config.standby)
        self._ring = policy if isinstance(policy, HashRing) else None
        self._broadcasts = isinstance(policy, Broadcast)
        # None for the usual one, which is written out where lanes are chosen.
        usual = config.route == "least_loaded" and config.weights is None
        self._policy = None if usual or isinstance(policy, HashRing | Broadcast) else policy
        self._unused = frozenset(number for number, weight in enumerate(config.weights or ()) if not weight)
        self._homes: dict[int, Lane | None] = {}  # by slot
        self._hedges = Hedges(self, config.hedge.after) if config.hedge is not None else None
        self.feedback = Feedback(config, self._rules, self._hedges)
        self._overdue = Overdue(config.grace)
        self._aftermath = Aftermath(self, config.retries)
        self._events = events
        self._loop = asyncio.get_running_loop()
        self._lines = Waiting()
        self._waiting = self._lines.main.calls
        self._is_plain = True  # any call may wait in any line, and nobody looks at it before
        self._reserved = 0  # replicas that are kept free for suspects
        self.look_closer()
        self._pumping = False
        self._pump_scheduled = False
        self._deadlines = Deadlines(self._live, self._expire)
        self._wake: asyncio.TimerHandle | None = None
        self._ready_waiters: list[asyncio.Future[None]] = []

    @property
    def waiting(self) -> int:
        """How many calls wait for a replica."""
        return sum(call.weight for call in self._lines if not call.done())

    @property
    def in_flight(self) -> int:
        """How many calls are in the workers' hands."""
        return sum(lane.window.in_flight for lane in self.lanes.values())

    def look_closer(self) -> None:
        """Whether calls are to be looked at one by one may have changed."""
        self._is_plain = not (
            self._ring is not None
            or self._broadcasts
            or self.feedback.breaker is not None
            or self.shadowing is not None
            or self._rules
            or self.quarantine.methods
        )

    def status(self) -> dict[str, Any]:
        """What there is to tell of limits, breakers, hedges, batches and copies, of those that are configured."""
        feedback, now = self.feedback, time.monotonic()
        return {
            "concurrency": feedback.limit.limit if feedback.limit is not None else None,
            "breaker": feedback.breaker.state(now) if feedback.breaker is not None else None,
            "hedged": {"made": self._hedges.made, "won": self._hedges.won} if self._hedges is not None else None,
            "batch_size": {method: rule.size for method, rule in self._rules.items()} or None,
            "shadow": self.shadowing.shadow.as_dict() if self.shadowing is not None else None,
        }

    def digest(self, method: str, params: Sequence[Any]) -> bytes | None:
        """By what the quarantine knows a call; None for one that cannot be sent anyway."""
        return self.quarantine.digest(f"{self.service}.{method}", params)

    def tell(self, event: str, replica: int | None, **fields: Any) -> None:
        """An event of this service's."""
        self._events.emit(event, service=self.service, replica=replica, **fields)

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
        if special is not None and (type(special.priority) is not int or type(special.tag) is not str):
            self.failed += 1
            call.fail(refusals.bad_rank(call, special))
            return call
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
        if self._is_plain and special is None:
            waiting.append(call)
        elif not self._place(call):
            return call
        if deadline < self._deadlines.next:
            self._deadlines.expect(deadline)
        if not self._pump_scheduled:
            waiting = self._waiting  # it may be ranked now
            # The first call of a burst leaves at once; those that follow in the same turn of the loop leave together.
            if len(waiting) == 1 and not any(lane.window.in_flight for lane in self.ready):
                self.pump()
            if waiting or self._lines.held:
                self._pump_scheduled = True
                self._loop.call_soon(self._pump_later)
        return call

    def new_call(self, method: str, params: Sequence[Any], deadline: float, special: Special | None = None) -> Call:
        """A part or a copy of a call that was accepted."""
        call = Call(loop=self._loop)
        call.dispatcher = self
        call.method = method
        call.params = params
        call.special = special
        call.request = None
        call.attempts = 0
        call.deadline = deadline
        return call

    def _refusal(self, call: Call, timeout: float | None) -> CallError | None:
        if self.closed is not None:
            return refusals.is_down(call, self.closed)
        if timeout is not None and not timeout > 0:
            return refusals.too_late(call, f"its timeout was {timeout:g} s when it was made")
        if self.methods is not None and call.method not in self.methods:
            return refusals.unknown_method(call, self.methods)
        return None if self._is_room_for(call) else self._overloaded(call)

    def _is_room_for(self, call: Call) -> bool:
        """Whether it may wait too; somebody else may have to give way to it."""
        lines = self._lines
        self.pump()  # calls of this turn of the loop may be waiting only for the turn's end
        if lines.gaps:
            lines.close_gaps()
        count, most = len(lines), self._most_waiting
        if count < most or (count == most == 0 and self._has_room()):
            return True
        if call.special is not None and not lines.ranked and (call.special.priority or call.special.tag):
            self._rank()
        victim = lines.make_room(call)
        if victim is None:
            return False
        self.failed += 1
        victim.fail(refusals.gave_way(victim, self._retry_after()))
        return True

    @property
    def _most_waiting(self) -> int:
        """How many may wait. Of a broadcast every copy does, so there are as many as replicas for each call."""
        return self._queue * len(self.ready) if self._broadcasts and self.ready else self._queue

    def _overloaded(self, call: Call) -> CallError:
        return refusals.overloaded(call, len(self._lines), self._retry_after())

    def _retry_after(self) -> float:
        paces = [lane.window.pace for lane in self.ready if lane.window.pace is not None]
        pace = sum(paces) / len(paces) if paces else None
        return retry_after(len(self._lines), pace, max(1, len(self.ready)))

    def _has_room(self) -> bool:
        now, limit = time.monotonic(), self.feedback.limit
        if limit is not None and self.in_flight >= limit.limit:
            return False
        return any(lane.window.room(now) > 0 and lane.port.takes_requests for lane in self.ready)

    def _rank(self) -> None:
        self._lines.rank()
        self._waiting = self._lines.main.calls

    async def takes_batches(self) -> bool:
        """Whether the workers take several calls in one request; waits until one is ready to say so."""
        while not self.ready and self.closed is None:
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._ready_waiters.append(waiter)
            await waiter
        if self._ring is not None or self._broadcasts:
            return False
        return bool(self.ready) and "batch" in self.ready[0].port.session.features

    def most_together(self, method: str) -> int:
        """How many items of a `map` may travel in one request, by what is configured."""
        most = MOST_IN_BATCH
        if method in self._rules and self._batch is not None and self._batch.max_size != "auto":
            most = int(self._batch.max_size)
        return most if self.feedback.limit is None else min(most, self.feedback.limit.limit)

    def _wake_ready_waiters(self) -> None:
        waiters, self._ready_waiters = self._ready_waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def on_cancelled(self, call: Call) -> None:
        """The caller gave a call up."""
        if call.request is not None:
            self.give_up(call.request)
        else:  # it is skipped when its turn comes
            self._lines.gaps = True

    # -- where a call waits

    def _place(self, call: Call) -> bool:
        """Puts a call that is none of the plain ones into its line. False when it was settled, or sent on, instead."""
        special = call.special
        if self._may_be_poison(call) and self._sort_out_poison(call):
            return False
        if special is not None and not self._lines.ranked and (special.priority or special.tag):
            self._rank()
        breaker = self.feedback.breaker
        if breaker is not None and not lets_through(breaker, call, now := time.monotonic()):
            self.failed += 1
            call.fail(refusals.circuit_open(call, breaker.retry_after(now)))
            return False
        if self._broadcasts and self.ready and (special is None or special.lane is None):
            if len(self._lines) >= self._most_waiting and not self._is_room_for(call):
                self.failed += 1
                call.fail(self._overloaded(call))
            else:
                self._spread(call)
            return False
        line = self._line_of(call)
        if line is None:
            return False
        if len(self._lines) >= self._queue and not self._is_room_for(call):
            self.failed += 1
            call.fail(self._overloaded(call))
            return False
        if self.shadowing is not None and (special is None or special.lane is None):
            self.shadowing.copy(call)
        self._lines.add(line, call)
        return True

    def _line_of(self, call: Call) -> Line | None:
        """The line in which a call waits; None when it has none, and was failed."""
        special, lane = call.special, None
        if special is not None and special.lane is not None:
            line = special.lane.line  # that of whoever has taken its place, if somebody has
            if line.lane in self.ready:
                return line
            self.failed += 1
            call.fail(refusals.was_not_sent(call, f"replica {special.lane.number} of {self.service} is gone"))
            return None
        if self._ring is not None:
            try:
                key = key_of(call.params, self._key_place, special.key if special is not None else ABSENT)
                call.slot = self._ring.slot(key)
            except (TypeError, ValueError) as problem:
                self.failed += 1
                call.fail(refusals.bad_key(call, problem))
                return None
            lane = self._home(call.slot)
        rule = self._rules.get(call.method)
        if rule is not None and (special is None or not special.alone):
            try:
                key = batch_key(call.params, self._batch.key if self._batch is not None else None)
            except TypeError as problem:
                self.failed += 1
                call.fail(refusals.bad_key(call, problem))
                return None
            return self._in_company(call, self._lines.group((call.method, key, id(lane)), rule, lane), rule)
        return lane.line if lane is not None else self._lines.main

    def _in_company(self, call: Call, line: Line, rule: BatchRule) -> Line:
        since = time.monotonic()
        if call.deadline - since < 2 * rule.max_wait:  # it has no time to wait for company
            since -= rule.max_wait
        call.since = since
        if not line.calls or since < line.oldest:
            line.oldest = since
        return line

    def _home(self, slot: int) -> Lane | None:
        assert self._ring is not None
        try:
            return self._homes[slot]
        except KeyError:
            index = self._ring.home(self.ready, slot)
            lane = self._homes[slot] = self.ready[index] if index is not None else None
            return lane

    def only_port(self, call: Call) -> Port | None:
        """The only one that a call which waits may be sent to; None when any may have it."""
        lane = call.special.lane if call.special is not None else None
        if lane is None and self._ring is not None and hasattr(call, "slot"):
            lane = self._home(call.slot)
        return None if lane is None else lane.port

    def _spread(self, call: Call) -> None:
        """A copy of the call for every replica that is ready."""
        if call.special is not None and (call.special.stream is not None or call.special.input is not None):
            self.failed += 1
            call.fail(refusals.bad_key(call, "a stream cannot be broadcast (route)"))
            return
        copies = {}
        for lane in self.ready:
            special = (call.special or Special())._replace(lane=lane)
            copies[lane.number] = self.new_call(call.method, call.params, call.deadline, special)
        Copies(call, copies)
        if call.deadline < self._deadlines.next:
            self._deadlines.expect(call.deadline)
        for lane in self.ready:
            self._lines.add(lane.line, copies[lane.number])
        self._pump_soon()

    def _may_be_poison(self, call: Call) -> bool:
        methods = self.quarantine.methods
        return bool(methods) and f"{self.service}.{call.method}" in methods

    def _sort_out_poison(self, call: Call) -> bool:
        """Refuses what is in quarantine; of a call for many items, those. Whether the call was seen to."""
        quarantine, special = self.quarantine, call.special
        if special is None or special.items is None:
            held = quarantine.refuse(self.digest(call.method, call.params))
            if held is None:
                return False
            self.failed += 1
            call.fail(refusals.quarantined(call, held))
            return True
        known: Errors = {}
        for place, item in enumerate(call.params):
            held = quarantine.refuse(self.digest(call.method, [item]))
            if held is not None:
                known[place] = refusals.quarantined(call, held)
        if not known:
            return False
        self.failed += len(known)
        places = [place for place in range(len(call.params)) if place not in known]
        parts = []
        if places:
            part = self.new_call(call.method, [call.params[place] for place in places], call.deadline)
            part.special = special._replace(items=len(places))
            parts.append(part)
        Parts(call, parts, [places], known)
        if call.deadline < self._deadlines.next:
            self._deadlines.expect(call.deadline)
        for part in parts:
            self._lines.add(self._lines.main, part)
            self._pump_soon()
        return True

    def refuse_poison(self, method: str) -> None:
        """Something was put into quarantine: the same calls that wait already are refused like those that come."""
        for call in list(self._lines):
            if call.method == method and not call.done() and (call.special is None or call.special.items is None):
                held = self.quarantine.refuse(self.digest(method, call.params))
                if held is not None:
                    self.failed += 1
                    self._lines.gaps = True
                    call.fail(refusals.quarantined(call, held))

    def _pump_soon(self) -> None:
        if not self._pump_scheduled:
            self._pump_scheduled = True
            self._loop.call_soon(self._pump_later)

    # -- from a line to a port

    def _pump_later(self) -> None:
        self._pump_scheduled = False
        self.pump()

    def pump(self) -> None:
        """Sends what waits, as far as there is room."""
        lines = self._lines
        if self._pumping or not self.ready or not (self._waiting or lines.busy):
            return
        self._pumping = True
        touched: list[Port] = []
        # What encoding allocates is garbage when it is done: the collector would look through everything in vain.
        collecting = gc.isenabled()
        gc.disable()
        try:
            now = time.monotonic()
            if not lines.busy:
                while self._waiting and self._serve(lines.main, now, touched):
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
        while calls and calls[0].done():
            self._lines.pop(line)
        if not calls:
            if line.isolated and line.lane is not None and line.lane.reserved is line:
                self._acquit(line.lane)
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

    def _lane_for(self, line: Line, first: Call, now: float) -> Lane | None:
        if not self._is_within_limit(line, first):
            return None
        if line.isolated:
            return self._lane_for_suspects(line, first)
        lanes = self.ready
        if line.lane is not None:
            lanes = [line.lane]
        elif self._ring is not None:  # none of those that there are may have it
            return None
        if self._reserved or self.feedback.breaker is not None:
            lanes = [lane for lane in lanes if lane.reserved is None and lane.lets_through(now)]
            if not lanes and self.feedback.breaker is not None:
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
        limit, in_flight = self.feedback.limit, self.in_flight if self.feedback.limit is not None else 0
        if limit is None or not in_flight:
            return True
        weight = sum(call.weight for call in line.calls) if line.isolated else first.weight
        return in_flight + weight <= limit.limit

    def _lane_for_suspects(self, line: Line, first: Call) -> Lane | None:
        """A replica that has nothing else to do, and is kept free until it has."""
        lane = line.lane
        if lane is None or lane.reserved is not line or not lane.open:
            lane = None
            reserved = sum(lane.reserved is not None for lane in self.ready)
            free = [lane for lane in self.ready if lane.reserved is None and lane.number not in self._unused]
            if self._ring is not None:
                home = self._home(first.slot)
                free = [home] if home in free else []
            if free and reserved < max(1, len(self.ready) // 2):
                line.lane = lane = min(free, key=_load)
                lane.reserved = line
                self._reserved += 1
        if lane is None or lane.window.in_flight or not lane.port.takes_requests:
            return None
        return lane

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
            most = frame_size(len(calls), window.room(now), len(self.ready), window.pace, window.in_flight)
            if not most:
                return 0
        else:
            return 1
        if self.feedback.limit is not None:
            most = min(most, max(1, self.feedback.limit.limit - self.in_flight))
        return most

    def _send_some(self, line: Line, lane: Lane, most: int, now: float) -> bool:
        """Takes the first calls that fit into one request, and queues it at the port. False when none could be sent."""
        waiting = line.calls
        calls = self._take(line, most, lane.idle)
        first = calls[0]
        latest = max(call.deadline for call in calls) if len(calls) > 1 else first.deadline
        if line.rule is not None:
            line.oldest = waiting[0].since if waiting else _NEVER
        if self._deadlines.next <= now:
            for call in calls:
                if call.deadline <= now:
                    self._expire(call, now)
            calls = [call for call in calls if not call.done()]
            if not calls:
                return False
        if first.special is not None:
            if first.special.cast:
                return self._send_cast(lane.port, first)
            if first.special.stream is not None and not self._streams(lane.port, first.method):
                self.failed += 1
                first.fail(refusals.does_not_stream(first))
                return False
        refused = refusal(first, lane.port, None if self.methods is None else self.methods.get(first.method))
        if refused is not None:
            for call in calls:
                self.failed += 1
                call.fail(refused)
            return False
        return self._send(lane, Sent(calls, len(calls) > 1, now, lane.port, line.isolated, line.suspicion), latest)

    def _take(self, line: Line, most: int, is_idle: bool) -> list[Call]:
        """Takes the first call of a line, and those behind it that may travel with it."""
        lines, waiting = self._lines, line.calls
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
            self.budget.calls(sent.weight, sent.at)
        for call in calls:
            call.request = sent
            call.attempts += 1
        if first.special is not None and first.special.stream is not None:
            first.special.stream.give_credit = lambda count: self._give_credit(port, sent, count)
        if self._hedges is not None and self.methods is not None and self.methods[first.method].idempotent:
            self._hedges.watch(sent)
        if first.special is not None and first.special.input is not None:
            first.special.input.start(port, sent.number)
        return True

    def _by_columns(
        self, port: Port, method: str, rows: Sequence[Sequence[Any]], meta: dict[str, Any]
    ) -> Sequence[Any]:
        """The argument lists of a batch for a method that takes batches, by columns where that is shorter."""
        if "columns" in port.session.features and self.methods is not None and self.methods[method].batch:
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
        self.failed += 1
        call.fail(refusals.unsendable(call, error, lane.port.replica))
        return False

    def _send_cast(self, port: Port, call: Call) -> bool:
        try:
            port.send(port.session.notify(call.method, list(call.params)))
        except LocalProtocolError as error:
            refusal = refusals.unsendable(call, error, port.replica)
            call.fail(refusal)
            call.exception()  # seen: it may be too late for the caller, and nobody waits
            self.tell("log", port.replica, level="error", text=refusal.message)
            return False
        call.set_result(None)
        return True

    def _give_credit(self, port: Port, sent: Sent, count: int) -> None:
        if port.state in ("ready", "stopping"):
            port.send(port.session.give_credit(sent.number, count))
            port.flush()

    def give_up(self, sent: Sent) -> None:
        """Tells the worker that nobody wants this request's answer any more, if nobody does."""
        port = sent.port
        if all(call.done() for call in sent.calls) and port.session.asked.get(sent.number) is sent:
            with suppress(OversizedMessage):  # one that takes no frame of this length works in vain
                port.send(port.session.cancel(sent.number))
                port.flush()
            self._overdue.add(port, sent)
            if self.on_given_up is not None:
                self.on_given_up(sent)

    def other_lane(self, port: Port, now: float) -> Lane | None:
        """The least loaded replica besides this one that could begin with a call at once."""
        lanes = [
            lane
            for lane in self.ready
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
        pauses = [lane.breaker.retry_after(now) for lane in self.ready if lane.breaker is not None]
        if any(pauses):
            self._wake_at(now + max(0.01, min(filter(None, pauses))), now)

    def _on_wake(self) -> None:
        self._wake = None
        self.pump()

    # -- deadlines

    def _live(self) -> Iterator[Call]:
        yield from self._lines
        for port in self.lanes:
            for sent in port.session.asked.values():
                if type(sent) is Sent:
                    yield from sent.calls

    def _expire(self, call: Call, now: float) -> None:
        self.failed += 1
        sent = call.request
        if sent is None:
            self._lines.gaps = True
            reason = "it was still waiting for a replica" if self.ready else "no replica was ready"
        else:
            reason = f"a worker had been at it for {now - sent.at:.3g} s"
        if self.feedback.wanted:
            self.feedback.expired(self.lanes.get(sent.port) if sent is not None else None, self.in_flight, now)
        call.fail(refusals.too_late(call, reason))
        if sent is not None:
            self.give_up(sent)

    # -- what comes back

    def on_answered(self, port: Port, answer: Answered, now: float) -> None:
        sent: Sent = answer.tag
        lane = self.lanes[port]
        if self.feedback.wanted:
            code = answer.error["code"] if answer.error is not None else None
            began = max(sent.at, lane.window.last)
            codes = _codes(sent, answer) if lane.breaker is not None else ()
            self.feedback.answered(lane, sent, code, codes, began, self.in_flight, now)
        lane.window.answered(sent.weight, now)
        self.answered += sent.weight
        if sent.isolated:
            self._acquit(lane)
        try:
            self._settle(sent, answer, port)
        except Exception as error:  # a fault of ours, which nobody foresaw: no caller may wait for ever because of it
            for call in sent.calls:
                text = f"the answer of {self.service}.{call.method} could not be taken in: {error!r}"
                call.fail(CallError(text, code="internal", service=self.service, method=call.method))
            raise
        lane.count(sent.weight)
        if lane.retired:  # its port may not say any more that there is room, and others may have waited for that
            self.pump()

    def _acquit(self, lane: Lane) -> None:
        """The suspects that this replica was kept free for did no harm."""
        if lane.reserved is not None:
            lane.reserved = None
            self._reserved -= 1

    def _settle(self, sent: Sent, answer: Answered, port: Port) -> None:
        if answer.error is not None:
            for call in sent.calls:
                self._settle_failed(call, answer.error, port)
        elif sent.packed:
            results = plain_results(answer.result, len(sent.calls))
            if results is not None:
                for call, result in zip(sent.calls, results, strict=True):
                    if not call.done():
                        call.set_result(result)
                return
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
                    result = take_apart(result, special.items)
            call.set_result(result)

    def _settle_failed(self, call: Call, error: dict[str, Any], port: Port) -> None:
        if not call.done():
            self.failed += 1
            call.fail(call_error(error, service=self.service, method=call.method, replica=port.replica))

    def on_item(self, port: Port, item: Item) -> None:
        call = item.tag.calls[0]
        if not call.done() and call.stream is not None:
            call.stream.add(item.value, port.session.frame_size)

    def on_input_credit(self, port: Port, given: InputCreditGiven) -> None:
        """A worker takes more items of a streamed argument."""
        feed = port.session.asked[given.id].calls[0].input
        if feed is not None:
            feed.on_credit()

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

    def add(self, port: Port, places: int = 1) -> Lane:
        """A replica is ready: it has its own number's place among so many, if that is free, else the first that is."""
        taken = {lane.number for lane in self.ready}
        number = port.replica
        if number in taken or number >= places:
            number = next(place for place in range(len(taken) + 1) if place not in taken)
        lane = self.lanes[port] = Lane(port, number, self.feedback.new_breaker())
        self.ready.append(lane)
        self._learn_methods(port)
        self._on_lanes_changed()
        self._wake_ready_waiters()
        self.pump()
        return lane

    def replace(self, old: Port, new: Port, on_empty: Callable[[], None]) -> Lane:
        """A replica takes the place of another, which gets no more requests; `on_empty` as `retire` has it."""
        before = self.lanes[old]
        lane = self.lanes[new] = Lane(new, before.number, self.feedback.new_breaker())
        lane.line = before.line
        lane.line.lane = lane
        self.ready[self.ready.index(before)] = lane
        self._acquit(before)
        self._learn_methods(new)
        self._on_lanes_changed()
        before.retire(on_empty)
        self.pump()
        return lane

    def retire(self, port: Port, on_empty: Callable[[], None]) -> None:
        """A replica gets no more requests; `on_empty` is called when it has answered those that it has."""
        lane = self.lanes[port]
        self._leave(lane)
        lane.retire(on_empty)
        self.pump()

    def remove(self, port: Port, verdict: Verdict, unanswered: Sequence[Sent]) -> bool:
        """A replica died and left these requests, oldest first: each call in them is sent again, or fails.

        Whether it was known that it might die of them.
        """
        lane = self.lanes.pop(port, None)
        if lane is not None and not lane.retired:
            self._leave(lane)
        if unanswered and verdict.cause != "stopped":
            self.feedback.crashed(time.monotonic())
        self._aftermath.see_to(port, verdict, unanswered)
        if self.closed is not None:
            self.fail_waiting()
        self.pump()
        return any(sent.suspicion is not None and sent.end <= port.written for sent in unanswered)

    def _leave(self, lane: Lane) -> None:
        """It gets no more requests: what waits for it alone waits for another, or in vain."""
        self.ready.remove(lane)
        self._acquit(lane)
        for call in self._lines.take_all(lane.line):
            if call.special is not None and call.special.lane is not None:
                self.failed += 1
                call.fail(refusals.was_not_sent(call, f"replica {lane.number} of {self.service} is gone"))
            else:
                self._lines.add(self._lines.main, call)
        self._on_lanes_changed()

    def _learn_methods(self, port: Port) -> None:
        self.methods = self._known = port.methods
        if self.closed is not None:
            self._known = ()
        if self.methods is None:  # calls were accepted before any worker could say what it has
            return
        batched = self._batch if "batch" in port.session.features else None
        for name, info in self.methods.items():
            if info.batch and batched is not None and name not in self._rules:
                most = None if batched.max_size == "auto" else int(batched.max_size)
                self._rules[name] = BatchRule(most, batched.max_wait)
        self.look_closer()
        for call in list(self._lines):
            if call.method not in self.methods and not call.done():
                self.failed += 1
                self._lines.gaps = True
                call.fail(refusals.unknown_method(call, self.methods))

    def _on_lanes_changed(self) -> None:
        """Calls that wait where they do because of the lanes that there were wait where they belong now."""
        if self._is_plain:
            return
        self._homes.clear()
        moved = []
        for line in self._lines.lines():
            if not line.isolated and (self._ring is not None or line is self._lines.main):
                moved += self._lines.take_all(line)
        for call in moved:
            if self._broadcasts and self.ready and (call.special is None or call.special.lane is None):
                self._spread(call)
            elif (line_of := self._line_of(call)) is not None:
                self._lines.add(line_of, call)

    # -- what dead workers leave

    def send_again(self, port: Port, calls: Sequence[Call]) -> None:
        """Puts calls that were sent before in front of those that wait."""
        count = sum(call.weight for call in calls)
        self.retried += count
        self.tell("retried", port.replica, calls=count)
        for call in reversed(calls):
            call.request = None
            line = self._line_of(call)
            if line is not None:
                self._lines.put_back(line, call)

    def shares_batches(self, call: Call) -> bool:
        """Whether it is one of those that go out in batches, even if it was the only one in its own."""
        return call.method in self._rules or (call.special is not None and call.special.items is not None)

    def isolate(self, port: Port, line: Line) -> None:
        """Calls that are sent again together, and alone."""
        count = sum(call.weight for call in line.calls)
        self.retried += count
        self.tell("retried", port.replica, calls=count, text="alone")
        self._lines.isolate(line)

    # -- the end

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
        self._deadlines.close()
        if self._hedges is not None:
            self._hedges.close()
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None

    def fail_waiting(self) -> None:
        self._wake_ready_waiters()
        for line in self._lines.lines():
            for call in self._lines.take_all(line):
                self.failed += 1
                call.fail(refusals.was_not_sent(call, f"service {self.service} is down: {self.closed}"))


def _is_nested(call: Call) -> bool:
    """Whether a worker waits for it."""
    return call.special is not None and call.special.parent is not None


def _codes(sent: Sent, answer: Answered) -> list[str | None]:
    """What became of the calls in a request that are still wanted: the codes of their errors, None for a result."""
    if answer.error is not None:
        return [answer.error["code"] for call in sent.calls if not call.done()]
    first = sent.calls[0]
    items = first.special.items if first.special is not None and not first.done() else None
    if not sent.packed and items is None:
        return [] if first.done() else [None]
    pairs = outcomes(answer.result, items or len(sent.calls))
    codes = [error and error["code"] for error, _ in pairs]
    return [code for code, call in zip(codes, sent.calls, strict=True) if not call.done()] if sent.packed else codes


def _load(lane: Lane) -> int:
    return lane.window.in_flight
