"""The three messages of MessagePack-RPC, with the protocol's trailing meta map (SPEC.md section 4)."""

from __future__ import annotations

from typing import Any, NamedTuple, Union

from .errors import InvalidMessage, shown

REQUEST, RESPONSE, NOTIFICATION = 0, 1, 2
MAX_ID = 2**53 - 1

CODES = frozenset(
    [
        "cancelled",
        "unknown",
        "invalid_argument",
        "deadline_exceeded",
        "not_found",
        "permission_denied",
        "resource_exhausted",
        "failed_precondition",
        "unimplemented",
        "internal",
        "unavailable",
        "data_loss",
        "unauthenticated",
    ]
)

Meta = dict[str, Any]


class Request(NamedTuple):
    """`[0, id, method, params, meta?]`: to be answered exactly once."""

    id: int
    method: str
    params: list[Any]
    meta: Meta | None = None

    def as_list(self) -> list[Any]:
        head: list[Any] = [REQUEST, self.id, self.method, self.params]
        return [*head, self.meta] if self.meta else head


class Response(NamedTuple):
    """`[1, id, error, result, meta?]`. `error` is None, or {code, message, data?, retryable?}."""

    id: int
    error: dict[str, Any] | None = None
    result: Any = None
    meta: Meta | None = None

    def as_list(self) -> list[Any]:
        head: list[Any] = [RESPONSE, self.id, self.error, self.result]
        return [*head, self.meta] if self.meta else head


class Notification(NamedTuple):
    """`[2, method, params, meta?]`: never answered."""

    method: str
    params: list[Any]
    meta: Meta | None = None

    def as_list(self) -> list[Any]:
        head: list[Any] = [NOTIFICATION, self.method, self.params]
        return [*head, self.meta] if self.meta else head


Message = Union[Request, Response, Notification]


def parse_message(value: Any) -> Message:
    """The message that a decoded value is. Elements beyond those listed are ignored.

    Raises `InvalidMessage`, saying which element is wrong and how.
    """
    if type(value) is not list or not value:
        raise InvalidMessage(f"a message is an array of 3 to 5 elements, not {shown(value)}")
    kind = value[0]
    if type(kind) is not int:
        raise InvalidMessage(f"a message begins with 0, 1 or 2, not {shown(kind)}")
    if kind == RESPONSE:
        return _parse_response(value)
    if kind == REQUEST:
        _check_length("request", value, 4)
        _check_id(value[1])
        method = _parse_method("request", value[2], value[3])
        return Request(value[1], method, value[3], _parse_meta(value, 4))
    if kind == NOTIFICATION:
        _check_length("notification", value, 3)
        method = _parse_method("notification", value[1], value[2])
        return Notification(method, value[2], _parse_meta(value, 3))
    raise InvalidMessage(f"a message begins with 0, 1 or 2, not {shown(kind)}")


def parse_error(error: Any) -> dict[str, Any]:
    """An error map: {code: str, message: str, data?, retryable?: bool}; its strings may have come as bin.

    Raises `InvalidMessage` for anything else.
    """
    if type(error) is not dict:
        raise InvalidMessage(f"an error is nil or a map with code and message, not {shown(error)}")
    failure: Meta = {as_text(key): value for key, value in error.items()}
    for key in ("code", "message"):
        failure[key] = as_text(failure.get(key))
        if type(failure[key]) is not str:
            raise InvalidMessage(f"an error's {key} is a string, not {shown(failure[key])}")
    if type(failure.get("retryable", False)) is not bool:
        raise InvalidMessage(f"an error's retryable is a boolean, not {shown(failure['retryable'])}")
    return failure


def _parse_response(value: list[Any]) -> Response:
    _check_length("response", value, 4)
    _check_id(value[1])
    error = value[2]
    if error is not None:
        error = parse_error(error)
        if value[3] is not None:
            raise InvalidMessage(f"a response with an error has nil for its result, not {shown(value[3])}")
    return Response(value[1], error, value[3], _parse_meta(value, 4))


def _check_length(name: str, value: list[Any], least: int) -> None:
    if len(value) < least:
        raise InvalidMessage(f"a {name} has at least {least} elements, this one {len(value)}")


def _check_id(value: Any) -> None:
    if type(value) is not int or not 0 <= value <= MAX_ID:
        raise InvalidMessage(f"an id is an integer from 0 to 2^53-1, not {shown(value)}")


def _parse_method(name: str, method: Any, params: Any) -> str:
    text = as_text(method)
    if not isinstance(text, str) or not text:
        raise InvalidMessage(f"a {name}'s method is a string of at least 1 character, not {shown(method)}")
    if type(params) is not list:
        raise InvalidMessage(f"a {name}'s params are an array, not {shown(params)}")
    return text


def as_text(value: Any) -> Any:
    """Some languages have one type for str and bin: a name may come as either."""
    if type(value) is bytes:
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value
    return value


def _parse_meta(value: list[Any], index: int) -> Meta | None:
    if len(value) <= index:
        return None
    meta = value[index]
    if meta is None:
        return None
    if type(meta) is not dict:
        raise InvalidMessage(f"meta is a map, not {shown(meta)}")
    for key in meta:
        if type(key) is bytes:
            return {as_text(key): item for key, item in meta.items()}
    return meta
