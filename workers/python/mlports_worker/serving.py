"""A worker at work: what came in becomes jobs, each job is answered exactly once.

The reader's side (`_on_event`) only sorts: pings and cancels at once, jobs for async handlers to their event loop, all
other jobs into a queue that the main thread works through in order.
"""

from __future__ import annotations

import gc
import inspect
from collections import deque
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any, Callable

from mlports_protocol import (
    DEFAULT_MAX_FRAME,
    Answered,
    CancelAsked,
    CreditGiven,
    Event,
    HelloAsked,
    InputEnded,
    InputItem,
    Notification,
    ProtocolError,
    Request,
    StopAsked,
)

from .answers import Answers
from .async_jobs import AsyncJobs
from .calls import Calls
from .collector import CollectorPaused
from .connection import Connection, HostGone
from .context import Context, _current
from .failures import Cancelled, Failure, error_of, sendable
from .handler_loop import HandlerLoop
from .handlers import Handler, only_result
from .inputs import AsyncInput, PlainInput, refusal
from .jobs import Job
from .pending_call import PendingCall
from .room import Room
from .shared_memory import SegmentsAtHand
from .stacks import tells_stacks

if TYPE_CHECKING:
    from .snapshots import Hooks, Snapshots

FEATURES = frozenset(["ping", "cancel", "stream", "input", "batch", "columns"])
_ASYNC_CONCURRENCY = 64

Connect = Callable[[Callable[[Event], None], int], Connection]
"""Gives a worker's connection, by who is told of its events, and the longest frame in bytes."""


class Server:
    """Runs a worker's handlers for one orchestrator, from its hello to its goodbye."""

    def __init__(
        self,
        name: str,
        handlers: dict[str, Handler],
        setup: Callable[[dict[str, Any]], Any] | None,
        connect: Connect,
        concurrency: int | None,
        max_frame: int | None = None,
        hooks: Hooks | None = None,
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
        room = Room(self.connection)
        self.calls = Calls(self.connection, room)
        self._answers = Answers(self.connection, room, self._contexts)
        self._async_jobs: AsyncJobs | None = None
        self._hooks = hooks
        self._snapshots: Snapshots | None = None

    # -- the main thread

    def run(self) -> None:
        """Works until the orchestrator says stop or closes the stream, and everything accepted is answered."""
        connection = self.connection
        connection.start_watching()
        try:
            while self._wait() or self._jobs:
                if not self._jobs:
                    break  # told to stop: only async handlers may still be at work
                connection.begin_step()
                job = self._jobs.popleft()
                self._work(job)
                if type(job) is Job and job.handler.idempotent:
                    connection.flush_if_late()
                else:  # if the next job is the worker's death, this answer could not be had again
                    connection.flush()
                connection.end_step()
            connection.begin_step()
            if self._async_jobs is not None:
                self._end_inputs()
                self._async_jobs.loop.close()
            if self._snapshots is not None:
                self._snapshots.finish()
            connection.flush()
        except HostGone:
            return
        except BaseException:  # sys.exit() in a handler: what was answered before is an answer
            with suppress(HostGone):
                connection.flush()
            raise
        finally:
            connection.ended = True
            if self._async_jobs is not None and not connection.owns_process:
                self._async_jobs.loop.abandon()
            if self._snapshots is not None and not connection.owns_process:
                self._snapshots.wait()  # the next life, in this same process, reads and writes the same file
        if connection.failure is not None:
            raise connection.failure

    def cancel_all(self) -> None:
        """Nobody waits for anything any more: tells every handler that is at work."""
        for context in list(self._contexts.values()):
            context.cancel()

    def _wait(self) -> bool:
        """Waits until there is something to do, taking snapshots meanwhile. Returns whether there is."""
        if self._snapshots is None:
            return self.connection.wait_until(self._something_to_do)
        while not self.connection.wait_until(self._something_to_do, self._snapshots.pause):
            if self.connection.ended:
                return False
            self._keep(self._snapshots.after_pause)
        return True

    def _keep(self, step: Callable[[], None]) -> None:
        """Does a step of the snapshots: on the event loop if there is one, for what it keeps changes there."""
        if self._async_jobs is None:
            step()
        else:
            self._async_jobs.loop.do(step)

    def _something_to_do(self) -> bool:
        return bool(self._jobs) or self._stopping

    def _work(self, job: Job | HelloAsked | Notification) -> None:
        if type(job) is Job:
            context = job.context
            # Whoever takes it out answers it: the reader does, if it is cancelled before this.
            if self._unbegun.pop(job.number, None) is None:
                return
            if context.expired:
                late = Failure("deadline_exceeded", f"the deadline of {job.handler.name} passed before it began")
                self._answers.give_error(job, late.as_error())
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
        if inspect.iscoroutinefunction(self._setup):
            self._start_loop().submit(self._setup(self.config)).result()
        elif self._setup is not None:
            self._setup(self.config)
        # Asked now: a set-up may add methods.
        asynchronous = any(handler.is_async for handler in self._handlers.values())
        if asynchronous and self._async_jobs is None:
            self._start_loop()
        concurrency = self._concurrency
        if concurrency is None:
            concurrency = _ASYNC_CONCURRENCY if asynchronous else 1
        trouble = self._restore(asked)
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
            concurrency=concurrency,
        )
        if trouble is not None:
            self.log("error", trouble, {})

    def _start_loop(self) -> HandlerLoop:
        loop = HandlerLoop(self.connection.on_fatal)
        self._async_jobs = AsyncJobs(loop, self.connection, self._answers, self._contexts)
        return loop

    def _restore(self, asked: HelloAsked) -> str | None:
        """Goes on from the last life's snapshot, if there is one; gives what the operator should know."""
        if self._hooks is None:
            return None
        from .snapshots import from_config  # here: most workers have no hooks, and start without it

        def log(level: str, text: str) -> None:
            with suppress(HostGone):
                self.log(level, text, {})

        owner = asked.hello.service or self.name
        self._snapshots = from_config(self.config, owner, asked.hello.replica, self._hooks, log)
        if self._snapshots is None:
            return None
        if self._async_jobs is not None:
            self._async_jobs.snapshots = self._snapshots
        return self._snapshots.restore()

    def _call(self, job: Job) -> None:
        handler, params = job.handler, job.params
        try:
            if job.columns is not None:
                results = self._call_columns(job, job.columns)
                self._called()
                # Wrapped, sent and thrown away at once: the collector would look through the wrappings in vain.
                with CollectorPaused() if self.connection.owns_process else nullcontext():
                    self._answers.give(job, handler.pairs(results, job.context.meta["batch"]))
                return
            if "batch" in job.context.meta:
                result: Any = self._call_batch(job)
            elif handler.streams:
                result = self._stream(job, handler.call_one(params))
            else:
                result = handler.call_one(params)
                if handler.batch:
                    result = only_result(handler.pairs(result, 1))
        except HostGone:
            raise
        except Exception as exception:
            self._called()
            self._answers.give_error(job, handler.error(exception, params))
        else:
            self._called()
            self._answers.give(job, result)

    def _called(self) -> None:
        """A handler is done, and its caller does not know yet: a snapshot that is due has in it what was answered."""
        if self._snapshots is not None:
            self._keep(self._snapshots.after_call)

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
        context = Context(-1, cast.method, cast.meta or {}, self.config, lambda *_: None)
        token = _current.set(context)
        try:
            result = handler.call_one(cast.params)
            if handler.is_async and not handler.streams:
                assert self._async_jobs is not None
                job = self._async_jobs.cast(result, lambda exception: self._tell_failed(cast.method, exception))
                self._async_jobs.loop.start(job, context)
            else:
                self._called()
        except Exception as exception:
            self._tell_failed(cast.method, exception)
        finally:
            _current.reset(token)

    def _tell_failed(self, method: str, exception: Exception) -> None:
        """Nobody waits for a cast: what its handler raised goes to the log."""
        error = error_of(exception)
        data = error.get("data")
        fields = data if isinstance(data, dict) else {} if data is None else {"data": data}
        self.log("error", f"the cast to {method} failed: {error['message']}", fields)

    # -- the reader's side

    def _on_event(self, event: Event) -> None:
        if type(event) is Request:
            self._on_request(event)
        elif type(event) is Answered:
            pending: PendingCall = event.tag
            # Without its tag: what the two bring would wait for the garbage collector if they knew each other.
            pending.answer = event._replace(tag=None)
            if pending.on_answer is not None:
                pending.on_answer()
        elif type(event) in (InputItem, InputEnded):
            self._on_input(event)  # type: ignore[arg-type]  # one of the two, as just seen
        elif type(event) is CancelAsked:
            self._on_cancel(event.id)
        elif type(event) is CreditGiven:
            if self._async_jobs is not None:
                self._async_jobs.loop.wake()
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
            self._answers.give_error(job, Cancelled().as_error())
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
        if self._stopping:
            late = Failure("unavailable", f"the worker {self.name} was told to stop", retryable=True)
            self.connection.queue(self.session.answer, request.id, late.as_error())
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
                assert self._async_jobs is not None
                context._input = AsyncInput(context, self.connection, self._async_jobs.loop)
            else:
                context._input = PlainInput(context, self.connection)
            params = [context._input, *params]
        self._contexts[request.id] = context
        job = Job(request.id, handler, context, params, columns)
        if handler.is_async:
            jobs = self._async_jobs
            assert jobs is not None
            jobs.loop.start(jobs.work(job), context)
        else:
            self._unbegun[job.number] = job
            self._jobs.append(job)

    # -- what handlers use

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


def _features() -> frozenset[str]:
    """What this process can do, with the libraries that it has."""
    from importlib.util import find_spec

    more = {"ndarray": find_spec("numpy") is not None, "stacks": tells_stacks()}
    return FEATURES.union(name for name, there in more.items() if there)


def _sdk() -> str:
    from . import __version__

    return f"mlports_worker {__version__}"
