"""One operating-system process: started in a session of its own, its exit always collected, its group always ended."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from mlports.errors import MlportsError

_PIPE_SIZE = 1024 * 1024  # bytes; Linux gives 64 KiB unless asked
_LINES_KEPT = 50
_LINE_LIMIT = 8 * 1024  # bytes; a longer line is cut into several
_READ_SIZE = 64 * 1024
_DESCRIPTORS = 4  # of each process: its input, its output, its stderr, and its pidfd
_OTHER_DESCRIPTORS = 256  # what the rest of the program may have open
_FRESH = 1.0  # seconds
_RESTORED = (signal.SIGPIPE, signal.SIGXFSZ)  # what Python ignores, and programs do not expect to be ignored
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes


class SpawnFailed(MlportsError):
    """The program could not be started at all."""


class Process:
    """A running program: the ends of its pipes, its stderr by lines, and its exit status.

    `write_fd` and `read_fd` are non-blocking; the owner reads and writes them, and closes them with `close_write()` and
    `close_read()`. With the transport "none" there are none: its input is empty, its output goes where its stderr goes;
    with "socket" `write_fd` is one end of a socket of packets, and its input is the other.
    `on_line` is called for each line on stderr, `on_exit` once with the status (minus the signal, if one ended it; None
    if nobody can know it), when the process is gone, everything it wrote on stderr was read, its process group is
    killed and its status collected; `peak_memory`, in bytes, is known then, as far as it is.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str] | Mapping[bytes, bytes],
        transport: str,
        on_line: Callable[[str], None],
        on_exit: Callable[[int | None], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_line = on_line
        self._on_exit = on_exit
        self._line = b""
        self.stderr_tail: deque[str] = deque(maxlen=_LINES_KEPT)
        self.pid, self.write_fd, self.read_fd, self._stderr_fd = _spawn(command, cwd, env, transport, self._start)
        self.ended = False
        self.status: int | None = None
        self.peak_memory: int | None = None
        self._least_peak = _own_peak()
        self._pid_fd: int | None = None
        self._loop.add_reader(self._stderr_fd, self._read_stderr)
        self._watch_exit()

    def signal_group(self, number: signal.Signals) -> None:
        """Sends a signal to the process and all that it started and that stayed in its group."""
        if not self.ended:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the process alone."""
        if not self.ended:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def close_write(self) -> None:
        """Closes the process's stdin: it will read the end of the stream."""
        if self.write_fd >= 0:
            self._loop.remove_writer(self.write_fd)
            os.close(self.write_fd)
            self.write_fd = -1

    def close_read(self) -> None:
        """Closes our end of the process's stdout."""
        if self.read_fd >= 0:
            self._loop.remove_reader(self.read_fd)
            os.close(self.read_fd)
            self.read_fd = -1

    def widen(self, descriptor: int) -> None:
        """Makes a pipe larger that large messages go through. Not done at once: a user may have only so much."""
        if descriptor >= 0 and hasattr(fcntl, "F_SETPIPE_SZ"):
            with suppress(OSError):  # over the user's limit: the usual size works too
                fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)

    def _start(
        self, command: Sequence[str], cwd: Path, env: Mapping[Any, Any], transport: str, streams: tuple[int, int, int]
    ) -> int:
        """Starts the program with these as its input, output and stderr; gives its pid. Raises `OSError`."""
        arguments = list(command)
        if transport == "fd34":
            _check_program(command[0], cwd, env)
            # The shell only puts the two descriptors in their places, and becomes the program. It is given them as 0
            # and 1, because not every shell can name a descriptor above 9.
            arguments = ["/bin/sh", "-c", 'exec "$@" 3<&0 4>&1 </dev/null >&2', "sh", *command]
        return _start(arguments, cwd, env, streams)

    def _watch_exit(self) -> None:
        if hasattr(os, "pidfd_open"):
            try:
                self._pid_fd = os.pidfd_open(self.pid)
            except OSError:  # a kernel or sandbox without it
                self._pid_fd = None
        if self._pid_fd is not None:
            self._loop.add_reader(self._pid_fd, self._exited)
        else:
            threading.Thread(target=self._wait_in_thread, name=f"mlports-wait-{self.pid}", daemon=True).start()

    def _wait_in_thread(self) -> None:
        with suppress(ChildProcessError):
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        with suppress(RuntimeError):  # the loop is closed: nobody is interested any more
            self._loop.call_soon_threadsafe(self._exited)

    def _exited(self) -> None:
        if self.ended:
            return
        if self._pid_fd is not None:
            self._loop.remove_reader(self._pid_fd)
            os.close(self._pid_fd)
            self._pid_fd = None
        # As long as it is not collected its pid, and so its group's, belongs to nobody else.
        self.signal_group(signal.SIGKILL)
        self._collect()

    def _collect(self) -> None:
        try:
            _, status, usage = os.wait4(self.pid, 0)
        except ChildProcessError:  # somebody else in this program collected it, and its status is lost
            self._end(0)
            return
        peak = usage.ru_maxrss * _RSS_UNIT
        # Until a new program replaces it a child counts as large as the one who started it.
        self.peak_memory = peak if peak > self._least_peak else None
        self._end(os.waitstatus_to_exitcode(status))

    def _end(self, status: int | None) -> None:
        self.ended = True
        self.status = status
        self._read_rest_of_stderr()
        self._on_exit(status)

    def _read_stderr(self) -> None:
        try:
            data = os.read(self._stderr_fd, _READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close_stderr()
            return
        self._take(data)

    def _read_rest_of_stderr(self) -> None:
        # Bounded: a descendant that left the group may hold the pipe and go on writing.
        for _ in range(64):
            if self._stderr_fd < 0:
                break
            try:
                data = os.read(self._stderr_fd, _READ_SIZE)
            except OSError:
                break
            if not data:
                break
            self._take(data)
        self._close_stderr()

    def _take(self, data: bytes) -> None:
        lines = (self._line + data).split(b"\n")
        self._line = lines.pop()
        while len(self._line) > _LINE_LIMIT:
            lines.append(self._line[:_LINE_LIMIT])
            self._line = self._line[_LINE_LIMIT:]
        for line in lines:
            self._take_line(line)

    def _take_line(self, line: bytes) -> None:
        text = line[:_LINE_LIMIT].decode("utf-8", "backslashreplace").rstrip("\r")
        self.stderr_tail.append(text)
        self._on_line(text)

    def _close_stderr(self) -> None:
        if self._stderr_fd >= 0:
            self._loop.remove_reader(self._stderr_fd)
            os.close(self._stderr_fd)
            self._stderr_fd = -1
            if self._line:
                self._take_line(self._line)
                self._line = b""


def _spawn(
    command: Sequence[str],
    cwd: Path,
    env: Mapping[str, str] | Mapping[bytes, bytes],
    transport: str,
    start: Callable[[Sequence[str], Path, Mapping[Any, Any], str, tuple[int, int, int]], int],
) -> tuple[int, int, int, int]:
    """The process's pid, and our ends of its input, output and stderr. Raises `SpawnFailed`."""
    opened: list[int] = []
    try:
        ours_err, child_err = _pipe(opened)
        if transport == "none":
            child_in, ours_in, ours_out, child_out = _empty(opened), -1, -1, child_err
        elif transport == "socket":
            (child_in, ours_in), ours_out, child_out = _sockets(opened), -1, child_err
        else:
            child_in, ours_in = _pipe(opened)
            ours_out, child_out = _pipe(opened)
        pid = start(command, cwd, env, transport, (child_in, child_out, child_err))
    except (OSError, ValueError) as error:
        for descriptor in opened:
            os.close(descriptor)
        # A ValueError: there is a character in it that cannot be passed on.
        told = why_not(command, cwd, error) if isinstance(error, OSError) else f"cannot start {command[0]!r}: {error}"
        raise SpawnFailed(told) from error
    for descriptor in {child_in, child_out, child_err}:
        os.close(descriptor)
    for descriptor in (ours_in, ours_out, ours_err):
        if descriptor >= 0:
            os.set_blocking(descriptor, False)
    return pid, ours_in, ours_out, ours_err


def _start(arguments: list[str], cwd: Path, env: Mapping[Any, Any], streams: tuple[int, int, int]) -> int:
    """Starts a program in a session of its own, with these as its first three descriptors; gives its pid."""
    program = _program_here(arguments[0], cwd, env)
    if program is not None:
        # A quarter less work than the other way, which counts where many are started; it cannot change the directory.
        actions: list[tuple[int, ...]] = [(os.POSIX_SPAWN_DUP2, ours, theirs) for theirs, ours in enumerate(streams)]
        actions += [(os.POSIX_SPAWN_CLOSE, descriptor) for descriptor in _inherited.all()]
        try:
            return os.posix_spawn(program, arguments, env, file_actions=actions, setsid=True, setsigdef=_RESTORED)
        except OSError:  # it may have moved; if not, the other way tells why
            _found.cache_clear()
    stdin, stdout, stderr = streams
    popen = subprocess.Popen(
        arguments, stdin=stdin, stdout=stdout, stderr=stderr, cwd=cwd, env=env, start_new_session=True
    )
    popen.returncode = 0  # it is not Popen that collects it
    return popen.pid


def _program_here(program: str, cwd: Path, env: Mapping[Any, Any]) -> str | None:
    """The program's path, if it can be started without a change of directory."""
    if sys.platform != "linux" or str(cwd) != os.getcwd():
        return None
    if os.sep in program:
        return program
    return _found(program, _search_path(env))


@lru_cache(maxsize=256)
def _found(program: str, path: str | None) -> str | None:
    from shutil import which

    return which(program, path=path)


class _Inherited:
    """The descriptors that a program would be given along with its own, because somebody made them so."""

    def __init__(self) -> None:
        self._descriptors: list[int] = []
        self._looked_at = -_FRESH

    def all(self) -> list[int]:
        """Looked up once a second: there may be thousands to go through."""
        now = time.monotonic()
        if now - self._looked_at >= _FRESH:
            self._looked_at = now
            self._descriptors = []
            for name in os.listdir("/proc/self/fd"):
                with suppress(OSError):  # the one that lists them is closed again
                    if int(name) > 2 and os.get_inheritable(int(name)):
                        self._descriptors.append(int(name))
        return self._descriptors


_inherited = _Inherited()


def _empty(opened: list[int]) -> int:
    opened.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    return opened[-1]


def _sockets(opened: list[int]) -> tuple[int, int]:
    theirs, ours = (_above_9(end.detach()) for end in socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
    opened += (theirs, ours)
    return theirs, ours


def _own_peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT


def _pipe(opened: list[int]) -> tuple[int, int]:
    # Above 9, so that none is in the way when a child puts two of them in the places 3 and 4.
    read, write = (_above_9(descriptor) for descriptor in os.pipe())
    opened += (read, write)
    return read, write


def _above_9(descriptor: int) -> int:
    if descriptor > 9:
        return descriptor
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(descriptor)
    return moved


def allow_processes(count: int) -> None:
    """Raises this process's limit of open files, as far as it may, if it is too low for so many processes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count * _DESCRIPTORS + _OTHER_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with suppress(OSError, ValueError):  # what cannot be had is told when it is missed
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def resolve(command: Sequence[str], python: str | None, directory: Path) -> list[str]:
    """The command with "python" replaced by an interpreter: the orchestrator's own, or that of the venv `python`."""
    if command[0] not in ("python", "python3"):
        return list(command)
    if python is None:
        return [sys.executable, *command[1:]]
    place = directory / python
    return [str(place / "bin" / "python") if place.is_dir() else str(place), *command[1:]]


def _check_program(program: str, cwd: Path, env: Mapping[str, str] | Mapping[bytes, bytes]) -> None:
    """Raises the `OSError` that starting it would give, where that is known without an attempt."""
    from shutil import which

    place = cwd / program if os.sep in program else which(program, os.F_OK, _search_path(env))
    if place is None or not os.path.exists(place):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", program)
    if os.path.isdir(place) or not os.access(place, os.X_OK):
        raise PermissionError(errno.EACCES, "Permission denied", program)


def _search_path(env: Mapping[Any, Any]) -> str | None:
    path = env.get("PATH", env.get(b"PATH"))
    return None if path is None else os.fsdecode(path)


def why_not(command: Sequence[str], cwd: Path, error: OSError) -> str:
    """Why a program could not be started, and what to do."""
    program = command[0]
    if not cwd.is_dir():
        return (
            f"cannot start {program!r}: its working directory {cwd} does not exist. Correct cwd, or make the directory"
        )
    if error.errno in (errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM):
        return (
            f"cannot start {program!r}: the system is short of something: {error.strerror}. Raise ulimit, or run less"
        )
    if isinstance(error, FileNotFoundError):
        return (
            f"cannot start {program!r}: no such program, as seen from {cwd}, or the interpreter that its first line "
            "names is missing. Correct command, or install the program"
        )
    if (cwd / program).is_dir():
        return f"cannot start {program!r}: it is a directory. Name a program, or the interpreter of one first"
    if isinstance(error, PermissionError):
        return f"cannot start {program!r}: it may not be executed. Try: chmod +x {program}"
    if error.errno == errno.ENOEXEC:
        return f"cannot start {program!r}: it is no program and has no #! line. Name its interpreter first in command"
    return f"cannot start {program!r}: {error.strerror or error}"
