"""The worker's end of the pipe: reading by turns, writing in bursts.

Whoever has nothing else to do reads: the main thread while it waits for work, a handler while it waits for an answer
or for credit. So a call costs no change of threads. When a handler has run for longer than a tick with nobody reading,
a watching thread takes the turn, so that pings and cancels are read however long the handler blocks, and gives it back
when the main thread is free.
"""

from __future__ import annotations

import errno
import os
import select
import sys
import threading
import time
import traceback
from contextlib import suppress
from typing import Any, Callable

from mlports_protocol import Buffer, Event, WorkerSession

from .collector import CollectorPaused
from .shared_memory import SegmentsAtHand
from .stdio import Channel

_READ_SIZE = 64 * 1024  # a larger buffer would be mapped and unmapped by the allocator for every read
_FLUSH_SIZE = 64 * 1024
_FLUSH_AFTER = 0.0005  # seconds that an answer may wait for company
_TICK = 0.005  # seconds
_TICKS_TO_REST = 200  # ticks without work after which the watching thread sleeps until it is called
_SPIN = 0.0001  # seconds
_GRACE = 1.0  # seconds that a handler goes on when nobody can read its answer any more
_MOST_VECTORS = 512


class HostGone(Exception):
    """The orchestrator closed its end: nobody reads what is written."""


class Connection:
    """Frames in, frames out, for one worker. `on_event` is called for each event, by whichever thread reads."""

    owns_process = True  # the process is the worker's alone, and is ended with it

    def __init__(self, channel: Channel, on_event: Callable[[Event], None], max_frame: int) -> None:
        self.session = WorkerSession(max_frame)
        self.memory: SegmentsAtHand | None = None  # what arrays are shared by, where that was agreed
        self.ended = False  # the orchestrator will send nothing more
        self.failure: Exception | None = None  # why reading stopped, when it was not the stream's end
        self._channel = channel
        self._on_event = on_event
        self._turn = threading.Lock()  # held by whoever reads
        self._read_something = threading.Condition(threading.Lock())
        self._waiters = 0  # threads that wait for what another one reads
        self._main = threading.get_ident()
        self._main_waits = False
        self._lock = threading.Lock()  # for encoding and for what is waiting to be written
        self._out: list[Buffer] = []
        self._out_size = 0
        self._last_flush = 0.0
        self._readable = select.poll()
        if channel.read >= 0:
            self._readable.register(channel.read, select.POLLIN)
        self._may_spin = _processors() > 1
        self._spin_next = False
        self.steps = 0  # grows with each piece of work that the main thread begins
        self.busy = False  # the main thread is at work
        self._called = threading.Event()
        self._resting = True

    # -- sending

    def send(self, encode: Callable[..., list[Buffer]], *args: Any, **kwargs: Any) -> None:
        """Encodes by one of the session's methods and writes, at once or together with what follows soon."""
        with self._lock:
            self._append(encode(*args, **kwargs))
            if self._out_size >= _FLUSH_SIZE or time.monotonic() - self._last_flush > _FLUSH_AFTER:
                self._write_all()

    def send_now(self, encode: Callable[..., list[Buffer]], *args: Any, **kwargs: Any) -> None:
        """Encodes by one of the session's methods and writes at once."""
        with self._lock:
            self._append(encode(*args, **kwargs))
            self._write_all()

    def queue(self, encode: Callable[..., list[Buffer]], *args: Any, **kwargs: Any) -> None:
        """Encodes and leaves the writing to the next `flush()`, `send()` or turn at reading."""
        with self._lock:
            self._append(encode(*args, **kwargs))
            if self._out_size >= _FLUSH_SIZE:
                self._write_all()

    def try_encoding(self, encode: Callable[..., object], *args: Any) -> None:
        """Encodes, and sends nothing: for what it raises."""
        with self._lock:
            encode(*args)

    def flush(self) -> None:
        """Writes whatever is waiting to be written."""
        if self._out or (self.memory is not None and self.memory.let_go):
            with self._lock:
                self._write_all()

    def flush_if_late(self) -> None:
        """Writes what has been waiting for longer than an answer may."""
        if self._out and time.monotonic() - self._last_flush > _FLUSH_AFTER:
            self.flush()

    def _append(self, buffers: list[Buffer]) -> None:
        self._out += buffers
        for buffer in buffers:
            self._out_size += len(buffer)

    def _write_all(self) -> None:
        if self.memory is not None:
            while self.memory.let_go:
                self._append(self.session.notify("$/release", [self.memory.next_let_go()]))
        buffers, size = self._out, self._out_size
        self._out, self._out_size = [], 0
        self._last_flush = time.monotonic()
        if not size:
            return
        if size <= 2 * _FLUSH_SIZE:
            buffers = [b"".join(buffers)]
        try:
            while buffers:
                written = self._write_some(buffers[:_MOST_VECTORS])
                buffers = _after(buffers, written)
        except OSError as error:
            self.ended = True
            if error.errno in (errno.EPIPE, errno.ECONNRESET, errno.EBADF):
                raise HostGone from error
            raise

    def _write_some(self, buffers: list[Buffer]) -> int:
        try:
            return os.writev(self._channel.write, buffers)
        except BlockingIOError:  # somebody made the descriptor non-blocking
            writable = select.poll()
            writable.register(self._channel.write, select.POLLOUT)
            writable.poll()
            return 0

    # -- receiving

    def wait_until(self, done: Callable[[], Any], timeout: float | None = None) -> bool:
        """Reads, or waits while another thread does, until `done()` or until `timeout` seconds have passed.

        Returns whether `done()`. Returns also when the stream has ended.
        """
        if done():
            return True
        main = threading.get_ident() == self._main
        expires = None if timeout is None else time.monotonic() + timeout
        if main:
            self._main_waits = True
        try:
            self.flush()
            while not done():
                left = None if expires is None else expires - time.monotonic()
                if self.ended or (left is not None and left <= 0):
                    return False
                if self._turn.acquire(blocking=False):
                    self._take_turn(left, spin=main)
                else:
                    self._wait_for_reader(done, left)
            return True
        finally:
            if main:
                self._main_waits = False

    def wake_waiters(self) -> None:
        """Makes every `wait_until()` look again: something changed."""
        if self._waiters:
            with self._read_something:
                self._read_something.notify_all()

    def _wait_for_reader(self, done: Callable[[], Any], timeout: float | None) -> None:
        with self._read_something:
            self._waiters += 1
            try:
                # Looked at again, because the reader may have finished before it could see that somebody waits.
                if not done() and not self.ended and self._turn.locked():
                    self._read_something.wait(timeout)
            finally:
                self._waiters -= 1

    def _take_turn(self, timeout: float | None, spin: bool = False) -> None:
        """Reads once, with the turn already taken, and gives the turn back."""
        try:
            self.flush()
            if self._wait_readable(timeout, spin):
                self._read_once()
        except HostGone:
            self.ended = True
        finally:
            self._turn.release()
            self.wake_waiters()

    def _wait_readable(self, timeout: float | None, spin: bool) -> bool:
        """Waits for input. After a short wait the next is likely to be short: then it looks before it sleeps."""
        poll = self._readable.poll
        if not (spin and self._may_spin):
            return bool(poll(None if timeout is None else max(0, timeout * 1000)))
        began = time.monotonic()
        if self._spin_next:
            until = began + _SPIN
            while not poll(0):
                if time.monotonic() > until:
                    break
                os.sched_yield()
            else:
                return True
        readable = poll(None if timeout is None else max(0, timeout * 1000))
        self._spin_next = time.monotonic() - began < _SPIN
        return bool(readable)

    def _read_once(self) -> None:
        session, descriptor = self.session, self._channel.read
        try:
            room = session.decoder.room()
            if room is None:
                data = os.read(descriptor, _READ_SIZE)
                count = len(data)
                session.feed(data)
            else:
                count = os.readv(descriptor, [room])
                session.decoder.filled(count)
            if not count:
                self.ended = True
                session.end()
                return
            # Most of what decoding allocates is garbage when it is done: the collector would look in vain.
            with CollectorPaused():
                while (event := session.next_event()) is not None:
                    self._on_event(event)
        except BlockingIOError:
            return
        except HostGone:
            raise
        except Exception as error:
            self.ended = True
            self.failure = error

    def on_fatal(self, end: BaseException) -> None:
        """Does from another thread what an exception that nobody catches does on the main thread."""
        status = 1
        if not isinstance(end, SystemExit):
            traceback.print_exception(type(end), end, end.__traceback__)
        elif end.code is None or isinstance(end.code, int):
            status = end.code or 0
        else:
            sys.stderr.write(f"{end.code}\n")
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()
        os._exit(status & 0xFF)

    # -- watching over the main thread

    def start_watching(self) -> None:
        """Starts the thread that reads, and writes what is waiting, while the main thread is in a long handler."""
        threading.Thread(target=self._watch, name="mlports-watch", daemon=True).start()

    def begin_step(self) -> None:
        """The main thread begins a piece of work."""
        self.steps += 1
        self.busy = True
        if self._resting:
            self._resting = False
            self._called.set()

    def end_step(self) -> None:
        """The main thread is done with it."""
        self.busy = False

    def _watch(self) -> None:
        idle = 0
        while not self.ended:
            steps = self.steps
            time.sleep(_TICK)
            if not self.busy:
                idle += 1
                if idle > _TICKS_TO_REST:
                    self._called.clear()
                    self._resting = True
                    if not self.busy:
                        self._called.wait()
                    idle = 0
                continue
            idle = 0
            if self.steps == steps:
                try:
                    self.flush_if_late()
                except HostGone:
                    break
                self._read_for_main()
        self._outlive_host()

    def _read_for_main(self) -> None:
        """Reads as long as the main thread does not."""
        while self.busy and not self.ended and not self._main_waits:
            if not self._turn.acquire(blocking=False):
                return
            self._take_turn(None)

    def _outlive_host(self) -> None:
        """After the end of input: leaves a handler its time while somebody still reads the answers, and not longer.

        A handler cannot be interrupted, and a worker without an orchestrator is of no use to anybody.
        """
        gone = select.poll()
        gone.register(self._channel.write, 0)
        while not gone.poll(100):  # not for ever: a poll under way keeps open what has been closed meanwhile
            pass
        time.sleep(_GRACE)
        os._exit(0)


def _after(buffers: list[Buffer], written: int) -> list[Buffer]:
    """What is left of `buffers` behind the first `written` bytes."""
    for index, buffer in enumerate(buffers):
        if written < len(buffer):
            rest = list(buffers[index:])
            rest[0] = memoryview(buffer)[written:]
            return rest
        written -= len(buffer)
    return []


def _processors() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1
