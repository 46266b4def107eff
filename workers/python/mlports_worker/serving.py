"""A worker at work: what came in becomes jobs, each job is answered exactly once.

The reader's side (`_on_event`) only sorts: pings and cancels at once, jobs for async handlers to their event loop, all
other jobs into a queue that the main thread works through in order.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
from collections import deque
from contextlib import nullcontext, suppress
from functools import partial
from typing import Any, Callable, NamedTuple

from mlports_protocol import (
    DEFAULT_MAX_FRAME,
    Answered,
    CancelAsked,
    CreditGiven,
    Event,
    HelloAsked,
    InputEnded,
    InputItem,
    LocalProtocolError,
    Notification,
    OversizedMessage,
    ProtocolError,
    Request,
    StopAsked,
)

from .collector import CollectorPaused
from .connection import Connection, HostGone
from .context import Context, _current
from .failures import CallFailed, Cancelled, Failure, error_of, sendable
from .handler_loop import HandlerLoop
from .handlers import Handler
from .inputs import AsyncInput, PlainInput, refusal
from .shared_memory import RoomWanted, SegmentsAtHand
from .stacks import tells_stacks

FEATURES = frozenset(["ping", "cancel", "stream", "input", "batch", "columns"])

Connect = Callable[[Callable[[Event], None], int], Connection]
"""Gives a worker's connection, by who is told of its events, and the longest frame in bytes."""


class Job(NamedTuple):
    """A request for one of the worker's methods, on its way to the handler.

    `columns` are the arguments of a batch, one list for each, for a handler that takes them so; `params` is then empty.
    """

    number: int
    handler: Handler
    context: Context
    params: list[Any]
    columns: list[list[Any]] | None = None


class PendingCall:
    """A call that this worker made, until its answer is here."""

    __slots__ = ("answer", "on_answer")

    def __init__(self) -> None:
        self.answer: Answered | None = None
        self.on_answer: Callable[[], None] | None = None

    def result(self) -> Any:
        assert self.answer is not None
        if self.answer.error is not None:
            error = self.answer.error
            raise CallFailed(error["code"], error["message"], error.get("data"), error.get("retryable", False))
        return self.answer.result


class Server:
    """Runs a worker's handlers for one orchestrator, from its hello to its goodbye."""

    def __init__(
        self,
        name: str,
        handlers: dict[str, Handler],
        setup: Callable[[dict[str, Any]], Any] | None,
        connect: Connect,
        concurrency: int,
        max_frame: int | None = None,
    ) -> None:
        self.name = name
        self.connection = connect(self._on_event, max_frame or DEFAULT_MAX_FRAME)
        self._same_max_frame = max_frame is None
        self.session = self.connection.session
        self.config: dict[str, Any] = {}
        self._handlers = handlers
        self._setup = setup
        self._concurrency = concurrency
        self._jobs: deque[Job | HelloAsked | Notification] = deque()
        self._contexts: dict[int, Context] = {}  # requests that are open, by id
        self._unbegun: dict[int, Job] = {}  # those of them that wait for the main thread
        self._stopping = False
        self._loop: HandlerLoop | None = None

    # -- the main thread

    def run(self) -> None:
        """Works until the orchestrator says stop or closes the stream, and everything accepted is answered."""
        connection = self.connection
        connection.start_watching()
        try:
            while connection.wait_until(self._something_to_do) or self._jobs:
                if not self._jobs:
                    break  # told to stop, with nothing left to do
                connection.begin_step()
                job = self._jobs.popleft()
                self._work(job)
                if type(job) is Job and job.handler.idempotent:
                    connection.flush_if_late()
                else:  # if the next job is the worker's death, this answer could not be had again
                    connection.flush()
                connection.end_step()
            connection.begin_step()
            if self._loop is not None:
                self._end_inputs()
                self._loop.close()
            connection.flush()
        except HostGone:
            return
        except BaseException:  # sys.exit() in a handler: what was answered before is an answer
            with suppress(HostGone):
                connection.flush()
            raise
        finally:
            connection.ended = True
            if self._loop is not None and not connection.owns_process:
                self._loop.abandon()
        if connection.failure is not None:
            raise connection.failure

    def cancel_all(self) -> None:
        """Nobody waits for anything any more: tells every handler that is at work."""
        for context in list(self._contexts.values()):
            context.cancel()

    def _something_to_do(self) -> bool:
        return bool(self._jobs) or (self._stopping and not self._contexts)

    def _work(self, job: Job | HelloAsked | Notification) -> None:
        if type(job) is Job:
            context = job.context
            # Whoever takes it out answers it: the reader does, if it is cancelled before this.
            if self._unbegun.pop(job.number, None) is None:
                return
            if context.expired:
                late = Failure("deadline_exceeded", f"the deadline of {job.handler.name} passed before it began")
                self._answer_error(job, late.as_error())
                return
            token = _current.set(context)
            try:
                self._call(job)
            finally:
                _current.reset(token)
        elif type(job) is HelloAsked:
            self._say_hello(job)
        else:
            assert type(job) is Notification
            self._cast(job)

    def _say_hello(self, asked: HelloAsked) -> None:
        self.config = asked.hello.config
        if self._same_max_frame:
            self.session.decoder.max_frame = asked.hello.max_frame
        if any(handler.is_async for handler in self._handlers.values()) or inspect.iscoroutinefunction(self._setup):
            self._loop = HandlerLoop(self.connection.on_fatal)
        if self._setup is not None:
            if inspect.iscoroutinefunction(self._setup):
                assert self._loop is not None
                self._loop.submit(self._setup(self.config)).result()
            else:
                self._setup(self.config)
        features = _features()
        memory = SegmentsAtHand.open(asked.hello.probe) if "ndarray" in features else None
        if memory is not None and "shm" in asked.hello.features:
            self.session.memory = self.connection.memory = memory
            features |= {"shm"}
        if self.connection.owns_process:
            # Modules and models stay: the collector need not look through them again and again.
            gc.collect()
            gc.freeze()
        self.connection.send_now(
            self.session.answer_hello,
            asked,
            name=self.name,
            language="python",
            sdk=_sdk(),
            methods={name: handler.info for name, handler in self._handlers.items()},
            features=features,
            concurrency=self._concurrency,
        )

    def _call(self, job: Job) -> None:
        handler, params = job.handler, job.params
        try:
            if job.columns is not None:
                results = self._call_columns(job, job.columns)
                # Wrapped, sent and thrown away at once: the collector would look through the wrappings in vain.
                with CollectorPaused() if self.connection.owns_process else nullcontext():
                    self._answer(job, handler.pairs(results, job.context.meta["batch"]))
                return
            if "batch" in job.context.meta:
                result: Any = self._call_batch(job)
            elif handler.streams:
                result = self._stream(job, handler.call_one(params))
            else:
                result = handler.call_one(params)
                if handler.batch:
                    result = _only(handler.pairs(result, 1))
        except HostGone:
            raise
        except Exception as exception:
            self._answer_error(job, handler.error(exception, params))
        else:
            self._answer(job, result)

    def _call_columns(self, job: Job, columns: list[list[Any]]) -> Any:
        """The results of a batch function, an exception in the place of each item that failed."""
        handler = job.handler
        try:
            return handler.function(*columns)
        except Exception as exception:
            # One item may have spoilt it for all. Doing it again one by one tells which, where that is allowed.
            if len(columns[0]) == 1 or not handler.idempotent or isinstance(exception, Cancelled):
                raise
        return [handler.call_alone(params) for params in zip(*columns)]

    def _call_batch(self, job: Job) -> list[Any]:
        handler, items = job.handler, job.params
        if handler.batch:
            return [_pair_of(handler, params) for params in items]
        if handler.streams:
            return [_list_of(handler, params) for params in items]
        return handler.call_each(items)

    def _stream(self, job: Job, generator: Any) -> Any:
        """Sends what the generator yields, within credit, and gives what it returns; without credit, all items."""
        number, context, connection = job.number, job.context, self.connection
        collected: list[Any] | None = [] if self.session.allowance(number) is None else None
        try:
            while True:
                context.check()
                try:
                    value = next(generator)
                except StopIteration as stop:
                    return stop.value if collected is None else collected
                connection.steps += 1
                if collected is not None:
                    collected.append(value)
                    continue
                connection.wait_until(lambda: self.session.allowance(number) or context.cancelled)
                if not self.session.allowance(number):
                    raise Cancelled("nobody takes the stream's items any more")
                connection.send(self.session.item, number, value)
        finally:
            generator.close()

    def _cast(self, cast: Notification) -> None:
        handler = self._handlers.get(cast.method)
        if handler is None:
            self.log("warning", f"a cast to {cast.method}, which this worker does not have, was dropped", {})
            return
        if handler.input:
            self.log("error", f"the cast to {cast.method}, which takes a streamed argument, was dropped", {})
            return
        token = _current.set(Context(-1, cast.method, cast.meta or {}, self.config, lambda *_: None))
        try:
            result = handler.call_one(cast.params)
            if handler.is_async and not handler.streams:
                assert self._loop is not None
                self._loop.submit(result)
        except Exception as exception:
            error = error_of(exception)
            self.log("error", f"the cast to {cast.method} failed: {error['message']}", error.get("data") or {})
        finally:
            _current.reset(token)

    # -- answering, from any thread

    def _answer(self, job: Job, result: Any) -> None:
        try:
            self.connection.queue(self.session.answer, job.number, None, result)
        except RoomWanted as wanted:
            self._answer_with_room(job, result, self._get_room(wanted.sizes))
        except LocalProtocolError as error:
            self._answer_unencodable(job, result, error)
        self._contexts.pop(job.number, None)

    def _answer_with_room(self, job: Job, result: Any, rooms: list[str]) -> None:
        try:
            self.connection.queue(self._without_asking, self.session.answer, job.number, None, result)
        except LocalProtocolError as error:
            self._answer_unencodable(job, result, error)
        finally:
            self._drop_room(rooms)

    def _answer_unencodable(self, job: Job, result: Any, error: LocalProtocolError) -> None:
        code = "resource_exhausted" if isinstance(error, OversizedMessage) else "internal"
        message = f"the result of {job.handler.name} cannot be sent: {error}"
        if "batch" in job.context.meta and type(result) is list:
            for pair in result:
                try:
                    self.connection.try_encoding(self.session.check, pair)
                except LocalProtocolError as reason:
                    text = f"the result of {job.handler.name} cannot be sent: {reason}"
                    pair[:] = [Failure("internal", text).as_error(), None]
            try:
                self.connection.queue(self._without_asking, self.session.answer, job.number, None, result)
                return
            except LocalProtocolError as whole:
                code = "resource_exhausted" if isinstance(whole, OversizedMessage) else "internal"
                message = f"the results of {job.handler.name} cannot be sent: {whole}"
        self.connection.queue(self.session.answer, job.number, Failure(code, message).as_error())

    def _answer_error(self, job: Job, error: dict[str, Any]) -> None:
        try:
            self.connection.queue(self.session.answer, job.number, error)
        except LocalProtocolError:  # the error's own data cannot be sent
            plain = {"code": sendable(str(error["code"])), "message": sendable(str(error["message"]))}
            self.connection.queue(self.session.answer, job.number, plain)
        self._contexts.pop(job.number, None)

    # -- room for arrays, from any thread

    def _without_asking(self, encode: Callable[..., Any], *args: Any) -> Any:
        """Encodes with the room that there is. Under the connection's lock, as all encoding."""
        memory = self.connection.memory
        if memory is None:
            return encode(*args)
        memory.asks = False
        try:
            return encode(*args)
        finally:
            memory.asks = True

    def _get_room(self, sizes: list[int]) -> list[str]:
        """Asks for room for arrays of so many bytes each; the segments of what there is."""
        asked = self._ask_for_room(sizes)
        self.connection.wait_until(lambda: all(pending.answer is not None for pending in asked))
        return self._take_room(asked)

    async def _get_room_async(self, sizes: list[int]) -> list[str]:
        loop = asyncio.get_running_loop()
        asked = self._ask_for_room(sizes)
        answered = asyncio.Event()

        def look() -> None:
            if all(pending.answer is not None for pending in asked):
                answered.set()

        def wake() -> None:
            loop.call_soon_threadsafe(look)

        for pending in asked:
            pending.on_answer = wake
        look()  # they may have been answered before
        with suppress(asyncio.CancelledError):  # the answer is due all the same
            await answered.wait()
        return self._take_room(asked)

    def _ask_for_room(self, sizes: list[int]) -> list[PendingCall]:
        asked = [PendingCall() for _ in sizes]
        for pending, nbytes in zip(asked, sizes):
            self.connection.queue(self.session.request, "$/segment", [nbytes], None, pending)
        self.connection.flush()
        return asked

    def _take_room(self, asked: list[PendingCall]) -> list[str]:
        memory, rooms = self.connection.memory, []
        assert memory is not None  # or nobody would want room
        for pending in asked:
            if pending.answer is not None and pending.answer.error is None:
                rooms.append(memory.add_room(pending.answer.result))
        return rooms

    def _drop_room(self, rooms: list[str]) -> None:
        """Gives back what nothing was sent in after all."""
        memory = self.connection.memory
        assert memory is not None
        for segment in rooms:
            memory.drop_room(segment)

    # -- the reader's side

    def _on_event(self, event: Event) -> None:
        if type(event) is Request:
            self._on_request(event)
        elif type(event) is Answered:
            # Without its tag: what the two bring would wait for the garbage collector if they knew each other.
            event.tag.answer = event._replace(tag=None)
            if event.tag.on_answer is not None:
                event.tag.on_answer()
        elif type(event) in (InputItem, InputEnded):
            self._on_input(event)  # type: ignore[arg-type]  # one of the two, as just seen
        elif type(event) is CancelAsked:
            self._on_cancel(event.id)
        elif type(event) is CreditGiven:
            if self._loop is not None:
                self._loop.wake()
        elif type(event) is StopAsked:
            self._stopping = True
        elif type(event) in (HelloAsked, Notification):
            self._jobs.append(event)  # type: ignore[arg-type]  # one of the two, as just seen

    def _on_cancel(self, number: int) -> None:
        context = self._contexts.get(number)
        if context is not None:
            context.cancel()
        job = self._unbegun.pop(number, None)
        if job is not None:  # it waits behind another, which may take long
            self._answer_error(job, Cancelled().as_error())
            self.connection.flush()

    def _on_input(self, event: InputItem | InputEnded) -> None:
        context = self._contexts.get(event.id)
        stream = None if context is None else context._input
        if stream is None:
            return
        if type(event) is InputItem:
            stream.add(event.value, self.session.frame_size)
        else:
            stream.end()

    def _end_inputs(self) -> None:
        """Nothing is read any more: wakes the async handlers that wait for items."""
        for context in list(self._contexts.values()):
            if isinstance(context._input, AsyncInput):
                context._input.wake()

    def _on_request(self, request: Request) -> None:
        if request.method.startswith("$/"):
            if request.method == "$/ping":
                self.connection.send_now(self.session.answer, request.id, None, None)
            else:
                text = f"{request.method} is not known to this worker"
                self.connection.queue(self.session.answer, request.id, Failure("unimplemented", text).as_error())
            return
        handler = self._handlers.get(request.method)
        if handler is None:
            known = ", ".join(sorted(self._handlers)) or "none"
            text = f"the worker {self.name} has no method {request.method!r}; it has: {known}"
            self.connection.queue(self.session.answer, request.id, Failure("unimplemented", text).as_error())
            return
        try:
            context = Context(request.id, request.method, request.meta or {}, self.config, self._report)
        except TypeError as error:
            failure = Failure("invalid_argument", f"meta deadline_ms: {error}")
            self.connection.queue(self.session.answer, request.id, failure.as_error())
            return
        refused = refusal(handler, context.meta)
        if refused is not None:
            self.connection.queue(self.session.answer, request.id, refused.as_error())
            return
        params, columns = request.params, None
        if "batch" in context.meta:
            try:
                params, columns = handler.take_batch(params, context.meta)
            except Failure as failure:
                self.connection.queue(self.session.answer, request.id, failure.as_error())
                return
        if handler.input:
            if handler.is_async:
                assert self._loop is not None
                context._input = AsyncInput(context, self.connection, self._loop)
            else:
                context._input = PlainInput(context, self.connection)
            params = [context._input, *params]
        self._contexts[request.id] = context
        job = Job(request.id, handler, context, params, columns)
        if handler.is_async:
            assert self._loop is not None
            self._loop.start(self._work_async(job), context)
        else:
            self._unbegun[job.number] = job
            self._jobs.append(job)

    # -- async handlers, on their own event loop

    async def _work_async(self, job: Job) -> None:
        handler, context, params = job.handler, job.context, job.params
        _current.set(context)
        try:
            if context.cancelled:  # before it could begin: a task that is cancelled then would never answer
                raise Cancelled
            if context.expired:
                raise Failure("deadline_exceeded", f"the deadline of {handler.name} passed before it began")
            if "batch" in context.meta:
                result = await self._call_batch_async(job)
            elif handler.streams:
                result = await self._stream_async(job, handler.call_one(params))
            else:
                result = await handler.call_one(params)
                if handler.batch:
                    result = _only(handler.pairs(result, 1))
        except asyncio.CancelledError:
            self._answer_error(job, Cancelled().as_error())
        except HostGone:
            return
        except Exception as exception:
            self._answer_error(job, handler.error(exception, params))
        else:
            await self._answer_async(job, result)
        finally:
            self._contexts.pop(job.number, None)
            assert self._loop is not None
            self._loop.flush_soon(self.connection)

    async def _answer_async(self, job: Job, result: Any) -> None:
        try:
            self.connection.queue(self.session.answer, job.number, None, result)
        except RoomWanted as wanted:
            self._answer_with_room(job, result, await self._get_room_async(wanted.sizes))
        except LocalProtocolError as error:
            self._answer_unencodable(job, result, error)

    async def _call_batch_async(self, job: Job) -> list[Any]:
        handler = job.handler
        if job.columns is not None:
            return handler.pairs(await handler.function(*job.columns), job.context.meta["batch"])

        async def one(params: Any) -> list[Any]:
            try:
                if handler.streams:
                    return [None, [value async for value in handler.call_one(params)]]
                result = await handler.call_one(params)
                return handler.pairs(result, 1)[0] if handler.batch else [None, result]
            except Exception as exception:
                return [handler.error(exception, params), None]

        return list(await asyncio.gather(*map(one, job.params)))

    async def _stream_async(self, job: Job, generator: Any) -> Any:
        number = job.number
        assert self._loop is not None
        if self.session.allowance(number) is None:
            return [value async for value in generator]
        try:
            async for value in generator:
                while not self.session.allowance(number):
                    await self._loop.credit()
                self.connection.send_now(self.session.item, number, value)
        finally:
            await generator.aclose()
        return None

    # -- what handlers use

    def call(self, target: str, params: tuple[Any, ...], timeout: float | None) -> Any:
        """Calls another service and waits for its answer, reading meanwhile if nobody else does."""
        pending = PendingCall()
        try:
            self._ask(self.session.request, target, params, timeout, pending)
        except RoomWanted as wanted:
            rooms = self._get_room(wanted.sizes)
            self._ask_with_room(rooms, target, params, timeout, pending)
        if not self.connection.wait_until(lambda: pending.answer is not None, timeout):
            if self.connection.ended:
                raise CallFailed("unavailable", f"the orchestrator went away before {target} was answered")
            raise CallFailed("deadline_exceeded", f"{target} was not answered within {timeout} s")
        return pending.result()

    async def acall(self, target: str, params: tuple[Any, ...], timeout: float | None) -> Any:
        """The same for async handlers."""
        loop = asyncio.get_running_loop()
        answered = loop.create_future()
        pending = PendingCall()

        def settle() -> None:
            if not answered.done():
                answered.set_result(None)

        def wake() -> None:
            loop.call_soon_threadsafe(settle)

        pending.on_answer = wake
        try:
            self._ask(self.session.request, target, params, timeout, pending)
        except RoomWanted as wanted:
            rooms = await self._get_room_async(wanted.sizes)
            self._ask_with_room(rooms, target, params, timeout, pending)
        try:
            await asyncio.wait_for(answered, timeout)
        except asyncio.TimeoutError:
            raise CallFailed("deadline_exceeded", f"{target} was not answered within {timeout} s") from None
        return pending.result()

    def _ask_with_room(
        self, rooms: list[str], target: str, params: tuple[Any, ...], timeout: float | None, pending: PendingCall
    ) -> None:
        try:
            self._ask(partial(self._without_asking, self.session.request), target, params, timeout, pending)
        finally:
            self._drop_room(rooms)

    def _ask(
        self,
        request: Callable[..., Any],
        target: str,
        params: tuple[Any, ...],
        timeout: float | None,
        pending: PendingCall,
    ) -> None:
        context = _current.get(None)
        left = context.deadline if context is not None else None
        if timeout is not None:
            left = timeout if left is None else min(left, timeout)
        meta: dict[str, Any] = {} if left is None else {"deadline_ms": max(0, int(left * 1000))}
        if context is not None:
            if context.id >= 0:  # a cast has none
                meta["parent"] = context.id
            if "traceparent" in context.meta:
                meta["traceparent"] = context.meta["traceparent"]
        self.connection.send_now(request, target, list(params), meta, pending)

    def log(self, level: str, text: str, fields: dict[str, Any]) -> None:
        """A line for the orchestrator's log."""
        try:
            self.connection.send(self.session.notify, "$/log", [level, text, fields])
        except ProtocolError:
            plain = {sendable(str(key)): sendable(repr(value)) for key, value in fields.items()}
            self.connection.send(self.session.notify, "$/log", [level, sendable(str(text)), plain])

    def _report(self, number: int, done: float, total: float | None, text: str) -> None:
        self.connection.send(self.session.notify, "$/progress", [number, done, total, text])


def _pair_of(handler: Handler, params: Any) -> list[Any]:
    """One item's outcome, by a batch function that is given this item alone."""
    try:
        if type(params) is not list:
            raise Failure("invalid_argument", f"an item of a batch is a list of arguments, not {params!r:.80}")
        return handler.pairs(handler.call_one(params), 1)[0]
    except Exception as exception:
        return [handler.error(exception, params), None]


def _list_of(handler: Handler, params: Any) -> list[Any]:
    try:
        return [None, list(handler.call_one(params))]
    except Exception as exception:
        return [handler.error(exception, params), None]


def _only(pairs: list[list[Any]]) -> Any:
    """The result in the one pair there is; raises its error."""
    error, result = pairs[0]
    if error is not None:
        raise Failure(error["code"], error["message"], error.get("data"), error.get("retryable", False))
    return result


def _features() -> frozenset[str]:
    """What this process can do, with the libraries that it has."""
    from importlib.util import find_spec

    more = {"ndarray": find_spec("numpy") is not None, "stacks": tells_stacks()}
    return FEATURES.union(name for name, there in more.items() if there)


def _sdk() -> str:
    from . import __version__

    return f"mlports_worker {__version__}"
