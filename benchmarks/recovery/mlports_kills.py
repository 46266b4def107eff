"""mlports: kill -9 of the worker that serves, to the next answer."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import time
from typing import TYPE_CHECKING, Any, ClassVar

from benchmarks.contenders.loop_thread import OrchestratorThread
from benchmarks.recovery.subject import IN_FLIGHT, PATIENCE, PAYLOAD, WORKER, Figures, freeze

if TYPE_CHECKING:
    from mlports import Config, Orchestrator

STEP = 0.002
"""Seconds between two looks at what nothing tells of, and without an answer after which none is on its way."""

UNDER_WAY = 8 * IN_FLIGHT
"""Answers after which the load counts as being under way."""


class Load:
    """64 clients, each of which awaits its answer before it calls again; none calls while the load is held."""

    def __init__(self, orchestrator: Orchestrator) -> None:
        self.answers = 0
        self._call = orchestrator.call
        self._going = asyncio.Event()
        self._next: asyncio.Future[float] | None = None
        self._failure: Exception | None = None
        self._clients = [asyncio.create_task(self._client()) for _ in range(IN_FLIGHT)]

    def go(self) -> None:
        self._going.set()

    def hold(self) -> None:
        self._going.clear()

    def next_answer(self) -> asyncio.Future[float]:
        """The time of the next answer; fails as the call does."""
        self._next = asyncio.get_running_loop().create_future()
        return self._next

    def check(self) -> None:
        """Raise what a call has failed with: they are idempotent, so no death may be any caller's affair."""
        if self._failure is not None:
            raise self._failure

    def end(self) -> None:
        for client in self._clients:
            client.cancel()

    async def _client(self) -> None:
        try:
            while True:
                await self._going.wait()
                await self._call("echo.echo", PAYLOAD)
                self.answers += 1
                if self._next is not None:
                    self._next.set_result(time.perf_counter())
                    self._next = None
        except Exception as failure:
            self._failure = failure
            if self._next is not None:
                self._next.set_exception(failure)
                self._next = None


class MlportsKills:
    """One replica. The victim is frozen until its requests pile up; the clock starts with SIGKILL."""

    name: ClassVar[str] = "kills-mlports"
    title: ClassVar[str] = "mlports, no standby"
    standby: ClassVar[int] = 0

    def open(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="mlports-bench-")
        try:
            self._thread = OrchestratorThread(self._configure)
        except BaseException:
            self._folder.cleanup()
            raise

    def _configure(self) -> Config:
        from mlports import Config, ServiceConfig, SupervisorConfig

        # Not among the arguments where it is none, because versions without it have no such key.
        more: dict[str, Any] = {"standby": self.standby} if self.standby else {}
        return Config(
            supervisor=SupervisorConfig(intensity=1_000_000, period=1),
            service={"echo": ServiceConfig(command=WORKER, **more)},
            directory=self._folder.name,
        )

    def close(self) -> None:
        self._thread.close()
        self._folder.cleanup()

    def run(self, *request: Any) -> Figures:
        """`request` is the number of kills; each gives a figure "ms"."""
        (kills,) = request
        return {"ms": self._thread.do(self._kills(kills))}

    async def _kills(self, kills: int) -> list[float]:
        load = Load(self._thread.orchestrator)
        try:
            async with asyncio.timeout(PATIENCE + kills):
                times = [await self._kill(load) for _ in range(kills)]
                # The last one's replacement would start during somebody else's turn.
                await self._complete(load)
                return times
        finally:
            load.end()

    async def _kill(self, load: Load) -> float:
        await self._complete(load)
        under_way = load.answers + UNDER_WAY
        load.go()
        while load.answers < under_way:
            load.check()
            await asyncio.sleep(STEP)
        victim = max(self._replicas(), key=lambda replica: int(replica["in_flight"]))
        freeze(victim["pid"])
        answers = -1
        while answers != load.answers:
            answers = load.answers
            await asyncio.sleep(STEP)
        if not any(r["in_flight"] for r in self._replicas() if r["pid"] == victim["pid"]):
            raise RuntimeError(f"worker {victim['pid']} was frozen, and has nothing to answer")
        load.hold()
        answered = load.next_answer()
        start = time.perf_counter()
        os.kill(victim["pid"], signal.SIGKILL)
        return (await answered - start) * 1e3

    def _replicas(self) -> list[dict[str, Any]]:
        replicas: list[dict[str, Any]] = self._thread.orchestrator.status()["services"]["echo"]["replicas"]
        return replicas

    async def _complete(self, load: Load) -> None:
        """Returns when every replica is up that there is to be."""
        while sorted(replica["state"] for replica in self._replicas()) != ["ready"] + ["standby"] * self.standby:
            load.check()
            await asyncio.sleep(STEP)


class MlportsStandbyKills(MlportsKills):
    name: ClassVar[str] = "kills-mlports-standby"
    title: ClassVar[str] = "mlports, one standby"
    standby: ClassVar[int] = 1
