"""What HTTP says of our errors: a status, headers, and a body. No web framework in it."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from mlports import CallError

STATUS = {
    "cancelled": 499,
    "unknown": 500,
    "invalid_argument": 400,
    "deadline_exceeded": 504,
    "not_found": 404,
    "permission_denied": 403,
    "resource_exhausted": 429,
    "failed_precondition": 400,
    "unimplemented": 501,
    "internal": 500,
    "unavailable": 503,
    "data_loss": 500,
    "unauthenticated": 401,
}
"""As gRPC's own gateway maps its codes (google/rpc/code.proto)."""

_COME_BACK = (429, 503)


class Reply(NamedTuple):
    """What goes back: `body` is to be sent as JSON."""

    status: int
    headers: dict[str, str]
    body: dict[str, Any]


def reply_to(error: CallError) -> Reply:
    """Code, message and whether it may be tried again; the worker's traceback stays here."""
    status = STATUS.get(error.code, 500)
    body: dict[str, Any] = {"code": error.code, "message": error.message, "retryable": error.retryable}
    headers = {}
    if status in _COME_BACK and error.retryable:
        after = float(getattr(error, "retry_after", 0.0))
        body["retry_after"] = after
        headers["Retry-After"] = str(max(1, math.ceil(after)))  # HTTP knows whole seconds alone
    return Reply(status, headers, {"error": body})


def refusal(status: int, message: str) -> Reply:
    """A request that never became a call."""
    code = "not_found" if status == 404 else "invalid_argument" if status < 500 else "internal"
    return Reply(status, {}, {"error": {"code": code, "message": message, "retryable": False}})
