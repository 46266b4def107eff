"""Streamed arguments: from the caller's iterator to the worker, as fast as the worker takes them.

start() ──credit──▶ feeding ──the iterator's end──▶ `$/input_end` ──┐
                       │ └──it raised──▶ `$/cancel`, its exception ──┼──▶ closed, once
                       └──answered, cancelled, timed out, crashed ───┘
"""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from mlports.errors import CallError, InvalidArgument, UnknownMethod
from mlports_protocol import LocalProtocolError, MethodInfo, WrongState

if TYPE_CHECKING:
    from mlports.runtime.call import Call
    from mlports.runtime.port import Port

_TURN = 0.002  # seconds that a plain iterator may keep the loop from others
_TURN_ITEMS = 32


class InputFeed:
    """The streamed argument of one call. It owns the iterator of `items`, and closes it when the call is settled.

    An item is asked for only when the worker takes one, and no more than 1 MiB and an item wait to be written. A plain
    iterable is read on the event loop, a few items at a time. Raises `TypeError` for what cannot be iterated.
    """

    def __init__(self, items: Iterable[Any] | AsyncIterable[Any]) -> None:
        self._plain: Iterator[Any] | None = None
        self._async: AsyncIterator[Any] | None = None
        if isinstance(items, AsyncIterable):
            self._async = aiter(items)
        elif isinstance(items, Iterable):
            self._plain = iter(items)
        else:
            raise TypeError(f"input is an iterable or an async iterable, not {items!r:.80}")
        self._loop = asyncio.get_running_loop()
        self._call: Call | None = None
        self._task: asyncio.Task[None] | None = None
        self._running = False
        self._feeding = True
        self._credit = asyncio.Event()
        self._port: Port
        self._number = -1
        self._sent = 0

    @property
    def begun(self) -> bool:
        """Whether items were asked for: from then on the call cannot be made again."""
        return self._task is not None

    def belong_to(self, call: Call) -> None:
        """This is the call; once it is settled, in whatever way, the iterator is closed."""
        self._call = call
        call.add_done_callback(self._on_settled)

    def start(self, port: Port, number: int) -> None:
        """The request went to this worker, under this number."""
        self._port, self._number = port, number

    def on_credit(self) -> None:
        """The worker takes more items."""
        if self._task is None:
            self._task = self._loop.create_task(self._run())
        else:
            self._credit.set()

    def discard(self) -> None:
        """There will be no call: closes the iterator."""
        if self._task is None:
            self._feeding = False
            self._task = self._loop.create_task(self._close())

    def _on_settled(self, _: object) -> None:
        if self._task is None:
            self.discard()
        elif self._running and self._feeding:  # a task that is cancelled before it runs would never close anything
            self._task.cancel()

    async def _run(self) -> None:
        self._running = True
        try:
            await self._feed()
        except BaseException as error:
            self._feeding = False
            self._fail(error)
            if not isinstance(error, Exception | asyncio.CancelledError):
                raise
        finally:
            self._feeding = False
            await self._close()

    def _fail(self, error: BaseException) -> None:
        call = self._call
        if isinstance(error, StopAsyncIteration):  # as in a generator: it would look like the end of the answer
            told = RuntimeError("the iterator of a streamed argument raised StopAsyncIteration")
            told.__cause__ = error
            error = told
        if call is not None and not call.done():
            call.dispatcher.failed += 1
            call.fail(error)
            call.dispatcher.on_cancelled(call)

    async def _feed(self) -> None:
        if self._settled():
            return
        if self._plain is not None:
            while True:
                count = await self._room()
                if not self._send_some(self._plain, count):
                    break
                await asyncio.sleep(0)
        else:
            assert self._async is not None
            while not self._settled():
                await self._room()
                try:
                    item = await anext(self._async)
                except StopAsyncIteration:
                    break
                self._send(item)
                self._port.flush()
        if not self._settled() and self._port.session.phase == "ready":
            self._port.send(self._port.session.end_input(self._number))
            self._port.flush()

    async def _room(self) -> int:
        """How many items may be sent now; waits until it is at least one."""
        port = self._port
        while True:
            self._credit.clear()
            if port.session.phase != "ready" or not port.session.input_allowance(self._number):
                await self._credit.wait()  # or until the call is settled
            elif port.congested:
                await port.drained()
            else:
                return port.session.input_allowance(self._number) or 0

    def _send_some(self, items: Iterator[Any], count: int) -> bool:
        """Sends some items. False when there are no more."""
        until = time.monotonic() + _TURN
        more = True
        for _ in range(min(count, _TURN_ITEMS)):
            try:
                item = next(items)
            except StopIteration:
                more = False
                break
            self._send(item)
            if self._port.congested or time.monotonic() > until:
                break
        self._port.flush()
        return more and not self._settled()

    def _send(self, item: Any) -> None:
        port = self._port
        if self._settled() or port.session.phase != "ready":  # while the iterator was at work
            return
        try:
            port.send(port.session.input(self._number, item))
        except WrongState:
            raise
        except LocalProtocolError as error:
            call = self._call
            assert call is not None
            service = call.dispatcher.service
            text = f"item {self._sent} of the streamed argument of {service}.{call.method} cannot be sent: {error}"
            raise InvalidArgument(text, service=service, method=call.method, replica=port.replica) from None
        self._sent += 1

    def _settled(self) -> bool:
        return self._call is None or self._call.done()

    async def _close(self) -> None:
        source = self._plain if self._plain is not None else self._async
        self._plain = self._async = None
        close = getattr(source, "aclose", None) or getattr(source, "close", None)
        if close is None or isinstance(source, io.IOBase):  # a file is the caller's to close
            return
        try:
            closing = close()
            if closing is not None:
                await closing
        except Exception as error:  # nobody waits for it any more
            told = f"closing the streamed argument {source!r:.80} failed"
            self._loop.call_exception_handler({"message": told, "exception": error})


def refusal(call: Call, port: Port, info: MethodInfo | None) -> CallError | None:
    """Why a worker cannot be given this call as it is: with a streamed argument, or without one."""
    given = call.input is not None
    if not given and (info is None or not info.input):
        return None
    name = f"{call.dispatcher.service}.{call.method}"
    kind: type[CallError] = InvalidArgument
    if given and "input" not in port.session.features:
        kind = UnknownMethod
        text = f"{name} cannot be given a streamed argument (input=): its worker does not have the feature input"
    elif given and info is not None and not info.input:
        text = f"{name} takes no streamed argument: call it without input="
    elif not given:
        text = f"{name} takes a streamed argument: give it one with input="
    else:
        return None
    return kind(text, service=call.dispatcher.service, method=call.method, replica=port.replica)
