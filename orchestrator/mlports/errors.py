"""Everything that mlports raises. Each error says what happened, to which worker and request, why, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlports.core.verdict import Verdict


class MlportsError(Exception):
    """The root of all of them."""


class ConfigError(MlportsError):
    """A configuration that cannot be used: names the file, the line, the key and the fix, as far as they are known."""

    def __init__(
        self,
        message: str,
        *,
        file: str | None = None,
        line: int | None = None,
        key: str | None = None,
        fix: str | None = None,
    ) -> None:
        place = file or ""
        if line is not None:
            place = f"{place}:{line}" if place else f"line {line}"
        text = ": ".join(part for part in (place, key, message) if part)
        super().__init__(f"{text}. Fix: {fix}" if fix else text)
        self.message = message
        self.file = file
        self.line = line
        self.key = key
        self.fix = fix


class StartFailed(MlportsError):
    """The orchestrator could not start, or none of its services could."""


class NotRunning(MlportsError):
    """The orchestrator has not been started, or has been stopped."""


class ControlError(MlportsError):
    """The control socket of a running orchestrator could not be used."""


class HostFailed(MlportsError):
    """The program that opened this orchestrator as a port broke the protocol, or reads no more."""


class NoOrchestrator(ControlError):
    """Nobody listens on the control socket: no orchestrator is running there."""


class ScriptFailed(MlportsError):
    """A one-shot program could not be run, ended with another status than 0, or took too long."""

    def __init__(self, message: str, status: int | None = None, stdout: str = "", stderr: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.stdout = stdout
        self.stderr = stderr


class ScriptTimedOut(ScriptFailed, TimeoutError):
    """A one-shot program took longer than it was given, and was killed."""


class RecordingError(MlportsError):
    """A file that cannot be replayed: it is no recording, or of another version, or not of this program."""


class RemoteTraceback(Exception):
    """The traceback of an exception in a worker, shown as the cause of the error that the caller sees."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"\nin the worker:\n{self.text.rstrip()}"


class CallError(MlportsError):
    """A call that did not give a result.

    `code` is one of gRPC's codes in lower case, `service`, `method` and `replica` say whose call it was (`replica` is
    None when it reached none), `data` is what the worker added, `retryable` whether the same call may succeed later.
    """

    default_code = "unknown"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        service: str = "",
        method: str = "",
        replica: int | None = None,
        data: Any = None,
        retryable: bool = False,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.service = service
        self.method = method
        self.replica = replica
        self.data = data
        self.retryable = retryable

    def as_error(self) -> dict[str, Any]:
        """The protocol's error map, for a caller at the other end of a connection."""
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        data = self.data
        if type(self).__name__ in _BY_NAME and (data is None or isinstance(data, dict)):
            data = {**(data or {}), "error": type(self).__name__}
        if data is not None:
            error["data"] = data
        if self.retryable:
            error["retryable"] = True
        return error


class WorkerError(CallError):
    """The handler raised. `remote_type` and `remote_traceback` are the worker's own; the latter is also the cause."""

    @property
    def remote_type(self) -> str | None:
        return self._said("type")

    @property
    def remote_traceback(self) -> str | None:
        return self._said("traceback")

    def _said(self, key: str) -> str | None:
        value = self.data.get(key) if isinstance(self.data, dict) else None
        return value if isinstance(value, str) else None


class WorkerCrashed(CallError):
    """The worker died with this call in its hands. `verdict` says how; the call may or may not have taken effect."""

    default_code = "unavailable"

    def __init__(self, message: str, *, verdict: Verdict | None = None, **more: Any) -> None:
        super().__init__(message, **more)
        self.verdict = verdict


class ProtocolViolation(WorkerCrashed):
    """The worker broke the protocol with this call in its hands, and was killed for it."""

    default_code = "data_loss"


class PoisonRequest(WorkerCrashed):
    """This very call kills the worker that it is sent to: it was proven, and it is in quarantine.

    `digest` is by what it is known there, in hex; None when its content cannot be told from others. `verdict` is None
    where it was refused without being sent.
    """

    default_code = "failed_precondition"

    def __init__(self, message: str, *, digest: str | None = None, **more: Any) -> None:
        super().__init__(message, **more)
        self.digest = digest


class DeadlineExceeded(CallError, TimeoutError):
    """The call's time was up: while it waited, or while a worker was at it."""

    default_code = "deadline_exceeded"


class CallCancelled(CallError):
    """The call was cancelled, and the worker said so."""

    default_code = "cancelled"


class Refused(CallError):
    """The call was not sent, and may be made again in `retry_after` seconds."""

    def __init__(self, message: str, *, retry_after: float = 0.0, data: Any = None, **more: Any) -> None:
        if data is None and retry_after:
            data = {"retry_after": retry_after}  # so that it reaches a caller at the other end of a connection
        super().__init__(message, data=data, **more)
        told = data.get("retry_after") if isinstance(data, dict) else None
        self.retry_after: float = told if isinstance(told, float | int) else retry_after


class Overloaded(Refused):
    """The service's queue is full; nothing was sent."""

    default_code = "resource_exhausted"


class CircuitOpen(Refused):
    """The service failed too often lately, and is left in peace for a while; nothing was sent."""

    default_code = "unavailable"


class CallCycle(CallError):
    """Services that call each other in a circle, with every replica waiting for another: it would never end."""

    default_code = "failed_precondition"


class ServiceDown(CallError):
    """The service has no worker and will get none: its supervisor gave up, or it is being stopped."""

    default_code = "unavailable"


class UnknownService(CallError):
    """No service of that name."""

    default_code = "not_found"


class UnknownMethod(CallError):
    """The service's worker has no method of that name, or it cannot be used in this way."""

    default_code = "unimplemented"


class InvalidArgument(CallError, ValueError):
    """Arguments that the method does not take, or that cannot be sent."""

    default_code = "invalid_argument"


_BY_CODE: dict[str, type[CallError]] = {
    error.default_code: error for error in (DeadlineExceeded, CallCancelled, UnknownMethod, InvalidArgument)
}


# These are told by name: their codes are those of other errors too.
_BY_NAME: dict[str, type[CallError]] = {
    kind.__name__: kind for kind in (CallCycle, CircuitOpen, Overloaded, PoisonRequest)
}


def call_error(
    error: dict[str, Any], *, service: str = "", method: str = "", replica: int | None = None, whole: bool = False
) -> CallError:
    """The exception for an error map that a worker, or an orchestrator at the other end of a socket, answered.

    `whole` says that the message names the call already.
    """
    data = error.get("data")
    told = data.get("error") if isinstance(data, dict) else None
    kind = _BY_NAME.get(told) if isinstance(told, str) else None
    kind = kind or _BY_CODE.get(error["code"], WorkerError)
    message = error["message"] if whole else f"{service}.{method}: {error['message']}"
    exception = kind(
        message,
        code=error["code"],
        service=service,
        method=method,
        replica=replica,
        data=data,
        retryable=error.get("retryable", False),
    )
    if isinstance(data, dict) and isinstance(data.get("traceback"), str):
        exception.__cause__ = RemoteTraceback(data["traceback"])
    return exception
