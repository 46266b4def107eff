"""Shadow copies: a share of a service's calls is made of another one too, and what both answered is compared."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mlports.core.routing import Shadow
from mlports.errors import CallError
from mlports.runtime.call import Special

if TYPE_CHECKING:
    from mlports.config import ShadowConfig
    from mlports.runtime.call import Call
    from mlports.runtime.dispatcher import Dispatcher
    from mlports.telemetry import EventLog


class Shadowing:
    """Copies calls to `target()`. Whatever becomes of a copy, the call itself never knows of it."""

    def __init__(
        self, service: str, settings: ShadowConfig, target: Callable[[], Dispatcher], events: EventLog
    ) -> None:
        self.shadow = Shadow(settings.share, settings.tolerance)
        self._service = service
        self._name = settings.service
        self._target = target
        self._events = events

    def copy(self, call: Call) -> None:
        """Copies this call, if it is one of the share. Streams, either way, casts and copies are never copied."""
        special = call.special
        if special is not None and (
            special.stream is not None or special.input is not None or special.cast or special.copied
        ):
            return
        if not self.shadow.copies(random.random()):
            return
        left = None if call.deadline == float("inf") else max(0.0, call.deadline - time.monotonic())
        same = Special(copied=True)
        if special is not None:
            same = same._replace(items=special.items, key=special.key, trace=special.trace)
        copy = self._target().call(call.method, call.params, left, same)
        outcomes: list[Any] = [None, None]
        missing = {0, 1}

        def settle(place: int, done: Any) -> None:
            error = CallError("it was cancelled") if done.cancelled() else done.exception()
            outcomes[place] = done.result() if error is None else error
            missing.discard(place)
            if not missing:
                self._compare(call.method, *outcomes)

        call.add_done_callback(lambda done: settle(0, done))
        copy.add_done_callback(lambda done: settle(1, done))

    def _compare(self, method: str, primary: Any, copy: Any) -> None:
        kind = self.shadow.settled(method, primary, copy)
        if kind == "same":
            return
        seen = self.shadow.last[-1]
        place = f" at {seen.place}" if seen.place else ""
        text = f"{method}: {self._name} {kind}{place}: {seen.primary} here, {seen.shadow} there"
        self._events.emit("shadow", service=self._service, shadow=self._name, kind=kind, method=method, text=text)
