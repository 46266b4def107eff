"""Calls under way: what the caller waits for, and the request that carries it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, Callable, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

from mlports.core.routing import ABSENT
from mlports_protocol import CreditWindow

if TYPE_CHECKING:
    from mlports.core.bisection import Suspicion
    from mlports.runtime.dispatcher import Dispatcher
    from mlports.runtime.lane import Lane
    from mlports.runtime.port import Port
    from mlports.runtime.streaming import InputFeed

Progress = Callable[[float, float | None, str], None]


class CallOptions(TypedDict, total=False):
    """What may be said of a call besides its params and its timeout.

    progress: called as `progress(done, total, text)` when the handler reports how far it has come. key: what it is
    routed by, where the service routes by key; without it, the argument that the configuration names. priority: those
    that wait are sent in the order of their priorities, higher ones first; 0 unless given. tag: whose call it is; tags
    that wait take turns. trace: W3C's traceparent, handed to the handler and on to the calls that it makes.
    """

    progress: Progress | None
    key: object
    priority: int
    tag: str
    trace: str | None


class InputOptions(CallOptions, total=False):
    """And of a call or a stream that may have a streamed argument.

    input: its items. They are taken as the worker takes them, and their iterator is closed when the call is over; an
    exception that it raises ends the call. An async iterable is for the async library alone.
    """

    input: Iterable[Any] | AsyncIterable[Any] | None


class Special(NamedTuple):
    """What sets a call apart from a plain one.

    `items`: it stands for so many calls, of one argument each, and its params are those arguments; its result is their
    results, and a dict of the errors by their place. `cast`: nobody waits for its answer. `stream`: where the items of
    its answer go. `progress`: who wants to hear how far it has come. `key`: what it is routed by. `priority`: those
    with a higher one are sent first. `tag`: whose it is, of those that share the service fairly. `lane`: the only
    replica that it may be sent to. `parent`: the request whose handler made it. `trace`: W3C's traceparent. `input`:
    its streamed argument. `copied`: it is itself the shadow of a call.
    """

    items: int | None = None
    cast: bool = False
    stream: StreamItems | None = None
    progress: Progress | None = None
    key: object = ABSENT
    priority: int = 0
    tag: str = ""
    lane: Lane | None = None
    parent: Sent | None = None
    trace: str | None = None
    input: InputFeed | None = None
    copied: bool = False

    @property
    def alone(self) -> bool:
        """Whether it travels in a request of its own."""
        return (
            self.items is not None
            or self.cast
            or self.stream is not None
            or self.progress is not None
            or self.trace is not None
            or self.input is not None
        )


class Call(asyncio.Future[Any]):
    """One call, as the future of its result. It is settled exactly once: by an answer, an error or the caller's cancel.

    `deadline` is monotonic seconds, infinite when there is none; `request` what carries it, once sent; `attempts`
    how often it was. Only where they mean something: `slot`, that of its key, and `since`, the monotonic seconds from
    which on it waits for company. There is no `__init__`: filling these slots from outside takes a third of the
    time, and the dispatcher is the only one that makes calls.
    """

    __slots__ = ("attempts", "deadline", "dispatcher", "method", "params", "request", "since", "slot", "special")

    dispatcher: Dispatcher
    method: str
    params: Sequence[Any]
    deadline: float
    special: Special | None
    request: Sent | None
    attempts: int
    slot: int
    since: float

    def cancel(self, msg: Any | None = None) -> bool:
        """Gives the call up: a worker that is at it is told."""
        cancelled = super().cancel(msg)
        if cancelled:
            self.dispatcher.on_cancelled(self)
        return cancelled

    def fail(self, error: BaseException) -> None:
        """Settles the call with an error, unless it is settled."""
        if not self.done():
            self.set_exception(error)
            if self.stream is not None:
                self.stream.fail(error)
                self.exception()  # seen: the stream tells it to whoever reads on

    @property
    def stream(self) -> StreamItems | None:
        """Where the items of its answer go."""
        return self.special.stream if self.special is not None else None

    @property
    def input(self) -> InputFeed | None:
        """Where its streamed argument comes from."""
        return self.special.input if self.special is not None else None

    @property
    def weight(self) -> int:
        """The number of a handler's calls in it."""
        return (self.special.items or 1) if self.special is not None else 1


class Sent:
    """One request on its way: the calls that it carries, and where it ends in the port's stream.

    `isolated`: it was sent to a worker that had nothing else, because one of its calls may be that one's death.
    `suspicion`: what speaks for that.
    """

    __slots__ = ("at", "calls", "end", "isolated", "number", "packed", "port", "suspicion", "weight")

    def __init__(
        self,
        calls: list[Call],
        packed: bool,
        at: float,
        port: Port,
        isolated: bool = False,
        suspicion: Suspicion | None = None,
    ) -> None:
        self.calls = calls
        self.isolated = isolated
        self.port = port
        self.suspicion = suspicion
        self.packed = packed  # each call is an item of a batch
        self.weight = len(calls) if packed else calls[0].weight
        self.at = at  # monotonic seconds
        self.number = -1
        self.end = -1


class StreamItems:
    """The items of a streamed answer that have arrived and not been read yet: as many as `CreditWindow` lets come."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[Any, int]] = deque()  # and the bytes of each
        self.window = CreditWindow()
        self.credit = self.window.grant()
        self.ended = False
        self.error: BaseException | None = None
        self.arrived = asyncio.Event()
        self.give_credit: Callable[[int], None] | None = None

    def add(self, item: Any, size: int) -> None:
        """An item of so many bytes arrived."""
        self.waiting.append((item, size))
        self.window.arrived(size)
        self.arrived.set()
        self._let_come()

    def take(self) -> Any:
        """The first that is waiting."""
        item, size = self.waiting.popleft()
        self.window.taken(size)
        self._let_come()
        return item

    def _let_come(self) -> None:
        if not self.ended and self.give_credit is not None:
            more = self.window.grant()
            if more:
                self.give_credit(more)

    def end(self) -> None:
        """No more items follow."""
        self.ended = True
        self.arrived.set()

    def fail(self, error: BaseException) -> None:
        """No more items follow, because of an error."""
        self.error = error
        self.end()


class Stream:
    """The items of a streamed answer, for one reader: `async for item in stream`.

    A reader that stops holds the worker. Leaving the loop early, `aclose()`, or letting go of the stream cancels the
    call. After the items that had arrived, an error is raised once.
    """

    # The call knows of the items alone, so that a stream which its reader has let go of is nobody's.
    def __init__(self, items: StreamItems, call: asyncio.Future[Any] | None) -> None:
        self._items = items
        self._call = call

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> Any:
        items = self._items
        while not items.waiting:
            if items.ended:
                error, items.error = items.error, None
                if error is not None:
                    raise error
                raise StopAsyncIteration
            items.arrived.clear()
            try:
                await items.arrived.wait()
            except asyncio.CancelledError:
                await self.aclose()
                raise
        return items.take()

    async def aclose(self) -> None:
        """Tells the worker that nobody reads any more."""
        self._items.ended = True
        self._items.waiting.clear()
        if self._call is not None:
            self._call.cancel()

    def __del__(self) -> None:
        call = self._call
        if call is not None and not call.done():
            with suppress(RuntimeError):  # the loop is closed
                # Not at once: the garbage collector may be in any thread.
                call.get_loop().call_soon_threadsafe(call.cancel)

    async def __aenter__(self) -> Stream:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
