"""Functions that may end their program: as methods of a worker, only their call fails."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import aclosing
from functools import wraps
from types import TracebackType
from typing import Any


class Exited(Exception):
    """A function called `sys.exit`."""


def exits_told(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """The same function, be it plain, async or a generator; but where it calls `sys.exit`, it raises `Exited`."""
    told = _ExitsTold(name)

    def plain(*args: Any, **keywords: Any) -> Any:
        with told:
            return function(*args, **keywords)

    def generator(*args: Any, **keywords: Any) -> Generator[Any, Any, Any]:
        with told:
            return (yield from function(*args, **keywords))

    async def coroutine(*args: Any, **keywords: Any) -> Any:
        with told:
            return await function(*args, **keywords)

    async def async_generator(*args: Any, **keywords: Any) -> AsyncIterator[Any]:
        with told:
            async with aclosing(function(*args, **keywords)) as items:
                async for item in items:
                    yield item

    kinds: list[tuple[Callable[[Any], bool], Callable[..., Any]]] = [
        (inspect.isgeneratorfunction, generator),
        (inspect.iscoroutinefunction, coroutine),
        (inspect.isasyncgenfunction, async_generator),
    ]
    return wraps(function)(next((wrapper for is_kind, wrapper in kinds if is_kind(function)), plain))


class _ExitsTold:
    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or trace is None:
            return
        if isinstance(error, SystemExit):
            raise Exited(f"{self._name} called sys.exit({error.code!r})").with_traceback(trace.tb_next) from None
        # What is told begins in the function itself; if there is nothing, the call was wrong.
        error.__traceback__ = trace.tb_next
