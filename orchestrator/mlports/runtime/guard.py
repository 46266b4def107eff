"""The orchestrator's side of the guard: it starts the guard, names the workers to it, and replaces it when it dies."""

from __future__ import annotations

import asyncio
import marshal
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib.util import MAGIC_NUMBER

from mlports.core.intensity import RestartIntensity
from mlports.runtime import guard_program
from mlports.telemetry import EventLog

_DEATHS, _PERIOD = 5, 10  # more deaths than that within so many seconds, and it is given up
_PATIENCE = 5.0  # seconds that a guard has for its last sweep
_MEANING = "If this orchestrator is killed from now on, its workers and what they have started may survive it"


class Guard:
    """One process that kills every worker and all their descendants when this orchestrator has died, in whatever way.

    `environment` is to be put into each worker's: it marks all that descends from one. A worker is `add`ed when it was
    started and `remove`d when its exit status was collected. Neither ever blocks or raises. A guard that dies is
    replaced at once (event "guard_restarted"); when there can be none, event "guard_lost" says what that means, and all
    else goes on. All methods belong to the event loop that started it, but for `close`.
    """

    def __init__(self, events: EventLog) -> None:
        self._events = events
        self._token = secrets.token_hex(16)
        self.environment = {guard_program.VARIABLE: self._token}
        self._workers: dict[int, int] = {}
        self._untold: list[bytes] = []  # lines for the guard, sent together at the end of the loop's turn
        self._deaths = RestartIntensity(_DEATHS, _PERIOD)
        self._life: _Life | None = None
        self._ending = False

    @property
    def pid(self) -> int | None:
        """The guard's process; None when there is none."""
        return None if self._life is None else self._life.pid

    def start(self) -> None:
        """Starts the guard, from a running event loop. It takes a few milliseconds and never raises."""
        if self._life is None and not self._ending:
            self._spawn()

    def add(self, pid: int) -> None:
        """Names a worker to the guard: a child of this process whose exit status nobody has collected."""
        stat = guard_program.read_stat(pid)
        if stat is None and guard_program.read_stat(os.getpid()) is not None:
            return  # it is gone, and its pid may be another's at any time
        self._workers[pid] = stat[3] if stat is not None else 0
        if self._life is not None:
            self._tell(_entry(pid, self._workers[pid]))

    def remove(self, pid: int) -> None:
        """Takes a worker back, whose pid is about to be, or is, anybody's."""
        if self._workers.pop(pid, None) is not None and self._life is not None:
            self._tell(b"-%d\n" % pid)

    def _tell(self, line: bytes) -> None:
        # Many are started in a row, and each write wakes the guard; till then their environment marks them.
        if not self._untold:
            asyncio.get_running_loop().call_soon(self._tell_all)
        self._untold.append(line)

    def _tell_all(self) -> None:
        lines, self._untold = b"".join(self._untold), []
        if self._life is not None:
            self._life.send(lines)

    async def stop(self) -> None:
        """Ends the guard, which kills what is left of the workers and theirs; returns when that is done.

        It takes 5 s at most. A second call waits for the same end.
        """
        self._ending = True
        life = self._life
        if life is None or not life.is_ours:
            return
        self._tell_all()
        life.end()
        try:
            await asyncio.wait([life.gone], timeout=_PATIENCE)
            if not life.gone.done():
                life.kill()
                await asyncio.wait([life.gone])
        except BaseException:  # cancelled: nothing may be left behind all the same
            self.close()
            raise

    def close(self) -> None:
        """What `stop` does for those whose event loop does not run any more; it blocks, for 5 s at most."""
        self._ending = True
        if self._life is not None and self._life.is_ours:
            self._tell_all()
            self._life.end()
            self._life.wait(_PATIENCE)

    def _spawn(self) -> None:
        try:
            self._life = _Life(self._token, self._all_workers, self._died)
        except (OSError, RuntimeError) as error:
            self._lost(f"the guard process could not be started: {error}")

    def _died(self, life: _Life, status: int) -> None:
        if self._life is life:
            self._life = None
        if self._ending:
            return
        told = f"the guard process {life.pid} {_how(status)}"
        if not self._deaths.allow(int(time.monotonic())):
            self._lost(f"{told}, more often than {_DEATHS} times within {_PERIOD} s")
            return
        self._spawn()
        if self.pid is not None:
            self._events.emit("guard_restarted", text=f"{told}; {self.pid} has taken its place", pid=self.pid)

    def _lost(self, why: str) -> None:
        self._events.emit("guard_lost", text=f"{why}. {_MEANING}. Find out what ends or forbids it, and start anew")

    def _all_workers(self) -> bytes:
        return b"".join(_entry(pid, started) for pid, started in self._workers.items())


class _Life:
    """One guard process. When its status was collected, `gone` is done and `on_exit(self, status)` called.

    `all_workers` gives the lines that name every worker there is. Raises `OSError` if it cannot be started, and
    `RuntimeError` if it would need a thread and there can be none.
    """

    def __init__(self, token: str, all_workers: Callable[[], bytes], on_exit: Callable[[_Life, int], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._all_workers = all_workers
        self._on_exit = on_exit
        self._owner = os.getpid()
        self.gone: asyncio.Future[None] = self._loop.create_future()
        self._ended = False
        self._ending = False
        self._unsent = b""
        self._behind = False
        self._pid_fd: int | None = None
        self._thread: threading.Thread | None = None
        self._popen, self._pipe = _start(token)
        self.pid = self._popen.pid
        try:
            self._watch()
        except BaseException:
            self.kill()
            self._popen.wait()
            self._close()
            raise
        self.send(all_workers())

    @property
    def is_ours(self) -> bool:
        """False in a fork()ed child, whose copy of this speaks of its parent's guard."""
        return os.getpid() == self._owner

    def send(self, lines: bytes) -> None:
        """Writes what the pipe takes. While the guard does not read, only that there is more to say is remembered."""
        if self._unsent:
            self._behind = True
        elif lines:
            self._write(lines)

    def end(self) -> None:
        """Tells the guard that this is the end; closing the pipe would not, if a fork()ed child has it open too."""
        if self._ending:
            return
        self._ending = True
        if self._unsent:
            self._behind = True
        else:
            self._write(b".\n")
            self._close_if_said()

    def kill(self) -> None:
        """Ends the guard without its last sweep."""
        self._popen.kill()

    def wait(self, seconds: float) -> None:
        """Blocks until the guard is gone, and kills it when that takes longer."""
        self._close_pipe()  # who could say later what did not go into it?
        try:
            self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
        self._exited()

    def _write(self, data: bytes) -> None:
        try:
            self._unsent = data[os.write(self._pipe, data) :]
        except BlockingIOError:
            self._unsent = data
        except OSError:  # it is dead, and the next one is told everything
            self._unsent = b""
        if self._unsent and not self._loop.is_closed():
            self._loop.add_writer(self._pipe, self._writable)

    def _writable(self) -> None:
        unsent = self._unsent
        if not unsent and self._behind:
            # What has changed meanwhile is not kept, because a guard that is stopped might be so for ever.
            self._behind = False
            unsent = b"=\n" + self._all_workers() + (b".\n" if self._ending else b"")
        if unsent:
            self._write(unsent)
        else:
            self._loop.remove_writer(self._pipe)
            self._close_if_said()

    def _close_if_said(self) -> None:
        if self._ending and not self._unsent and not self._behind:
            self._close_pipe()

    def _watch(self) -> None:
        if hasattr(os, "pidfd_open"):
            with suppress(OSError):  # a kernel or sandbox without it
                self._pid_fd = os.pidfd_open(self.pid)
        if self._pid_fd is not None:
            self._loop.add_reader(self._pid_fd, self._exited)
        else:
            self._thread = threading.Thread(target=self._wait_in_thread, name=f"mlports-guard-{self.pid}", daemon=True)
            self._thread.start()

    def _wait_in_thread(self) -> None:
        with suppress(ChildProcessError):
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        with suppress(RuntimeError):  # the loop is closed: nobody is interested any more
            self._loop.call_soon_threadsafe(self._exited)

    def _exited(self) -> None:
        if self._ended:
            return
        self._ended = True
        status = self._popen.wait()
        self._close()
        if self._thread is not None:
            self._thread.join()
        if not self._loop.is_closed():
            self.gone.set_result(None)
        self._on_exit(self, status)

    def _close(self) -> None:
        self._close_pipe()
        if self._pid_fd is not None:
            if not self._loop.is_closed():
                self._loop.remove_reader(self._pid_fd)
            os.close(self._pid_fd)
            self._pid_fd = None

    def _close_pipe(self) -> None:
        self._unsent, self._behind = b"", False
        if self._pipe >= 0:
            if not self._loop.is_closed():
                self._loop.remove_writer(self._pipe)
            os.close(self._pipe)
            self._pipe = -1


def _start(token: str) -> tuple[subprocess.Popen[bytes], int]:
    """The process, and our end of its stdin, which never blocks. Raises `OSError`."""
    us = os.getpid()
    stat = guard_program.read_stat(us)
    compiled = None if stat is None else _compiled_file()
    program = os.path.abspath(guard_program.__file__) if compiled is None else f"/proc/self/fd/{compiled}"
    descriptors = [] if compiled is None else [compiled]
    try:
        read, write = os.pipe()
        descriptors.append(read)
        try:
            popen = subprocess.Popen(
                [sys.executable or "python3", "-I", "-S", "-B", program, token, str(us), str(stat[3] if stat else 0)],
                stdin=read,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                # Its own, or the guard of an orchestrator that this one is a worker of would take it for a worker.
                env={**os.environ, guard_program.VARIABLE: guard_program.OF_A_GUARD},
                cwd="/",
                start_new_session=True,
                pass_fds=() if compiled is None else (compiled,),
            )
        except BaseException:
            os.close(write)
            raise
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    os.set_blocking(write, False)
    return popen, write


def _compiled_file() -> int | None:
    """The compiled program in a file in memory; None where there are none.

    If the guard compiled it for itself, that would take an eighth of its memory. And the program on the disk may be a
    newer version's by the time a guard is replaced.
    """
    compiled = _compiled()
    if compiled is None or not hasattr(os, "memfd_create"):
        return None
    try:
        descriptor = os.memfd_create("mlports-guard")
    except OSError:  # a kernel or sandbox without it
        return None
    with open(descriptor, "wb", closefd=False) as file:
        file.write(compiled)
    return descriptor


@cache
def _compiled() -> bytes | None:
    """What Python writes into a .pyc: its magic number, 12 bytes that only an import looks at, and the code."""
    try:
        code = getattr(guard_program.__spec__.loader, "get_code")(guard_program.__name__)  # noqa: B009
    except (AttributeError, ImportError, OSError):  # loaded in some way of its own, or replaced meanwhile
        return None
    return MAGIC_NUMBER + bytes(12) + marshal.dumps(code)


def _entry(pid: int, started: int) -> bytes:
    return b"+%d %d\n" % (pid, started)


def _how(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:  # a real-time signal has no name
        return f"was ended by signal {-status}"
