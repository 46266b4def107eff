"""How a flow, which runs in a thread of its own or in yours, reaches an orchestrator and an event loop."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from mlports.flow.errors import FlowError
from mlports.flow.failures import Errors, Failures
from mlports.flow.sources import AsyncSource, BlockingStream, Source

if TYPE_CHECKING:
    from mlports import BlockingOrchestrator, Orchestrator

    AnyOrchestrator = Orchestrator | BlockingOrchestrator

T = TypeVar("T")

_LOOK = 0.1  # seconds between two looks at whether the flow is to stop


class Stopped(Exception):
    """The flow is to stop: whoever runs it was cancelled."""


@asynccontextmanager
async def own_thread(setting: Setting) -> AsyncIterator[Callable[[Callable[[], T]], Awaitable[T]]]:
    """A thread for one run, in which `await within(work)` has work done; a cancel stops the run.

    Its things are closed in that thread, while the event loop goes on, before this is left.
    """
    loop = asyncio.get_running_loop()
    pool = ThreadPoolExecutor(1, "mlports-flow")

    async def within(work: Callable[[], T]) -> T:
        running = loop.run_in_executor(pool, work)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            setting.stop()
            await _done(running)
            raise

    try:
        yield within
    finally:
        closing = loop.run_in_executor(pool, setting.close)
        await _done(closing)
        pool.shutdown()
        closing.result()


async def _done(running: asyncio.Future[Any]) -> None:
    """Waits for it, however often this task is cancelled meanwhile: a thread cannot be left to itself."""
    while not running.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([running])
    running.exception()  # seen


class Setting:
    """What the parts of one run share: where failures go, what is called, what has to be closed, whether to stop."""

    def __init__(self, orchestrator: AnyOrchestrator | None, loop: asyncio.AbstractEventLoop | None, errors: Errors):
        self.failures = Failures(errors)
        self.exits = ExitStack()
        self._orchestrator, self._loop = orchestrator, loop
        self._runner: asyncio.Runner | None = None
        self._stop = threading.Event()
        self._closing = False
        # What is closed on the loop is closed before the loop is: these two are called last.
        self.exits.callback(self._close_runner)
        self.exits.callback(self.failures.close)

    def stop(self) -> None:
        """Has the flow end soon, from another thread."""
        self._stop.set()

    def stopped(self) -> None:
        """Raises `Stopped` when the flow is to stop, and is not closing its things already."""
        if self._stop.is_set() and not self._closing:
            raise Stopped

    def close(self) -> None:
        self._closing = True
        self.exits.close()

    def threads(self, count: int, name: str) -> ThreadPoolExecutor:
        """A pool that ends with the run."""
        pool = ThreadPoolExecutor(count, f"mlports-flow-{name}")
        self.exits.callback(pool.shutdown, cancel_futures=True)
        return pool

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Runs a coroutine on the flow's event loop and gives its result in this thread."""
        if self._loop is None:
            return self._own_runner(work).run(work)
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            while not wait([future], timeout=_LOOK).done:
                self.stopped()
        except BaseException:
            future.cancel()
            raise
        return future.result()

    def _close_runner(self) -> None:
        if self._runner is not None:
            self._runner.close()

    def _own_runner(self, work: Coroutine[Any, Any, Any]) -> asyncio.Runner:
        if self._runner is None:
            if asyncio._get_running_loop() is not None:
                work.close()
                raise FlowError("this flow takes items from an async iterable: in an event loop, await its arun()")
            self._runner = asyncio.Runner()
        return self._runner

    def mapper(self, target: str, lanes: int, timeout: Any) -> Callable[[list[Any], int], Future[list[Any]]]:
        """What sends a chunk of items to a service's method, and gives the outcomes of each."""
        orchestrator: Any = self._needed(target)
        options = {"return_exceptions": True} | ({} if timeout is ... else {"timeout": timeout})
        if self._is_async():
            loop = self._loop
            assert loop is not None
            return lambda chunk, together: asyncio.run_coroutine_threadsafe(
                orchestrator.map(target, chunk, first=together, **options), loop
            )
        pool = self.threads(lanes, target)
        return lambda chunk, together: pool.submit(orchestrator.map, target, chunk, first=together, **options)

    def stream(self, target: str, params: tuple[Any, ...], timeout: float | None, replayable: bool) -> Source:
        """A service's stream as a source."""
        orchestrator: Any = self._needed(target)
        label = f"from_service({target})"
        if self._is_async():
            return AsyncSource(
                label, lambda: orchestrator.stream(target, *params, timeout=timeout), self.run, replayable
            )
        return BlockingStream(label, orchestrator.stream(target, *params, timeout=timeout), replayable)

    def _is_async(self) -> bool:
        from mlports import BlockingOrchestrator

        if isinstance(self._orchestrator, BlockingOrchestrator):
            return False
        if self._loop is None:
            raise FlowError(
                "run() has no event loop, to which an Orchestrator belongs: await flow.arun(orchestrator), "
                "or give run() what mlports.open() gives"
            )
        return True

    def _needed(self, target: str) -> AnyOrchestrator:
        if self._orchestrator is None:
            raise FlowError(f"this flow calls {target}: give run() or arun() the orchestrator that has it")
        return self._orchestrator

    def guard_against_itself(self) -> None:
        """Raises when this process is a worker of a flow, which has imported a program that runs that flow again."""
        if "MLPORTS_FLOW_WORKER" in os.environ:
            raise FlowError(
                "a worker of a flow imported the program that runs it, which would start workers without end: "
                'put what runs the flow under `if __name__ == "__main__":`'
            )
