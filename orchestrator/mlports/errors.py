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
        if self.data is not None:
            error["data"] = self.data
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


class DeadlineExceeded(CallError, TimeoutError):
    """The call's time was up: while it waited, or while a worker was at it."""

    default_code = "deadline_exceeded"


class CallCancelled(CallError):
    """The call was cancelled, and the worker said so."""

    default_code = "cancelled"


class Overloaded(CallError):
    """The service's queue is full; nothing was sent."""

    default_code = "resource_exhausted"


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


def call_error(
    error: dict[str, Any], *, service: str = "", method: str = "", replica: int | None = None, whole: bool = False
) -> CallError:
    """The exception for an error map that a worker, or an orchestrator at the other end of a socket, answered.

    `whole` says that the message names the call already.
    """
    kind = _BY_CODE.get(error["code"], WorkerError)
    message = error["message"] if whole else f"{service}.{method}: {error['message']}"
    exception = kind(
        message,
        code=error["code"],
        service=service,
        method=method,
        replica=replica,
        data=error.get("data"),
        retryable=error.get("retryable", False),
    )
    data = error.get("data")
    if isinstance(data, dict) and isinstance(data.get("traceback"), str):
        exception.__cause__ = RemoteTraceback(data["traceback"])
    return exception
