"""Looks at the size of every worker that has a limit, twice a second, and says what follows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import NamedTuple

from mlports.core.memory_limit import MemoryWatch
from mlports.runtime.memory import resident_by_group
from mlports.runtime.port import Port

_INTERVAL = 0.5  # seconds
_PATIENCE = 10.0  # seconds that a worker which is too large has to finish what it is at


class _Watched(NamedTuple):
    watch: MemoryWatch
    limit: int
    drain: Callable[[Port, str], None]


class MemoryWatcher:
    """The workers with a limit. It does nothing, and costs nothing, as long as there is none."""

    def __init__(self) -> None:
        self._watched: dict[Port, _Watched] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def watch(self, port: Port, limit: int, drain: Callable[[Port, str], None]) -> None:
        """Watches a worker's whole process group; `drain(port, why)` when it is over `limit` bytes."""
        self._watched[port] = _Watched(MemoryWatch(limit, _PATIENCE), limit, drain)
        if self._timer is None:
            self._timer = self._loop.call_later(_INTERVAL, self._look)

    def forget(self, port: Port) -> None:
        """The worker is gone."""
        self._watched.pop(port, None)
        if not self._watched and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        sizes, now = resident_by_group(), time.monotonic()
        for port, watched in list(self._watched.items()):
            size = sizes.get(port.pid)
            if size is None or port.state != "ready":
                continue
            due = watched.watch.measured(size, now)
            if due is not None:
                detail = f"grew to {_in_units(size)}, over its limit of {_in_units(watched.limit)} (memory_limit)"
                if due == "drain":
                    watched.drain(port, f"{detail}; it finished what it was at, and was killed")
                else:
                    port.fail("memory_limit", f"{detail}, and was killed")
        if self._watched:
            self._timer = self._loop.call_later(_INTERVAL, self._look)
        else:
            self._timer = None


def _in_units(size: int) -> str:
    for unit, scale in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= scale:
            return f"{size / scale:.4g} {unit}"
    return f"{size} B"
