"""A worker on a thread of the orchestrator's own process: messages go from one to the other, and no bytes.

The orchestrator makes a `Link`, and runs the worker's program within `serving(link)` on a thread of its own; what is
`Worker.run()` there then serves the link in the place of stdin. The orchestrator's thread sorts what it hands over, as
the reader does in a process, so that pings and cancels are seen to however long a handler takes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from queue import Empty, SimpleQueue
from typing import Any, Callable

from mlports_protocol import DEFAULT_MAX_FRAME, CancelAsked, Event
from mlports_protocol.direct import DirectWorkerSession

from .connection import Connection, HostGone
from .stdio import Channel

_link: ContextVar[Link] = ContextVar("mlports_link")


class Link:
    """What an orchestrator and the worker on its thread have between them.

    `wake` is called, by any thread, when there is something to `take_all()`, unless the orchestrator waits for it just
    then. `last_words` are lines that tell why the worker ended.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self.last_words: list[str] = []
        self.cut = False  # the orchestrator takes nothing more
        self.connection: InlineConnection | None = None
        self._wake = wake
        self._to_host: SimpleQueue[list[Any]] = SimpleQueue()
        self._host_waits = False
        self._early: list[Any] = []  # what came before the worker listened
        self._closed = False
        self._lock = threading.Lock()

    # -- the orchestrator's side: one thread

    def deliver(self, messages: list[Any]) -> None:
        """Hands messages to the worker."""
        with self._lock:
            if self.connection is None:
                self._early += messages
                return
        self.connection.take(messages)

    def take_all(self) -> list[Any]:
        """What the worker has sent meanwhile."""
        messages: list[Any] = []
        with suppress(Empty):
            while True:
                messages += self._to_host.get_nowait()
        return messages

    def expect(self) -> None:
        """Until `take_soon()`, which is to follow, nobody need be woken."""
        self._host_waits = True

    def take_soon(self, timeout: float) -> list[Any]:
        """`take_all`, after at most so many seconds of waiting for the first of it."""
        try:
            messages = self._to_host.get(timeout=timeout)
        except Empty:
            messages = []
        self._host_waits = False
        # Looked at again: who sent before this was said woke nobody.
        return messages + self.take_all()

    def close(self) -> None:
        """Nothing more will come."""
        with self._lock:
            self._closed = True
            connection = self.connection
        if connection is not None:
            connection.end()

    def cut_off(self) -> None:
        """Nothing more will come or be taken: the worker is to end as soon as it can."""
        self.cut = True
        self.close()
        if self.connection is not None:
            self.connection.cancel_all()

    # -- the worker's side

    def connect(self, on_event: Callable[[Event], None], max_frame: int) -> Connection:
        """The worker's end of it."""
        return InlineConnection(self, on_event)

    def listen(self, connection: InlineConnection) -> None:
        """From now on what is delivered goes there, after all that came before."""
        with self._lock:
            if not self.cut:
                connection.take(self._early)
            self.connection = connection
            self._early = []
        if self._closed:
            connection.end()

    def send(self, messages: list[Any]) -> None:
        """Hands messages to the orchestrator. Raises `HostGone` when that takes none."""
        if self.cut:
            raise HostGone
        self._to_host.put(messages)
        if not self._host_waits:
            self._wake()


class InlineConnection(Connection):
    """The worker's end of a link."""

    owns_process = False

    def __init__(self, link: Link, on_event: Callable[[Event], None]) -> None:
        super().__init__(Channel(-1, -1), on_event, DEFAULT_MAX_FRAME)
        self.session: DirectWorkerSession = DirectWorkerSession()
        self._link = link
        self._changed = threading.Condition(threading.Lock())
        self._fatal: BaseException | None = None

    # -- the orchestrator's thread

    def take(self, messages: list[Any]) -> None:
        """Takes what the orchestrator sent."""
        session = self.session
        session.hand_over(messages)
        try:
            while (event := session.next_event()) is not None:
                self._on_event(event)
            self.flush()
        except HostGone:
            self.ended = True
        except Exception as error:
            self.ended = True
            self.failure = error
        self.wake_waiters()

    def end(self) -> None:
        """Nothing more will come."""
        self.ended = True
        self.wake_waiters()

    def cancel_all(self) -> None:
        """Nobody waits for anything any more: tells those that are at work."""
        for number in list(self.session.open):
            with suppress(HostGone):
                self._on_event(CancelAsked(number))
        self.wake_waiters()

    # -- the worker's threads

    def start_watching(self) -> None:
        self._link.listen(self)

    def wait_until(self, done: Callable[[], Any], timeout: float | None = None) -> bool:
        expires = None if timeout is None else time.monotonic() + timeout
        self.flush()
        with self._changed:
            while not done():
                left = None if expires is None else expires - time.monotonic()
                if self.ended or (left is not None and left <= 0):
                    break
                self._changed.wait(left)
            else:
                return True
        self._raise_fatal()
        return False

    def wake_waiters(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def begin_step(self) -> None:
        self._raise_fatal()
        self.steps += 1

    def end_step(self) -> None:
        pass

    def on_fatal(self, end: BaseException) -> None:
        """A thread of the worker's ended by what would end a process: it ends the worker, at its next step."""
        self._fatal = end
        self.end()

    def _raise_fatal(self) -> None:
        if self._fatal is not None:
            raise self._fatal

    def _write_all(self) -> None:
        messages, self._out, self._out_size = self._out, [], 0
        self._last_flush = time.monotonic()
        if messages:
            try:
                self._link.send(messages)
            except HostGone:
                self.ended = True
                raise


@contextmanager
def serving(link: Link) -> Iterator[None]:
    """Within it, and on this thread alone, a `Worker.run()` serves the link."""
    token = _link.set(link)
    try:
        yield
    finally:
        _link.reset(token)


def link_here() -> Link | None:
    """The link that this thread's worker is to serve; None in a process of its own."""
    return _link.get(None)
