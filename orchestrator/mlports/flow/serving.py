"""An orchestrator of a flow's own, whose event loop has a thread to itself."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlports import Config, Orchestrator


class Served:
    """An orchestrator that has been started, for chunks. Raises what its start raises.

    Of `mlports.open()` each chunk would need a thread that waits for it: four changes of threads, where here are two.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._loop, self._stop = asyncio.new_event_loop(), asyncio.Event()
        self._ready: Future[Orchestrator] = Future()
        # A daemon, so that a program that is ended while this starts need not wait for it.
        self._thread = threading.Thread(target=self._run, name="mlports-flow-workers", daemon=True)
        self._thread.start()
        try:
            self._orchestrator = self._ready.result()
        except BaseException:
            self.close()
            raise

    def map(self, target: str, chunk: list[Any], first: int) -> Future[list[Any]]:
        """Has `Orchestrator.map` done in the loop; the future has an outcome for each item."""
        work = self._orchestrator.map(target, chunk, timeout=None, return_exceptions=True, first=first)
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self) -> None:
        """Stops the workers; returns when they and the loop have ended."""
        with suppress(RuntimeError):  # the loop has been closed: the start failed
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        from mlports import Orchestrator

        try:
            async with Orchestrator(config=self._config) as orchestrator:
                self._ready.set_result(orchestrator)
                await self._stop.wait()
        except BaseException as error:
            if self._ready.done():
                raise
            self._ready.set_exception(error)
