"""Streamed arguments, as handlers iterate over them: an item is let come when there is room for it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from typing import Any

from mlports_protocol import CreditWindow

from .connection import Connection
from .context import Context
from .failures import Failure
from .handler_loop import HandlerLoop
from .handlers import Handler

_END = object()


class InputStream:
    """The streamed argument of one request: what has come of it and was not taken yet.

    Nothing is let come before the handler asks for the first item. The reading side only appends to `_came`; all else
    belongs to the thread that iterates.
    """

    def __init__(self, context: Context, connection: Connection) -> None:
        self._context = context
        self._connection = connection
        self._came: deque[tuple[Any, int]] = deque()  # and the bytes of each
        self._waiting: deque[tuple[Any, int]] = deque()
        self._window = CreditWindow()
        self._ended = False

    def add(self, value: Any, size: int) -> None:
        """An item of so many bytes came. On the reading side."""
        self._came.append((value, size))

    def end(self) -> None:
        """No more items follow. On the reading side."""
        self.add(_END, 0)

    def _look(self) -> None:
        while self._came:
            value, size = self._came.popleft()
            if value is _END:
                self._ended = True
            else:
                self._window.arrived(size)
                self._waiting.append((value, size))

    def _take(self) -> Any:
        value, size = self._waiting.popleft()
        self._window.taken(size)
        return value

    def _let_come(self) -> None:
        more = 0 if self._ended else self._window.grant()
        if more:
            session = self._connection.session
            self._connection.queue(session.give_input_credit, self._context.id, more)

    def _cut(self) -> Failure:
        method = self._context.method
        if self._context.id in self._connection.session.open:
            return Failure("unavailable", f"the orchestrator went away within the streamed argument of {method}")
        return Failure("failed_precondition", f"the call of {method} was answered: its streamed argument is over")


class PlainInput(InputStream, Iterator[Any]):
    """For plain handlers. A wait for an item ends with `Cancelled` or `Failure` when the call is given up or late."""

    def __next__(self) -> Any:
        connection, context = self._connection, self._context
        connection.steps += 1
        context.check()
        self._look()
        while not self._waiting:
            if self._ended:
                raise StopIteration
            if context.id not in connection.session.open:
                raise self._cut()
            self._let_come()
            connection.wait_until(lambda: self._came or context.cancelled, context.deadline)
            context.check()
            if not self._came and connection.ended:
                raise self._cut()
            self._look()
        value = self._take()
        self._let_come()
        connection.flush_if_late()
        return value


class AsyncInput(InputStream, AsyncIterator[Any]):
    """For async handlers, on their event loop. `$/cancel` cancels the task, wherever it waits."""

    def __init__(self, context: Context, connection: Connection, loop: HandlerLoop) -> None:
        super().__init__(context, connection)
        self._handler_loop = loop
        self._waiter: asyncio.Future[None] | None = None

    def add(self, value: Any, size: int) -> None:
        super().add(value, size)
        if self._waiter is not None:
            self.wake()

    def wake(self) -> None:
        """Makes the handler look again. From any thread."""
        self._handler_loop.loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def __anext__(self) -> Any:
        self._look()
        while not self._waiting:
            if self._ended:
                raise StopAsyncIteration
            if self._connection.ended or self._context.id not in self._connection.session.open:
                raise self._cut()
            self._let_come()
            self._connection.flush()
            await self._wait()
            self._look()
        value = self._take()
        self._let_come()
        self._handler_loop.flush_soon(self._connection)
        return value

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            # Looked at after the other side can see that somebody waits, so that it wakes, or was in time.
            if not self._came and not self._connection.ended:
                await self._waiter
        finally:
            self._waiter = None


def refusal(handler: Handler, meta: dict[str, Any]) -> Failure | None:
    """Why a handler cannot be given this request: with a streamed argument, or without one."""
    given = bool(meta.get("input"))
    if given and "batch" in meta:
        text = f"{handler.name}: a batch has no streamed argument"
    elif given and not handler.input:
        text = f"{handler.name} takes no streamed argument"
    elif handler.input and not given:
        text = f"{handler.name} takes a streamed argument, and this call has none"
    else:
        return None
    return Failure("invalid_argument", text)
