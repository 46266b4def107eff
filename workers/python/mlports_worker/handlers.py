"""A user's functions as methods: what kind each is, and how it is called for one item, for many, or as a stream."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, Callable

from mlports_protocol import MethodInfo

from .failures import Failure, error_of, raised_by_calling

Pair = list[Any]  # [error, result]: one item's outcome in a batch


class Handler:
    """One method of a worker.

    `batch` means that the function takes one list for each argument and returns as many results as items; an
    exception instance in a result's place is that item's error. `input` means that its first argument is a stream.
    """

    def __init__(
        self, name: str, function: Callable[..., Any], batch: bool, idempotent: bool, input: bool = False
    ) -> None:
        self.name = name
        self.function = function
        self.batch = batch
        self.idempotent = idempotent
        self.input = input
        self.streams = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
        self.is_async = inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
        if batch and self.streams:
            raise TypeError(f"method {name!r} cannot be both a batch method and a generator")
        if batch and input:
            raise TypeError(f"method {name!r} cannot be a batch method and take a streamed argument")

    @property
    def info(self) -> MethodInfo:
        return MethodInfo(batch=self.batch, stream=self.streams, idempotent=self.idempotent, input=self.input)

    def call_one(self, params: Sequence[Any]) -> Any:
        """The result for one call; a coroutine when the function is async, a generator when it streams."""
        if self.batch:
            return self.function(*[[param] for param in params])
        return self.function(*params)

    def error(self, exception: BaseException, params: Sequence[Any]) -> dict[str, Any]:
        """The error map for what a call with `params` raised; wrong arguments are the caller's fault, and said so."""
        if raised_by_calling(exception):
            expected = f"it takes {_signature(self.function)}"
            return Failure(
                "invalid_argument", f"{self.name} was called with {len(params)} arguments; {expected}"
            ).as_error()
        return error_of(exception)

    def call_alone(self, params: Sequence[Any]) -> Any:
        """What a batch function returns for this item alone, or the exception that it raises or returns."""
        try:
            results = self.function(*[[param] for param in params])
            self.pairs(results, 1)
            return next(iter(results))
        except Exception as exception:
            return exception

    def call_each(self, items: Sequence[Any]) -> list[Pair]:
        """The outcome of each call of a batch, by a function that takes one at a time."""
        function, pairs = self.function, []
        for params in items:
            try:
                pairs.append([None, function(*params)] if type(params) is list else [_not_a_list(params), None])
            except Exception as exception:
                pairs.append([self.error(exception, params), None])
        return pairs

    def take_batch(self, params: list[Any], meta: dict[str, Any]) -> tuple[list[Any], list[list[Any]] | None]:
        """The argument lists of a batch, or its columns if the function takes those. Raises `Failure`."""
        count = meta["batch"]
        if "credit" in meta:
            raise Failure("invalid_argument", f"{self.name}: a batch gives no stream")
        if meta.get("columns"):
            if any(not hasattr(column, "__getitem__") or _length(column) != count for column in params):
                text = f"meta batch says {count!r}, and there are columns that do not have so many rows"
                raise Failure("invalid_argument", text)
            columns = [list(column) for column in params]
            return ([], columns) if self.batch and columns else ([list(row) for row in zip(*columns)], None)
        if count != len(params):
            text = f"meta batch says {count!r}, and there are {len(params)} argument lists"
            raise Failure("invalid_argument", text)
        found = self.columns(params) if self.batch else None
        return (params, None) if found is None else ([], found)

    def columns(self, items: Sequence[Any]) -> list[list[Any]] | None:
        """The argument lists of a batch turned into one list for each argument; None when they differ in length."""
        if not items or set(map(type, items)) != {list} or len(set(map(len, items))) != 1:
            return None
        return [list(column) for column in zip(*items)]

    def pairs(self, results: Any, count: int) -> list[Pair]:
        """The outcomes in what a batch function returned. Raises `Failure` unless there are `count` of them."""
        try:
            length = len(results)
        except TypeError:
            results = list(results) if hasattr(results, "__iter__") else None
            length = -1 if results is None else len(results)
        if length != count:
            got = f"{length} results" if length >= 0 else "something that is no sequence"
            raise Failure("internal", f"the batch method {self.name} returned {got} for {count} items")
        if any(issubclass(kind, Exception) for kind in set(map(type, results))):
            return [[error_of(result), None] if isinstance(result, Exception) else [None, result] for result in results]
        return [[None, result] for result in results]


def _length(column: Any) -> int:
    try:
        return len(column)
    except TypeError:  # an array without an axis
        return -1


def _not_a_list(params: Any) -> dict[str, Any]:
    return Failure("invalid_argument", f"an item of a batch is a list of arguments, not {params!r:.80}").as_error()


def _signature(function: Callable[..., Any]) -> str:
    try:
        return str(inspect.signature(function))
    except (TypeError, ValueError):
        return "other arguments"


def only_result(pairs: list[Pair]) -> Any:
    """The result in the one pair there is; raises its error."""
    error, result = pairs[0]
    if error is not None:
        raise Failure(error["code"], error["message"], error.get("data"), error.get("retryable", False))
    return result
