"""`mlports.open()`: the orchestrator for programs without an event loop of their own.

The event loop is run by turns. A background thread runs it while nobody calls, so that deaths are noticed and workers
restarted. A thread that calls takes the loop over and runs it itself until its answer is here, and keeps it for the
next call that follows soon: so a call costs no change of threads, which would take longer than the call. When two
threads call at the same time the background thread runs the loop for both.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from concurrent.futures import Future
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from mlports.errors import NotRunning
from mlports.runtime.call import Progress
from mlports.runtime.orchestrator import CONFIGURED, Orchestrator, Timeout
from mlports.telemetry import Event

if TYPE_CHECKING:
    from mlports.config import Config, ServiceConfig

T = TypeVar("T")

_IDLE = 0.002  # seconds without a call after which the background thread takes the loop back
_SHARED = 0.05  # seconds that it keeps it after two threads have called at the same time


def new_event_loop() -> asyncio.AbstractEventLoop:
    """uvloop's when it is installed, else asyncio's."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


class SharedLoop:
    """An event loop that a background thread and calling threads run by turns."""

    def __init__(self) -> None:
        self.loop = new_event_loop()
        self._turn = threading.Lock()  # held by whoever runs the loop
        self._wanted = 0  # calling threads that wait for the background thread to hand over or to answer
        self._last_call = 0.0
        self._shared_until = 0.0
        self._closed = threading.Event()
        self._asleep = threading.Event()
        self._thread = threading.Thread(target=self._run_in_background, name="mlports-loop", daemon=True)
        self._thread.start()

    @property
    def closed(self) -> bool:
        """Whether `close()` was called."""
        return self._closed.is_set()

    def run(self, start: Callable[[], Awaitable[T]]) -> T:
        """Calls `start()` in the loop and waits for what it returns. Not for the loop's own callbacks."""
        if self._closed.is_set():
            raise NotRunning("this orchestrator has been closed")
        if not self._turn.acquire(blocking=False):
            return self._run_elsewhere(start)
        try:
            self._last_call = time.monotonic()
            return self.loop.run_until_complete(_settled(start))
        finally:
            self._last_call = time.monotonic()
            self._turn.release()
            if self._wanted:
                self._shared_until = self._last_call + _SHARED
            self._asleep.set()

    def _run_elsewhere(self, start: Callable[[], Awaitable[T]]) -> T:
        outcome: Future[T] = Future()
        task: list[asyncio.Task[None]] = []

        async def work() -> None:
            try:
                result = await start()
            except BaseException as error:
                outcome.set_exception(error)
                if not isinstance(error, Exception | asyncio.CancelledError):
                    raise
            else:
                outcome.set_result(result)

        def begin() -> None:
            task.append(self.loop.create_task(work()))

        self._wanted += 1
        try:
            self.loop.call_soon_threadsafe(begin)
            return outcome.result()
        except BaseException:
            if not outcome.done():  # Ctrl-C while waiting
                self.loop.call_soon_threadsafe(lambda: [begun.cancel() for begun in task])
            raise
        finally:
            self._wanted -= 1
            self._last_call = time.monotonic()
            if not self._wanted and self._last_call > self._shared_until:
                # The next call of this thread is likely to follow at once: it may have the loop.
                self.loop.call_soon_threadsafe(self.loop.stop)

    def _run_in_background(self) -> None:
        while not self._closed.is_set():
            with self._turn:
                if not self._closed.is_set():
                    self.loop.run_forever()
            # A caller may be in a series of calls: the loop is left to it until it pauses.
            while not self._closed.is_set() and not self._wanted and time.monotonic() - self._last_call < _IDLE:
                time.sleep(_IDLE)

    def close(self) -> None:
        """Ends the background thread and closes the loop."""
        if self._closed.is_set():
            return
        self._closed.set()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        with self._turn:
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()


async def _settled(start: Callable[[], Awaitable[T]]) -> T:
    return await start()


class BlockingOrchestrator:
    """`Orchestrator` for blocking code. Its methods may be called from any thread, and raise the same errors."""

    def __init__(self, orchestrator: Orchestrator) -> None:
        self._orchestrator = orchestrator
        self._shared = SharedLoop()
        try:
            self._shared.run(orchestrator.start)
        except BaseException:
            self._shared.close()
            raise
        self._pid = os.getpid()
        atexit.register(self.close)

    def call(
        self, target: str, /, *params: Any, timeout: Timeout = CONFIGURED, progress: Progress | None = None
    ) -> Any:
        """Calls a method and gives its result. See `Orchestrator.call`."""
        return self._shared.run(lambda: self._orchestrator.call(target, *params, timeout=timeout, progress=progress))

    def map(
        self,
        target: str,
        items: Iterable[Any],
        /,
        *,
        timeout: Timeout = CONFIGURED,
        return_exceptions: bool = False,
        progress: Progress | None = None,
    ) -> list[Any]:
        """The method's result for each item, in order. See `Orchestrator.map`."""
        return self._shared.run(
            lambda: self._orchestrator.map(
                target, items, timeout=timeout, return_exceptions=return_exceptions, progress=progress
            )
        )

    def stream(self, target: str, /, *params: Any, timeout: float | None = None) -> Iterator[Any]:
        """The items of a streaming method. Leaving the loop early, or closing the iterator, stops the worker."""

        async def open_stream() -> AsyncIterator[Any]:
            return self._orchestrator.stream(target, *params, timeout=timeout)

        return self._iterate(open_stream)

    def cast(self, target: str, /, *params: Any) -> None:
        """Sends a message that nobody answers. See `Orchestrator.cast`."""

        async def send() -> None:
            self._orchestrator.cast(target, *params)

        self._shared.run(send)

    def status(self) -> dict[str, Any]:
        """What there is, as plain values. See `Orchestrator.status`."""

        async def look() -> dict[str, Any]:
            return self._orchestrator.status()

        return self._shared.run(look)

    def events(self, recent: bool = False) -> Iterator[Event]:
        """What happens from now on, for as long as it is iterated. See `Orchestrator.events`."""

        async def follow() -> AsyncIterator[Event]:
            return self._orchestrator.events(recent)

        return self._iterate(follow)

    def close(self) -> None:
        """Stops the services. Called by `with`, and at the latest when the program ends."""
        if os.getpid() != self._pid or self._shared.closed:
            return
        atexit.unregister(self.close)
        try:
            self._shared.run(self._orchestrator.stop)
        finally:
            self._shared.close()

    def __enter__(self) -> BlockingOrchestrator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _iterate(self, open_items: Callable[[], Coroutine[Any, Any, AsyncIterator[T]]]) -> Iterator[T]:
        items = self._shared.run(open_items)
        try:
            while True:
                try:
                    yield self._shared.run(items.__anext__)
                except StopAsyncIteration:
                    return
        finally:
            close = getattr(items, "aclose", None)
            if close is not None and not self._shared.closed:
                self._shared.run(close)


def open(
    config: str | os.PathLike[str] | Config | Mapping[str, ServiceConfig],
) -> BlockingOrchestrator:
    """Starts the services of a configuration and gives a blocking orchestrator for them, for use with `with`.

    `config` is the path of an `mlports.toml`, a `Config`, or a mapping of names to `ServiceConfig`s. Raises
    `ConfigError`, and `StartFailed` when none of the services comes up.
    """
    if isinstance(config, str | os.PathLike):
        return BlockingOrchestrator(Orchestrator.from_config(config))
    if isinstance(config, Mapping):
        return BlockingOrchestrator(Orchestrator(config))
    return BlockingOrchestrator(Orchestrator(config=config))
