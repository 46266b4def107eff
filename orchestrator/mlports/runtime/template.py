"""Templates: processes that have imported what Python workers need, and fork them; with the ordinary start as a resort.

not started ──▶ importing ──▶ ready ──▶ (dies) ──▶ importing …
                    └───────────┴──▶ given up: its workers start as any other program does
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mlports.core.intensity import RestartIntensity
from mlports.core.python_command import PythonCommand, python_command
from mlports.core.verdict import describe_status
from mlports.runtime.forked import Collected, Forked, Spare
from mlports.runtime.guard import Guard
from mlports.runtime.process import Process, SpawnFailed
from mlports.telemetry import EventLog

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
# What keeps libraries from starting threads when they are imported; pandas brings Arrow along, and Arrow its jemalloc.
_WITHOUT_THREADS = {
    **dict.fromkeys(THREAD_VARIABLES, b"1"),
    "JE_ARROW_MALLOC_CONF": b"background_thread:false",
}
_OWN_VARIABLES = ("MLPORTS_WORKER", "MLPORTS_TRANSPORT")
_DEATHS, _PERIOD = 3, 60  # more deaths than that within so many seconds, and it is given up
_BIRTH = 0.05  # seconds that a start may wait for a fork; the next one is forked ahead, so it seldom has to
_COLLECT = 1.0  # seconds that a template has to tell a status
_END = 2.0  # seconds that it has to end
_PACKET = 64 * 1024  # bytes


class Templates:
    """All templates of an orchestrator; services that can share one do."""

    def __init__(self, events: EventLog, guard: Guard) -> None:
        self._events = events
        self._guard = guard
        self._templates: dict[Any, Template] = {}

    def of(
        self,
        service: str,
        command: Sequence[str],
        cwd: Path,
        env: Mapping[bytes, bytes],
        modules: Sequence[str],
        patience: float,
    ) -> Template:
        """The template of this service: that of another one if nothing tells the two apart before they are forked.

        That is the interpreter with its options, the modules in their order, the working directory, the first entry of
        `sys.path`, and the environment but for the numbers of threads. `patience` is how long its imports may hold up
        the orchestrator's start, in seconds.
        """
        parts = python_command(command)
        assert parts is not None  # the configuration says so
        differs = {os.fsencode(name) for name in (*_WITHOUT_THREADS, *_OWN_VARIABLES)}
        common = {name: value for name, value in env.items() if name not in differs}
        first = _first_entry(parts, cwd)
        program = (parts.interpreter, *parts.options, "-m", "mlports_worker.template", first, *modules)
        template = self._templates.setdefault(
            (program, str(cwd), frozenset(common.items())), Template(program, cwd, common, self._events, self._guard)
        )
        template.services.append(service)
        template.patience = min(template.patience, patience)
        return template

    async def start(self) -> None:
        """Starts them all; returns when each is ready, or given up, or was waited for as long as it may be."""
        for template in self._templates.values():
            template.start()
        await asyncio.gather(*(template.wait_ready() for template in self._templates.values()))

    async def stop(self) -> None:
        """Ends them; returns when they are gone."""
        await asyncio.gather(*(template.stop() for template in self._templates.values()))


class Template:
    """One template process, which is replaced when it dies. It never raises: what fails is told by an event."""

    def __init__(
        self, program: Sequence[str], cwd: Path, env: Mapping[bytes, bytes], events: EventLog, guard: Guard
    ) -> None:
        self.services: list[str] = []
        self.patience = float("inf")
        self._program = program
        self._cwd = cwd
        # Libraries start their threads when they are imported, and what has several cannot be forked; each child is
        # given its own numbers again.
        self._env = {**env, **{os.fsencode(name): value for name, value in _WITHOUT_THREADS.items()}}
        self._events = events
        self._guard = guard
        self._deaths = RestartIntensity(_DEATHS, _PERIOD)
        self._process: Process | None = None
        self._control: socket.socket | None = None
        self._state = "not started"
        self._settled = asyncio.Event()
        self._gone = asyncio.Event()
        self._gone.set()
        self._stopping = False
        self._spare: Spare | None = None
        self._waited_in_vain = False
        self._collecting: dict[int, tuple[Collected, asyncio.TimerHandle]] = {}

    @property
    def pid(self) -> int | None:
        """Its process; None while there is none."""
        return None if self._process is None else self._process.pid

    # -- its life

    def start(self) -> None:
        """Starts the process, from a running event loop."""
        if self._stopping:
            return
        if sys.platform != "linux" or not hasattr(os, "pidfd_open"):
            self._give_up("this system has no pidfds, by which its workers could be watched")
            return
        self._state = "importing"
        self._waited_in_vain = False
        try:
            self._process = Process(
                self._program,
                cwd=self._cwd,
                env=self._env,
                transport="socket",
                on_line=self._on_line,
                on_exit=self._on_exit,
            )
        except SpawnFailed as error:
            self._give_up(str(error))
            return
        self._guard.add(self._process.pid)
        self._gone.clear()
        # The descriptor has one owner, which is the socket.
        self._control, self._process.write_fd = socket.socket(fileno=self._process.write_fd), -1
        self._control.setblocking(False)
        asyncio.get_running_loop().add_reader(self._control, self._read)

    async def wait_ready(self) -> None:
        """Returns when it is ready or given up, or after `patience`."""
        try:
            await asyncio.wait_for(self._settled.wait(), self.patience)
        except TimeoutError:
            seconds = f"{self.patience:g} s (start_timeout)"
            self._warn(f"it did not import its modules within {seconds}; until it has,", "")

    async def stop(self) -> None:
        """Ends the process; returns when it is gone. One that does not end is killed."""
        self._stopping = True
        self._settled.set()
        if self._state == "importing":  # it does not look at its socket, and may not for long
            self._kill()
        self._close()
        try:
            await asyncio.wait_for(self._gone.wait(), _END)
        except TimeoutError:
            self._kill()
            await self._gone.wait()
        except asyncio.CancelledError:
            self._kill()
            raise

    def _kill(self) -> None:
        if self._process is not None:
            self._process.signal_group(signal.SIGKILL)

    def _on_exit(self, status: int | None) -> None:
        process, was = self._process, self._state
        assert process is not None
        self._guard.remove(process.pid)
        self._read()  # its last words
        self._close()
        self._process = None
        for pid in list(self._collecting):
            self._collected(pid, None, None)
        self._gone.set()
        if self._stopping or was == "given up":
            return
        told = f"its process {process.pid} {describe_status(status)}"
        if was == "importing":
            last = f": {process.stderr_tail[-1]}" if process.stderr_tail else ""
            self._give_up(f"{told} before it had imported its modules{last}")
        elif not self._deaths.allow(int(time.monotonic())):
            self._give_up(f"{told}, more often than {_DEATHS} times within {_PERIOD} s")
        else:
            self._warn(f"{told}; until another one has imported the modules,", "")
            self.start()

    def _close(self) -> None:
        if self._control is not None:
            asyncio.get_running_loop().remove_reader(self._control)
            self._control.close()
            self._control = None
        self._drop_spare()

    def _give_up(self, why: str) -> None:
        self._state = "given up"
        self._drop_spare()
        self._settled.set()
        self._warn(f"{why}. From now on", ". Correct preload, or leave it out")

    def _warn(self, before: str, after: str) -> None:
        of = ", ".join(self.services)
        self._events.emit(
            "log",
            service=of if len(self.services) == 1 else None,
            level="warning",
            text=f"the template of {of} (preload): {before} workers are started the ordinary way{after}",
        )

    def _on_line(self, text: str) -> None:
        self._events.emit("log", service=self.services[0], level="stderr", text=text)

    # -- what it says

    def _read(self) -> None:
        while self._control is not None:
            try:
                packet = self._control.recv(_PACKET)
            except BlockingIOError:
                return
            except OSError:
                packet = b""
            if not packet:  # its exit tells more
                asyncio.get_running_loop().remove_reader(self._control)
                return
            self._take(json.loads(packet))

    def _take(self, message: dict[str, Any]) -> None:
        if "collected" in message:
            status = message["status"]
            exit_status = None if status is None else os.waitstatus_to_exitcode(status)
            self._collected(message["collected"], exit_status, message["peak"])
        elif "short" in message:
            self._drop_spare()
            self._warn(f"it could not fork: {message['short']}. This time", "")
        elif message["refused"] is not None:
            self._give_up(f"it cannot be forked: {message['refused']}, and threads do not survive a fork")
        else:
            self._loaded(message["failed"])

    def _loaded(self, failed: dict[str, str]) -> None:
        for module, why in failed.items():
            self._events.emit(
                "log",
                service=self.services[0],
                level="warning",
                text=f"preload: {module} could not be imported ({why}), and each worker that needs it will try by "
                "itself. Correct preload, or install what is missing",
            )
        self._state = "ready"
        self._ask_spare()
        self._settled.set()

    # -- starting by it

    def take(self) -> Spare | None:
        """A process to be made a worker, which is the caller's to close; None if there is none to be had now."""
        if self._state != "ready":
            return None
        if self._spare is None:
            self._ask_spare()
        if self._spare is None or not self._spare.born(_BIRTH):
            self._read()  # it may have said why
            if self._state == "ready" and not self._waited_in_vain:
                self._waited_in_vain = True
                self._warn(f"it did not fork one within {_BIRTH * 1000:g} ms; whenever it does not,", "")
            return None
        spare, self._spare = self._spare, None
        self._ask_spare()
        return spare

    def _ask_spare(self) -> None:
        if self._control is not None:
            spare = Spare()
            try:
                spare.ask_of(self._control)
                self._spare = spare
            except OSError:  # it is dead, or does not read
                spare.close()

    def _drop_spare(self) -> None:
        if self._spare is not None:
            self._spare.close()
            self._spare = None

    def collect(self, pid: int, told: Collected) -> None:
        """Asks for the status of a process of its that has ended; `told` is called soon, once."""
        loop = asyncio.get_running_loop()
        with suppress(OSError):
            if self._control is not None:
                self._control.send(json.dumps({"collect": pid}).encode())
                timer = loop.call_later(_COLLECT, self._collected, pid, None, None)
                self._collecting[pid] = (told, timer)
                return
        loop.call_soon(told, None, None)

    def discard(self, pid: int) -> None:
        """Lets it forget a spare that did not become a worker."""
        if self._control is not None:
            with suppress(OSError):
                self._control.send(json.dumps({"collect": pid}).encode())

    def _collected(self, pid: int, status: int | None, peak: int | None) -> None:
        told, timer = self._collecting.pop(pid, (None, None))
        if told is not None and timer is not None:
            timer.cancel()
            told(status, peak)


def start_process(
    template: Template | None,
    command: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str] | Mapping[bytes, bytes],
    transport: str,
    on_line: Callable[[str], None],
    on_exit: Callable[[int | None], None],
) -> Process:
    """A process, from the template if there is one and it can, else by the ordinary way. Raises `SpawnFailed`."""
    spare = template.take() if template is not None else None
    if template is not None and spare is not None:
        try:
            return Forked(
                spare,
                template.collect,
                command,
                cwd=cwd,
                env=env,
                transport=transport,
                on_line=on_line,
                on_exit=on_exit,
            )
        except SpawnFailed:  # if it is the command's fault the ordinary way tells, and else it works
            spare.close()
            template.discard(spare.pid)
    return Process(command, cwd=cwd, env=env, transport=transport, on_line=on_line, on_exit=on_exit)


def _first_entry(parts: PythonCommand, cwd: Path) -> str:
    """What the interpreter puts at the beginning of `sys.path` for this command."""
    if parts.is_module:
        return os.path.realpath(cwd)
    script = os.path.realpath(cwd / parts.name)
    return script if os.path.isdir(script) else os.path.dirname(script)
