"""A port: one worker process and the protocol spoken with it.

    spawned ──▶ starting ──hello answered, come_up()──▶ ready ──ask()──▶ stopping ──▶ dead
                   └────────── exit, broken protocol, closed stdout, start timeout, hang ──▲

Reads and writes never block and never wait for each other, so that a large request on its way in cannot hold up a large
answer on its way out. Whatever ends a worker, its owner hears of it once, with a verdict, after everything that the
worker had written was read.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from mlports.core.stacks import stacks_in
from mlports.core.verdict import Cause, Verdict
from mlports.runtime.buffers import drop, first_ones
from mlports.runtime.call import Sent
from mlports.runtime.memory import is_stopped
from mlports.runtime.out_of_memory import cause_of, kills_so_far
from mlports.runtime.port_owner import PortOwner, Running
from mlports.runtime.segments import SegmentPool
from mlports.runtime.shared_arrays import SharedArrays
from mlports.runtime.template import Template, start_process
from mlports_protocol import (
    Answered,
    Buffer,
    Greeted,
    InputCreditGiven,
    Item,
    Logged,
    MethodInfo,
    OrchestratorSession,
    OversizedMessage,
    Peer,
    Progressed,
    Released,
    RemoteProtocolError,
    Request,
)
from mlports_protocol.errors import printed_text

_READ_SIZE = 64 * 1024  # a larger buffer would be mapped and unmapped by the allocator for every read
_READS_IN_A_ROW = 8  # of one large frame, before other ports get their turn
_WRITE_SIZE = 256 * 1024
_MOST_VECTORS = 512
_HIGH_WATER = 1024 * 1024  # bytes waiting to be written from which on a port takes no more requests
_TERM_GRACE = 1.0  # seconds between SIGTERM and SIGKILL
_CLOSED_GRACE = 1.0  # seconds between the end of a worker's stdin or stdout and its exit
_STACKS_STEP = 0.05  # seconds without a further line after which a dump of stacks is over
_STACKS_PATIENCE = 0.5  # seconds that it may take in all
_STACKS_LINES = 12_000  # all that a dump can have
_QUICK = 0.00015  # seconds: a round trip so short that waking up would be a good part of it
FEATURES = frozenset(["ping", "cancel", "stream", "input", "batch", "columns", "ndarray", "stacks"])


class Probe:
    """A request of the orchestrator's own, which is no call: a ping, a warm-up."""

    __slots__ = ("answered",)

    def __init__(self, answered: Callable[[Answered], None]) -> None:
        self.answered = answered


class Port:
    """One worker process. Spawns it at once; raises `SpawnFailed`."""

    in_process = False  # the worker is a part of this process, which `pid` is then

    def __init__(
        self,
        owner: PortOwner,
        service: str,
        replica: int,
        *,
        command: Sequence[str],
        cwd: Path,
        env: Mapping[str, str] | Mapping[bytes, bytes],
        config: dict[str, Any],
        transport: str,
        max_frame: int,
        start_timeout: float,
        restarts: int = 0,
        template: Template | None = None,
        segments: SegmentPool | None = None,
    ) -> None:
        self.service = service
        self.replica = replica
        self.restarts = restarts
        self.state: Literal["starting", "ready", "stopping", "dead"] = "starting"
        self.peer = Peer()
        self.session = OrchestratorSession(max_frame)
        probe = segments.probe() if segments is not None else None
        self.memory: SharedArrays | None = None  # what arrays are shared by, where they are
        if segments is not None and probe is not None:
            self.session.memory = self.memory = SharedArrays(segments)
        self.began = self.heard = time.monotonic()  # `heard`: when it last sent anything
        self.written = 0  # bytes, of all that was ever queued
        self.queued = 0
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._out: deque[Buffer] = deque()
        self._writer_added = False
        self._drained: asyncio.Future[None] | None = None
        self._wide_in = self._wide_out = False  # the pipes were made larger
        self._closing = False
        self._doom: tuple[Cause, str, bytes] | None = None
        self._cut: RemoteProtocolError | None = None  # stdout ended inside a frame
        self._was_ready = False
        self._quick_trips = False
        self._asked_at = 0.0
        self._terminated = False
        self._stop_reason = ""
        self._asked_to_stop_at = self.began
        self._patience: float | None = None  # seconds that it has to heed that, if that is known here
        self._dump: list[str] | None = None  # stderr since the stacks were asked for
        self._last_words: tuple[str, ...] = ()  # stderr before that
        self._timers: list[asyncio.TimerHandle] = []
        self._template = template
        self._process = self._start(command, cwd, env, transport)
        self.pid = self._process.pid
        self._kills = kills_so_far()
        self._timers.append(self._loop.call_later(start_timeout, self._on_start_timeout, start_timeout))
        features = FEATURES if probe is None else FEATURES | {"shm"}
        self.send(self.session.hello(service, replica, config, features, probe))
        # Later, so that those who are started in a row do not wake up one by one between their starts.
        self._loop.call_soon(self.flush)

    def _start(
        self, command: Sequence[str], cwd: Path, env: Mapping[str, str] | Mapping[bytes, bytes], transport: str
    ) -> Running:
        process = start_process(
            self._template, command, cwd=cwd, env=env, transport=transport, on_line=self._on_line, on_exit=self._on_exit
        )
        self._loop.add_reader(process.read_fd, self._on_readable)
        return process

    @property
    def methods(self) -> dict[str, MethodInfo] | None:
        """The worker's methods; None when it did not say (a bare worker, perhaps)."""
        return self.peer.methods

    @property
    def congested(self) -> bool:
        """Whether so much is waiting to be written that nothing should be added."""
        return self.queued - self.written >= _HIGH_WATER

    @property
    def takes_requests(self) -> bool:
        """Whether another request may be sent now."""
        return self.state == "ready" and self.queued - self.written < _HIGH_WATER

    @property
    def uptime(self) -> float:
        """Seconds since the process was started."""
        return time.monotonic() - self.began

    def come_up(self) -> None:
        """The worker is ready to be used: its start is over."""
        if self.state == "starting":
            self.state = "ready"
            self._was_ready = True
            self._cancel_timers()

    def probe(self, method: str, params: list[Any], answered: Callable[[Answered], None]) -> None:
        """Sends a request that is no call, also while it starts. Raises what `session.request` does."""
        self.send(self.session.request(method, params, None, Probe(answered)))
        self.flush()

    # -- writing

    def send(self, buffers: list[Buffer]) -> int:
        """Queues buffers behind what is waiting; gives the place in the stream where they end. `flush()` writes."""
        for buffer in buffers:
            self.queued += len(buffer)
        self._out += buffers
        return self.queued

    def flush(self) -> None:
        """Writes as much of the queue as the pipe takes now, and the rest when it takes more."""
        if self._writer_added or self._process.write_fd < 0:
            return
        self._write()

    async def drained(self) -> None:
        """Returns when more may be added; never, once the worker takes nothing any more."""
        while self.congested:
            if self._drained is None:
                self._drained = self._loop.create_future()
            await asyncio.shield(self._drained)

    def await_answer_awake(self) -> None:
        """Keeps the event loop from falling asleep for a moment, when answers used to come that quickly.

        Being woken takes longer than a quick worker needs for its answer. Worth it for a lone request only.
        """
        self._asked_at = time.monotonic()
        if self._quick_trips and _PROCESSORS > 1:
            self._loop.call_soon(self._stay_awake)

    def _stay_awake(self) -> None:
        if self.session.asked:
            if time.monotonic() - self._asked_at < _QUICK:
                os.sched_yield()  # the worker may be waiting for this very processor
                self._loop.call_soon(self._stay_awake)
            else:
                self._quick_trips = False

    def _write(self) -> None:
        out = self._out
        descriptor = self._process.write_fd
        was_congested = self.congested
        try:
            while out:
                written = os.writev(descriptor, first_ones(out)) if len(out) > 1 else os.write(descriptor, out[0])
                self.written += written
                drop(out, written)
        except BlockingIOError:
            if not self._writer_added:
                if not self._wide_in:
                    self._wide_in = True
                    self._process.widen(descriptor)
                self._writer_added = True
                self._loop.add_writer(descriptor, self._write)
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.ECONNRESET):
                raise
            out.clear()
            self._process.close_write()
            self._writer_added = False
            self.queued += _HIGH_WATER  # it takes no more requests, and what is asked of it all the same never leaves
            self._expect_exit("closed its stdin and went on running")
            return
        else:
            if self._writer_added:
                self._writer_added = False
                self._loop.remove_writer(descriptor)
            if self._closing and not self.session.giving_input:
                self._process.close_write()
        if was_congested and not self.congested:
            drained, self._drained = self._drained, None
            if drained is not None:
                drained.set_result(None)
            self._owner.on_room(self)

    # -- reading

    def _on_readable(self) -> None:
        session, descriptor = self.session, self._process.read_fd
        try:
            for _ in range(_READS_IN_A_ROW):
                room = session.decoder.room()
                if room is None:
                    data = os.read(descriptor, _READ_SIZE)
                    if not data:
                        self._on_stdout_closed()
                        return
                    session.feed(data)
                    break
                if not self._wide_out:
                    self._wide_out = True
                    self._process.widen(descriptor)
                count = os.readv(descriptor, [room])
                if not count:
                    self._on_stdout_closed()
                    return
                session.decoder.filled(count)
                if count == len(room):
                    break
            else:
                return
        except BlockingIOError:
            return
        except OSError as error:
            self._fail("closed", f"had its stdout broken: {error.strerror}")
            return
        self._take_events()

    def _take_events(self) -> None:
        owner = self._owner
        self.heard = now = time.monotonic()
        # The wrappings of what is decoded are garbage when this is done: the collector would look in vain.
        collecting = gc.isenabled()
        gc.disable()
        try:
            while (event := self.session.next_event()) is not None:
                if type(event) is Answered:
                    if not self.session.asked:
                        self._quick_trips = now - self._asked_at < _QUICK
                    if type(event.tag) is Probe:
                        event.tag.answered(event)
                    else:
                        owner.on_answered(self, event, now)
                        # A call knows its request. Without this, its result would wait for the garbage collector.
                        event.tag.calls = []
                elif type(event) is Item:
                    owner.on_item(self, event)
                elif type(event) is InputCreditGiven:
                    owner.on_input_credit(self, event)
                elif type(event) is Request:
                    self._on_request(event)
                elif type(event) is Greeted:
                    self._on_greeted(event.peer)
                elif type(event) is Logged:
                    owner.on_log(self, event.level, event.text, event.fields)
                elif type(event) is Progressed:
                    owner.on_progress(self, event)
                elif type(event) is Released and self.memory is not None:
                    self.memory.on_released(event.segment)
        except RemoteProtocolError as error:
            self.fail_protocol(error)
        finally:
            if collecting:
                gc.enable()
        if not self.congested and self.state == "ready":
            owner.on_room(self)
        elif self._closing:
            self.flush()  # the argument may have been the last that kept its stdin open

    def fail_protocol(self, error: RemoteProtocolError) -> None:
        """The worker broke the protocol: nothing more can be believed, so it is killed."""
        offending = f"; the bytes: {error.offending[:48].hex(' ')}" if error.offending else ""
        text = printed_text(error.offending)
        if text is not None and text not in str(error):
            offending += f"; they hold the text {text!r}: did the program print on its standard output?"
        detail = f"broke the protocol: {type(error).__name__}: {error}{offending}"
        self._fail("protocol", detail, error.offending)

    def _on_greeted(self, peer: Peer) -> None:
        self.peer = peer
        if self.state == "starting":
            self._owner.on_greeted(self)

    def _on_request(self, request: Request) -> None:
        if request.method == "$/ping":
            self.send(self.session.answer(request.id))
            self.flush()
        elif request.method == "$/segment" and self.memory is not None and "shm" in self.session.features:
            room, error = self.memory.give_room(request.params[0] if request.params else None)
            self.send(self.session.answer(request.id, error, room))
            self.flush()
        elif request.method.startswith("$/"):
            text = f"{request.method} is not known to this orchestrator"
            self.send(self.session.answer(request.id, {"code": "unimplemented", "message": text}))
            self.flush()
        else:
            self._owner.on_request(self, request)

    def _on_stdout_closed(self) -> None:
        self._process.close_read()
        try:
            self.session.end()
        except RemoteProtocolError as error:
            self._cut = error
        self._expect_exit("closed its stdout and went on running")

    def _expect_exit(self, otherwise: str) -> None:
        """Its exit tells best why it closed a pipe. One that goes on is killed, unless it is being stopped."""
        if not self._process.ended and self.state != "stopping":
            self._timers.append(self._loop.call_later(_CLOSED_GRACE, self._fail, "closed", otherwise))

    # -- the end

    def ask(self, reason: str, within: float | None = None) -> None:
        """Asks the worker to stop: `$/stop`, then the end of its input. It may finish what it has.

        One that has not ended `within` so many seconds is told by `terminate`; None leaves that to the caller.
        """
        if self.state in ("dead", "stopping"):
            return
        was_starting = self.state == "starting"
        self.state = "stopping"
        self._stop_reason = reason
        self._asked_to_stop_at, self._patience = time.monotonic(), within
        self._cancel_timers()
        if self._doom is None:
            self._doom = ("stopped", f"was stopped ({reason})", b"")
        self._ask_to_stop(reason)
        if within is not None:
            self._timers.append(self._loop.call_later(within, self.terminate))
        if was_starting:
            # It reads nothing yet, and has nothing that it could lose.
            self._process.signal_group(signal.SIGTERM)

    def terminate(self) -> None:
        """To a worker that ignores being asked: SIGTERM, and a second later SIGKILL, to its whole group."""
        if self.state == "dead" or self._terminated:
            return
        self._terminated = True
        self._doom_again(f"it ignored the request for {self._waited():.3g} s, then SIGTERM")
        self._process.signal_group(signal.SIGTERM)
        self._timers.append(self._loop.call_later(_TERM_GRACE, self._end_ignorant))

    def _waited(self) -> float:
        """Seconds that it had to heed being asked."""
        return time.monotonic() - self._asked_to_stop_at if self._patience is None else self._patience

    def kill(self, reason: str) -> None:
        """SIGKILL to the worker's whole group, without a word."""
        if self._doom is None:
            self._doom = ("stopped", f"was stopped ({reason})", b"")
        if self.state != "dead":
            self.state = "stopping"
        self._process.signal_group(signal.SIGKILL)

    def fail(self, cause: Cause, detail: str) -> None:
        """Kills a worker that may not go on; `detail` is a verb and what follows it."""
        self._fail(cause, detail)

    def hang(self, cause: Cause, detail: str) -> None:
        """Kills a worker that does nothing any more, after it was asked for the stacks of its threads.

        One that never said hello is asked as well: that the signal ends a program which knows nothing of it is no harm.
        """
        if self.state == "dead" or self._dump is not None or (self._doom is not None and self._doom[0] != "stopped"):
            return
        self._doom = (cause, detail, b"")
        tells = self.session.phase != "ready" or "stacks" in self.session.features
        self.state = "stopping"
        self._cancel_timers()
        if not tells or is_stopped(self.pid):  # a stopped one can tell nothing
            self._fail(cause, detail)
            return
        self._dump = []
        self._last_words = tuple(self._process.stderr_tail)
        self._process.signal(signal.SIGUSR2)
        self._await_stacks(time.monotonic() + _STACKS_PATIENCE, -1)

    def _await_stacks(self, latest: float, lines: int) -> None:
        """Waits for as long as lines arrive: nothing says that a dump is over."""
        dump = self._dump or []
        if time.monotonic() >= latest or (dump and len(dump) == lines):
            assert self._doom is not None
            self._fail(self._doom[0], self._doom[1])
            return
        self._timers.append(self._loop.call_later(_STACKS_STEP, self._await_stacks, latest, len(dump)))

    def _end_ignorant(self) -> None:
        self._doom_again("it ignored the request and SIGTERM, then SIGKILL")
        self._process.signal_group(signal.SIGKILL)

    def _ask_to_stop(self, reason: str) -> None:
        if self.session.phase == "ready" and not self.peer.bare:
            with suppress(OversizedMessage):  # the end of its input says the same
                self.send(self.session.notify("$/stop", [reason]))
        self._closing = True
        self.flush()

    def _doom_again(self, detail: str) -> None:
        if self._doom is not None and self._doom[0] == "stopped":
            self._doom = ("stopped", f"was stopped ({self._stop_reason}): {detail}", b"")

    def _on_start_timeout(self, seconds: float) -> None:
        waited = "did not answer $/hello" if self.session.phase != "ready" else "did not end its warm-up"
        self.hang("start_timeout", f"{waited} within {seconds:g} s (start_timeout)")

    def _fail(self, cause: Cause, detail: str, offending: bytes = b"") -> None:
        """Ends a worker that cannot be used any more. Its death is reported when it is gone."""
        if self.state == "dead":
            return
        if self._doom is None:
            self._doom = (cause, detail, offending)
        self.state = "stopping"
        self._cancel_timers()
        self._process.close_read()
        self._process.signal_group(signal.SIGKILL)

    def _on_line(self, text: str) -> None:
        if self._dump is not None and len(self._dump) < _STACKS_LINES:
            self._dump.append(text)
        self._owner.on_log(self, "stderr", text, {})

    def _on_exit(self, status: int | None) -> None:
        self._read_rest()
        self.state = "dead"
        self._cancel_timers()
        self._out.clear()
        self._process.close_write()
        self._process.close_read()
        cause, detail, offending = self._doom or self._own_end(status)
        self.session.let_go()
        if self.memory is not None:
            self.memory.close()
        asked = self.session.asked
        calls = [number for number in sorted(asked) if type(asked[number]) is Sent]
        verdict = Verdict(
            self.service,
            self.replica,
            self.pid,
            cause,
            detail,
            status,
            self.uptime,
            self._was_ready,
            self.restarts,
            tuple(number for number in calls if asked[number].end <= self.written),
            tuple(self._process.stderr_tail) if self._dump is None else self._last_words,
            offending,
            stacks_in(self._dump or ()),
            self._process.peak_memory,
            time.time(),
        )
        unanswered = [asked[number] for number in calls]
        self._owner.on_dead(self, verdict, unanswered)
        # As with an answer: an array that was an argument would wait for the garbage collector with this port.
        for sent in unanswered:
            sent.calls = []

    def _own_end(self, status: int | None) -> tuple[Cause, str, bytes]:
        """What a worker that ended by itself died of. One that was killed within a frame did not break the protocol."""
        fault = "" if self._cut is None else f"{type(self._cut).__name__}: {self._cut}"
        offending = b"" if self._cut is None else self._cut.offending
        if status == 0 and fault:
            return "protocol", f"broke the protocol: {fault}", offending
        cause, text, figures = cause_of(self.pid, status, self._kills)
        told = "; ".join(part for part in (figures, fault) if part)
        return cause, f"{text} ({told})" if told else text, offending

    def _read_rest(self) -> None:
        """Takes what the worker had written before it died: an answer on its way is an answer."""
        for _ in range(4096):
            descriptor = self._process.read_fd
            if descriptor < 0:
                return
            try:
                room = self.session.decoder.room()
                if room is None:
                    data = os.read(descriptor, _READ_SIZE)
                    self.session.feed(data)
                    count = len(data)
                else:
                    count = os.readv(descriptor, [room])
                    self.session.decoder.filled(count)
            except OSError:
                count = 0
            if not count:
                self._on_stdout_closed()
                return
            self._take_events()

    def _cancel_timers(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()


def _processors() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


_PROCESSORS = _processors()
