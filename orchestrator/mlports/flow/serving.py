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
        self._serving: asyncio.Task[None] | None = None
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
        """Stops the workers, also those that are still starting; returns when they and the loop have ended."""
        with suppress(RuntimeError):  # the loop has been closed: the start failed
            self._loop.call_soon_threadsafe(self._end)
        self._thread.join()

    def _end(self) -> None:
        self._stop.set()
        if self._serving is not None and not self._ready.done():  # interrupted: a start may take as long as an import
            self._serving.cancel()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        from mlports import Orchestrator

        self._serving = asyncio.current_task()
        if self._stop.is_set():
            return
        try:
            async with Orchestrator(config=self._config) as orchestrator:
                self._ready.set_result(orchestrator)
                await self._stop.wait()
        except BaseException as error:
            if self._ready.done():
                raise
            self._ready.set_exception(error)
