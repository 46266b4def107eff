"""Whether it was the kernel that killed a worker, because memory had run out, and with which figures."""

from __future__ import annotations

import errno
import os
import re
import signal
import time
from collections.abc import Iterable

from mlports.core.verdict import Cause, describe_status
from mlports.runtime.memory import oom_kills

_FRESH = 1.0  # seconds
_RECORD = 8192  # bytes; the kernel's log gives a record for each read
_KILLED = re.compile(r"(?P<group>Memory cgroup out|Out) of memory: Killed process (?P<pid>\d+) .*")
_FIGURE = re.compile(r"(total-vm|anon-rss):(\d+)kB")


class _OutOfMemory:
    """Looks at the kernel's count of such deaths, and in its log, if this user may read that."""

    def __init__(self) -> None:
        self._kills = oom_kills()
        self._looked_at = time.monotonic()

    def count(self) -> int | None:
        now = time.monotonic()
        if now - self._looked_at > _FRESH:
            self._kills, self._looked_at = oom_kills(), now
        return self._kills

    def killed(self, pid: int, before: int | None) -> tuple[bool | None, str]:
        """Of a process that SIGKILL has just ended: whether that was it, None if nobody knows; and the figures."""
        kills = oom_kills()
        if kills is None or before is None:
            return None, ""
        if kills == before:
            return False, ""
        log = _kernel_log()
        if log is None:
            count = f"{kills - before} process{'es' if kills - before > 1 else ''}"
            return True, f"since its start it has killed {count} for that; its log, with the figures, may not be read"
        return killed_by_kernel(log, pid)


def kills_so_far() -> int | None:
    """The kernel's count of such deaths, to be kept from a process's start; at most a second old."""
    return _OUT_OF_MEMORY.count()


def cause_of(pid: int, status: int | None, kills: int | None) -> tuple[Cause, str, str]:
    """Why a process that ended by itself did: the cause, what its status says, and the figures if it was for memory.

    `kills` is `kills_so_far()` at its start.
    """
    starved, figures = _OUT_OF_MEMORY.killed(pid, kills) if status == -signal.SIGKILL else (False, "")
    cause: Cause = "out_of_memory" if starved else "exit" if status is None or status >= 0 else "signal"
    return cause, describe_status(status, starved), figures


def killed_by_kernel(log: Iterable[str], pid: int) -> tuple[bool, str]:
    """What the kernel's log says of a process: whether it was killed for want of memory, and with which figures."""
    for line in log:
        found = _KILLED.search(line)
        if found is not None and int(found["pid"]) == pid:
            figures = {name: int(kilobytes) / 1024 for name, kilobytes in _FIGURE.findall(line)}
            where = "of its control group" if found["group"].startswith("Memory") else "of the machine"
            resident = f"{figures['anon-rss']:.1f} MiB resident" if "anon-rss" in figures else "size unknown"
            virtual = f", {figures['total-vm']:.1f} MiB virtual" if "total-vm" in figures else ""
            return True, f"the memory {where} was used up; it had {resident}{virtual}"
    return False, ""


def _kernel_log() -> list[str] | None:
    """The records of the kernel's log, the newest last; None where they may not be read."""
    try:
        descriptor = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    records: list[str] = []
    try:
        while True:
            try:
                records.append(os.read(descriptor, _RECORD).decode("utf-8", "replace"))
            except OSError as error:
                if error.errno == errno.EPIPE:  # overwritten meanwhile: the next one is there
                    continue
                return records
    finally:
        os.close(descriptor)


_OUT_OF_MEMORY = _OutOfMemory()
