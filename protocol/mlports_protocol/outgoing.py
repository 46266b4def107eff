"""What a program is about to send, checked: by what is wrong in it the peer would end the connection."""

from __future__ import annotations

from typing import Any

from .errors import InvalidMessage, Unencodable, WrongState, shown
from .messages import MAX_ID, parse_error


def check_call(method: Any, params: Any, meta: Any, features: frozenset[str]) -> None:
    """Raises `Unencodable` for a wrong request or notification, and `WrongState` for meta that needs a feature."""
    if not isinstance(method, str) or not method:
        raise Unencodable(f"a method is a string of at least 1 character, not {shown(method)}")
    if not isinstance(params, (list, tuple)):
        raise Unencodable(f"the params of {method} are a list, not {shown(params)}")
    if meta is None:
        return
    if not isinstance(meta, dict):
        raise Unencodable(f"the meta of {method} is a dict, not {shown(meta)}")
    for key, feature in (("credit", "stream"), ("input", "input"), ("batch", "batch")):
        if key in meta and feature not in features:
            raise WrongState(f"meta {key} needs the feature {feature}, which the peer did not claim")
    credit = meta.get("credit")
    if credit is not None and (type(credit) is not int or not 0 <= credit <= MAX_ID):
        raise Unencodable(f"meta credit is an integer from 0 to 2^53-1, not {shown(credit)}")
    if type(meta.get("input")) not in (bool, type(None)):
        raise Unencodable(f"meta input is a boolean, not {shown(meta['input'])}")


def check_grant(count: Any) -> None:
    """Raises `Unencodable` unless it is a number of items."""
    if type(count) is not int or not 1 <= count <= MAX_ID:
        raise Unencodable(f"credit is given in integers from 1, not {shown(count)}")


def check_error(error: Any, result: Any) -> None:
    """Raises `Unencodable` for a wrong error, and for one that goes with a result."""
    try:
        parse_error(error)
    except InvalidMessage as reason:
        raise Unencodable(f"the answer cannot be sent: {reason}") from None
    if result is not None:
        raise Unencodable(f"an answer with an error has no result, not {shown(result)}")
