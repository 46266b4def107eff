"""What a test may leave behind in this process and around it, and whether it did.

Take a `snapshot` before, ask for `leaks` after. Everything but threads is read from `/proc` and `/dev/shm`; where there
are none (macOS), only threads are checked.
"""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

PATIENCE = 5.0
"""Seconds that are enough for what is on its way out, on a busy machine too."""

_POLL = 0.01
_PROC = Path("/proc")
_SEGMENTS = Path("/dev/shm")
_SEGMENT_PREFIX = "mlports"
_BENIGN_TARGETS = frozenset({"/dev/urandom", "/dev/random"})

# A process whose parent has died is nobody's descendant, but it still carries the environment it was started with.
_MARK = "MLPORTS_TEST_RUN"
_mark_value = f"{os.getpid()}-{uuid.uuid4().hex}"


@dataclass(frozen=True)
class Process:
    """One process: its id, its start in clock ticks since boot (ids are used again), and its state as `ps` shows it."""

    pid: int
    started: int
    state: str = field(compare=False)
    parent: int = field(compare=False)

    @property
    def command(self) -> str:
        """The command line, or the bare name of a process that has none left (a zombie); empty when it has gone."""
        with suppress(OSError):
            words = (_PROC / str(self.pid) / "cmdline").read_bytes().replace(b"\0", b" ").strip()
            return words.decode(errors="replace") or f"[{(_PROC / str(self.pid) / 'comm').read_text().strip()}]"
        return ""

    def __str__(self) -> str:
        note = ", a zombie: its parent never waited for it" if self.state == "Z" else ""
        return f"process {self.pid} (child of {self.parent}{note}): {self.command}"


@dataclass(frozen=True)
class Snapshot:
    """What there was at one moment: descriptors map a number to what it is open on, as `/proc/self/fd` says."""

    processes: frozenset[Process]
    descriptors: Mapping[int, str]
    threads: frozenset[threading.Thread]
    segments: frozenset[str]


def mark_children() -> None:
    """Put a mark into `os.environ`, so that orphans started from now on are recognised as ours. Call it once, early."""
    os.environ[_MARK] = _mark_value


def snapshot() -> Snapshot:
    """What there is now: our processes, this process's descriptors and threads, and mlports' shared-memory segments."""
    return Snapshot(_processes(), _descriptors(), frozenset(threading.enumerate()), _segments())


def leaks(before: Snapshot, patience: float) -> list[str]:
    """One line for everything that was not there before and is still there after `patience` seconds; empty when clean.

    Objects in reference cycles are collected first: what is unreachable is not leaked, though nothing has freed it yet.
    """
    end = time.monotonic() + patience
    found = _difference(before, snapshot())
    if found:
        gc.collect()
        found = _difference(before, snapshot())
    wait = threading.Event()
    while found and time.monotonic() < end:
        wait.wait(_POLL)
        found = _difference(before, snapshot())
    return found


def end_processes(before: Snapshot) -> None:
    """SIGKILL what a test left running, and reap what is our own child, so that the next test starts clean."""
    for process in _processes() - before.processes:
        with suppress(ProcessLookupError, PermissionError):
            # The descriptor holds the id, so that the process which is looked at is the process which is killed.
            handle = os.pidfd_open(process.pid)
            try:
                if _read_process(process.pid) == process:
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
            finally:
                os.close(handle)
        if process.parent == os.getpid():
            with suppress(ChildProcessError):
                os.waitpid(process.pid, 0)


def _difference(before: Snapshot, after: Snapshot) -> list[str]:
    processes = sorted(after.processes - before.processes, key=lambda process: process.pid)
    descriptors = sorted(after.descriptors.items() - before.descriptors.items())
    threads = sorted(after.threads - before.threads, key=lambda thread: thread.name)
    return [
        *map(str, processes),
        *(f"file descriptor {fd}: {target}" for fd, target in descriptors),
        *(f"thread {thread.name!r}{' (daemon)' if thread.daemon else ''}" for thread in threads),
        *(f"shared-memory segment {_SEGMENTS / name}" for name in sorted(after.segments - before.segments)),
    ]


def _descriptors() -> dict[int, str]:
    found = {}
    with suppress(FileNotFoundError):
        for name in os.listdir(_PROC / "self/fd"):
            # The listing's own descriptor is in the list, and closed by now.
            with suppress(FileNotFoundError):
                target = os.readlink(_PROC / "self/fd" / name)
                if target not in _BENIGN_TARGETS:
                    found[int(name)] = target
    return found


def _segments() -> frozenset[str]:
    with suppress(FileNotFoundError):
        return frozenset(name for name in os.listdir(_SEGMENTS) if name.startswith(_SEGMENT_PREFIX))
    return frozenset()


def _processes() -> frozenset[Process]:
    """Our descendants, and the orphans that carry our mark; never this process itself."""
    if not _PROC.is_dir():
        return frozenset()
    ids = [int(name) for name in os.listdir(_PROC) if name.isdigit()]
    everything = {pid: process for pid in ids if (process := _read_process(pid))}
    us = os.getpid()
    return frozenset(
        process
        for pid, process in everything.items()
        if pid != us and (_descends(process, us, everything) or _carries_mark(process))
    )


def _read_process(pid: int) -> Process | None:
    try:
        stat = (_PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return None
    # The name, in parentheses, may itself hold spaces and parentheses.
    fields = stat[stat.rindex(b")") + 2 :].split()
    return Process(pid, started=int(fields[19]), state=fields[0].decode(), parent=int(fields[1]))


def _descends(process: Process, ancestor: int, everything: Mapping[int, Process]) -> bool:
    at: Process | None = process
    while at is not None:
        if at.parent == ancestor:
            return True
        at = everything.get(at.parent)
    return False


# Environments are the dear part of a look round; a stranger's is read once.
_strangers: set[Process] = set()


def _carries_mark(process: Process) -> bool:
    if process in _strangers:
        return False
    try:
        ours = f"{_MARK}={_mark_value}".encode() in (_PROC / str(process.pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        ours = False
    if not ours:
        _strangers.add(process)
    return ours
