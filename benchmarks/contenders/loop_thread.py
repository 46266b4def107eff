"""An orchestrator whose event loop has a thread to itself."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from benchmarks.contenders.contender import Unavailable

if TYPE_CHECKING:
    from mlports import Config, Orchestrator

T = TypeVar("T")


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """uvloop's where installed, else asyncio's."""
    with contextlib.suppress(ImportError):
        factory: Callable[[], asyncio.AbstractEventLoop] = importlib.import_module("uvloop").new_event_loop
        return factory
    return asyncio.new_event_loop


class OrchestratorThread:
    """An orchestrator, started. Its loop runs between two runs, too, as it would in an application.

    Raises Unavailable where this version of mlports has no such configuration, and what its start raises.
    """

    def __init__(self, configure: Callable[[], Config]) -> None:
        try:
            from mlports import Orchestrator

            self._make = Orchestrator
            self._config = configure()
        except ImportError as error:
            raise Unavailable(f"mlports cannot be imported: {error}") from error
        except ValueError as error:
            told = " ".join(str(error).splitlines()[:3])
            raise Unavailable(f"this mlports refuses the configuration: {told}") from error
        self._ready: Future[Orchestrator] = Future()
        # A daemon, so that who is ended while this starts need not wait for it.
        self._thread = threading.Thread(target=self._run_loop, daemon=True)
        self._thread.start()
        self.orchestrator = self._ready.result()

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Awaits `work` in the loop, and gives its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def close(self) -> None:
        """Stops the orchestrator; returns when its loop has ended."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()

    def _run_loop(self) -> None:
        try:
            with asyncio.Runner(loop_factory=loop_factory()) as runner:
                runner.run(self._serve())
        except BaseException as error:
            if self._ready.done():
                raise
            self._ready.set_exception(error)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        async with self._make(config=self._config) as orchestrator:
            self._ready.set_result(orchestrator)
            await self._stop.wait()
