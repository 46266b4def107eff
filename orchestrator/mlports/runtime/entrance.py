"""Where calls come in: each is refused, or put into the line in which it waits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mlports.core.admission import retry_after
from mlports.core.batching import MOST_IN_BATCH, BatchRule, batch_key
from mlports.core.routing import ABSENT, key_of
from mlports.errors import CallError
from mlports.runtime import refusals
from mlports.runtime.call import Call, Special
from mlports.runtime.feedback import lets_through
from mlports.runtime.joining import Copies, Errors, Parts
from mlports.runtime.lane import Lane
from mlports.runtime.port import Port
from mlports.runtime.waiting import Line

if TYPE_CHECKING:
    from mlports.config import ServiceConfig
    from mlports.runtime.dispatcher import Dispatcher

_NEVER = float("inf")
_LONGEST = 1e9  # seconds: a longer timeout is none, and fits no integer of the protocol's


class Entrance:
    """Accepts the calls of one dispatcher's service.

    `is_plain`: any of them may wait in the main line, and nobody looks at it before.
    """

    def __init__(self, calls: Dispatcher, config: ServiceConfig) -> None:
        self.is_plain = True
        self.homes: dict[int, Lane | None] = {}  # by slot
        self.batch = config.batch
        self._calls = calls
        self._queue = config.queue
        self._key_place = config.key
        self._loop = asyncio.get_running_loop()
        self._waiting = calls.lines.main.calls
        self._ready_waiters: list[asyncio.Future[None]] = []

    def look_closer(self) -> None:
        """Whether calls are to be looked at one by one may have changed."""
        calls = self._calls
        self.is_plain = not (
            calls.ring is not None
            or calls.broadcasts
            or calls.feedback.breaker is not None
            or calls.shadowing is not None
            or calls.rules
            or calls.quarantine.methods
        )

    def call(self, method: str, params: Sequence[Any], timeout: float | None, special: Special | None = None) -> Call:
        """Accepts a call, or refuses it: what is returned is then settled already."""
        calls = self._calls
        call = Call(loop=self._loop)
        call.dispatcher = calls
        call.method = method
        call.params = params
        call.special = special
        call.request = None
        call.attempts = 0
        call.deadline = deadline = _NEVER if timeout is None or timeout > _LONGEST else time.monotonic() + timeout
        waiting = self._waiting
        if special is not None and (type(special.priority) is not int or type(special.tag) is not str):
            calls.refuse(call, refusals.bad_rank(call, special))
            return call
        if (
            (calls.known is not None and method not in calls.known)
            or len(waiting) >= self._queue
            or (timeout is not None and not timeout > 0)  # NaN too
        ):
            refusal = self._refusal(call, timeout)
            if refusal is not None:
                calls.refuse(call, refusal)
                return call
        if self.is_plain and special is None:
            waiting.append(call)
        elif not self._place(call):
            return call
        if deadline < calls.deadlines.next:
            calls.deadlines.expect(deadline)
        sender = calls.sender
        if not sender.pump_scheduled:
            waiting = self._waiting  # it may be ranked now
            # The first call of a burst leaves at once; those that follow in the same turn of the loop leave together.
            if len(waiting) == 1 and not any(lane.window.in_flight for lane in calls.ready):
                sender.pump()
            if waiting or calls.lines.held:
                sender.pump_soon()
        return call

    def _refusal(self, call: Call, timeout: float | None) -> CallError | None:
        if self._calls.closed is not None:
            return refusals.is_down(call, self._calls.closed)
        if timeout is not None and not timeout > 0:
            return refusals.too_late(call, f"its timeout was {timeout:g} s when it was made")
        if self._calls.methods is not None and call.method not in self._calls.methods:
            return refusals.unknown_method(call, self._calls.methods)
        return None if self._is_room_for(call) else self._overloaded(call)

    # -- whether it may wait

    def _is_room_for(self, call: Call) -> bool:
        """Whether it may wait too; somebody else may have to give way to it."""
        lines = self._calls.lines
        self._calls.sender.pump()  # calls of this turn of the loop may be waiting only for the turn's end
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
        self._calls.refuse(victim, refusals.gave_way(victim, self._retry_after()))
        return True

    @property
    def _most_waiting(self) -> int:
        """How many may wait. Of a broadcast every copy does, so there are as many as replicas for each call."""
        return self._queue * len(self._calls.ready) if self._calls.broadcasts and self._calls.ready else self._queue

    def _overloaded(self, call: Call) -> CallError:
        return refusals.overloaded(call, len(self._calls.lines), self._retry_after())

    def _retry_after(self) -> float:
        paces = [lane.window.pace for lane in self._calls.ready if lane.window.pace is not None]
        pace = sum(paces) / len(paces) if paces else None
        return retry_after(len(self._calls.lines), pace, max(1, len(self._calls.ready)))

    def _has_room(self) -> bool:
        now, limit = time.monotonic(), self._calls.feedback.limit
        if limit is not None and self._calls.in_flight >= limit.limit:
            return False
        return any(lane.window.room(now) > 0 and lane.port.takes_requests for lane in self._calls.ready)

    def _rank(self) -> None:
        self._calls.lines.rank()
        self._waiting = self._calls.lines.main.calls

    # -- what a `map` asks first

    async def takes_batches(self) -> bool:
        """Whether the workers take several calls in one request; waits until one is ready to say so."""
        while not self._calls.ready and self._calls.closed is None:
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._ready_waiters.append(waiter)
            await waiter
        if self._calls.ring is not None or self._calls.broadcasts:
            return False
        return bool(self._calls.ready) and "batch" in self._calls.ready[0].port.session.features

    def most_together(self, method: str) -> int:
        """How many items of a `map` may travel in one request, by what is configured."""
        most = MOST_IN_BATCH
        if method in self._calls.rules and self.batch is not None and self.batch.max_size != "auto":
            most = int(self.batch.max_size)
        return most if self._calls.feedback.limit is None else min(most, self._calls.feedback.limit.limit)

    def wake_ready_waiters(self) -> None:
        """A replica is ready, or there will be none."""
        waiters, self._ready_waiters = self._ready_waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    # -- where it waits

    def _place(self, call: Call) -> bool:
        """Puts a call that is none of the plain ones into its line. False when it was settled, or sent on, instead."""
        special = call.special
        if self._may_be_poison(call) and self._sort_out_poison(call):
            return False
        if special is not None and not self._calls.lines.ranked and (special.priority or special.tag):
            self._rank()
        breaker = self._calls.feedback.breaker
        if breaker is not None and not lets_through(breaker, call, now := time.monotonic()):
            self._calls.refuse(call, refusals.circuit_open(call, breaker.retry_after(now)))
            return False
        if self._calls.broadcasts and self._calls.ready and (special is None or special.lane is None):
            if len(self._calls.lines) >= self._most_waiting and not self._is_room_for(call):
                self._calls.refuse(call, self._overloaded(call))
            else:
                self.spread(call)
            return False
        line = self.line_of(call)
        if line is None:
            return False
        if len(self._calls.lines) >= self._queue and not self._is_room_for(call):
            self._calls.refuse(call, self._overloaded(call))
            return False
        if self._calls.shadowing is not None and (special is None or special.lane is None):
            self._calls.shadowing.copy(call)
        self._calls.lines.add(line, call)
        return True

    def line_of(self, call: Call) -> Line | None:
        """The line in which a call waits; None when it has none, and was failed."""
        special, lane = call.special, None
        if special is not None and special.lane is not None:
            line = special.lane.line  # that of whoever has taken its place, if somebody has
            if line.lane in self._calls.ready:
                return line
            self._calls.refuse(
                call, refusals.was_not_sent(call, f"replica {special.lane.number} of {self._calls.service} is gone")
            )
            return None
        if self._calls.ring is not None:
            try:
                key = key_of(call.params, self._key_place, special.key if special is not None else ABSENT)
                call.slot = self._calls.ring.slot(key)
            except (TypeError, ValueError) as problem:
                self._calls.refuse(call, refusals.bad_key(call, problem))
                return None
            lane = self.home(call.slot)
        rule = self._calls.rules.get(call.method)
        if rule is not None and (special is None or not special.alone):
            try:
                key = batch_key(call.params, self.batch.key if self.batch is not None else None)
            except TypeError as problem:
                self._calls.refuse(call, refusals.bad_key(call, problem))
                return None
            return self._in_company(call, self._calls.lines.group((call.method, key, id(lane)), rule, lane), rule)
        return lane.line if lane is not None else self._calls.lines.main

    def _in_company(self, call: Call, line: Line, rule: BatchRule) -> Line:
        since = time.monotonic()
        if call.deadline - since < 2 * rule.max_wait:  # it has no time to wait for company
            since -= rule.max_wait
        call.since = since
        if not line.calls or since < line.oldest:
            line.oldest = since
        return line

    def home(self, slot: int) -> Lane | None:
        """Where the keys of this slot belong now; None when no replica is ready."""
        assert self._calls.ring is not None
        try:
            return self.homes[slot]
        except KeyError:
            index = self._calls.ring.home(self._calls.ready, slot)
            lane = self.homes[slot] = self._calls.ready[index] if index is not None else None
            return lane

    def only_port(self, call: Call) -> Port | None:
        """The only one that a call which waits may be sent to; None when any may have it."""
        lane = call.special.lane if call.special is not None else None
        if lane is None and self._calls.ring is not None and hasattr(call, "slot"):
            lane = self.home(call.slot)
        return None if lane is None else lane.port

    def spread(self, call: Call) -> None:
        """A copy of the call for every replica that is ready."""
        if call.special is not None and (call.special.stream is not None or call.special.input is not None):
            self._calls.refuse(call, refusals.bad_key(call, "a stream cannot be broadcast (route)"))
            return
        copies = {}
        for lane in self._calls.ready:
            special = (call.special or Special())._replace(lane=lane)
            copies[lane.number] = self._calls.new_call(call.method, call.params, call.deadline, special)
        Copies(call, copies)
        if call.deadline < self._calls.deadlines.next:
            self._calls.deadlines.expect(call.deadline)
        for lane in self._calls.ready:
            self._calls.lines.add(lane.line, copies[lane.number])
        self._calls.sender.pump_soon()

    # -- calls that kill

    def _may_be_poison(self, call: Call) -> bool:
        methods = self._calls.quarantine.methods
        return bool(methods) and f"{self._calls.service}.{call.method}" in methods

    def _sort_out_poison(self, call: Call) -> bool:
        """Refuses what is in quarantine; of a call for many items, those. Whether the call was seen to."""
        quarantine, special = self._calls.quarantine, call.special
        if special is None or special.items is None:
            held = quarantine.refuse(self._calls.digest(call.method, call.params))
            if held is None:
                return False
            self._calls.refuse(call, refusals.quarantined(call, held))
            return True
        known: Errors = {}
        for place, item in enumerate(call.params):
            held = quarantine.refuse(self._calls.digest(call.method, [item]))
            if held is not None:
                known[place] = refusals.quarantined(call, held)
        if not known:
            return False
        self._calls.failed += len(known)
        places = [place for place in range(len(call.params)) if place not in known]
        parts = []
        if places:
            part = self._calls.new_call(call.method, [call.params[place] for place in places], call.deadline)
            part.special = special._replace(items=len(places))
            parts.append(part)
        Parts(call, parts, [places], known)
        if call.deadline < self._calls.deadlines.next:
            self._calls.deadlines.expect(call.deadline)
        for part in parts:
            self._calls.lines.add(self._calls.lines.main, part)
            self._calls.sender.pump_soon()
        return True

    def refuse_poison(self, method: str) -> None:
        """Something was put into quarantine: the same calls that wait already are refused like those that come."""
        for call in list(self._calls.lines):
            if call.method == method and not call.done() and (call.special is None or call.special.items is None):
                held = self._calls.quarantine.refuse(self._calls.digest(method, call.params))
                if held is not None:
                    self._calls.failed += 1
                    self._calls.lines.gaps = True
                    call.fail(refusals.quarantined(call, held))
