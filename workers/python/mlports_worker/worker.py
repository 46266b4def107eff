"""`Worker`: what the author of a worker script sees."""

from __future__ import annotations

import inspect
import logging
import os
import signal
import sys
import traceback
from functools import partial
from typing import Any, Callable, TypeVar, overload

from mlports_protocol import RemoteProtocolError

from .connection import Connection
from .failures import Failure
from .handlers import Handler
from .inline import link_here
from .serving import Connect, Server
from .stdio import TRANSPORT_VARIABLE, close_channel, take_channel

Function = TypeVar("Function", bound=Callable[..., Any])


class Worker:
    """A program of methods that an orchestrator calls.

    `name` is what the worker calls itself. `concurrency` is how many requests it works on at the same time: 1 unless
    there are async handlers, 64 if there are; plain handlers run one after the other, on the main thread.
    `max_frame` is the longest frame, in bytes, that it accepts; left out, the same as the orchestrator accepts, which
    is the service's `max_frame` (64 MiB unless configured).
    """

    def __init__(self, name: str, concurrency: int | None = None, max_frame: int | None = None) -> None:
        self.name = name
        self._concurrency = concurrency
        self._max_frame = max_frame
        self._handlers: dict[str, Handler] = {}
        self._setup: Callable[[dict[str, Any]], Any] | None = None
        self._take: Callable[[], Any] | None = None
        self._restore: Callable[[Any], Any] | None = None
        self._server: Server | None = None

    def setup(self, function: Function) -> Function:
        """Decorator: called once with the service's `config` (a dict), before the first request; may be async.

        It may add methods, by `worker.method(function)`, where they depend on the config.
        If it raises, the worker ends with status 1 and the orchestrator shows the traceback, or a `Failure`'s message.
        """
        self._setup = function
        return function

    def snapshot(self, function: Function) -> Function:
        """Decorator: gives, without arguments, the state that a crash is to leave: anything that can be sent.

        Called when the service's config says `snapshot = {dir, every}`: after every so many calls, or seconds. It goes
        with `restore`, and neither may be async.
        """
        self._take = _plain(function)
        return function

    def restore(self, function: Function) -> Function:
        """Decorator: takes what `snapshot` gave in an earlier life, after set-up and before the first request.

        If it raises, the worker ends as if its set-up had.
        """
        self._restore = _plain(function)
        return function

    @overload
    def method(self, function: Function) -> Function: ...

    @overload
    def method(
        self,
        function: None = None,
        *,
        name: str | None = None,
        batch: bool = False,
        idempotent: bool = False,
        input: bool = False,
    ) -> Callable[[Function], Function]: ...

    def method(
        self,
        function: Function | None = None,
        *,
        name: str | None = None,
        batch: bool = False,
        idempotent: bool = False,
        input: bool = False,
    ) -> Any:
        """Decorator: makes a function callable as `service.NAME` (default: the function's own name).

        A generator streams what it yields. With `batch` the function takes one list for each argument and returns as
        many results, in order; an exception instance in a result's place is that item's error. `idempotent` says that
        a call may be repeated after a crash. With `input` the function's first argument, before the others, is the
        caller's stream: an iterator, for an async function an async iterator. The caller is held while its items wait
        here, 32 or 8 MiB of them at most. Raises `ValueError` for a name that is taken or reserved.
        """

        def register(function: Function) -> Function:
            method = name if name is not None else function.__name__
            if not method or method.startswith("$/"):
                raise ValueError(f"{method!r} cannot be a method's name: names that begin with $/ are the protocol's")
            if method in self._handlers:
                raise ValueError(f"the worker {self.name} already has a method {method!r}")
            self._handlers[method] = Handler(method, function, batch, idempotent, input)
            return function

        return register if function is None else register(function)

    def run(self) -> None:
        """Serves the orchestrator at the other end of stdin and stdout; returns when it is done.

        Exits with status 1 when setup fails or the orchestrator breaks the protocol, 2 at a terminal. With the
        transport "inline" it serves the orchestrator whose thread it runs on.
        """
        link = link_here()
        if link is not None:
            self._serve(link.connect, link.last_words.append)
            return
        if os.environ.get(TRANSPORT_VARIABLE) != "fd34" and os.isatty(0):
            sys.stderr.write(
                f"{self.name} is a worker: it speaks frames with an orchestrator, not with a person at a terminal.\n"
                'Name this program as a service\'s command in mlports.toml and start that with "mlports run".\n'
            )
            raise SystemExit(2)
        channel = take_channel()
        # Ctrl-C reaches every process of a terminal: what it means is for the orchestrator to decide.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            self._serve(partial(Connection, channel), sys.stderr.write)
        finally:
            # A thread that does not end may keep this process: the orchestrator is to see that nobody serves any more.
            close_channel(channel)

    def _serve(self, connect: Connect, complain: Callable[[str], Any]) -> None:
        if (self._take is None) != (self._restore is None):
            missing = "restore" if self._restore is None else "snapshot"
            raise TypeError(f"the worker {self.name} has no @worker.{missing}: snapshot and restore go together")
        hooks = None
        if self._take is not None and self._restore is not None:
            from .snapshots import Hooks  # here: most workers have no hooks, and start without it

            hooks = Hooks(self._take, self._restore)
        self._server = Server(
            self.name, self._handlers, self._setup, connect, self._concurrency, self._max_frame, hooks
        )
        try:
            self._server.run()
        except RemoteProtocolError as error:
            complain(f"{self.name}: the orchestrator broke the protocol: {type(error).__name__}: {error}\n")
            raise SystemExit(1) from None
        except Failure as failure:  # setup chose its words
            complain(f"{self.name}: {failure.message}\n")
            raise SystemExit(1) from None
        except Exception:
            complain(traceback.format_exc())
            raise SystemExit(1) from None
        finally:
            self._server = None

    def call(self, target: str, *args: Any, timeout: float | None = None) -> Any:
        """Calls `service.method` on another service, through the orchestrator, and waits for the result.

        `timeout` in seconds; without one, what is left of the running call's own deadline. Raises `CallFailed` with the
        other side's error code. For plain handlers and their threads; async handlers use `await worker.acall(…)`.
        """
        return self._serving().calls.call(target, args, timeout)

    async def acall(self, target: str, *args: Any, timeout: float | None = None) -> Any:
        """`call` for async handlers."""
        return await self._serving().calls.acall(target, args, timeout)

    def log(self, level: str, text: str, **fields: Any) -> None:
        """A line for the orchestrator's log: `level` is "debug", "info", "warning" or "error"."""
        self._serving().log(level, text, fields)

    def logging_handler(self) -> logging.Handler:
        """A handler for Python's `logging` that sends records to the orchestrator's log, with level and logger."""
        return _LogHandler(self)

    def _serving(self) -> Server:
        if self._server is None:
            raise RuntimeError(f"the worker {self.name} is not running: this works inside its handlers")
        return self._server


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(function):
        raise TypeError(f"{function.__name__} cannot be async: a snapshot is of one moment")
    return function


class _LogHandler(logging.Handler):
    def __init__(self, worker: Worker) -> None:
        super().__init__()
        self._worker = worker

    def emit(self, record: logging.LogRecord) -> None:
        level = "error" if record.levelno >= logging.ERROR else record.levelname.lower()
        try:
            self._worker.log(level, self.format(record), logger=record.name)
        except Exception:
            self.handleError(record)
