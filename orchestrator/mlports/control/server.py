"""The orchestrator's end of the control socket."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections import deque
from collections.abc import AsyncIterator
from functools import partial
from typing import TYPE_CHECKING, Any

from mlports.control.state import FEATURES, MAX_FRAME, READ_SIZE, SOCKET_NAME, StateDir, reachable
from mlports.control.verdicts import VerdictFile
from mlports.errors import CallError, ControlError, InvalidArgument, NotRunning, WorkerCrashed
from mlports_protocol import (
    Buffer,
    CancelAsked,
    CreditGiven,
    HelloAsked,
    LocalProtocolError,
    ProtocolError,
    Request,
    WorkerSession,
)

if TYPE_CHECKING:
    from mlports.runtime.call import CallOptions
    from mlports.runtime.orchestrator import Orchestrator
    from mlports.telemetry import Event

_LAST_WORDS = 1.0  # seconds that a client may take to read what is left when the orchestrator stops
_BEHIND = 10_000  # events that a slow client may lag behind before it loses the oldest


@contextlib.asynccontextmanager
async def serve(orchestrator: Orchestrator) -> AsyncIterator[ControlServer]:
    """Holds the orchestrator's state directory, listens there and writes the verdicts, for as long as the block runs.

    To be entered before the orchestrator is started, so that no second one can be. When it is left, whoever waits for
    the orchestrator's end finds the directory free. Raises `ControlError` when the directory cannot be had.
    """
    state = StateDir(orchestrator.state_dir)
    server, verdicts = ControlServer(orchestrator, state), VerdictFile(state.path, orchestrator.event_log)
    try:
        await server.start()
        yield server
    finally:
        verdicts.close()
        await server.stop()


class ControlServer:
    """Listens in a state directory, which it owns, and lets whoever connects call the orchestrator."""

    def __init__(self, orchestrator: Orchestrator, state: StateDir) -> None:
        self.shutdown = asyncio.Event()  # somebody asked for it
        self._orchestrator = orchestrator
        self._state = state
        self._server: asyncio.Server | None = None
        self._connections: dict[_Connection, asyncio.Task[None]] = {}

    async def start(self) -> None:
        """Begins to listen. Raises `ControlError`."""
        path = self._state.path / SOCKET_NAME
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)  # a dead one's: the lock is ours
            with reachable(path) as name:
                listener.bind(name)
            os.chmod(path, 0o600)
            listener.listen(64)
            listener.setblocking(False)
        except OSError as error:
            listener.close()
            raise ControlError(f"cannot listen on {path}: {error.strerror or error}") from error
        self._server = await asyncio.start_unix_server(self._serve, sock=listener)

    async def stop(self) -> None:
        """Ends the streams of events, gives the directory free, and hangs up on everybody."""
        if self._server is not None:
            self._server.close()
        under_way = [future for connection in self._connections for future in connection.finish()]
        try:
            if under_way:
                await asyncio.wait(under_way, timeout=_LAST_WORDS)
        finally:
            self._state.close()
        tasks = list(self._connections.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if self._server is not None:
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connection = _Connection(self._orchestrator, self.shutdown, writer)
        self._connections[connection] = task
        try:
            await connection.serve(reader)
        except (OSError, ProtocolError, asyncio.CancelledError):
            pass  # it hung up, it speaks something else, or we stop: nobody is left to be told
        finally:
            connection.close()
            writer.close()
            try:
                await asyncio.wait_for(writer.wait_closed(), _LAST_WORDS)
            except (OSError, TimeoutError, asyncio.CancelledError):
                writer.transport.abort()
            del self._connections[connection]


class _Connection:
    """One client at the control socket."""

    def __init__(self, orchestrator: Orchestrator, shutdown: asyncio.Event, writer: asyncio.StreamWriter) -> None:
        self._orchestrator = orchestrator
        self._shutdown = shutdown
        self._writer = writer
        self._session = WorkerSession(MAX_FRAME)
        self._under_way: dict[int, asyncio.Future[Any]] = {}
        self._credit = asyncio.Event()
        self._followers: list[_Follower] = []

    async def serve(self, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(READ_SIZE):
            self._session.feed(data)
            while (event := self._session.next_event()) is not None:
                if type(event) is Request:
                    self._on_request(event)
                elif type(event) is HelloAsked:
                    self._send(
                        self._session.answer_hello(
                            event,
                            name="mlports",
                            language="python",
                            sdk="",
                            methods={},
                            features=FEATURES,
                            concurrency=1024,
                        )
                    )
                elif type(event) is CancelAsked and event.id in self._under_way:
                    self._under_way[event.id].cancel()
                elif type(event) is CreditGiven:
                    self._credit.set()
            await self._writer.drain()

    def finish(self) -> list[asyncio.Future[Any]]:
        """Ends the streams of events; gives what is still to be answered."""
        for follower in self._followers:
            follower.end()
        return list(self._under_way.values())

    def close(self) -> None:
        """The client is gone: what it asked for is cancelled."""
        for future in list(self._under_way.values()):
            future.cancel()

    def _on_request(self, request: Request) -> None:
        if request.method in ("$/ping", "$/shutdown"):
            self._answer(request.id, None)
            if request.method == "$/shutdown":
                self._shutdown.set()
        elif request.method == "$/release":
            try:
                self._answer(request.id, self._orchestrator.release(*request.params[:1]))
            except (LookupError, TypeError) as error:
                text = str(error.args[0]) if error.args else str(error)
                self._answer(request.id, None, InvalidArgument(text).as_error())
        elif request.method == "$/status":
            self._answer(request.id, self._orchestrator.status())
        else:
            try:
                future = self._begin(request)
            except (CallError, NotRunning) as error:
                self._answer(request.id, None, _error_map(error))
                return
            self._under_way[request.id] = future
            future.add_done_callback(lambda future: self._on_done(request, future))

    def _begin(self, request: Request) -> asyncio.Future[Any]:
        """Does what is asked for. Raises what is known at once."""
        method, params, meta = request.method, request.params, request.meta or {}
        deadline = meta.get("deadline_ms")
        timeout: dict[str, Any] = {"timeout": deadline / 1000} if isinstance(deadline, int | float) else {}
        if method == "$/events":
            if meta.get("credit") is None:
                raise InvalidArgument("$/events is a stream: ask for it with credit")
            recent = params[0] if params and type(params[0]) is int else 0
            follower = _Follower(self._orchestrator, recent)
            self._followers.append(follower)
            return asyncio.ensure_future(self._send_events(request.id, follower))
        progress = partial(self._on_progress, request.id)
        options: CallOptions = {"progress": progress}
        if "key" in meta:
            options["key"] = meta["key"]
        if isinstance(priority := meta.get("priority"), int):
            options["priority"] = priority
        if isinstance(tag := meta.get("tag"), str):
            options["tag"] = tag
        if isinstance(trace := meta.get("traceparent"), str):
            options["trace"] = trace
        if method.startswith("$/"):
            raise CallError(f"{method} is not known to this orchestrator", code="unimplemented")
        if meta.get("credit") is not None:
            stream = self._orchestrator.stream(method, *params, **timeout, **options)
            return asyncio.ensure_future(self._send_items(request.id, stream))
        if meta.get("batch") is not None:
            if any(type(item) is not list or len(item) != 1 for item in params):
                raise InvalidArgument("the params of a batch are lists of one argument each")
            items = [item[0] for item in params]
            results = self._orchestrator.map(method, items, return_exceptions=True, **timeout, **options)
            return asyncio.ensure_future(results)
        return self._orchestrator.call(method, *params, **timeout, **options)

    def _on_progress(self, number: int, done: float, total: float | None, text: str) -> None:
        # It is called by whoever reads from the worker, to whom our troubles are nothing.
        with contextlib.suppress(LocalProtocolError):
            self._send(self._session.notify("$/progress", [number, done, total, text]))

    def _on_done(self, request: Request, future: asyncio.Future[Any]) -> None:
        self._under_way.pop(request.id, None)
        if self._writer.is_closing():
            if not future.cancelled():
                future.exception()  # nobody is left to be told
            return
        if future.cancelled():
            self._answer(request.id, None, {"code": "cancelled", "message": f"{request.method} was cancelled"})
            return
        exception = future.exception()
        if exception is not None:
            self._answer(request.id, None, _error_map(exception))
            return
        result = future.result()
        if request.meta and request.meta.get("batch") is not None:
            result = [[_error_map(r), None] if isinstance(r, Exception) else [None, r] for r in result]
        self._answer(request.id, result)

    async def _send_events(self, number: int, follower: _Follower) -> None:
        try:
            await self._send_items(number, follower.follow())
        finally:
            self._followers.remove(follower)
            follower.close()

    async def _send_items(self, number: int, items: AsyncIterator[Any]) -> None:
        try:
            async for item in items:
                while not self._session.allowance(number):
                    self._credit.clear()
                    await self._credit.wait()
                self._send(self._session.item(number, item))
                await self._writer.drain()
        finally:
            close = getattr(items, "aclose", None)
            if close is not None:
                await close()

    def _answer(self, number: int, result: Any, error: dict[str, Any] | None = None) -> None:
        try:
            self._send(self._session.answer(number, error, result))
        except LocalProtocolError as unsendable:
            text = f"the answer cannot be sent: {unsendable}"
            self._send(self._session.answer(number, {"code": "internal", "message": text}))

    def _send(self, buffers: list[Buffer]) -> None:
        if not self._writer.is_closing():
            self._writer.writelines(buffers)


class _Follower:
    """The latest events and those that follow, for a client, until there will be no more."""

    def __init__(self, orchestrator: Orchestrator, recent: int) -> None:
        log = orchestrator.event_log
        latest = list(log.recent)[-recent:] if recent > 0 else []
        self._pending: deque[Event] = deque(latest, maxlen=_BEHIND)
        self._arrived = asyncio.Event()
        self._ended = False
        self.close = log.listen(self._add)

    def _add(self, event: Event) -> None:
        self._pending.append(event)
        self._arrived.set()

    def end(self) -> None:
        self._ended = True
        self._arrived.set()

    async def follow(self) -> AsyncIterator[Event]:
        while True:
            while self._pending:
                yield self._pending.popleft()
            if self._ended:
                return
            self._arrived.clear()
            await self._arrived.wait()


def _error_map(exception: BaseException) -> dict[str, Any]:
    """The protocol's error map, and in `where` what it takes to raise the same exception at the other end."""
    if isinstance(exception, NotRunning):
        return {"code": "unavailable", "message": str(exception)}
    if not isinstance(exception, CallError):
        return {"code": "internal", "message": f"{type(exception).__name__}: {exception}"}
    error = exception.as_error()
    error["where"] = {
        "kind": type(exception).__name__,
        "service": exception.service,
        "method": exception.method,
        "replica": exception.replica,
    }
    if isinstance(exception, WorkerCrashed) and exception.verdict is not None:
        error["where"]["verdict"] = exception.verdict.as_dict()
    return error
