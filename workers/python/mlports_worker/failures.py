"""Exceptions on their way to the caller: each becomes the protocol's error map."""

from __future__ import annotations

import traceback
from types import TracebackType
from typing import Any

_MOST_TEXT = 16 * 1024  # characters


class Failure(Exception):
    """Raise it in a handler to choose the error that the caller sees.

    `code` is one of gRPC's codes in lower case, such as "not_found" or "invalid_argument"; `data` anything that can be
    sent; `retryable` says that the same call may succeed elsewhere or later.
    """

    def __init__(self, code: str, message: str, data: Any = None, retryable: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data
        self.retryable = retryable

    def as_error(self) -> dict[str, Any]:
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.data is not None:
            error["data"] = self.data
        if self.retryable:
            error["retryable"] = True
        return error


class Cancelled(Failure):
    """The caller gave the call up. Raised by `current().check()`."""

    def __init__(self, message: str = "the caller cancelled the call") -> None:
        super().__init__("cancelled", message)


class CallFailed(Failure):
    """A call that this worker made to another service failed; unless caught it fails the handler's own call alike."""


def error_of(exception: BaseException) -> dict[str, Any]:
    """The error map for what a handler raised: its type, message and traceback, from the handler's own frame on."""
    if isinstance(exception, Failure):
        return exception.as_error()
    kind = type(exception)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    own = _without_our_frames(exception.__traceback__)
    text = "".join(traceback.format_exception(kind, exception, own))
    try:
        message = str(exception)
    except Exception:
        message = "<exception str() failed>"  # as in a traceback
    return {
        "code": "unknown",
        "message": sendable(f"{kind.__name__}: {message}" if message else kind.__name__),
        "data": {"type": name, "traceback": sendable(text)},
    }


def sendable(text: str) -> str:
    """`text` with what is no UTF-8 escaped (file names may hold such), and without its middle where it is too long."""
    if len(text) > _MOST_TEXT:
        text = text[: _MOST_TEXT // 2] + "\n  … \n" + text[-_MOST_TEXT // 2 :]
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def raised_by_calling(exception: BaseException) -> bool:
    """Whether a TypeError came from the call itself (wrong number of arguments), not from inside the handler."""
    frames = _without_our_frames(exception.__traceback__)
    return isinstance(exception, TypeError) and frames is None


def _without_our_frames(frames: TracebackType | None) -> TracebackType | None:
    while frames is not None and frames.tb_frame.f_globals.get("__name__", "").startswith("mlports_worker."):
        frames = frames.tb_next
    return frames
