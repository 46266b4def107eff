"""What a worker answered to a batch: one pair [error, result] for each call in it, or something else."""

from __future__ import annotations

from typing import Any

from mlports_protocol import InvalidMessage
from mlports_protocol.messages import parse_error

Pair = list[Any]  # [error, result]; the error is None or an error map


def plain_results(result: Any, count: int) -> list[Any] | None:
    """The results in the answer to a batch, when it has `count` and no error among them; else None.

    That is the usual answer, and there is no step in Python for each pair of it.
    """
    if type(result) is not list or len(result) != count or set(map(type, result)) != {list}:
        return None
    try:
        errors, results = zip(*result, strict=True)
        return list(results) if errors.count(None) == count else None
    except ValueError:  # one is no pair, or has an array for its error
        return None


def outcomes(result: Any, count: int) -> list[Pair]:
    """The `count` pairs in the answer to a batch; where there are none such, pairs with errors that say so."""
    if type(result) is not list or len(result) != count:
        got = f"{len(result)} outcomes" if type(result) is list else f"{result!r:.80}"
        text = f"the worker answered a batch of {count} with {got}, not with as many pairs [error, result]"
        return [_internal(text)] * count
    return [_checked(pair) for pair in result]


def take_apart(result: Any, count: int) -> tuple[list[Any], dict[int, dict[str, Any]]]:
    """The results in the answer to a batch of `count`, and the errors in it by their place."""
    results = plain_results(result, count)
    if results is not None:
        return results, {}
    pairs = outcomes(result, count)
    errors = {index: error for index, (error, _) in enumerate(pairs) if error is not None}
    return [result for _, result in pairs], errors


def _checked(pair: Any) -> Pair:
    if type(pair) is not list or len(pair) != 2:
        return _internal(f"the worker's outcome for an item of a batch is no pair [error, result]: {pair!r:.80}")
    if pair[0] is None:
        return pair
    try:
        return [parse_error(pair[0]), None]
    except InvalidMessage as error:
        return _internal(f"the worker's error for an item of a batch is none: {error}")


def _internal(text: str) -> Pair:
    return [{"code": "internal", "message": text}, None]
