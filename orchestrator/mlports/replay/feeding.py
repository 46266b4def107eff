"""A worker process, fed with a script: written to and read from at once, up to its end or the script's.

started ── hello answered ──▶ fed ── all written and answered ──▶ asked to stop ──▶ ended
   └──────────┴── exit, broken protocol, closed stdout, silence ──▶ a verdict ────────▲
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlports.core.verdict import Cause, Verdict
from mlports.replay.accounts import Accounts
from mlports.replay.messages import framed, pack, parse
from mlports.replay.script import Await, Nested, Script, Step, Write
from mlports.runtime.buffers import drop, first_ones
from mlports.runtime.out_of_memory import cause_of, kills_so_far
from mlports.runtime.process import Process, resolve
from mlports_protocol import Buffer, FrameDecoder, Notification, RemoteProtocolError, Request, Response

_READ_SIZE = 256 * 1024
_HIGH_WATER = 1024 * 1024  # bytes that may wait to be written
_CLOSED_GRACE = 1.0  # seconds between the end of its stdout and its exit
_STOP_GRACE = 5.0  # seconds that it has to end when it is asked to
_TERM_GRACE = 1.0
_BEGINNING = 0.05  # seconds that a handler has to begin before its request is cancelled

Line = Callable[[str], None]


@dataclass(frozen=True)
class Pace:
    """How a recording is played.

    timeout: seconds without a word from the worker, while something is due, after which it counts as hung; None for
    ever. start_timeout: the least that it has to answer `$/hello`. recorded: with the gaps that there were.
    before_start is given the pid, and before_frame each frame; both are waited for.
    """

    timeout: float | None = 30.0
    start_timeout: float = 30.0
    recorded: bool = False
    before_start: Callable[[int], Awaitable[None]] | None = None
    before_frame: Callable[[Write], Awaitable[None]] | None = None


@dataclass
class Outcome:
    """What came of it. `verdict` is None for a worker that lived, and ended when it was asked to.

    `unheard` are requests of the worker's for which the recording has no answer; `written` counts frames.
    """

    greeting: Response | None
    answers: dict[int, Response]
    items: dict[int, list[Any]]
    verdict: Verdict | None
    seconds: float
    written: int = 0
    refused: str | None = None
    unheard: list[str] = field(default_factory=list)


async def feed(
    script: Script,
    command: Sequence[str],
    *,
    kept: Collection[int] | None = None,
    pace: Pace | None = None,
    transport: str = "stdio",
    on_line: Line = lambda _: None,
    on_greeting: Callable[[Response], str | None] = lambda _: None,
) -> Outcome:
    """Starts a worker, plays the script to it and ends it; nothing of it is left. Raises `SpawnFailed`.

    As in a configuration, "python" is the interpreter that runs this.
    `on_greeting` may refuse the worker by what it answers to `$/hello`; the reason is the outcome's `refused`.
    """
    feeding = _Feeding(script, pace or Pace(), on_greeting)
    feeding.start(command, transport, on_line)
    try:
        await feeding.play(script.steps(kept))
    except BaseException:
        feeding.kill()
        raise
    finally:
        await feeding.end()
    return feeding.outcome()


class _Over(Exception):
    """The worker has ended, or is being ended."""


class _Feeding:
    def __init__(self, script: Script, pace: Pace, on_greeting: Callable[[Response], str | None]) -> None:
        self._script = script
        self._pace = pace
        self._on_greeting = on_greeting
        self._loop = asyncio.get_running_loop()
        self._accounts = Accounts()
        self._nested: dict[str, list[Nested]] = defaultdict(list)
        for nested in script.nested:
            self._nested[nested.request.method].append(nested)
        self._decoder = FrameDecoder()
        self._out: deque[Buffer] = deque()
        self._waiting = 0  # bytes in it
        self._writer_added = False
        self._closing = False
        self._resting = False  # nothing is due
        self._changed = asyncio.Event()
        self._gone: asyncio.Future[None] = self._loop.create_future()
        self._doom: tuple[Cause, str, bytes] | None = None
        self._cut: RemoteProtocolError | None = None
        self._asked_to_stop = False
        self._verdict: Verdict | None = None
        self._refused: str | None = None
        self._unheard: list[str] = []
        self._written = 0
        self._heard = time.monotonic()
        self._timer: asyncio.TimerHandle | None = None

    def start(self, command: Sequence[str], transport: str, on_line: Line) -> None:
        self._began = self._heard = time.monotonic()
        self._kills = kills_so_far()
        own = {"MLPORTS_WORKER": "1", "MLPORTS_TRANSPORT": "fd34" if transport == "fd34" else ""}
        self._process = Process(
            resolve(command, None, Path.cwd()),
            cwd=Path.cwd(),
            env={**os.environ, **own},
            transport=transport,
            on_line=on_line,
            on_exit=self._on_exit,
        )
        self._loop.add_reader(self._process.read_fd, self._on_readable)

    async def play(self, steps: Sequence[Step]) -> None:
        """Writes everything and waits for the answers; returns earlier when the worker ends."""
        try:
            if self._pace.before_start is not None:
                await self._pace.before_start(self._process.pid)
            self._watch()
            self._write(pack(self._script.hello.as_list()), self._script.hello)
            await self._until(lambda: self._accounts.greeting is not None)
            assert self._accounts.greeting is not None
            self._watch()  # more closely: the start had longer
            self._refused = self._on_greeting(self._accounts.greeting)
            if self._refused is None:
                await self._play(steps)
        except _Over:
            pass

    async def end(self) -> None:
        """Ends the worker in order, or if that does not help, at once. Cancelled, it is killed."""
        self._asked_to_stop = True
        if self._timer is not None:
            self._timer.cancel()
        try:
            greeting = self._accounts.greeting
            if greeting is not None and greeting.error is None and self._doom is None:
                self._queue(framed(pack(Notification("$/stop", ["the replay is over"]).as_list())))
            self._closing = True
            self._flush()
            for patience, number in ((_STOP_GRACE, signal.SIGTERM), (_TERM_GRACE, signal.SIGKILL)):
                if self._refused is None and await self._is_gone(patience):
                    return
                self._process.signal_group(number)
        finally:
            self._process.signal_group(signal.SIGKILL)
            while not self._gone.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.shield(self._gone)

    def kill(self) -> None:
        """Ends it at once."""
        self._fail("stopped", "was stopped")

    def outcome(self) -> Outcome:
        accounts = self._accounts
        return Outcome(
            accounts.greeting,
            accounts.answers,
            accounts.items,
            self._verdict,
            time.monotonic() - self._began,
            self._written,
            self._refused,
            self._unheard,
        )

    # -- playing

    async def _play(self, steps: Sequence[Step]) -> None:
        begin, first = time.monotonic(), next((step.at for step in steps if isinstance(step, Write)), 0.0)
        for step in steps:
            if isinstance(step, Await):
                if not self._is_met(step):
                    await self._until(lambda step=step: self._is_met(step))  # type: ignore[misc]
                continue
            if self._pace.recorded:
                await self._sleep(begin + step.at - first - time.monotonic())
            elif isinstance(step.message, Notification) and step.message.method == "$/cancel":
                await self._sleep(min(_BEGINNING, step.since))  # else it would be cancelled before it begins
            if self._pace.before_frame is not None:
                await self._pace.before_frame(step)
            self._queue(step.data)
            self._accounts.wrote(step.message)
            self._written += 1
            if self._waiting > _HIGH_WATER:
                self._flush()
                await self._until(lambda: self._waiting <= _HIGH_WATER)
        self._flush()
        await self._until(lambda: not self._accounts.awaited)

    def _is_met(self, step: Await) -> bool:
        accounts = self._accounts
        if step.id not in accounts.open:
            return True
        if step.what == "items":
            return len(accounts.items.get(step.id, ())) >= step.least
        return step.what == "input_credit" and accounts.input_credit[step.id] >= step.least

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            if self._process.ended or self._doom is not None:
                raise _Over
            self._flush()
            self._changed.clear()
            await self._changed.wait()

    async def _sleep(self, seconds: float) -> None:
        """Waits, as long as it lives."""
        end = time.monotonic() + seconds
        self._flush()
        self._resting = True
        while (left := end - time.monotonic()) > 0:
            if self._process.ended or self._doom is not None:
                raise _Over
            self._changed.clear()
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._changed.wait(), left)
        self._resting = False
        self._heard = time.monotonic()

    # -- writing

    def _write(self, payload: bytes, message: Request) -> None:
        self._queue(framed(payload))
        self._accounts.wrote(message)

    def _queue(self, data: bytes) -> None:
        self._out.append(data)
        self._waiting += len(data)

    def _flush(self) -> None:
        descriptor = self._process.write_fd
        if descriptor < 0:
            self._out.clear()
            self._waiting = 0
            return
        try:
            while self._out:
                count = os.writev(descriptor, first_ones(self._out))
                self._waiting -= count
                drop(self._out, count)
                self._heard = time.monotonic()
        except BlockingIOError:
            if not self._writer_added:
                self._writer_added = True
                self._loop.add_writer(descriptor, self._flush)
            return
        except OSError:  # it reads no more; its exit will say why
            self._out.clear()
            self._waiting = 0
            self._process.close_write()
        if self._writer_added and self._process.write_fd >= 0:
            self._loop.remove_writer(descriptor)
        self._writer_added = False
        self._changed.set()
        if self._closing:
            self._process.close_write()

    # -- reading

    def _on_readable(self) -> None:
        try:
            data = os.read(self._process.read_fd, _READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._heard = time.monotonic()
        self._take(data)
        self._changed.set()

    def _take(self, data: bytes) -> None:
        try:
            if not data:
                self._process.close_read()
                self._decoder.end()
                if not self._asked_to_stop:
                    told = "closed its stdout and went on running"
                    self._loop.call_later(_CLOSED_GRACE, self._fail, "closed", told)
                return
            self._decoder.feed(data)
            while (frame := self._decoder.next_frame()) is not None:
                request = self._accounts.take(parse(frame))
                if request is not None:
                    self._answer(request)
        except RemoteProtocolError as error:
            if data:
                self._fail("protocol", f"broke the protocol: {type(error).__name__}: {error}", error.offending)
            else:
                self._cut = error

    def _answer(self, request: Request) -> None:
        """Answers the worker as it was answered then; not at all, if it died without an answer."""
        nested = self._find(request)
        error: dict[str, Any] | None = None
        result = None
        if nested is not None:
            if nested.answer is None:
                return
            error, result = nested.answer.error, nested.answer.result
        elif request.method != "$/ping":
            self._unheard.append(request.method)
            error = {"code": "unavailable", "message": f"the recording has no answer to {request.method}"}
        self._accounts.theirs.discard(request.id)
        self._queue(framed(pack(Response(request.id, error, result).as_list())))
        self._flush()

    def _find(self, request: Request) -> Nested | None:
        """The same method's next: that of the same request of ours, if it says which, else the first that is left."""
        left = self._nested[request.method]
        parent = (request.meta or {}).get("parent")
        at = next((i for i, nested in enumerate(left) if (nested.request.meta or {}).get("parent") == parent), 0)
        return left.pop(at) if left else None

    # -- the end

    def _watch(self) -> None:
        """Ends a worker that has been silent for too long."""
        if self._timer is not None:
            self._timer.cancel()
        timeout = self._pace.timeout
        if timeout is None or self._process.ended:
            return
        if self._accounts.greeting is None:
            timeout = max(timeout, self._pace.start_timeout)
        left = timeout if self._resting else self._heard + timeout - time.monotonic()
        if left > 0:
            self._timer = self._loop.call_later(left, self._watch)
        elif self._accounts.greeting is None:
            self._fail("start_timeout", f"did not answer $/hello within {timeout:g} s")
        else:
            self._fail("hang", f"was silent for {timeout:g} s, with {len(self._accounts.open)} requests not answered")

    def _fail(self, cause: Cause, detail: str, offending: bytes = b"") -> None:
        if self._doom is None and not self._gone.done():
            self._doom = (cause, detail, offending)
            self._process.signal_group(signal.SIGKILL)
        self._changed.set()

    async def _is_gone(self, seconds: float) -> bool:
        await asyncio.wait([self._gone], timeout=seconds)
        return self._gone.done()

    def _on_exit(self, status: int | None) -> None:
        self._read_rest()
        self._process.close_read()
        self._process.close_write()
        self._verdict = self._judge(status)
        self._gone.set_result(None)
        self._changed.set()

    def _read_rest(self) -> None:
        while self._process.read_fd >= 0:
            try:
                data = os.read(self._process.read_fd, _READ_SIZE)
            except OSError:
                return
            self._take(data)

    def _judge(self, status: int | None) -> Verdict | None:
        if self._doom is not None:
            cause, detail, offending = self._doom
        else:
            cause, detail, figures = cause_of(self._process.pid, status, self._kills)
            detail, offending = f"{detail} ({figures})" if figures else detail, b""
            if status == 0 and self._cut is not None:
                cause, detail = "protocol", f"broke the protocol: {type(self._cut).__name__}: {self._cut}"
            elif self._asked_to_stop and (status == 0 or self._is_ours(status)):
                return None
            elif self._asked_to_stop:
                detail += ", when it was asked to stop"
        header = self._script.recording.header
        return Verdict(
            str(header.get("service", "")),
            int(header.get("replica") or 0),
            self._process.pid,
            cause,
            detail,
            status,
            time.monotonic() - self._began,
            self._accounts.greeting is not None,
            in_flight=tuple(sorted(self._accounts.open)),
            stderr=tuple(self._process.stderr_tail),
            offending=offending,
            time=time.time(),
        )

    def _is_ours(self, status: int | None) -> bool:
        """Whether it died of what it was sent because it did not stop."""
        return status in (-signal.SIGTERM, -signal.SIGKILL)
