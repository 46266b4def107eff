"""mlports through its async API, and its `map`."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, ClassVar

from benchmarks.contenders.contender import (
    ECHO_WORKER,
    ONE,
    PLACEMENTS,
    Modes,
    Sample,
    check_echo,
    in_flight,
    is_single,
    make_payload,
    percentiles,
)
from benchmarks.contenders.loop_thread import OrchestratorThread

if TYPE_CHECKING:
    from mlports import Config

MAX_FRAME = "256MiB"
"""The default, 64 MiB, is too small for the 64 MiB array with its envelope."""


class MlportsAsync:
    """One worker behind an orchestrator whose event loop (uvloop's where installed) has a thread to itself.

    The loop runs between the timed runs too, as it would in an application; a run is timed wholly inside it.
    """

    name: ClassVar[str] = "mlports"
    title: ClassVar[str] = "mlports, async"
    distribution: ClassVar[str | None] = "mlports"
    # 256 times 8 MiB would measure the machine's memory and not the caller's choice of library: 64 is the most there.
    modes: ClassVar[Modes] = {
        "64 B": (*PLACEMENTS, "64", "256", "gather-256", "map", "map-batch"),
        "64 KiB": (ONE, "64", "256", "gather-256", "map", "map-batch"),
        "8 MiB": (ONE, "64", "map", "map-batch"),
        "8 MiB array": (ONE,),
        "64 MiB array": (ONE,),
    }

    def open(self) -> None:
        self._thread = OrchestratorThread(self._configure)
        self._orchestrator = self._thread.orchestrator

    def _configure(self) -> Config:
        from mlports import Config, ServiceConfig

        return Config(service={"echo": ServiceConfig(command=[sys.executable, str(ECHO_WORKER)], max_frame=MAX_FRAME)})

    def close(self) -> None:
        self._thread.close()

    def run(self, payload: str, mode: str, calls: int) -> Sample:
        value = make_payload(payload)
        measured: Coroutine[Any, Any, Sample]
        if is_single(mode):
            measured = self._one_at_a_time(value, calls)
        elif mode.startswith("map"):
            measured = self._map("echo.echo_batch" if mode == "map-batch" else "echo.echo", value, calls)
        elif mode.startswith("gather"):
            measured = self._gather(value, calls, in_flight(mode))
        else:
            measured = self._clients(value, calls, in_flight(mode))
        return self._thread.do(measured)

    async def _one_at_a_time(self, value: Any, calls: int) -> Sample:
        call = self._orchestrator.call
        check_echo(value, await call("echo.echo", value))
        clock = time.perf_counter_ns
        times: list[int] = []
        start = last = clock()
        for _ in range(calls):
            await call("echo.echo", value)
            now = clock()
            times.append(now - last)
            last = now
        return Sample(calls, (last - start) / 1e9, *percentiles(times))

    async def _clients(self, value: Any, calls: int, clients: int) -> Sample:
        """What a server does: so many coroutines, each of which awaits its answer before it calls again."""
        call = self._orchestrator.call
        each = max(1, calls // clients)

        async def client() -> None:
            for _ in range(each):
                await call("echo.echo", value)

        start = time.perf_counter()
        await asyncio.gather(*[client() for _ in range(clients)])
        return Sample(each * clients, time.perf_counter() - start)

    async def _gather(self, value: Any, calls: int, window: int) -> Sample:
        """What a script does: a window of calls, all awaited before the next window."""
        call = self._orchestrator.call
        windows = max(1, calls // window)
        start = time.perf_counter()
        for _ in range(windows):
            await asyncio.gather(*[call("echo.echo", value) for _ in range(window)])
        return Sample(windows * window, time.perf_counter() - start)

    async def _map(self, method: str, value: Any, calls: int) -> Sample:
        values = [value] * calls
        start = time.perf_counter()
        results = await self._orchestrator.map(method, values)
        seconds = time.perf_counter() - start
        if len(results) != calls:
            raise RuntimeError(f"map gave {len(results)} results for {calls} items")
        check_echo(value, results[-1])
        return Sample(calls, seconds)
