"""`mlports.open()`: the orchestrator for programs without an event loop of their own.

The event loop is run by turns. A background thread runs it while nobody calls, so that deaths are noticed and workers
restarted. A thread that calls takes the loop over and runs it itself until its answer is here, and keeps it for the
next call that follows soon: so a call costs no change of threads, which would take longer than the call. When two
threads call at the same time the background thread runs the loop for both; it does so too for a thread that runs an
event loop of its own, which can run no other meanwhile.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import time

# The module `signal` puts a conversion to enums around these two, which takes ten times as long as they do.
from _signal import getsignal as _handler_of  # type: ignore[import-not-found]
from _signal import signal as _handle
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from concurrent.futures import Future
from signal import SIGINT, default_int_handler
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Unpack

from mlports.errors import NotRunning
from mlports.runtime.blocking_input import HandOver
from mlports.runtime.call import CallOptions, InputOptions
from mlports.runtime.orchestrator import CONFIGURED, Orchestrator, Timeout
from mlports.telemetry import Event

if TYPE_CHECKING:
    from mlports.config import Config, ProgramConfig, ServiceConfig
    from mlports.core.supervision import ChildId, Children, Counts, Result
    from mlports.runtime.handle import SupervisorHandle

T = TypeVar("T")

_IDLE = 0.002  # seconds without a call after which the background thread takes the loop back
_LONGEST_PAUSE = 0.02  # seconds between two looks at a caller that keeps the loop for a long call
_SHARED = 0.05  # seconds that it keeps it after two threads have called at the same time
_MAIN_THREAD = threading.main_thread().ident


def new_event_loop() -> asyncio.AbstractEventLoop:
    """uvloop's when it is installed, else asyncio's."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


class _Interrupt:
    """What Ctrl-C does while the main thread is in a call.

    Raised at once, `KeyboardInterrupt` could cut short anything that the loop does for any call, such as taking an
    answer apart. So the first cancels this thread's own call; a second, when that is not enough, is raised.
    """

    __slots__ = ("_future", "_loop", "came")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.came = False
        self._loop = loop
        self._future: asyncio.Future[Any] | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.came:
            default_int_handler(number, frame)
        self.came = True
        self._loop.call_soon_threadsafe(self._cancel)

    def watch(self, future: asyncio.Future[Any]) -> None:
        """This is the call. Ctrl-C may have come before it could begin."""
        self._future = future
        if self.came:
            future.cancel()

    def _cancel(self) -> None:
        if self._future is not None:
            self._future.cancel()


class SharedLoop:
    """An event loop that a background thread and calling threads run by turns."""

    def __init__(self) -> None:
        self.loop = new_event_loop()
        self._state = threading.Condition(threading.Lock())  # for all below
        self._runner: Literal["nobody", "background", "caller"] = "nobody"
        self._taking = False  # a calling thread waits for the background thread to hand over
        self._waiting = 0  # calling threads whose calls are done in another thread's turn
        self._shared_until = 0.0
        self._last_call = 0.0
        self._closed = False  # no more calls
        self._over = False  # and none under way
        self._thread = threading.Thread(target=self._run_in_background, name="mlports-loop", daemon=True)
        self._thread.start()

    @property
    def closed(self) -> bool:
        """Whether `close()` was called."""
        return self._closed

    @property
    def inside(self) -> bool:
        """Whether this is one of the loop's own callbacks."""
        return asyncio._get_running_loop() is self.loop

    def run(self, start: Callable[[], Awaitable[T]]) -> T:
        """Calls `start()` and runs the loop until what it returns is done; Ctrl-C cancels that.

        Raises `NotRunning` after `close()`, and `RuntimeError` in one of the loop's own callbacks.
        """
        if _handler_of(SIGINT) is not default_int_handler or threading.get_ident() != _MAIN_THREAD:
            return self._run(start, None)
        interrupt = _Interrupt(self.loop)
        _handle(SIGINT, interrupt)
        try:
            result = self._run(start, interrupt)
        except asyncio.CancelledError:
            if interrupt.came:
                raise KeyboardInterrupt from None
            raise
        finally:
            _handle(SIGINT, default_int_handler)
        if interrupt.came:
            raise KeyboardInterrupt
        return result

    def _run(self, start: Callable[[], Awaitable[T]], interrupt: _Interrupt | None) -> T:
        if not self._take():
            return self._run_elsewhere(start, interrupt)
        try:
            return self._run_here(start, interrupt)
        finally:
            self._give_back()

    def _take(self) -> bool:
        """Takes the loop for this thread, and has the background thread hand it over if need be.

        False, with this thread counted as waiting, when another calling thread is there too, or this one is in another
        event loop.
        """
        running = asyncio._get_running_loop()
        with self._state:
            if self._closed:
                raise NotRunning("this orchestrator has been closed")
            if self._runner == "nobody" and not self._taking and running is None:
                self._runner = "caller"
                return True
            if running is not None:
                self._refuse_inside()
                self._state.notify_all()
            elif self._runner == "caller" or self._taking or self._waiting:
                self._shared_until = time.monotonic() + _SHARED
            elif time.monotonic() >= self._shared_until:
                self._taking = True
                self.loop.call_soon_threadsafe(self.loop.stop)
                while self._runner != "nobody":
                    self._state.wait()
                self._taking = False
                self._runner = "caller"
                return True
            self._waiting += 1
            return False

    def _refuse_inside(self) -> None:
        if self.inside:
            raise RuntimeError(
                "a blocking orchestrator cannot be used inside a callback or an iterator of one of its own calls, "
                "which wait for each other. Call it before or after, or from another thread"
            )

    def _give_back(self) -> None:
        with self._state:
            self._runner = "nobody"
            self._last_call = time.monotonic()
            if self._waiting:
                self._state.notify_all()

    def _run_here(self, start: Callable[[], Awaitable[T]], interrupt: _Interrupt | None) -> T:
        future = asyncio.ensure_future(start(), loop=self.loop)
        if interrupt is not None:
            interrupt.watch(future)
        try:
            return self.loop.run_until_complete(future)
        except BaseException:
            if not future.done():  # a second Ctrl-C, or another signal's handler
                future.cancel()
                self.loop.run_until_complete(asyncio.wait([future]))
            raise

    def _run_elsewhere(self, start: Callable[[], Awaitable[T]], interrupt: _Interrupt | None) -> T:
        try:
            return self._await_elsewhere(start, interrupt)
        finally:
            with self._state:
                self._waiting -= 1

    def _await_elsewhere(self, start: Callable[[], Awaitable[T]], interrupt: _Interrupt | None) -> T:
        outcome: Future[T] = Future()
        begun: list[asyncio.Future[T]] = []

        def begin() -> None:
            try:
                begun.append(asyncio.ensure_future(start(), loop=self.loop))
            except BaseException as error:
                outcome.set_exception(error)
            else:
                begun[0].add_done_callback(lambda future: _copy(future, outcome))
                if interrupt is not None:
                    interrupt.watch(begun[0])

        try:
            self.loop.call_soon_threadsafe(begin)
            return outcome.result()
        except BaseException:
            if not outcome.done():  # a second Ctrl-C, or another signal's handler
                self.loop.call_soon_threadsafe(lambda: [future.cancel() for future in begun])
            raise

    def _run_in_background(self) -> None:
        while self._wait_for_turn():
            self.loop.run_forever()
            with self._state:
                self._runner = "nobody"
                self._state.notify_all()
        # Here, because a thread that is in another event loop cannot run this one.
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()

    def _wait_for_turn(self) -> bool:
        """Takes the loop once no calling thread is in a series of calls; False when there is no more to do."""
        pause = _IDLE
        with self._state:
            while not self._over:
                idle = time.monotonic() - self._last_call > _IDLE
                if self._runner == "nobody" and not self._taking and (idle or self._waiting):
                    self._runner = "background"
                    return True
                # Not told when a call ends, because telling costs the caller more than looking costs here.
                pause = min(2 * pause, _LONGEST_PAUSE) if self._runner == "caller" else _IDLE
                self._state.wait(pause)
            return False

    def close(self) -> None:
        """Ends the background thread and closes the loop, as soon as every call that was made has come to its end."""
        self._refuse_inside()
        with self._state:
            if self._closed:
                return
            self._closed = True
            while self._runner == "caller" or self._taking or self._waiting:
                self._state.wait(_IDLE)
            self._over = True
            if self._runner == "background":
                self.loop.call_soon_threadsafe(self.loop.stop)
            self._state.notify_all()
        self._thread.join()


def _copy(future: asyncio.Future[T], outcome: Future[T]) -> None:
    if future.cancelled():
        outcome.set_exception(asyncio.CancelledError())
    elif (error := future.exception()) is not None:
        outcome.set_exception(error)
    else:
        outcome.set_result(future.result())


class BlockingOrchestrator:
    """`Orchestrator` for blocking code. Its methods may be called from any thread, and raise the same errors."""

    def __init__(self, orchestrator: Orchestrator) -> None:
        self._orchestrator = orchestrator
        self._endings: set[asyncio.Future[Any]] = set()
        self._shared = SharedLoop()
        try:
            self._shared.run(orchestrator.start)
        except BaseException:
            self._shared.close()
            raise
        self._pid = os.getpid()
        atexit.register(self.close)

    def call(self, target: str, /, *params: Any, timeout: Timeout = CONFIGURED, **options: Unpack[InputOptions]) -> Any:
        """Calls a method and gives its result. See `Orchestrator.call`; an `input` is iterated in this thread."""
        start = self._orchestrator.call
        if options.get("input") is None:
            return self._shared.run(lambda: start(target, *params, timeout=timeout, **options))
        items, plain = self._hand_over(options)
        try:
            return items.run(lambda: start(target, *params, timeout=timeout, input=items, **plain))
        finally:
            items.finish()

    def map(
        self,
        target: str,
        items: Iterable[Any],
        /,
        *,
        timeout: Timeout = CONFIGURED,
        return_exceptions: bool = False,
        first: int = 1,
        **options: Unpack[CallOptions],
    ) -> list[Any]:
        """The method's result for each item, in order. See `Orchestrator.map`."""
        return self._shared.run(
            lambda: self._orchestrator.map(
                target, items, timeout=timeout, return_exceptions=return_exceptions, first=first, **options
            )
        )

    def stream(
        self, target: str, /, *params: Any, timeout: float | None = None, **options: Unpack[InputOptions]
    ) -> Iterator[Any]:
        """The items of a streaming method. Leaving the loop early, or closing the iterator, stops the worker.

        The items of an `input` are taken in this thread, while it waits for the next item of the answer.
        """
        given, plain = (None, {**options}) if options.get("input") is None else self._hand_over(options)

        async def open_stream() -> AsyncIterator[Any]:
            return self._orchestrator.stream(target, *params, timeout=timeout, **{**plain, "input": given})

        return self._iterate(open_stream, given)

    def cast(self, target: str, /, *params: Any) -> None:
        """Sends a message that nobody answers. See `Orchestrator.cast`."""

        async def send() -> None:
            self._orchestrator.cast(target, *params)

        self._shared.run(send)

    def release(self, digest: str | None = None) -> list[str]:
        """Allows calls again that are in quarantine. See `Orchestrator.release`."""

        async def allow() -> list[str]:
            return self._orchestrator.release(digest)

        return self._shared.run(allow)

    def status(self) -> dict[str, Any]:
        """What there is, as plain values. See `Orchestrator.status`."""

        async def look() -> dict[str, Any]:
            return self._orchestrator.status()

        return self._shared.run(look)

    def supervisor(self, name: str = "mlports") -> BlockingSupervisor:
        """A supervisor, to ask about its children. See `Orchestrator.supervisor`."""

        async def find() -> SupervisorHandle:
            return self._orchestrator.supervisor(name)

        return BlockingSupervisor(self._shared, self._shared.run(find))

    def events(self, recent: bool = False) -> Iterator[Event]:
        """What happens from now on, for as long as it is iterated. See `Orchestrator.events`."""

        async def follow() -> AsyncIterator[Event]:
            return self._orchestrator.events(recent)

        return self._iterate(follow)

    def close(self) -> None:
        """Stops the services. Called by `with`, and at the latest when the program ends."""
        if os.getpid() != self._pid or self._shared.closed:
            return
        try:
            self._shared.run(self._orchestrator.stop)
        except NotRunning:  # another thread closes it too
            return
        finally:
            self._shared.close()
        atexit.unregister(self.close)

    def __enter__(self) -> BlockingOrchestrator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _hand_over(self, options: InputOptions) -> tuple[HandOver, dict[str, Any]]:
        """The streamed argument as the loop's thread takes it, and the other options."""
        plain: dict[str, Any] = {**options}
        return HandOver(self._shared, plain.pop("input")), plain

    def _iterate(
        self, open_items: Callable[[], Coroutine[Any, Any, AsyncIterator[T]]], given: HandOver | None = None
    ) -> Iterator[T]:
        run = self._shared.run if given is None else given.run
        items = self._shared.run(open_items)
        try:
            while True:
                try:
                    yield run(items.__anext__)
                except StopAsyncIteration:
                    return
        finally:
            close = getattr(items, "aclose", None)
            if close is not None and not self._shared.closed:
                if self._shared.inside:  # the garbage collector came upon a forgotten iterator just here
                    ending = asyncio.ensure_future(close())
                    self._endings.add(ending)
                    ending.add_done_callback(self._endings.discard)
                else:
                    self._shared.run(close)
            if given is not None:
                given.finish()


class BlockingSupervisor:
    """`SupervisorHandle` for blocking code: the same calls, and the same results."""

    def __init__(self, shared: SharedLoop, handle: SupervisorHandle) -> None:
        self._shared = shared
        self._handle = handle

    def which_children(self) -> Children:
        """The children, the last started first."""
        return self._shared.run(self._handle.which_children)

    def count_children(self) -> Counts:
        """How many specifications, running children, supervisors and workers there are."""
        return self._shared.run(self._handle.count_children)

    def start_child(self, name: str | None = None, program: ProgramConfig | None = None) -> Result:
        """Adds a program and starts it; of a simple_one_for_one, without arguments, one child more."""
        return self._shared.run(lambda: self._handle.start_child(name, program))

    def restart_child(self, child: ChildId) -> Result:
        """Starts a child again that is stopped."""
        return self._shared.run(lambda: self._handle.restart_child(child))

    def terminate_child(self, child: ChildId) -> Result:
        """Stops a child, until it is restarted by a call or with others."""
        return self._shared.run(lambda: self._handle.terminate_child(child))

    def delete_child(self, child: ChildId) -> Result:
        """Forgets a child that is stopped."""
        return self._shared.run(lambda: self._handle.delete_child(child))


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
