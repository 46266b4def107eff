"""Requests that nobody wants any more: a worker that ignores that for too long hangs, and is killed."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from weakref import ReferenceType, ref

from mlports.runtime.call import Sent
from mlports.runtime.port import Port


class Overdue:
    """The requests that were cancelled, or are past their deadline, and are still to be answered.

    A worker has `grace` seconds to answer each, None for as long as it likes; one that does not is said to hang. Where
    others may have kept it from this one, the time counts from when it was last seen that they did not.
    """

    def __init__(self, grace: float | None) -> None:
        self._grace = grace
        self._loop = asyncio.get_running_loop()
        # In the order of their times, and whether others came first when it was last looked at. Neither a call nor a
        # dead port is kept alive by it.
        self._waiting: deque[tuple[float, ReferenceType[Port], int, bool]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, port: Port, sent: Sent) -> None:
        """The worker was told that nobody waits for this request's answer."""
        if self._grace is not None:
            self._waiting.append((time.monotonic() + self._grace, ref(port), sent.number, False))
            if self._timer is None:
                self._set_timer()

    def close(self) -> None:
        """Nobody hangs any more."""
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set_timer(self) -> None:
        self._timer = self._loop.call_later(max(0.0, self._waiting[0][0] - time.monotonic()), self._look)

    def _look(self) -> None:
        self._timer = None
        now = time.monotonic()
        while self._waiting and self._waiting[0][0] <= now:
            _, reference, number, was_behind = self._waiting.popleft()
            port = reference()
            sent = None if port is None or port.state != "ready" else port.session.asked.get(number)
            if port is None or sent is None:
                continue
            is_behind = _may_wait_its_turn(port, sent)
            if is_behind or was_behind:
                self._waiting.append((now + (self._grace or 0.0), reference, number, is_behind))
            else:
                what = f"was at {sent.calls[0].method} for {now - sent.at:.3g} s"
                told = f"and still {self._grace:g} s after it was told that nobody waits for the answer (grace)"
                port.hang("hang", f"hung: it {what}, {told}")
        if self._waiting:
            self._set_timer()


def _may_wait_its_turn(port: Port, sent: Sent) -> bool:
    """Whether the worker is at other calls that are wanted, as many as it does at a time, and was so before this one.

    It may not have looked at this one then, and is not to be blamed.
    """
    before = 0
    for other in port.session.asked.values():
        if type(other) is Sent and other.number < sent.number and any(not call.done() for call in other.calls):
            before += 1
    return before >= port.peer.concurrency
