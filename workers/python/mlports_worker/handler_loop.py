"""Where async handlers run: an event loop on a thread of its own, beside the main thread with the plain ones."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from typing import Any, Callable

from .connection import Connection, HostGone
from .context import Context


class HandlerLoop:
    """An event loop on a thread of its own, for async handlers.

    `on_fatal` is called, on that thread, with what ends it that is no `Exception`: it would end this thread alone, and
    every call would wait for ever.
    """

    def __init__(self, on_fatal: Callable[[BaseException], None]) -> None:
        self._on_fatal = on_fatal
        self.loop = asyncio.new_event_loop()
        self._credit: asyncio.Event
        self._tasks: set[asyncio.Task[None]] = set()
        self._flushing = False
        self._thread = threading.Thread(target=self._run, name="mlports-async", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self._credit = asyncio.Event()  # here, because Python 3.9 ties it to the thread's loop
        try:
            self.loop.run_forever()
        except BaseException as end:
            self._on_fatal(end)

    def submit(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Runs a coroutine; gives a `concurrent.futures.Future`."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def do(self, step: Callable[[], None]) -> None:
        """Does a step on the loop's thread, and waits until it is done, or that thread has ended."""

        async def there() -> None:
            step()

        done = self.submit(there())
        while self._thread.is_alive():
            with suppress(FutureTimeout):
                done.result(1.0)
                return

    def start(self, coroutine: Coroutine[Any, Any, None], context: Context) -> None:
        """Runs a job's coroutine, to be cancelled when its caller cancels."""

        def begin() -> None:
            task = self.loop.create_task(coroutine)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

            def cancel() -> None:
                self.loop.call_soon_threadsafe(task.cancel)

            context._on_cancel = cancel

        self.loop.call_soon_threadsafe(begin)

    def wake(self) -> None:
        """Says, from the reading thread, that credit came."""
        self.loop.call_soon_threadsafe(self._credit.set)

    async def credit(self) -> None:
        """Waits until any credit comes."""
        self._credit.clear()
        await self._credit.wait()

    def flush_soon(self, connection: Connection) -> None:
        """Writes at the end of this turn of the loop what its tasks have answered."""
        if not self._flushing:
            self._flushing = True
            self.loop.call_soon(self._flush, connection)

    def _flush(self, connection: Connection) -> None:
        self._flushing = False
        try:
            connection.flush()
        except HostGone:
            connection.ended = True
        connection.wake_waiters()

    def close(self) -> None:
        """Lets the jobs that are under way end, and stops the thread."""

        async def finish() -> None:
            while self._tasks:
                await asyncio.wait(set(self._tasks))

        self.submit(finish()).result()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    def abandon(self, patience: float = 1.0) -> None:
        """Gives up the jobs that are under way, and stops the thread, if they let it within `patience` seconds."""
        if self.loop.is_closed():
            return

        async def give_up() -> None:
            tasks = set(self._tasks)
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks, timeout=patience)

        if self._thread.is_alive():
            self.submit(give_up()).add_done_callback(lambda _: self.loop.call_soon_threadsafe(self.loop.stop))
            self._thread.join(2 * patience)
        else:  # an exception ended it, and left them where they were
            for task in self._tasks:
                if task.done() and not task.cancelled():
                    task.exception()  # seen: it is what ended the thread
            self.loop.run_until_complete(give_up())
        if not self._thread.is_alive():
            self.loop.close()
