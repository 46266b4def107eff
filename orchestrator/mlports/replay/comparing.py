"""What a worker did in a replay, beside what was recorded: its answers, item by item, and its end."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import msgpack

from mlports.core.redaction import Redaction
from mlports.core.routing.difference import difference
from mlports.core.verdict import Verdict
from mlports.replay.feeding import Outcome
from mlports.replay.script import Script
from mlports_protocol import RemoteProtocolError, Request, Response
from mlports_protocol.ndarray import EXT_NDARRAY, decode_array

_VIOLATION = re.compile(r"broke the protocol: (\w+)")
_DEEPEST = 128  # the protocol's own limit

Kind = tuple[str, int | str | None]
"""Why a worker died, as far as two deaths are compared: the cause, and the status, signal or violation."""


class Deviation(NamedTuple):
    """An answer, or a stream's items, other than recorded. `place` leads to the first difference: `result[0]['x']`."""

    id: int
    method: str
    place: str
    recorded: str
    now: str


def kind_of(verdict: Verdict | dict[str, Any] | None) -> Kind:
    """The kind of an end; that of one in order is `("end", None)`."""
    if isinstance(verdict, Verdict):
        verdict = verdict.as_dict()
    if verdict is None:
        return "end", None
    cause, status = verdict["cause"], verdict.get("status")
    if cause == "stopped" or (cause, status) == ("exit", 0):
        return "end", None
    if cause in ("exit", "signal"):
        return cause, status
    found = _VIOLATION.search(str(verdict.get("detail", ""))) if cause == "protocol" else None
    return cause, found[1] if found else None


def is_same_end(recorded: Kind, now: Kind) -> bool:
    """Whether two ends are of one kind. Of a redacted recording it is not known how the protocol was broken."""
    return recorded == now or recorded == ("protocol", None) == (now[0], None)


def deviations(script: Script, outcome: Outcome, tolerance: float = 0.0) -> list[Deviation]:
    """Where what was answered differs, by request; not those that were not answered, then or now.

    Tracebacks are not compared, nor what a recording has only stand-ins for.
    """
    redaction = Redaction(script.recording.header.get("redacted") or False)
    found = []
    for number, request in script.requests.items():
        if redaction.covers(request.method):
            continue
        pairs: list[tuple[str, Any, Any]] = []
        then, now = script.answers.get(number), outcome.answers.get(number)
        if then is not None and now is not None:
            pairs = _parts(request, then, now)
        if number in outcome.items or number in script.items:
            count = None if then is not None and now is not None else _both(script, outcome, number)
            pairs.append(("item", script.items.get(number, [])[:count], outcome.items.get(number, [])[:count]))
        for name, one, two in pairs:
            differs = difference(_arrays(one), _arrays(two), tolerance)
            if differs is not None:
                found.append(Deviation(number, request.method, name + differs.place, differs.one, differs.two))
                break
    return found


def _both(script: Script, outcome: Outcome, number: int) -> int:
    """How many items of a stream that did not end there are on both sides."""
    return min(len(script.items.get(number, ())), len(outcome.items.get(number, ())))


def _parts(request: Request, then: Response, now: Response) -> list[tuple[str, Any, Any]]:
    if "batch" in (request.meta or {}):
        return [("error", _error(then.error), _error(now.error)), ("result", _pairs(then.result), _pairs(now.result))]
    return [("error", _error(then.error), _error(now.error)), ("result", then.result, now.result)]


def _error(error: Any) -> Any:
    """An error without its traceback, which names lines and addresses."""
    if type(error) is dict and type(error.get("data")) is dict:
        return {**error, "data": {key: value for key, value in error["data"].items() if key != "traceback"}}
    return error


def _pairs(result: Any) -> Any:
    if type(result) is not list:
        return result
    return [[_error(pair[0]), *pair[1:]] if type(pair) is list and pair else pair for pair in result]


def _arrays(value: Any, depth: int = 0) -> Any:
    """The value with its arrays decoded, where numpy is installed."""
    if depth > _DEEPEST:
        return value
    if type(value) is list:
        return [_arrays(item, depth + 1) for item in value]
    if type(value) is dict:
        return {key: _arrays(item, depth + 1) for key, item in value.items()}
    if isinstance(value, msgpack.ExtType) and value.code == EXT_NDARRAY:
        try:
            return decode_array(value.data)
        except RemoteProtocolError:
            return value
    return value
