"""The control socket: how other processes reach a running orchestrator.

A Unix socket `control.sock` in the state directory (mode 0600), which speaks the worker protocol with the parts
exchanged: whoever connects sends requests `service.method`, and the orchestrator answers. Its own requests:

    $/status []                    what `Orchestrator.status()` gives
    $/events [recent]              a stream of events
    $/shutdown []                  stops the orchestrator; answered when it begins
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlports.errors import ControlError, call_error
from mlports_protocol import (
    Answered,
    Buffer,
    CancelAsked,
    CreditGiven,
    Greeted,
    HelloAsked,
    Item,
    LocalProtocolError,
    OrchestratorSession,
    ProtocolError,
    Request,
    WorkerSession,
)

if TYPE_CHECKING:
    from mlports.runtime.orchestrator import Orchestrator
    from mlports.telemetry import Event

SOCKET_NAME = "control.sock"
LOCK_NAME = "orchestrator.lock"
_FEATURES = frozenset(["ping", "cancel", "stream", "batch", "ndarray"])
_MAX_FRAME = 2**31 - 1
_CONNECT_TIMEOUT = 5.0
_READ_SIZE = 256 * 1024
_CREDIT = 64


class StateDir:
    """The directory of one running orchestrator: locked by it, with its pid inside.

    Raises `ControlError` when another orchestrator holds it, naming its pid, or when it cannot be written. What a dead
    one left behind is taken over.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = os.open(path / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ControlError(
                f"cannot use the state directory {path}: {error.strerror}. Make it writable, or set state_dir to another"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            pid = os.pread(self._lock, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._lock)
            raise ControlError(
                f"the state directory {path} is in use by a running orchestrator (pid {pid}). "
                "Stop that one with `mlports stop`, or set state_dir to another directory"
            ) from None
        try:
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            os.close(self._lock)
            raise ControlError(f"cannot write into the state directory {path}: {error.strerror}") from error

    def close(self) -> None:
        """Gives the directory free."""
        with contextlib.suppress(OSError):
            os.unlink(self.path / SOCKET_NAME)
        os.close(self._lock)


class ControlServer:
    """Listens in a state directory and lets whoever connects call the orchestrator."""

    def __init__(self, orchestrator: Orchestrator, state: StateDir) -> None:
        self._orchestrator = orchestrator
        self._state = state
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self.shutdown = asyncio.Event()  # somebody asked for it

    async def start(self) -> None:
        """Begins to listen."""
        path = self._state.path / SOCKET_NAME
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # a dead one's: the lock is ours
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with _reachable(path) as name:
                listener.bind(name)
            os.chmod(path, 0o600)
            listener.listen(64)
            listener.setblocking(False)
        except OSError as error:
            listener.close()
            raise ControlError(f"cannot listen on {path}: {error.strerror}") from error
        self._server = await asyncio.start_unix_server(self._serve, sock=listener)

    async def stop(self) -> None:
        """Hangs up on everybody."""
        if self._server is not None:
            self._server.close()
        for task in list(self._connections):
            task.cancel()
        if self._connections:
            await asyncio.wait(self._connections)
        if self._server is not None:
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        connection = _Connection(self._orchestrator, self.shutdown, writer)
        try:
            await connection.serve(reader)
        except (ConnectionError, ProtocolError, asyncio.CancelledError):
            pass  # it hung up, it speaks something else, or we stop: nobody is left to be told
        finally:
            self._connections.discard(task)
            connection.close()
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()


class _Connection:
    """One client at the control socket."""

    def __init__(self, orchestrator: Orchestrator, shutdown: asyncio.Event, writer: asyncio.StreamWriter) -> None:
        self._orchestrator = orchestrator
        self._shutdown = shutdown
        self._writer = writer
        self._session = WorkerSession(_MAX_FRAME)
        self._under_way: dict[int, asyncio.Future[Any]] = {}
        self._credit = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(_READ_SIZE):
            self._session.feed(data)
            while (event := self._session.next_event()) is not None:
                if type(event) is Request:
                    self._on_request(event)
                elif type(event) is HelloAsked:
                    hello = self._session.answer_hello(
                        event,
                        name="mlports",
                        language="python",
                        sdk="",
                        methods={},
                        features=_FEATURES,
                        concurrency=1024,
                    )
                    self._send(hello)
                elif type(event) is CancelAsked and event.id in self._under_way:
                    self._under_way[event.id].cancel()
                elif type(event) is CreditGiven:
                    self._credit.set()
            await self._writer.drain()

    def close(self) -> None:
        """The client is gone: what it asked for is cancelled."""
        for future in list(self._under_way.values()):
            future.cancel()

    def _on_request(self, request: Request) -> None:
        meta = request.meta or {}
        deadline = meta.get("deadline_ms")
        timeout: dict[str, Any] = {"timeout": deadline / 1000} if isinstance(deadline, int | float) else {}
        future: asyncio.Future[Any]
        if request.method == "$/ping":
            self._answer(request.id, None)
            return
        if request.method == "$/status":
            self._answer(request.id, self._orchestrator.status())
            return
        if request.method == "$/shutdown":
            self._answer(request.id, None)
            self._shutdown.set()
            return
        if request.method == "$/events":
            recent = bool(request.params and request.params[0])
            future = asyncio.ensure_future(self._send_items(request.id, self._orchestrator.events(recent)))
        elif "credit" in meta:
            stream = self._orchestrator.stream(request.method, *request.params, **timeout)
            future = asyncio.ensure_future(self._send_items(request.id, stream))
        elif "batch" in meta:
            items = [params[0] if len(params) == 1 else params for params in request.params]
            future = asyncio.ensure_future(
                self._orchestrator.map(request.method, items, return_exceptions=True, **timeout)
            )
        else:
            future = self._orchestrator.call(
                request.method,
                *request.params,
                progress=lambda done, total, text: self._send(
                    self._session.notify("$/progress", [request.id, done, total, text])
                ),
                **timeout,
            )
        self._under_way[request.id] = future
        future.add_done_callback(lambda future: self._on_done(request, future))

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
        if request.meta and "batch" in request.meta:
            result = [[_error_map(r), None] if isinstance(r, Exception) else [None, r] for r in result]
        self._answer(request.id, result)

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


class Client:
    """A running orchestrator, reached over its control socket. Blocking; `connect()` makes one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._session = OrchestratorSession(_MAX_FRAME)
        self._items: list[Any] = []
        self._answers: dict[int, Answered] = {}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(_CONNECT_TIMEOUT)
        try:
            with _reachable(path) as name:
                self._socket.connect(name)
            self._socket.sendall(b"".join(self._session.hello("control", 0, {}, _FEATURES)))
            while type(self._next_event()) is not Greeted:
                pass
        except (OSError, ProtocolError) as error:
            self._socket.close()
            if isinstance(error, FileNotFoundError | ConnectionRefusedError):
                raise ControlError(
                    f"no orchestrator is running here: nobody listens on {path}. Start one with `mlports run`"
                ) from None
            raise ControlError(f"cannot talk to the orchestrator at {path}: {error}") from error
        self._socket.settimeout(None)

    def call(self, target: str, /, *params: Any, timeout: float | None = None, progress: Any = None) -> Any:
        """Calls `service.method`. `timeout` in seconds; the service's own without one. Raises what `Orchestrator.call` does."""
        return self._ask(target, list(params), timeout, progress=progress)

    def stream(self, target: str, /, *params: Any, timeout: float | None = None) -> Iterator[Any]:
        """The items of a streaming method."""
        return self._stream(target, list(params), timeout)

    def status(self) -> dict[str, Any]:
        """What `Orchestrator.status()` gives there."""
        status: dict[str, Any] = self._ask("$/status", [], None)
        return status

    def events(self, recent: bool = False) -> Iterator[Event]:
        """What happens there from now on (with `recent`, the last 1,000 events first)."""
        return self._stream("$/events", [recent], None)

    def shutdown(self) -> None:
        """Asks it to stop, and waits until it has."""
        self._ask("$/shutdown", [], None)
        while self._read():
            pass

    def close(self) -> None:
        """Hangs up."""
        self._socket.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, method: str, params: list[Any], timeout: float | None, progress: Any = None) -> Any:
        number = self._send(method, params, {} if timeout is None else {"deadline_ms": int(timeout * 1000)})
        try:
            while number not in self._answers:
                event = self._next_event()
                if progress is not None and hasattr(event, "done"):
                    progress(event.done, event.total, event.text)
        except KeyboardInterrupt:
            self._socket.sendall(b"".join(self._session.cancel(number)))
            raise
        return _result(self._answers.pop(number))

    def _stream(self, method: str, params: list[Any], timeout: float | None) -> Iterator[Any]:
        meta = {"credit": _CREDIT} | ({} if timeout is None else {"deadline_ms": int(timeout * 1000)})
        number = self._send(method, params, meta)
        taken = 0
        try:
            while True:
                while self._items:
                    yield self._items.pop(0)
                    taken += 1
                    if taken == _CREDIT // 2:
                        self._socket.sendall(b"".join(self._session.give_credit(number, taken)))
                        taken = 0
                if number in self._answers:
                    _result(self._answers.pop(number))
                    return
                self._next_event()
        finally:
            self._items.clear()
            if number in self._session.asked:
                with contextlib.suppress(OSError):
                    self._socket.sendall(b"".join(self._session.cancel(number)))

    def _send(self, method: str, params: list[Any], meta: dict[str, Any]) -> int:
        try:
            buffers = self._session.request(method, params, meta)
        except LocalProtocolError as error:
            raise ControlError(f"{method} cannot be called: {error}") from error
        try:
            for buffer in buffers:
                self._socket.sendall(buffer)
        except OSError as error:
            raise self._hung_up() from error
        return self._session.last_id

    def _next_event(self) -> Any:
        while True:
            event = self._session.next_event()
            if event is not None:
                if type(event) is Item:
                    self._items.append(event.value)
                elif type(event) is Answered:
                    self._answers[event.id] = event
                return event
            if not self._read():
                raise self._hung_up()

    def _read(self) -> bool:
        try:
            data = self._socket.recv(_READ_SIZE)
        except ConnectionError:
            return False
        if data:
            self._session.feed(data)
        return bool(data)

    def _hung_up(self) -> ControlError:
        return ControlError(f"the orchestrator at {self._path} hung up: it was stopped or has died")


def connect(where: str | os.PathLike[str] = "mlports.toml") -> Client:
    """A client for the orchestrator that runs a configuration (its path), or that keeps its state in a directory.

    Raises `ControlError` when none is running there.
    """
    path = Path(where)
    if path.is_dir():
        return Client(
            (path if path.name == ".mlports" or (path / SOCKET_NAME).exists() else path / ".mlports") / SOCKET_NAME
        )
    from mlports.config import load_config
    from mlports.runtime.orchestrator import Orchestrator

    return Client(Orchestrator(config=load_config(path)).state_dir / SOCKET_NAME)


def _result(answer: Answered) -> Any:
    if answer.error is not None:
        error = dict(answer.error)
        where = error.pop("where", None) or {}
        raise call_error(error, service=where.get("service", ""), method=where.get("method", ""), whole=True)
    return answer.result


def _error_map(exception: BaseException) -> dict[str, Any]:
    as_error = getattr(exception, "as_error", None)
    if as_error is not None:
        error: dict[str, Any] = as_error()
        error["where"] = {"service": exception.service, "method": exception.method}  # type: ignore[attr-defined]
        return error
    return {"code": "internal", "message": f"{type(exception).__name__}: {exception}"}


@contextlib.contextmanager
def _reachable(path: Path) -> Iterator[str]:
    """A name for a socket that fits into the 108 bytes that there are: by way of the directory's descriptor, if need be."""
    name = str(path)
    if len(os.fsencode(name)) < 104:
        yield name
        return
    if not os.path.isdir("/proc/self/fd"):
        raise OSError(errno.ENAMETOOLONG, "the path of a socket is limited to about 100 bytes: set a shorter state_dir")
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
