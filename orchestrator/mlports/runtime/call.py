"""Calls under way: what the caller waits for, and the request that carries it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mlports.errors import CallError

if TYPE_CHECKING:
    from mlports.runtime.service import Service

Progress = Callable[[float, float | None, str], None]

_CREDIT = 32  # items that a stream may be ahead of its reader


class Call(asyncio.Future[Any]):
    """One call, as the future of its result. It is settled exactly once: by an answer, an error or the caller's cancel.

    `items` is the number of calls in it when it is a `map`'s chunk (`params` is then the list of argument lists), else
    None. `deadline` is monotonic seconds, or None.
    """

    def __init__(
        self,
        service: Service,
        method: str,
        params: list[Any],
        deadline: float | None,
        *,
        items: int | None = None,
        cast: bool = False,
        stream: Stream | None = None,
        progress: Progress | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(loop=loop)
        self.service = service
        self.method = method
        self.params = params
        self.deadline = deadline
        self.items = items
        self.cast = cast
        self.stream = stream
        self.progress = progress
        self.attempts = 0
        self.sent_at = 0.0
        self.request: Sent | None = None

    def cancel(self, msg: Any | None = None) -> bool:
        """Gives the call up: a worker that is at it is told."""
        cancelled = super().cancel(msg)
        if cancelled:
            self.service.on_cancelled(self)
        return cancelled

    def fail(self, error: CallError) -> None:
        """Settles the call with an error, unless it is settled."""
        if not self.done():
            if self.stream is not None:
                self.stream.fail(error)
            self.set_exception(error)

    @property
    def alone(self) -> bool:
        """Whether it needs a request of its own."""
        return self.items is not None or self.cast or self.stream is not None or self.progress is not None


class Sent:
    """One request on its way: the calls that it carries, and its place in the port's stream."""

    __slots__ = ("calls", "number", "packed", "place")

    def __init__(self, calls: list[Call], packed: bool) -> None:
        self.calls = calls
        self.packed = packed  # each call is an item of a batch
        self.number = -1
        self.place = -1

    @property
    def weight(self) -> int:
        """The number of a handler's calls in it."""
        return sum(call.items or 1 for call in self.calls)


class Stream:
    """The items of a streamed answer, for one reader: `async for item in stream`.

    At most 32 items wait here; a reader that stops holds the worker. Leaving the loop early, or `aclose()`, cancels the
    call. After the items that had arrived, an error is raised once.
    """

    def __init__(self) -> None:
        self._items: deque[Any] = deque()
        self._arrived = asyncio.Event()
        self._error: BaseException | None = None
        self._ended = False
        self._taken = 0
        self.call: Call | None = None
        self.give_credit: Callable[[int], None] | None = None

    credit = _CREDIT

    def add(self, item: Any) -> None:
        """An item arrived."""
        self._items.append(item)
        self._arrived.set()

    def end(self) -> None:
        """No more items follow."""
        self._ended = True
        self._arrived.set()

    def fail(self, error: BaseException) -> None:
        """No more items follow, because of an error."""
        self._error = error
        self.end()

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> Any:
        while not self._items:
            if self._ended:
                error, self._error = self._error, None
                if self.call is not None and self.call.done() and not self.call.cancelled():
                    self.call.exception()  # seen: it is raised here
                if error is not None:
                    raise error
                raise StopAsyncIteration
            self._arrived.clear()
            try:
                await self._arrived.wait()
            except asyncio.CancelledError:
                await self.aclose()
                raise
        item = self._items.popleft()
        self._taken += 1
        if self._taken >= _CREDIT // 2 and self.give_credit is not None and not self._ended:
            self.give_credit(self._taken)
            self._taken = 0
        return item

    async def aclose(self) -> None:
        """Tells the worker that nobody reads any more."""
        self._ended = True
        self._items.clear()
        if self.call is not None and not self.call.done():
            self.call.cancel()

    async def __aenter__(self) -> Stream:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
