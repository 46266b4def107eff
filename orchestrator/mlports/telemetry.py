"""What happens, as a stream of events: for `mlports events`, the log, and whoever subscribes."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

Event = dict[str, Any]

_KEPT = 1000
_BEHIND = 10_000  # events that a slow subscriber may lag behind before it loses the oldest


class EventLog:
    """The latest events, and everybody who wants to hear of new ones.

    An event is a dict of plain values with `time` (seconds since the epoch), `event` (what happened: "starting",
    "ready", "died", "restarting", "promoted", "recycling", "gave_up", "stopping", "stopped", "log", "progress",
    "retried", "recorded", "guard_restarted", "guard_lost") and, where it is about one, `service` and `replica`, or
    `program`, or `supervisor`.
    """

    def __init__(self) -> None:
        self.recent: deque[Event] = deque(maxlen=_KEPT)
        self._listeners: list[Callable[[Event], None]] = []
        self._followers: set[asyncio.Event] = set()
        self._closed = False

    def emit(self, name: str, **fields: Any) -> None:
        """Tells everybody. Fields that are None are left out."""
        event: Event = {"time": time.time(), "event": name}
        event.update((key, value) for key, value in fields.items() if value is not None)
        self.recent.append(event)
        for listener in self._listeners:
            try:
                listener(event)
            except Exception as error:  # the listener's own; what happens here goes on
                _blame(error)

    def listen(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        """Calls `listener` with each event from now on; the function that is returned ends that."""
        # A new list each time, because listeners may come and go while one is gone through.
        self._listeners = [*self._listeners, listener]

        def end() -> None:
            self._listeners = [other for other in self._listeners if other is not listener]

        return end

    async def follow(self, recent: bool = False) -> AsyncIterator[Event]:
        """The events from now on, the recent ones first if they are wanted, until the log is closed."""
        pending: deque[Event] = deque(self.recent if recent else (), maxlen=_BEHIND)
        arrived = asyncio.Event()

        def listener(event: Event) -> None:
            pending.append(event)
            arrived.set()

        end = self.listen(listener)
        self._followers.add(arrived)
        try:
            while True:
                while pending:
                    yield pending.popleft()
                if self._closed:
                    return
                arrived.clear()
                await arrived.wait()
        finally:
            self._followers.discard(arrived)
            end()

    def close(self) -> None:
        """Says that nothing more will happen: whoever follows comes to the end, after what they have not seen yet."""
        self._closed = True
        for arrived in self._followers:
            arrived.set()


def _blame(error: Exception) -> None:
    context = {"message": "a listener of mlports' events failed", "exception": error}
    asyncio.get_running_loop().call_exception_handler(context)
