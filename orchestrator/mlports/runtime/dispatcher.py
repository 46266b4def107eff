"""The dispatcher: from the queue of calls to whichever replica has room, and from its answer back to the caller.

    call() ──▶ a line ──pump()──▶ a port's request ──answer──▶ settled
                 ▲                      │
                 └──── aftermath ◀── the worker died

Every call that is accepted is settled exactly once. It leaves its line when it is sent, when its deadline passes, when
it is cancelled, or when it gives way to another; what a dying worker leaves unanswered is the aftermath's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Container, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from mlports.core.batching import BatchRule
from mlports.core.quarantine import Quarantine
from mlports.core.retry_budget import RetryBudget
from mlports.core.routing import Broadcast, HashRing, policy_of
from mlports.core.verdict import Verdict
from mlports.errors import CallError, call_error
from mlports.runtime import refusals
from mlports.runtime.aftermath import Aftermath
from mlports.runtime.call import Call, Sent, Special
from mlports.runtime.deadlines import Deadlines
from mlports.runtime.entrance import Entrance
from mlports.runtime.feedback import Feedback
from mlports.runtime.hedging import Hedges
from mlports.runtime.lane import Lane
from mlports.runtime.outcomes import outcomes, plain_results, take_apart
from mlports.runtime.port import Port
from mlports.runtime.sender import Sender
from mlports.runtime.waiting import Line, Waiting
from mlports.telemetry import EventLog
from mlports_protocol import (
    Answered,
    InputCreditGiven,
    Item,
    MethodInfo,
    Progressed,
)

if TYPE_CHECKING:
    from mlports.config import ServiceConfig
    from mlports.runtime.shadowing import Shadowing


class Dispatcher:
    """One service's calls: those that wait, in their lines, and those that its replicas are at.

    `call`, as its `Entrance` has it, accepts one; `pump`, as its `Sender` has it, sends what waits.
    """

    def __init__(self, service: str, config: ServiceConfig, quarantine: Quarantine, events: EventLog) -> None:
        self.service = service
        self.methods: dict[str, MethodInfo] | None = None  # None until a worker has said which it has, or said nothing
        self.ready: list[Lane] = []  # those that get requests
        self.lanes: dict[Port, Lane] = {}  # and those besides that still have some
        self._taken: set[int] = set()  # the places of those that are ready
        self.lines = Waiting()
        self.closed: str | None = None  # why no more calls are accepted
        self.known: Container[str] | None = None  # the methods that may be called now; None: any
        self.answered = 0
        self.failed = 0
        self.retried = 0
        self.budget = RetryBudget(config.retry_budget)
        self.quarantine = quarantine
        self.shadowing: Shadowing | None = None
        self.on_given_up: Callable[[Sent], None] | None = None
        self.rules: dict[str, BatchRule] = {}  # of the batch methods
        policy = policy_of(config.route, config.weights, replicas=config.replicas, standby=config.standby)
        self.ring = policy if isinstance(policy, HashRing) else None
        self.broadcasts = isinstance(policy, Broadcast)
        self.hedges = Hedges(self, config.hedge.after) if config.hedge is not None else None
        self.feedback = Feedback(config, self.rules, self.hedges)
        self.deadlines = Deadlines(self._live, self.expire)
        self._aftermath = Aftermath(self, config.retries)
        self._events = events
        self._loop = asyncio.get_running_loop()
        usual = config.route == "least_loaded" and config.weights is None
        self.sender = Sender(self, config, None if usual or isinstance(policy, HashRing | Broadcast) else policy)
        self.entrance = Entrance(self, config)
        self.look_closer()
        self.call, self.pump = self.entrance.call, self.sender.pump

    @property
    def waiting(self) -> int:
        """How many calls wait for a replica."""
        return sum(call.weight for call in self.lines if not call.done())

    @property
    def in_flight(self) -> int:
        """How many calls are in the workers' hands."""
        return sum(lane.window.in_flight for lane in self.lanes.values())

    def look_closer(self) -> None:
        """Whether calls are to be looked at one by one may have changed."""
        self.entrance.look_closer()

    def status(self) -> dict[str, Any]:
        """What there is to tell of limits, breakers, hedges, batches and copies, of those that are configured."""
        feedback, now = self.feedback, time.monotonic()
        return {
            "concurrency": feedback.limit.limit if feedback.limit is not None else None,
            "breaker": feedback.breaker.state(now) if feedback.breaker is not None else None,
            "hedged": {"made": self.hedges.made, "won": self.hedges.won} if self.hedges is not None else None,
            "batch_size": {method: rule.size for method, rule in self.rules.items()} or None,
            "shadow": self.shadowing.shadow.as_dict() if self.shadowing is not None else None,
        }

    def digest(self, method: str, params: Sequence[Any]) -> bytes | None:
        """By what the quarantine knows a call; None for one that cannot be sent anyway."""
        return self.quarantine.digest(f"{self.service}.{method}", params)

    def refuse(self, call: Call, error: CallError) -> None:
        """Settles a call with an error, and counts it."""
        self.failed += 1
        call.fail(error)

    def tell(self, event: str, replica: int | None, **fields: Any) -> None:
        """An event of this service's."""
        self._events.emit(event, service=self.service, replica=replica, **fields)

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

    # -- given up, or too late

    def on_cancelled(self, call: Call) -> None:
        """The caller gave a call up."""
        if call.request is not None:
            self.sender.give_up(call.request)
        else:  # it is skipped when its turn comes
            self.lines.gaps = True

    def _live(self) -> Iterator[Call]:
        yield from self.lines
        for port in self.lanes:
            for sent in port.session.asked.values():
                if type(sent) is Sent:
                    yield from sent.calls

    def expire(self, call: Call, now: float) -> None:
        """The time of a call is up."""
        self.failed += 1
        sent = call.request
        if sent is None:
            self.lines.gaps = True
            reason = "it was still waiting for a replica" if self.ready else "no replica was ready"
        else:
            reason = f"a worker had been at it for {now - sent.at:.3g} s"
        if self.feedback.wanted:
            self.feedback.expired(self.lanes.get(sent.port) if sent is not None else None, self.in_flight, now)
        call.fail(refusals.too_late(call, reason))
        if sent is not None:
            self.sender.give_up(sent)
        self._heed_breaker(now)

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
            self.sender.acquit(lane)
        try:
            self._settle(sent, answer, port)
        except Exception as error:  # a fault of ours, which nobody foresaw: no caller may wait for ever because of it
            for call in sent.calls:
                text = f"the answer of {self.service}.{call.method} could not be taken in: {error!r}"
                call.fail(CallError(text, code="internal", service=self.service, method=call.method))
            raise
        lane.count(sent.weight)
        self._heed_breaker(now)
        if lane.retired:  # its port may not say any more that there is room, and others may have waited for that
            self.pump()

    def _settle(self, sent: Sent, answer: Answered, port: Port) -> None:
        if answer.error is not None:
            for call in sent.calls:
                self._settle_failed(call, answer.error, port)
        elif sent.packed:
            results = plain_results(answer.result, len(sent.calls))
            if results is not None:
                for call, result in zip(sent.calls, results, strict=True):
                    try:  # asked first, each would cost a third more
                        call.set_result(result)
                    except asyncio.InvalidStateError:  # it was given up
                        continue
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
            self.refuse(call, call_error(error, service=self.service, method=call.method, replica=port.replica))

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
        number, taken = port.replica, self._taken
        if number in taken or number >= places:
            number = next(place for place in range(len(taken) + 1) if place not in taken)
        taken.add(number)
        lane = self.lanes[port] = Lane(port, number, self.feedback.new_breaker())
        self.ready.append(lane)
        self._learn_methods(port)
        self._on_lanes_changed()
        self.entrance.wake_ready_waiters()
        self.pump()
        return lane

    def replace(self, old: Port, new: Port, on_empty: Callable[[], None]) -> Lane:
        """A replica takes the place of another, which gets no more requests; `on_empty` as `retire` has it."""
        before = self.lanes[old]
        lane = self.lanes[new] = Lane(new, before.number, self.feedback.new_breaker())
        lane.line = before.line
        lane.line.lane = lane
        self.ready[self.ready.index(before)] = lane
        self.sender.acquit(before)
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
        self._heed_breaker(time.monotonic())
        self.pump()
        return any(sent.suspicion is not None and sent.end <= port.written for sent in unanswered)

    def _leave(self, lane: Lane) -> None:
        """It gets no more requests: what waits for it alone waits for another, or in vain."""
        self.ready.remove(lane)
        self._taken.discard(lane.number)
        self.sender.acquit(lane)
        for call in self.lines.take_all(lane.line):
            if call.special is not None and call.special.lane is not None:
                self.refuse(call, refusals.was_not_sent(call, f"replica {lane.number} of {self.service} is gone"))
            else:
                self.lines.add(self.lines.main, call)
        self._on_lanes_changed()

    def _learn_methods(self, port: Port) -> None:
        self.methods = self.known = port.methods
        if self.closed is not None:
            self.known = ()
        if self.methods is None:  # calls were accepted before any worker could say what it has
            return
        batched = self.entrance.batch if "batch" in port.session.features else None
        for name, info in self.methods.items():
            if info.batch and batched is not None and name not in self.rules:
                most = None if batched.max_size == "auto" else int(batched.max_size)
                self.rules[name] = BatchRule(most, batched.max_wait)
        self.look_closer()
        for call in list(self.lines):
            if call.method not in self.methods and not call.done():
                self.failed += 1
                self.lines.gaps = True
                call.fail(refusals.unknown_method(call, self.methods))

    def _on_lanes_changed(self) -> None:
        """Calls that wait where they do because of the lanes that there were wait where they belong now."""
        if self.entrance.is_plain:
            return
        self.entrance.homes.clear()
        moved = []
        for line in self.lines.lines():
            if not line.isolated and (self.ring is not None or line is self.lines.main):
                moved += self.lines.take_all(line)
        for call in moved:
            if self.broadcasts and self.ready and (call.special is None or call.special.lane is None):
                self.entrance.spread(call)
            elif (line_of := self.entrance.line_of(call)) is not None:
                self.lines.add(line_of, call)

    # -- what dead workers leave

    def send_again(self, port: Port, calls: Sequence[Call]) -> None:
        """Puts calls that were sent before in front of those that wait."""
        count = sum(call.weight for call in calls)
        self.retried += count
        self.tell("retried", port.replica, calls=count)
        for call in reversed(calls):
            call.request = None
            line = self.entrance.line_of(call)
            if line is not None:
                self.lines.put_back(line, call)

    def shares_batches(self, call: Call) -> bool:
        """Whether it is one of those that go out in batches, even if it was the only one in its own."""
        return call.method in self.rules or (call.special is not None and call.special.items is not None)

    def isolate(self, port: Port, line: Line) -> None:
        """Calls that are sent again together, and alone."""
        count = sum(call.weight for call in line.calls)
        self.retried += count
        self.tell("retried", port.replica, calls=count, text="alone")
        self.lines.isolate(line)

    # -- the end

    def close(self, why: str) -> None:
        """Accepts no more calls, and fails those that wait; those that a worker is at may finish."""
        self.closed = why
        self.known = ()
        self.fail_waiting()

    def reopen(self) -> None:
        """Accepts calls again: there will be replicas after all."""
        self.closed = None
        self.known = self.methods

    def end(self) -> None:
        """The last replica is gone."""
        self.sender.close()
        self.deadlines.close()
        if self.hedges is not None:
            self.hedges.close()

    def fail_waiting(self) -> None:
        self.entrance.wake_ready_waiters()
        for line in self.lines.lines():
            for call in self.lines.take_all(line):
                self.refuse(call, refusals.was_not_sent(call, f"service {self.service} is down: {self.closed}"))

    def _heed_breaker(self, now: float) -> None:
        """Once the service's breaker is open, what waits is refused as what comes then is: it would wait in vain."""
        breaker = self.feedback.breaker
        if breaker is None or not self.lines or breaker.state(now) != "open":
            return
        for line in self.lines.lines():
            if not line.isolated:  # whoever serves those sees to its replica too
                for call in self.lines.take_all(line):
                    self.refuse(call, refusals.circuit_open(call, breaker.retry_after(now)))


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
