"""What becomes of the calls that a worker died with: sent again, cut in halves, or failed.

never left this process ──────────────────────────────▶ sent again
not idempotent, or out of tries or of budget ─────────▶ WorkerCrashed
a lone call ──────────────────────────────────────────▶ sent again
several in one request ──▶ halves, each sent alone ──▶ … ──▶ one alone kills again ──▶ PoisonRequest, quarantined
"""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mlports.core.bisection import Again, Guilty, Split, Suspicion, after_death
from mlports.core.verdict import Verdict
from mlports.errors import ProtocolViolation, WorkerCrashed
from mlports.runtime.call import Call, Sent, Special
from mlports.runtime.joining import Parts
from mlports.runtime.refusals import poison
from mlports.runtime.waiting import Line

if TYPE_CHECKING:
    from mlports.runtime.dispatcher import Dispatcher
    from mlports.runtime.port import Port

# What people and systems send to a process that has done nothing wrong.
_FROM_OUTSIDE = frozenset([signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])


class Aftermath:
    """Settles, or puts back, what dead workers left. It is the dispatcher's, and makes its calls and failures."""

    def __init__(self, dispatcher: Dispatcher, retries: int) -> None:
        self._dispatcher = dispatcher
        self._retries = retries

    def see_to(self, port: Port, verdict: Verdict, unanswered: Sequence[Sent]) -> None:
        """`unanswered` are the requests that the worker died with, the oldest first."""
        now = time.monotonic()
        alone = sum(sent.end <= port.written for sent in unanswered) == 1
        again: list[Call] = []
        for sent in unanswered:
            live = [call for call in sent.calls if not call.done()]
            if not live:
                continue
            if sent.end > port.written:  # a part of a frame is nothing that can have been done
                if sent.isolated:
                    self._isolate(port, live, sent.suspicion)
                else:
                    again += live
            else:
                again += self._after_death(sent, live, verdict, alone, now)
        if again:
            self._dispatcher.send_again(port, again)

    def _after_death(self, sent: Sent, live: list[Call], verdict: Verdict, alone: bool, now: float) -> list[Call]:
        """Settles or isolates these calls of one request; gives those that are simply to be sent again."""
        dispatcher = self._dispatcher
        count = sum(call.weight for call in live)
        if sent.suspicion is None:
            may = [call for call in live if self._may_repeat(call, count > 1)]
            for call in live:
                if call not in may:
                    self._fail(call, verdict)
            live, count = may, sum(call.weight for call in may)
            if not live:
                return []
            if not dispatcher.budget.allows(count, now):
                for call in live:
                    self._fail(call, verdict, "; it was not sent again, because too many others were (retry_budget)")
                return []
            if verdict.cause == "stopped":
                return live
        elif verdict.cause == "stopped":
            self._isolate(sent.port, live, sent.suspicion)
            return []
        from_outside = verdict.cause == "signal" and -(verdict.status or 0) in _FROM_OUTSIDE
        judgement = after_death(count, sent.suspicion, alone, from_outside)
        if isinstance(judgement, Split):
            self._split(sent.port, live, judgement)
        elif isinstance(judgement, Again):
            self._isolate(sent.port, live, judgement.suspicion)
        elif isinstance(judgement, Guilty):
            self._convict(live[0], verdict, sent.suspicion.deaths + 1 if sent.suspicion is not None else 1)
        elif dispatcher.shares_batches(live[0]):  # it happened to be alone in its batch
            self._isolate(sent.port, live, Suspicion(1, 1, int(from_outside)))
        elif live[0].attempts >= self._retries:  # if it is its death, it shall be nobody else's
            self._isolate(sent.port, live)
        else:
            return live
        return []

    def _may_repeat(self, call: Call, shared: bool) -> bool:
        dispatcher, special = self._dispatcher, call.special
        if special is not None and (special.stream is not None or special.lane is not None):
            return False
        if special is not None and special.input is not None and special.input.begun:
            return False
        # One that shared its request is sent alone from now on: what it was tried before proves nothing.
        if not self._retries or (call.attempts > self._retries and not shared):
            return False
        info = dispatcher.methods.get(call.method) if dispatcher.methods is not None else None
        return info is not None and info.idempotent

    def _split(self, port: Port, live: list[Call], split: Split) -> None:
        first = split.sizes[0]
        if len(live) > 1:
            self._isolate(port, live[:first], split.suspicion)
            self._isolate(port, live[first:], split.suspicion)
            return
        whole = live[0]
        ranges = [range(first), range(first, whole.weight)]
        parts = [self._part(whole, places) for places in ranges]
        Parts(whole, parts, ranges, {})
        for part in parts:
            self._isolate(port, [part], split.suspicion)

    def _part(self, whole: Call, places: Sequence[int]) -> Call:
        part = self._dispatcher.new_call(whole.method, [whole.params[place] for place in places], whole.deadline)
        part.special = (whole.special or Special())._replace(items=len(places), progress=None)
        part.attempts = whole.attempts
        if hasattr(whole, "slot"):
            part.slot = whole.slot
        return part

    def _isolate(self, port: Port, calls: list[Call], suspicion: Suspicion | None = None) -> None:
        line = Line(isolated=True, suspicion=suspicion)
        for call in calls:
            call.request = None
            line.calls.append(call)
        self._dispatcher.isolate(port, line)

    def _convict(self, call: Call, verdict: Verdict, deaths: int) -> None:
        dispatcher = self._dispatcher
        items = call.special is not None and call.special.items is not None
        digest = dispatcher.digest(call.method, [call.params[0]] if items else call.params)
        dispatcher.quarantine.add(digest, f"{dispatcher.service}.{call.method}", str(verdict)[:500], time.time())
        dispatcher.look_closer()
        dispatcher.failed += 1
        error = poison(call, verdict, deaths, digest.hex() if digest is not None else None)
        dispatcher.tell("quarantined", verdict.replica, method=call.method, digest=error.digest, text=str(error))
        call.fail(error)
        dispatcher.entrance.refuse_poison(call.method)

    def _fail(self, call: Call, verdict: Verdict, why: str = "") -> None:
        dispatcher = self._dispatcher
        dispatcher.failed += call.weight
        tried = f" (attempt {call.attempts})" if call.attempts > 1 else ""
        kind = ProtocolViolation if verdict.cause == "protocol" else WorkerCrashed
        call.fail(
            kind(
                f"{dispatcher.service}.{call.method} got no answer{tried}: {verdict}{why}",
                verdict=verdict,
                service=dispatcher.service,
                method=call.method,
                replica=verdict.replica,
                retryable=True,
            )
        )
