"""What the system says of processes that run: their memory, their processor time, and whom it killed for memory.

All of it comes from /proc, which is Linux's; where there is none, every answer is "unknown": None, or nothing.
"""

from __future__ import annotations

import os

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")
_LONGEST = 1024  # bytes; /proc/PID/stat is a line of some fifty numbers
# Fields of /proc/PID/stat, counted from the one behind the name.
_STATE, _GROUP, _USER_TIME, _SYSTEM_TIME, _PAGES = 0, 2, 11, 12, 21


def resident_by_group() -> dict[int, int]:
    """The resident memory of each process group, in bytes; {} where the system does not tell.

    Memory that processes share counts for each of them. Zombies count nothing, and so do processes that come or go
    meanwhile, and those that this user may not see.
    """
    sizes: dict[int, int] = {}
    try:
        names = os.listdir("/proc")
    except OSError:
        return sizes
    for name in names:
        # The cheapest test for a number: no other name in /proc begins with a digit.
        if name[0] <= "9":
            fields = _fields(name)
            if fields is not None:
                group = int(fields[_GROUP])
                sizes[group] = sizes.get(group, 0) + int(fields[_PAGES]) * _PAGE
    return sizes


def oom_kills() -> int | None:
    """How many processes the kernel has killed for want of memory since it started; None where it does not tell."""
    try:
        with open("/proc/vmstat", "rb") as file:
            counters = file.read()
    except OSError:
        return None
    _, found, rest = counters.partition(b"\noom_kill ")
    return int(rest.split(b"\n", 1)[0]) if found else None


def cpu_seconds(pid: int) -> float | None:
    """The processor time that a process with all its threads has used, in seconds; None when it is gone, or unknown."""
    fields = _fields(str(pid))
    return None if fields is None else (int(fields[_USER_TIME]) + int(fields[_SYSTEM_TIME])) / _TICKS


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped, by SIGSTOP or by a debugger: it can do nothing, and no signal but SIGKILL helps."""
    fields = _fields(str(pid))
    return fields is not None and fields[_STATE] in (b"T", b"t")


def _fields(pid: str) -> list[bytes] | None:
    """What stands behind the name in /proc/PID/stat; None when there is no such process any more."""
    try:
        descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        line = os.read(descriptor, _LONGEST)
    except OSError:  # it went away between the two
        return None
    finally:
        os.close(descriptor)
    # A name may hold anything, spaces and parentheses too; the numbers behind it hold neither.
    return line[line.rindex(b")") + 2 :].split()
