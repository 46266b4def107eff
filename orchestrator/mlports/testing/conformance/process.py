"""The program under test: started in a group of its own, its pipes non-blocking, its group always killed."""

from __future__ import annotations

import array
import fcntl
import os
import select
import signal
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

_READ_SIZE = 256 * 1024
_STDERR_KEPT = 16 * 1024  # bytes
_STEP = 0.01  # seconds between two looks at whether it has ended
# The shell only puts the two descriptors in their places, and becomes the program.
_FD34 = ["/bin/sh", "-c", 'exec "$@" 3<&0 4>&1 </dev/null >&2', "sh"]


class Process:
    """A running program. With `fd34` its frames travel on descriptors 3 and 4. Raises `OSError` if it cannot start.

    `pump` moves bytes: it writes what is queued and reads what came, on both outputs. Everything is done by the thread
    that calls; only `kill` may come from another.
    """

    def __init__(self, command: Sequence[str], cwd: Path, env: Mapping[str, str], fd34: bool = False) -> None:
        self._popen = subprocess.Popen(
            [*_FD34, *command] if fd34 else list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env=env,
            bufsize=0,
            start_new_session=True,
        )
        self._input: IO[bytes] = self._popen.stdin  # type: ignore[assignment]  # all three are pipes
        self._output: IO[bytes] = self._popen.stdout  # type: ignore[assignment]
        self._errors: IO[bytes] = self._popen.stderr  # type: ignore[assignment]
        for stream in (self._input, self._output, self._errors):
            os.set_blocking(stream.fileno(), False)
        self._unsent = memoryview(b"")
        self._killed = False
        self.pid = self._popen.pid
        self.stderr = b""
        self.input_refused = False
        """Whether a write failed because nobody reads."""

    @property
    def status(self) -> int | None:
        """The exit status, minus the signal's number when one ended it; None while it runs."""
        return self._popen.poll()

    @property
    def output_open(self) -> bool:
        """Whether its output may still bring something."""
        return not self._output.closed

    @property
    def sending(self) -> bool:
        """Whether something that was queued is not yet in the pipe."""
        return bool(self._unsent) and not self._input.closed

    def queue(self, data: bytes) -> None:
        """Adds what is to be written."""
        self._unsent = memoryview(bytes(self._unsent) + data) if self._unsent else memoryview(data)

    def pump(self, seconds: float) -> bytes:
        """Waits until something can be read or written, so long at most; gives what was read of its output."""
        reading = [stream for stream in (self._output, self._errors) if not stream.closed]
        writing = [self._input] if self.sending else []
        if not reading and not writing:
            with suppress(subprocess.TimeoutExpired):
                self._popen.wait(seconds)
            return b""
        readable, writable, _ = select.select(reading, writing, [], max(0.0, seconds))
        if writable:
            self._write()
        if self._errors in readable:
            self._read_stderr()
        return self._read_output() if self._output in readable else b""

    def unread(self) -> int:
        """Bytes in its input that it has not read yet, as far as the system tells."""
        if self._input.closed:
            return 0
        count = array.array("i", [0])
        try:
            fcntl.ioctl(self._input.fileno(), termios.FIONREAD, count)
        except OSError:
            return 0
        return count[0]

    def close_input(self) -> None:
        """Ends its input."""
        self._unsent = memoryview(b"")
        with suppress(OSError):
            self._input.close()

    def close_output(self) -> None:
        """Stops reading its output: its next write finds no reader."""
        self._output.close()

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the program itself."""
        self._popen.send_signal(number)

    def wait_status(self, seconds: float) -> int | None:
        """Its exit status, waited for; None when it is still running then. What it says on stderr is read."""
        end = time.monotonic() + seconds
        while self._popen.poll() is None and time.monotonic() < end:
            if self._errors.closed:
                with suppress(subprocess.TimeoutExpired):
                    self._popen.wait(_STEP)
            elif select.select([self._errors], [], [], _STEP)[0]:
                self._read_stderr()
        self._read_rest_of_stderr()
        return self._popen.poll()

    def kill(self) -> None:
        """Kills its whole group. From any thread, any number of times."""
        if self._killed:
            return
        self._killed = True
        # Its pid, and so its group's, is nobody else's until it is waited for, and later while the group has members.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Kills its group, collects it and closes the pipes."""
        self.kill()
        self._popen.wait()
        self._read_rest_of_stderr()
        for stream in (self._input, self._output, self._errors):
            with suppress(OSError):
                stream.close()

    def _write(self) -> None:
        try:
            self._unsent = self._unsent[os.write(self._input.fileno(), self._unsent) :]
        except BlockingIOError:
            return
        except OSError:
            self.input_refused = True
            self.close_input()

    def _read_output(self) -> bytes:
        try:
            data = os.read(self._output.fileno(), _READ_SIZE)
        except BlockingIOError:
            return b""
        if not data:
            self._output.close()
        return data

    def _read_stderr(self) -> bool:
        try:
            data = os.read(self._errors.fileno(), _READ_SIZE)
        except BlockingIOError:
            return False
        if not data:
            self._errors.close()
            return False
        self.stderr = (self.stderr + data)[-_STDERR_KEPT:]
        return True

    def _read_rest_of_stderr(self) -> None:
        # Bounded: a descendant may hold the pipe and go on writing.
        for _ in range(64):
            if self._errors.closed or not self._read_stderr():
                return
