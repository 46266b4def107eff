"""A process that a template has forked: told what it is to be, and from then on treated as any other."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mlports.core.python_command import python_command
from mlports.runtime.guard_program import read_stat
from mlports.runtime.process import Process

Collected = Callable[[int | None, int | None], None]
"""Told a status, as `Process` has it, and a largest size in KiB; each None if nobody knows."""


class Spare:
    """A process that a template forks, or has forked, and that waits to be told what it is. `pid` is known once `born`.

    Whoever has it closes it: one that was told nothing ends then.
    """

    def __init__(self) -> None:
        ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket = ours
        self.pid = 0
        self._pid_fd = -1

    def ask_of(self, control: socket.socket) -> None:
        """Asks a template for it. Raises `OSError`."""
        with self._theirs:
            socket.send_fds(control, [b"fork"], [self._theirs.fileno()])

    def born(self, seconds: float) -> bool:
        """Whether it is there, waiting for so long at most; false as well when there will be none."""
        if self.pid:
            return True
        waiting = select.poll()
        waiting.register(self._socket, select.POLLIN)
        if not waiting.poll(seconds * 1000):
            return False
        with suppress(OSError, ValueError):
            pid = json.loads(self._socket.recv(256))["pid"]
            self._pid_fd = os.pidfd_open(pid)
            self.pid = pid
        return bool(self.pid)

    def become(self, task: dict[str, Any], streams: Sequence[int]) -> None:
        """Tells it what to be. Raises `OSError` if it is gone, or it is too much to tell."""
        socket.send_fds(self._socket, [json.dumps(task).encode()], list(streams))
        self._socket.close()

    def take_pid_fd(self) -> int:
        """Its pidfd, which belongs to the caller from now on."""
        taken, self._pid_fd = self._pid_fd, -1
        return taken

    def close(self) -> None:
        self._socket.close()
        self._theirs.close()
        if self._pid_fd >= 0:
            os.close(self.take_pid_fd())


class Forked(Process):
    """A `Process` made of a spare. `collect` asks the template for the exit status of a pid that has ended.

    The template collects it only when it is asked, so that the pid stays nobody else's until the group was killed. If
    the template dies first, init collects it at any time: the status is unknown then, and the pid is looked at before
    it is signalled. Raises `SpawnFailed` if the spare cannot be made what it should be.
    """

    def __init__(
        self,
        spare: Spare,
        collect: Callable[[int, Collected], None],
        command: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str] | Mapping[bytes, bytes],
        transport: str,
        on_line: Callable[[str], None],
        on_exit: Callable[[int | None], None],
    ) -> None:
        self._spare = spare
        self._ask_status = collect
        self._started = 0
        super().__init__(command, cwd=cwd, env=env, transport=transport, on_line=on_line, on_exit=on_exit)

    def signal_group(self, number: signal.Signals) -> None:
        if not self._is_another():
            super().signal_group(number)

    def signal(self, number: signal.Signals) -> None:
        if not self._is_another():
            super().signal(number)

    def _is_another(self) -> bool:
        stat = read_stat(self.pid)
        return stat is not None and stat[3] != self._started

    def _start(
        self, command: Sequence[str], cwd: Path, env: Mapping[Any, Any], transport: str, streams: tuple[int, int, int]
    ) -> int:
        parts = python_command(command)
        assert parts is not None  # the configuration says so
        task = {
            "command": list(command),
            "module": parts.name if parts.is_module else None,
            "script": None if parts.is_module else parts.name,
            "arguments": list(parts.arguments),
            "cwd": str(cwd),
            "env": {os.fsdecode(name): os.fsdecode(value) for name, value in env.items()},
            "umask": _umask(),
            "fd34": transport == "fd34",
        }
        stat = read_stat(self._spare.pid)
        if stat is None or not os.access(cwd, os.X_OK):
            raise FileNotFoundError
        self._started = stat[3]
        self._spare.become(task, streams)
        return self._spare.pid

    def _watch_exit(self) -> None:
        self._pid_fd = self._spare.take_pid_fd()
        self._loop.add_reader(self._pid_fd, self._exited)

    def _collect(self) -> None:
        self._ask_status(self.pid, self._collected)

    def _collected(self, status: int | None, peak: int | None) -> None:
        self.peak_memory = None if peak is None else peak * 1024
        self._end(status)


def _umask() -> int:
    """This process's; to ask the system for it would be to change it."""
    with suppress(OSError), open("/proc/self/status", "rb") as file:
        for line in file:
            if line.startswith(b"Umask:"):
                return int(line.split()[1], 8)
    return 0o022
