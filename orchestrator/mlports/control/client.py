"""The other end of the control socket: a running orchestrator, called from another process."""

from __future__ import annotations

import contextlib
import os
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from mlports import errors
from mlports.control.state import FEATURES, MAX_FRAME, READ_SIZE, SOCKET_NAME, reachable
from mlports.errors import CallError, ControlError, InvalidArgument, NoOrchestrator, call_error
from mlports_protocol import (
    Answered,
    Greeted,
    Item,
    LocalProtocolError,
    OrchestratorSession,
    Progressed,
    ProtocolError,
)

if TYPE_CHECKING:
    from mlports.runtime.call import CallOptions
    from mlports.telemetry import Event

Progress = Callable[[float, float | None, str], None]

_CONNECT_TIMEOUT = 5.0
_CREDIT = 64
_CHUNK = 1024  # items of a map that travel together


class Client:
    """A running orchestrator, reached over its control socket. Blocking, for one thread; `connect()` makes one.

    `path` is that of the socket; `patience` is how many seconds longer than it should an answer may take. The methods
    raise `ControlError` when the orchestrator does not answer, or is gone.
    """

    def __init__(self, path: Path, patience: float = 10.0) -> None:
        self._path = path
        self._patience = patience
        self._session = OrchestratorSession(MAX_FRAME)
        # By request: those whose answer is waited for, and the items of those that are streams.
        self._answers: dict[int, Answered | None] = {}
        self._items: dict[int, deque[Any]] = {}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(_CONNECT_TIMEOUT)
        try:
            with reachable(path) as name:
                self._socket.connect(name)
            self._socket.sendall(b"".join(self._session.hello("control", 0, {}, FEATURES)))
            while type(self._next_event()) is not Greeted:
                pass
        except (OSError, ControlError) as error:
            self._socket.close()
            if isinstance(error, FileNotFoundError | NotADirectoryError | ConnectionRefusedError):
                raise NoOrchestrator(
                    f"no orchestrator is running here: nobody listens on {path}. Start one with `mlports run`"
                ) from None
            if isinstance(error, ControlError):
                raise
            raise ControlError(f"cannot talk to the orchestrator at {path}: {error.strerror or error}") from error
        except BaseException:
            self._socket.close()
            raise

    def call(self, target: str, /, *params: Any, timeout: float | None = None, **options: Unpack[CallOptions]) -> Any:
        """Calls a method. `timeout` in seconds; the service's own without one. See `Orchestrator.call`."""
        patience = None if timeout is None else max(0.0, timeout) + self._patience
        progress = options.pop("progress", None)
        return self._ask(target, list(params), {**_deadline(timeout), **_meta(options)}, patience, progress)

    def map(
        self,
        target: str,
        items: Iterable[Any],
        /,
        *,
        timeout: float | None = None,
        return_exceptions: bool = False,
        progress: Progress | None = None,
    ) -> list[Any]:
        """The method's result for each item, in order; `progress` hears how many are done. See `Orchestrator.map`."""
        items = list(items)
        results: list[Any] = []
        for first in range(0, len(items), _CHUNK):
            chunk = [[item] for item in items[first : first + _CHUNK]]
            meta = {**_deadline(timeout), "batch": len(chunk)}

            def advance(done: float, _total: float | None, text: str, before: int = first) -> None:
                assert progress is not None
                progress(before + done, len(items), text)

            # The time is for each of the batches that the orchestrator makes of them: how many, only it knows.
            for error, result in self._ask(target, chunk, meta, None, None if progress is None else advance):
                if error is not None and not return_exceptions:
                    raise _exception(error)
                results.append(result if error is None else _exception(error))
        return results

    def release(self, digest: str | None = None) -> list[str]:
        """Allows calls again that are in quarantine. See `Orchestrator.release`; raises `InvalidArgument`."""
        released: list[str] = self._ask("$/release", [digest], {}, self._patience)
        return released

    def stream(
        self, target: str, /, *params: Any, timeout: float | None = None, **options: Unpack[CallOptions]
    ) -> Iterator[Any]:
        """The items of a streaming method."""
        return self._stream(target, list(params), {**_deadline(timeout), **_meta(options)})

    def status(self) -> dict[str, Any]:
        """What `Orchestrator.status()` gives there."""
        status: dict[str, Any] = self._ask("$/status", [], {}, self._patience)
        return status

    def events(self, recent: int = 0) -> Iterator[Event]:
        """The `recent` latest events there, and those that follow, until it stops."""
        return self._stream("$/events", [recent], {})

    def shutdown(self) -> None:
        """Asks it to stop, and waits until it has."""
        self._ask("$/shutdown", [], {}, self._patience)
        self._socket.settimeout(None)
        while self._read():
            pass

    def close(self) -> None:
        """Hangs up."""
        self._socket.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(
        self,
        method: str,
        params: list[Any],
        meta: dict[str, Any],
        patience: float | None,
        progress: Progress | None = None,
    ) -> Any:
        number = self._send(method, params, meta if progress is None else {**meta, "progress": True})
        self._answers[number] = None
        self._socket.settimeout(patience)
        try:
            while (answer := self._answers[number]) is None:
                event = self._next_event()
                if progress is not None and type(event) is Progressed and event.id == number:
                    progress(event.done, event.total, event.text)
        except BaseException:
            self._cancel(number)
            raise
        finally:
            del self._answers[number]
        return _result(answer)

    def _stream(self, method: str, params: list[Any], meta: dict[str, Any]) -> Iterator[Any]:
        number = self._send(method, params, {**meta, "credit": _CREDIT})
        self._answers[number] = None
        items = self._items[number] = deque()
        self._socket.settimeout(None)
        taken = 0
        try:
            while True:
                while items:
                    yield items.popleft()
                    taken += 1
                    if taken == _CREDIT // 2:
                        self._write(self._session.give_credit(number, taken))
                        taken = 0
                answer = self._answers[number]
                if answer is not None:
                    _result(answer)
                    return
                self._next_event()
        finally:
            del self._answers[number], self._items[number]
            self._cancel(number)

    def _send(self, method: str, params: list[Any], meta: dict[str, Any]) -> int:
        try:
            buffers = self._session.request(method, params, meta)
        except LocalProtocolError as error:
            if self._session.phase != "ready":
                raise ControlError(f"{method} cannot be called: {error}") from error
            raise InvalidArgument(f"the arguments of {method} cannot be sent: {error}") from error
        number = self._session.last_id
        self._socket.settimeout(None)
        self._write(buffers)
        return number

    def _cancel(self, number: int) -> None:
        if number in self._session.asked and self._session.phase == "ready":
            with contextlib.suppress(OSError, ControlError):
                self._socket.settimeout(_CONNECT_TIMEOUT)
                self._write(self._session.cancel(number))

    def _write(self, buffers: list[Any]) -> None:
        try:
            for buffer in buffers:
                self._socket.sendall(buffer)
        except ConnectionError as error:
            raise self._hung_up() from error

    def _next_event(self) -> Any:
        try:
            while (event := self._session.next_event()) is None:
                if not self._read():
                    raise self._hung_up()
        except ProtocolError as error:
            raise ControlError(
                f"what answers at {self._path} does not speak mlports' protocol, or another version: {error}"
            ) from error
        if type(event) is Item and event.id in self._items:
            self._items[event.id].append(event.value)
        elif type(event) is Answered and event.id in self._answers:
            self._answers[event.id] = event
        return event

    def _read(self) -> bool:
        try:
            data = self._socket.recv(READ_SIZE)
        except ConnectionError:
            return False
        except TimeoutError:
            raise ControlError(
                f"the orchestrator at {self._path} does not answer: it is stopped (SIGSTOP), or too busy to"
            ) from None
        if data:
            self._session.feed(data)
        return bool(data)

    def _hung_up(self) -> ControlError:
        return ControlError(f"the orchestrator at {self._path} hung up: it was stopped, or has died")


def connect(where: str | os.PathLike[str] = "mlports.toml") -> Client:
    """A client for the orchestrator that runs a configuration (its path), or that keeps its state in a directory.

    Raises `ConfigError`, `NoOrchestrator` when none is running there, and `ControlError` when it does not answer.
    """
    path = Path(where)
    if path.is_dir():
        is_state = path.name == ".mlports" or (path / SOCKET_NAME).exists()
        return Client((path if is_state else path / ".mlports") / SOCKET_NAME)
    likely = _likely_state_dir(path)
    if likely is not None:
        with contextlib.suppress(NoOrchestrator):
            return Client(likely / SOCKET_NAME)
    from mlports.config import load_config
    from mlports.runtime.orchestrator import Orchestrator

    return Client(Orchestrator(config=load_config(path)).state_dir / SOCKET_NAME)


def _likely_state_dir(path: Path) -> Path | None:
    """The state directory that a configuration names, without a check of the rest of it.

    The check takes longer than most calls; and an orchestrator that runs can be asked and stopped although its file has
    been broken since.
    """
    import tomllib

    try:
        table = tomllib.loads(path.read_text("utf-8")).get("orchestrator", {})
        own: str = table.get("state_dir", ".mlports")
        return Path(os.path.abspath(path)).parent / os.path.expanduser(own)
    except (OSError, ValueError, AttributeError, TypeError):
        return None


def _deadline(timeout: float | None) -> dict[str, Any]:
    return {} if timeout is None else {"deadline_ms": max(1, round(timeout * 1000)) if timeout > 0 else 0}


def _meta(options: CallOptions) -> dict[str, Any]:
    """The options of a call as they travel."""
    meta: dict[str, Any] = {name: options[name] for name in ("key", "priority", "tag") if name in options}
    if options.get("trace") is not None:
        meta["traceparent"] = options["trace"]
    return meta


def _result(answer: Answered) -> Any:
    if answer.error is not None:
        raise _exception(answer.error)
    return answer.result


def _exception(error: dict[str, Any]) -> CallError:
    """The exception that was raised at the other end, as far as its error map tells."""
    error = dict(error)
    where = error.pop("where", None) or {}
    kind = getattr(errors, str(where.get("kind")), None)
    plain = call_error(
        error,
        service=where.get("service", ""),
        method=where.get("method", ""),
        replica=where.get("replica"),
        whole=True,
    )
    if not (isinstance(kind, type) and issubclass(kind, CallError)) or kind is type(plain):
        return plain
    exception = kind(
        plain.message,
        code=plain.code,
        service=plain.service,
        method=plain.method,
        replica=plain.replica,
        data=plain.data,
        retryable=plain.retryable,
    )
    exception.__cause__ = plain.__cause__
    if isinstance(exception, errors.WorkerCrashed) and isinstance(where.get("verdict"), dict):
        from mlports.core.verdict import Verdict

        exception.verdict = Verdict.from_dict(where["verdict"])
    return exception
