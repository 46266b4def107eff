"""Hedged calls: where an answer takes unusually long, another replica is asked as well, and the first answer counts."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Any
from weakref import ReferenceType, ref

from mlports.core.hedging import HedgeDelay
from mlports.runtime.call import Special

if TYPE_CHECKING:
    from mlports.runtime.call import Call, Sent
    from mlports.runtime.dispatcher import Dispatcher


class Hedges:
    """The requests of one service that may need a second chance, in the order in which their time comes."""

    def __init__(self, dispatcher: Dispatcher, after: float | str) -> None:
        self.delay = HedgeDelay(after)
        self.made = 0
        self.won = 0
        self._dispatcher = dispatcher
        self._loop = asyncio.get_running_loop()
        self._watched: deque[tuple[float, ReferenceType[Call]]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, sent: Sent) -> None:
        """A request of idempotent calls went out."""
        delay = self.delay.delay()
        if delay is None or sent.isolated:
            return
        when = sent.at + delay
        for call in sent.calls:
            if call.special is None or not (call.special.alone or call.special.lane is not None):
                self._watched.append((when, ref(call)))
        if self._timer is None and self._watched:
            self._set_timer()

    def close(self) -> None:
        """No more of them."""
        self._watched.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set_timer(self) -> None:
        self._timer = self._loop.call_later(max(0.001, self._watched[0][0] - time.monotonic()), self._look)

    def _look(self) -> None:
        self._timer = None
        now = time.monotonic()
        while self._watched and self._watched[0][0] <= now:
            call = self._watched.popleft()[1]()
            if call is not None and not call.done() and call.request is not None:
                self._hedge(call, call.request, now)
        if self._watched:
            self._set_timer()

    def _hedge(self, call: Call, sent: Sent, now: float) -> None:
        dispatcher = self._dispatcher
        lane = dispatcher.sender.other_lane(sent.port, now)
        if lane is None or not dispatcher.budget.allows(1, now):
            return
        self.made += 1
        left = None if call.deadline == float("inf") else call.deadline - now
        twin = dispatcher.call(call.method, call.params, left, Special(lane=lane))

        def settle(twin: Any) -> None:
            if twin.cancelled():
                return
            error = twin.exception()  # the first one may still be answered
            if error is None and not call.done():
                self.won += 1
                call.set_result(twin.result())
                if call.request is not None:
                    dispatcher.sender.give_up(call.request)

        twin.add_done_callback(settle)
        call.add_done_callback(lambda _: twin.cancel())
