"""Watches over one worker that is up: whether it still answers, and whether it grows too large."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from mlports.core.liveness import Heartbeat
from mlports.runtime.call import Sent
from mlports.runtime.memory import cpu_seconds
from mlports.runtime.memory_watch import MemoryWatcher
from mlports.runtime.port import Port
from mlports_protocol import Answered

if TYPE_CHECKING:
    from mlports.config import HeartbeatConfig

_SECOND_LOOK = 0.02  # seconds before a worker is said to be silent
_AT_WORK = 0.1  # the share of a processor from which on a silent worker is taken to be at work


class Health:
    """The heartbeat and the memory of one worker. `drain` is called when it is too large and should finish."""

    def __init__(
        self,
        port: Port,
        heartbeat: HeartbeatConfig | None,
        memory_limit: int | None,
        memory: MemoryWatcher,
        drain: Callable[[Port, str], None],
    ) -> None:
        self._port = port
        self._memory = memory
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        if memory_limit is not None:
            memory.watch(port, memory_limit, drain)
        self._watches_memory = memory_limit is not None
        self._looked_twice = False
        # One that never said that it answers pings cannot be blamed for not doing so.
        if heartbeat is not None and "ping" in port.session.features:
            now = time.monotonic()
            self._timeout = heartbeat.timeout
            self._heartbeat = Heartbeat(heartbeat.interval, heartbeat.timeout, now)
            self._looked_at, self._processor_time = now, cpu_seconds(port.pid)
            self._timer = self._loop.call_later(self._heartbeat.next(now), self._tick)

    def close(self) -> None:
        """The worker is gone, or going."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._watches_memory:
            self._memory.forget(self._port)

    def _tick(self) -> None:
        port, heartbeat, now = self._port, self._heartbeat, time.monotonic()
        if port.state != "ready":
            self._timer = None
            return
        heartbeat.heard(port.heard)
        due = heartbeat.tick(now)
        if due == "ping":
            self._looked_at, self._processor_time = now, cpu_seconds(port.pid)
            self._looked_twice = False
            heartbeat.pinged(now)
            port.probe("$/ping", [], _heard)
        elif due == "silent":
            if not self._looked_twice:
                # Its answer may be waiting to be read, if it was we who did not get a turn.
                self._looked_twice = True
                self._timer = self._loop.call_later(_SECOND_LOOK, self._tick)
                return
            if self._is_at_work(now):
                heartbeat.excuse(now)
            else:
                self._timer = None
                port.hang("hang", f"hung: it answered no ping for {self._timeout:g} s (heartbeat)")
                return
        self._timer = self._loop.call_later(heartbeat.next(now), self._tick)

    def _is_at_work(self, now: float) -> bool:
        """Whether it is busy with a call that somebody waits for: nothing else in it may get a turn then."""
        began, before = self._looked_at, self._processor_time
        self._looked_at, self._processor_time = now, cpu_seconds(self._port.pid)
        if before is None or self._processor_time is None:
            return False
        wanted = any(
            type(sent) is Sent and any(not call.done() for call in sent.calls)
            for sent in self._port.session.asked.values()
        )
        return wanted and self._processor_time - before >= _AT_WORK * (now - began)


def _heard(answer: Answered) -> None:
    """That it answered is all that matters, and the port has noted that."""
