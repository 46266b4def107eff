"""Streamed arguments of blocking calls: items from the thread that waits for the call to the loop that makes it."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from mlports.errors import NotRunning

if TYPE_CHECKING:
    from mlports.runtime.blocking import SharedLoop

T = TypeVar("T")


_END = object()


class HandOver(AsyncIterator[Any]):
    """The iterator of `items`, used in the calling thread alone, and while it is not running the loop.

    As an async iterator, for the loop's side, it gives what that thread handed over. `finish()` it when the call is
    over. Raises `TypeError` for what cannot be iterated.
    """

    def __init__(self, shared: SharedLoop, items: Iterable[Any]) -> None:
        if not isinstance(items, Iterable):
            raise TypeError(f"input is an iterable, not {items!r:.80}")
        self._shared = shared
        self._items = iter(items)
        self._finished = False
        self._wanted: asyncio.Future[Any] | None = None  # who waits for the next item, on the loop's side
        self._asked: asyncio.Future[None] | None = None  # who waits for somebody to want one

    async def __anext__(self) -> Any:
        self._wanted = asyncio.get_running_loop().create_future()
        if self._asked is not None and not self._asked.done():
            self._asked.set_result(None)
        try:
            item = await self._wanted
        finally:
            self._wanted = None
        if item is _END:
            raise StopAsyncIteration
        return item

    def run(self, start: Callable[[], Awaitable[T]]) -> T:
        """Runs the loop until what `start()` gives is done, and hands over, meanwhile, the items that are wanted."""
        done: list[asyncio.Future[T]] = []

        async def begin() -> bool:
            done.append(asyncio.ensure_future(start()))
            await asyncio.sleep(0)  # what is there already waits for no item
            return await self._is_wanted(done[0])

        try:
            wanted = self._shared.run(begin)
            while wanted:
                wanted = self._shared.run(partial(self._give, *self._next(), done[0]))
            return self._shared.run(lambda: done[0])
        except BaseException:
            if done and not done[0].done():
                with suppress(NotRunning):
                    self._shared.run(lambda: _give_up(done[0]))
            raise

    def _next(self) -> tuple[Any, Exception | None]:
        try:
            return next(self._items, _END), None
        except StopAsyncIteration as error:  # in a coroutine it would be the end
            told = RuntimeError("the iterator of a streamed argument raised StopAsyncIteration")
            told.__cause__ = error
            return None, told
        except Exception as error:
            return None, error

    async def _give(self, item: Any, error: Exception | None, done: asyncio.Future[Any]) -> bool:
        if self._wanted is not None and not self._wanted.done():
            if error is None:
                self._wanted.set_result(item)
            else:
                self._wanted.set_exception(error)
        return await self._is_wanted(done)

    async def _is_wanted(self, done: asyncio.Future[Any]) -> bool:
        """Waits until an item is wanted, or there is nothing to wait for any more."""
        if not done.done() and (self._wanted is None or self._wanted.done()):
            self._asked = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._asked, done], return_when=asyncio.FIRST_COMPLETED)
            self._asked = None
        return not done.done()

    def finish(self) -> None:
        """Closes the iterator; a file stays open."""
        if self._finished:
            return
        self._finished = True
        close = getattr(self._items, "close", None)
        if close is not None and not isinstance(self._items, io.IOBase):
            close()


async def _give_up(future: asyncio.Future[Any]) -> None:
    future.cancel()
    await asyncio.wait([future])
    if not future.cancelled():
        future.exception()  # seen: another one is raised
