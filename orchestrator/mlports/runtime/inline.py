"""A worker on a thread of this process, in the place of a process of its own (transport "inline").

What a NIF is to a port: a call costs no encoding, no pipe and no other process, and what goes wrong goes wrong here. A
crash ends the orchestrator, and a thread cannot be killed: one that does not end is abandoned, and ends when its
handler returns, or never.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.abc import InspectLoader
from pathlib import Path
from types import CodeType, ModuleType, TracebackType
from typing import TYPE_CHECKING, Any

from mlports.core.verdict import Cause, describe_status
from mlports.runtime.port import Port
from mlports.runtime.port_owner import Running
from mlports_protocol import Buffer
from mlports_protocol.direct import DirectOrchestratorSession
from mlports_worker.inline import Link, serving

if TYPE_CHECKING:
    from types import FrameType

_LINES_KEPT = 50  # of its last words
_QUICK = 0.0003  # seconds: a call so short that to be woken would be a good part of it
_LET_GO = 0.2  # seconds that a thread which is to end has for it, if it is not at work


class WorkerThread:
    """A Python program on a thread of this process, as far as that can be what a `Process` is.

    `command` is an interpreter and then `script.py`, or `-m module`. `on_exit` is called once, on the event loop: with
    the status that a process would have had, or with that of a SIGKILL once it was sent one.
    """

    def __init__(
        self,
        command: Sequence[str],
        name: str,
        directory: Path,
        link: Link,
        on_line: Callable[[str], None],
        on_exit: Callable[[int], None],
    ) -> None:
        self.pid = os.getpid()
        self.status: int | None = None
        self.stderr_tail: deque[str] = deque(maxlen=_LINES_KEPT)
        self.peak_memory: int | None = None
        self.write_fd = self.read_fd = -1
        self.abandoned = False
        self._command = command
        self._directory = directory
        self._link = link
        self._on_line = on_line
        self._on_exit = on_exit
        self._killed: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        # A daemon: a handler that never returns must not keep the program from ending.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        """Whether nothing of it runs any more, as far as its owner is concerned."""
        return self.status is not None

    def signal_group(self, number: signal.Signals) -> None:
        """Cuts it off, so that it ends when it is at nothing or its handler looks; SIGKILL does not wait for that."""
        if self.status is not None:
            return
        self._link.cut_off()
        if number == signal.SIGKILL and self._killed is None:
            self._killed = self._loop.call_later(_LET_GO, self._abandon)

    def signal(self, number: signal.Signals) -> None:
        """Nothing can be sent to a thread."""

    def close_write(self) -> None:
        """No more will be sent to it."""
        self._link.close()

    def close_read(self) -> None:
        """What it has sent is not wanted."""
        self._link.take_all()

    def widen(self, descriptor: int) -> None:
        """There is no pipe."""

    def stack(self) -> list[str]:
        """Where it is, innermost first, as `faulthandler` would write it."""
        frame: FrameType | None = sys._current_frames().get(self._thread.ident or 0)
        lines = [f"Thread 0x{self._thread.ident or 0:016x} (most recent call first):"]
        while frame is not None:
            lines.append(f'  File "{frame.f_code.co_filename}", line {frame.f_lineno} in {frame.f_code.co_name}')
            frame = frame.f_back
        return lines

    def _run(self) -> None:
        status, words = 0, self._link.last_words
        try:
            with serving(self._link):
                _execute(self._command[1:], self._directory)
        except SystemExit as end:
            if end.code is not None and not isinstance(end.code, int):
                words.append(str(end.code))
            status = 1 if end.code is not None and not isinstance(end.code, int) else (end.code or 0) & 0xFF
        except BaseException as error:
            words.append("".join(traceback.format_exception(type(error), error, _of_the_program(error))))
            status = 1
        with suppress(RuntimeError):  # the loop is closed: nobody is interested any more
            self._loop.call_soon_threadsafe(self._ended, status)

    def _ended(self, status: int) -> None:
        if self.status is not None:
            return
        for line in "\n".join(self._link.last_words).splitlines():
            self.stderr_tail.append(line)
            self._on_line(line)
        if self._killed is not None:
            self._killed.cancel()
        self.status = status if self._killed is None else -signal.SIGKILL
        self._on_exit(self.status)

    def _abandon(self) -> None:
        if self.status is None:
            self.abandoned = True
            self._ended(-signal.SIGKILL)


class InlinePort(Port):
    """One worker on a thread of this process, and the protocol spoken with it, message by message.

    `written` and `queued` count messages. `pid` is this process's own.
    """

    in_process = True
    session: DirectOrchestratorSession

    def _start(
        self, command: Sequence[str], cwd: Path, env: Mapping[str, str] | Mapping[bytes, bytes], transport: str
    ) -> Running:
        self.session = DirectOrchestratorSession()
        self._link = Link(self._wake)
        self._woken = False
        name = f"mlports-{self.service}/{self.replica}"
        self._thread = WorkerThread(command, name, cwd, self._link, self._on_line, self._on_exit)
        return self._thread

    def _wake(self) -> None:
        """Called by the worker's threads."""
        if not self._woken:
            self._woken = True
            with suppress(RuntimeError):  # the loop is closed: nobody is interested any more
                self._loop.call_soon_threadsafe(self._on_messages)

    def _on_messages(self) -> None:
        self._woken = False
        if self.state != "dead":
            self._read_rest()

    def _read_rest(self) -> None:
        self._take(self._link.take_all())

    def _take(self, messages: list[Any]) -> None:
        if messages:
            self.session.hand_over(messages)
            self._take_events()

    def flush(self) -> None:
        if self._out and self.state != "dead":
            messages = list(self._out)
            self._out.clear()
            self.written = self.queued
            self._link.deliver(messages)
        if self._closing:
            self._link.close()

    def send(self, buffers: list[Buffer]) -> int:
        self.queued += len(buffers)
        self._out += buffers
        return self.queued

    def await_answer_awake(self) -> None:
        self._asked_at = time.monotonic()
        if self._quick_trips:
            self._link.expect()
            self._loop.call_soon(self._stay_awake)

    def _stay_awake(self) -> None:
        # Asleep, but for that answer: who looks again and again keeps the worker's thread from running.
        messages = self._link.take_soon(_QUICK if self.session.asked else 0)
        if self.state != "dead":
            self._take(messages)
        self._quick_trips = bool(messages)

    # -- the end

    def terminate(self) -> None:
        if self.state == "dead" or self._terminated:
            return
        self._terminated = True
        self._doom_again(f"it ignored the request for {self._waited():.3g} s")
        self._process.signal_group(signal.SIGKILL)

    def hang(self, cause: Cause, detail: str) -> None:
        if self.state == "dead" or (self._doom is not None and self._doom[0] != "stopped"):
            return
        self._doom = (cause, detail, b"")
        self._dump = self._thread.stack()
        self._last_words = tuple(self._thread.stderr_tail)
        self._fail(cause, detail)

    def _on_exit(self, status: int | None) -> None:
        if self._thread.abandoned:
            cause, detail, offending = self._doom or self._own_end(status)
            told = "its thread is at work and cannot be killed: it is abandoned, and ends when its handler returns"
            self._doom = (cause, f"{detail}; {told}", offending)
            self._owner.on_log(self, "warning", told, {})
        super()._on_exit(status)

    def _own_end(self, status: int | None) -> tuple[Cause, str, bytes]:
        return "exit", describe_status(status or 0), b""


def _of_the_program(error: BaseException) -> TracebackType | None:
    """The traceback from the program's own first frame on."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_globals is globals():
        frames = frames.tb_next
    return frames


def _execute(program: Sequence[str], directory: Path) -> None:
    """Runs `script.py`, or `-m module`, as `__main__`, in a namespace of its own."""
    place = str(directory if program[0] == "-m" else (directory / program[0]).parent)
    if place not in sys.path:  # at the end, so that nothing of the orchestrator's is found there instead
        sys.path.append(place)
    code, module = _module(program[1]) if program[0] == "-m" else _script(directory / program[0])
    exec(code, module.__dict__)


def _script(path: Path) -> tuple[CodeType, ModuleType]:
    module = ModuleType("__main__")
    module.__file__ = str(path)
    return compile(path.read_bytes(), str(path), "exec", dont_inherit=True), module


def _module(name: str) -> tuple[CodeType, ModuleType]:
    spec = importlib.util.find_spec(name)
    if spec is not None and spec.submodule_search_locations is not None:
        spec = importlib.util.find_spec(f"{name}.__main__")
    loader = spec.loader if spec is not None else None
    code = loader.get_code(spec.name) if spec is not None and isinstance(loader, InspectLoader) else None
    if spec is None or code is None:
        raise ImportError(f"there is no module {name} that can be run")
    module = ModuleType("__main__")
    module.__file__, module.__package__, module.__spec__ = spec.origin, spec.parent, spec
    return code, module
