"""Somebody at the other end of a stream who calls an orchestrator's services: each request becomes a call of theirs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from mlports.control.state import READ_SIZE
from mlports.errors import CallError, InvalidArgument, NotRunning, WorkerCrashed
from mlports.runtime.call import Stream, StreamItems
from mlports_protocol import (
    Buffer,
    CancelAsked,
    CreditGiven,
    Event,
    HelloAsked,
    InputEnded,
    InputItem,
    LocalProtocolError,
    OversizedMessage,
    Request,
    WorkerSession,
)

if TYPE_CHECKING:
    from mlports.runtime.call import InputOptions
    from mlports.runtime.orchestrator import Orchestrator


class Caller:
    """One caller, from its `$/hello` on. The subclass says what the orchestrator is to it, and what else may be asked.

    Requests are named `service.method`. Meta `deadline_ms`, `credit`, `input`, `batch` and `traceparent` are the
    protocol's; `progress: true` asks for `$/progress`, and `key`, `priority` and `tag` are those of a call's options.
    """

    def __init__(self, orchestrator: Orchestrator, writer: asyncio.StreamWriter, max_frame: int) -> None:
        self._orchestrator = orchestrator
        self._writer = writer
        self._session = WorkerSession(max_frame)
        self._under_way: dict[int, asyncio.Future[Any]] = {}
        self._inputs: dict[int, StreamItems] = {}  # of those, the streamed arguments
        self._credit = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._out: list[Buffer] = []  # what this turn of the loop has to say: it is written at once

    async def serve(self, reader: asyncio.StreamReader) -> None:
        """Works until the stream ends. Raises `RemoteProtocolError` when the caller breaks the rules, and `OSError`."""
        while data := await reader.read(READ_SIZE):
            self._session.feed(data)
            while (event := self._session.next_event()) is not None:
                self._on_event(event)
            self.flush()
            await self._writer.drain()

    def close(self) -> None:
        """The caller is gone: what it asked for is cancelled."""
        for future in list(self._under_way.values()):
            future.cancel()

    def _on_event(self, event: Event) -> None:
        if type(event) is Request:
            self._on_request(event)
        elif type(event) is HelloAsked:
            self._greet(event)
        elif type(event) is CancelAsked and event.id in self._under_way:
            self._under_way[event.id].cancel()
        elif type(event) is CreditGiven:
            self._credit.set()
        elif type(event) is InputItem and event.id in self._inputs:
            self._inputs[event.id].add(event.value, self._session.frame_size)
        elif type(event) is InputEnded and event.id in self._inputs:
            self._inputs[event.id].end()

    def _greet(self, asked: HelloAsked) -> None:
        raise NotImplementedError

    def _answer_own(self, request: Request) -> bool:
        """Answers a request of the orchestrator itself; whether it was one."""
        if request.method != "$/ping":
            return False
        self._answer(request.id, None)
        return True

    def _streams(self, method: str) -> bool:
        """Whether who gives credit for this method's answer gets items. Else it is called, and answers once."""
        return True

    # -- requests

    def _on_request(self, request: Request) -> None:
        if self._answer_own(request):
            return
        try:
            future = self._begin(request)
        except (CallError, NotRunning) as error:
            self._answer(request.id, None, error_map(error))
            return
        self.follow(request, future)

    def follow(self, request: Request, future: asyncio.Future[Any]) -> None:
        """The request's answer will be what becomes of this."""
        self._under_way[request.id] = future
        future.add_done_callback(lambda future: self._on_done(request, future))

    def _begin(self, request: Request) -> asyncio.Future[Any]:
        """Makes the calls that are asked for. Raises what is known at once."""
        method, params, meta = request.method, request.params, request.meta or {}
        if method.startswith("$/"):
            raise CallError(f"{method} is not known to this orchestrator", code="unimplemented")
        options, timeout = self._options(request), _timeout(meta)
        if meta.get("batch") is not None:
            if "input" in options or meta.get("credit") is not None:
                raise InvalidArgument("a batch neither streams its answer nor takes a streamed argument")
            return self._begin_batch(method, params, meta["batch"], timeout | options)
        if meta.get("credit") is not None and self._streams(method):
            stream = self._orchestrator.stream(method, *params, **timeout, **options)
            return asyncio.ensure_future(self._send_items(request.id, stream))
        return self._orchestrator.call(method, *params, **timeout, **options)

    def _options(self, request: Request) -> InputOptions:
        meta = request.meta or {}
        options: InputOptions = {}
        if meta.get("progress") is True:
            options["progress"] = partial(self._on_progress, request.id)
        if "key" in meta:
            options["key"] = meta["key"]
        if isinstance(priority := meta.get("priority"), int):
            options["priority"] = priority
        if isinstance(tag := meta.get("tag"), str):
            options["tag"] = tag
        if isinstance(trace := meta.get("traceparent"), str):
            options["trace"] = trace
        if meta.get("input") is True:
            options["input"] = self._take_input(request.id)
        return options

    def _begin_batch(
        self, method: str, params: Sequence[Any], count: Any, options: dict[str, Any]
    ) -> asyncio.Future[Any]:
        if count != len(params) or any(type(item) is not list for item in params):
            raise InvalidArgument(f"a batch of {count} is an array of {count} lists of arguments")
        if all(len(item) == 1 for item in params):  # a map waits where a queue is full
            items = [item[0] for item in params]
            return asyncio.ensure_future(self._orchestrator.map(method, items, return_exceptions=True, **options))
        calls = [self._orchestrator.call(method, *item, **options) for item in params]
        return asyncio.gather(*calls, return_exceptions=True)

    def _take_input(self, number: int) -> AsyncIterator[Any]:
        """The streamed argument of a request. The caller may send only when its first item is asked for."""
        items = self._inputs[number] = StreamItems()
        items.give_credit = lambda count: self._send(self._session.give_input_credit(number, count))

        async def take() -> AsyncIterator[Any]:
            self._send(self._session.give_input_credit(number, items.credit))
            async for item in Stream(items, None):
                yield item

        return take()

    def _on_progress(self, number: int, done: float, total: float | None, text: str) -> None:
        # It is called by whoever reads from the worker, to whom our troubles are nothing.
        with contextlib.suppress(LocalProtocolError):
            self._send(self._session.notify("$/progress", [number, done, total, text]))

    # -- answers

    def _on_done(self, request: Request, future: asyncio.Future[Any]) -> None:
        self._under_way.pop(request.id, None)
        self._inputs.pop(request.id, None)
        if self._writer.is_closing():
            if not future.cancelled():
                future.exception()  # nobody is left to be told
            return
        if future.cancelled():
            self._answer(request.id, None, {"code": "cancelled", "message": f"{request.method} was cancelled"})
            return
        exception = future.exception()
        if exception is not None:
            self._answer(request.id, None, error_map(exception))
            return
        result = future.result()
        if request.meta and request.meta.get("batch") is not None:
            result = [[error_map(r), None] if isinstance(r, BaseException) else [None, r] for r in result]
        self._answer(request.id, result)

    async def _send_items(self, number: int, items: AsyncIterator[Any]) -> None:
        try:
            async for item in items:
                while not self._session.allowance(number):
                    self._credit.clear()
                    await self._credit.wait()
                self._send(self._session.item(number, item))
                self.flush()
                await self._writer.drain()
        finally:
            close = getattr(items, "aclose", None)
            if close is not None:
                await close()

    def _answer(self, number: int, result: Any, error: dict[str, Any] | None = None) -> None:
        try:
            self._send(self._session.answer(number, error, result))
        except LocalProtocolError as unsendable:
            code = "resource_exhausted" if isinstance(unsendable, OversizedMessage) else "internal"
            text = f"the answer cannot be sent: {unsendable}"
            self._send(self._session.answer(number, {"code": code, "message": text[:1000]}))

    def _send(self, buffers: list[Buffer]) -> None:
        if not self._out:
            self._loop.call_soon(self.flush)
        self._out += buffers

    def flush(self) -> None:
        """Hands what is to be sent to the stream."""
        buffers, self._out = self._out, []
        if buffers and not self._writer.is_closing():
            self._writer.writelines(buffers)


def _timeout(meta: dict[str, Any]) -> dict[str, Any]:
    """Seconds, as an option of a call; none where the service's own holds."""
    deadline = meta.get("deadline_ms")
    return {"timeout": deadline / 1000} if isinstance(deadline, int | float) else {}


def error_map(exception: BaseException) -> dict[str, Any]:
    """The protocol's error map, and in `where` what it takes to raise the same exception at the other end."""
    if isinstance(exception, NotRunning):
        return {"code": "unavailable", "message": str(exception)}
    if isinstance(exception, asyncio.CancelledError):
        return {"code": "cancelled", "message": "the call was cancelled"}
    if not isinstance(exception, CallError):
        return {"code": "internal", "message": f"{type(exception).__name__}: {exception}"}
    error = exception.as_error()
    error["where"] = {
        "kind": type(exception).__name__,
        "service": exception.service,
        "method": exception.method,
        "replica": exception.replica,
    }
    if isinstance(exception, WorkerCrashed) and exception.verdict is not None:
        error["where"]["verdict"] = exception.verdict.as_dict()
    return error
