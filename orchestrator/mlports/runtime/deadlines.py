"""When the time of calls is up: one timer for all calls of a service, however many there are."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlports.runtime.call import Call

_NEVER = float("inf")
_STEP = 0.005  # seconds between two looks
_SHARE = 20  # a look may take a twentieth of the time


class Deadlines:
    """Calls `expire(call, now)` for each of `live()` whose deadline has passed.

    No call has a timer of its own, and one that is answered in time costs nothing here but a comparison: only when
    the earliest deadline of all that were made is due, all that are live are looked through. Where there are so many
    that it takes long, they are looked through less often, and told by so much later.
    """

    __slots__ = ("_expire", "_live", "_loop", "_step", "_timer", "next")

    def __init__(self, live: Callable[[], Iterable[Call]], expire: Callable[[Call, float], None]) -> None:
        self.next = _NEVER  # the earliest deadline that there may be, in monotonic seconds
        self._live = live
        self._expire = expire
        self._loop = asyncio.get_running_loop()
        self._step = _STEP
        self._timer: asyncio.TimerHandle | None = None

    def expect(self, when: float) -> None:
        """There is a call with this deadline."""
        if when < self.next:
            self.next = when
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_later(max(self._step, when - time.monotonic()), self._look)

    def close(self) -> None:
        """Nobody waits any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        self.next = _NEVER
        now = time.monotonic()
        following = _NEVER
        for call in list(self._live()):
            if not call.done():
                if call.deadline <= now:
                    self._expire(call, now)
                elif call.deadline < following:
                    following = call.deadline
        self._step = max(_STEP, _SHARE * (time.monotonic() - now))
        if following != _NEVER:
            self.expect(following)
