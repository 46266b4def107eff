"""The orchestrator's end of the control socket."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections import deque
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from mlports.control.caller import Caller
from mlports.control.state import FEATURES, MAX_FRAME, SOCKET_NAME, StateDir, reachable
from mlports.control.verdicts import VerdictFile
from mlports.errors import ControlError, InvalidArgument
from mlports_protocol import HelloAsked, ProtocolError, Request

if TYPE_CHECKING:
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
            connection.flush()
            writer.close()
            try:
                await asyncio.wait_for(writer.wait_closed(), _LAST_WORDS)
            except (OSError, TimeoutError, asyncio.CancelledError):
                writer.transport.abort()
            del self._connections[connection]


class _Connection(Caller):
    """One client at the control socket."""

    def __init__(self, orchestrator: Orchestrator, shutdown: asyncio.Event, writer: asyncio.StreamWriter) -> None:
        super().__init__(orchestrator, writer, MAX_FRAME)
        self._shutdown = shutdown
        self._followers: list[_Follower] = []

    def finish(self) -> list[asyncio.Future[Any]]:
        """Ends the streams of events; gives what is still to be answered."""
        for follower in self._followers:
            follower.end()
        return list(self._under_way.values())

    def _greet(self, asked: HelloAsked) -> None:
        self._send(
            self._session.answer_hello(
                asked, name="mlports", language="python", sdk="", methods={}, features=FEATURES, concurrency=1024
            )
        )

    def _answer_own(self, request: Request) -> bool:
        if request.method == "$/shutdown":
            self._answer(request.id, None)
            self._shutdown.set()
        elif request.method == "$/release":
            try:
                self._answer(request.id, self._orchestrator.release(*request.params[:1]))
            except (LookupError, TypeError) as error:
                text = str(error.args[0]) if error.args else str(error)
                self._answer(request.id, None, InvalidArgument(text).as_error())
        elif request.method == "$/status":
            self._answer(request.id, self._orchestrator.status())
        elif request.method == "$/events":
            self._begin_events(request)
        else:
            return super()._answer_own(request)
        return True

    def _begin_events(self, request: Request) -> None:
        params, meta = request.params, request.meta or {}
        if meta.get("credit") is None:
            wrong = InvalidArgument("$/events is a stream: ask for it with credit")
            self._answer(request.id, None, wrong.as_error())
            return
        recent = params[0] if params and type(params[0]) is int else 0
        follower = _Follower(self._orchestrator, recent)
        self._followers.append(follower)
        self.follow(request, asyncio.ensure_future(self._send_events(request.id, follower)))

    async def _send_events(self, number: int, follower: _Follower) -> None:
        try:
            await self._send_items(number, follower.follow())
        finally:
            self._followers.remove(follower)
            follower.close()


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
