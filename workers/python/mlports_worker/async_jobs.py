"""The jobs of async handlers: what is done with each on the event loop, from its beginning to its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Callable

from .answers import Answers
from .connection import Connection, HostGone
from .context import Context, _current
from .failures import Cancelled, Failure
from .handler_loop import HandlerLoop
from .handlers import only_result
from .jobs import Job

if TYPE_CHECKING:
    from .snapshots import Snapshots


class AsyncJobs:
    """Works on the jobs of async handlers, on `loop`, and answers them.

    `contexts` are those of the requests that are open, by id: a job is taken out when it is done, however it ended.
    """

    def __init__(
        self, loop: HandlerLoop, connection: Connection, answers: Answers, contexts: dict[int, Context]
    ) -> None:
        self.loop = loop
        self.snapshots: Snapshots | None = None
        self._connection = connection
        self._session = connection.session
        self._answers = answers
        self._contexts = contexts

    async def work(self, job: Job) -> None:
        """Does one job. To be cancelled when its caller cancels: that is its answer then."""
        handler, context, params = job.handler, job.context, job.params
        _current.set(context)
        try:
            if context.cancelled:  # before it could begin: a task that is cancelled then would never answer
                raise Cancelled
            if context.expired:
                raise Failure("deadline_exceeded", f"the deadline of {handler.name} passed before it began")
            if "batch" in context.meta:
                result = await self._call_batch(job)
            elif handler.streams:
                result = await self._stream(job, handler.call_one(params))
            else:
                result = await handler.call_one(params)
                if handler.batch:
                    result = only_result(handler.pairs(result, 1))
        except asyncio.CancelledError:
            self._called()
            self._answers.give_error(job, Cancelled().as_error())
        except HostGone:
            return
        except Exception as exception:
            self._called()
            self._answers.give_error(job, handler.error(exception, params))
        else:
            self._called()
            await self._answers.give_async(job, result)
        finally:
            self._contexts.pop(job.number, None)
            self.loop.flush_soon(self._connection)

    async def cast(self, result: Coroutine[Any, Any, Any], tell_failed: Callable[[Exception], None]) -> None:
        """Works on a cast, which is answered to nobody; `tell_failed` gets what it raises."""
        try:
            await result
        except HostGone:
            return
        except Exception as exception:
            with suppress(HostGone):
                tell_failed(exception)
        finally:
            self._called()
            self.loop.flush_soon(self._connection)

    def _called(self) -> None:
        if self.snapshots is not None:
            self.snapshots.after_call()

    async def _call_batch(self, job: Job) -> list[Any]:
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

    async def _stream(self, job: Job, generator: Any) -> Any:
        number = job.number
        if self._session.allowance(number) is None:
            return [value async for value in generator]
        try:
            async for value in generator:
                while not self._session.allowance(number):
                    await self.loop.credit()
                self._connection.send_now(self._session.item, number, value)
        finally:
            await generator.aclose()
        return None
