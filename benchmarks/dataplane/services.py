"""Calls of one service beside those of two hundred, and few in flight beside many."""

from __future__ import annotations

import asyncio
import tempfile
import time
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any, ClassVar

from benchmarks.contenders.c_program import compiled
from benchmarks.contenders.loop_thread import OrchestratorThread
from benchmarks.recovery.subject import PATIENCE, PAYLOAD, WORKER, Figures

if TYPE_CHECKING:
    from mlports import Config

QUEUE = 60_000
"""Calls that may wait for a service: more than are ever made at once."""


class OneService:
    """An orchestrator of services with one worker each: tiny_worker.c, compiled here, which costs next to nothing.

    `run(services, in_flight, calls)` makes so many calls over so many of them, each call to the next one. A call that
    is answered makes the next, so that always so many are in flight; they are futures with a callback and no tasks,
    whose cost would be asyncio's. The figures are microseconds a call: "us" by the clock, "cpu" of this process.
    """

    name: ClassVar[str] = "services-1"
    title: ClassVar[str] = "an orchestrator of one service"
    services: ClassVar[int] = 1

    def open(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="mlports-bench-")
        try:
            self._command = self._prepare()
            self._thread = OrchestratorThread(self._configure)
        except BaseException:
            self._folder.cleanup()
            raise

    def _prepare(self) -> list[str]:
        """The worker's command. Raises Unavailable."""
        return [compiled("tiny_worker.c", self._folder.name)]

    def _configure(self) -> Config:
        from mlports import Config, ServiceConfig

        service = ServiceConfig(command=self._command, queue=QUEUE)
        names = [f"tiny-{number}" for number in range(self.services)]
        return Config(service=dict.fromkeys(names, service), directory=self._folder.name)

    def close(self) -> None:
        self._thread.close()
        self._folder.cleanup()

    def run(self, *request: Any) -> Figures:
        services, in_flight, calls = request
        return self._thread.do(self._calls(services, in_flight, calls))

    async def _calls(self, services: int, in_flight: int, calls: int) -> Figures:
        call, payload = self._thread.orchestrator.call, PAYLOAD
        targets = cycle([f"tiny-{number}.echo" for number in range(services)])
        rest = islice(targets, calls - in_flight)
        finished = asyncio.get_running_loop().create_future()
        left = calls

        def answered(answer: asyncio.Future[Any]) -> None:
            nonlocal left
            left -= 1
            failure = answer.exception()
            if failure is not None and not finished.done():
                finished.set_exception(failure)
            elif (target := next(rest, None)) is not None:
                call(target, payload).add_done_callback(answered)
            elif not left and not finished.done():
                finished.set_result(None)

        cpu, start = time.process_time(), time.perf_counter()
        for target in islice(targets, in_flight):
            call(target, payload).add_done_callback(answered)
        async with asyncio.timeout(PATIENCE):
            await finished
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        return {"us": [seconds / calls * 1e6], "cpu": [cpu / calls * 1e6]}


class TwoHundredServices(OneService):
    name: ClassVar[str] = "services-200"
    title: ClassVar[str] = "an orchestrator of 200 services"
    services: ClassVar[int] = 200


class OneEchoService(OneService):
    """The worker of the echoes, which takes many requests at a time, as the tiny one does not."""

    name: ClassVar[str] = "service-of-echoes"
    title: ClassVar[str] = "one service of echoes"

    def _prepare(self) -> list[str]:
        return list(WORKER)
