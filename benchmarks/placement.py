"""Which cores a caller and its worker run on.

One message at a time, two processes cost a context switch when they share a core and two wake-ups of an idle core when
they do not. On a virtual machine the second costs over ten times the first, and a scheduler that is left alone goes
from one to the other within seconds. A comparison of latencies is one of libraries only when both sides have the same
placement, so besides being left alone a contender is timed pinned to one core, and to two.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from benchmarks.contenders.contender import ONE_CORE, TWO_CORES, Unavailable
from benchmarks.processes import family_of

CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
"""The cores that this process may use; none where the system cannot pin, as macOS cannot."""


def cores_for(mode: str) -> tuple[int, int] | None:
    """The caller's core and the worker's; None for a mode that leaves it to the scheduler.

    Raises Unavailable where there are too few cores for the mode, or no pinning.
    """
    if mode not in (ONE_CORE, TWO_CORES):
        return None
    if not CORES:
        raise Unavailable("this system cannot pin a process to a core")
    if mode == TWO_CORES and len(CORES) < 2:
        raise Unavailable("this process may use one core only")
    return CORES[0], CORES[0] if mode == ONE_CORE else CORES[1]


@contextlib.contextmanager
def placed(mode: str) -> Iterator[None]:
    """Pin this process and its descendants as `mode` says, and free them afterwards.

    The worker is what has no children of its own: between it and this process may stand another, as Erlang's VM does.
    """
    cores = cores_for(mode)
    if cores is None:
        yield
        return
    caller, worker = cores
    family = family_of(os.getpid())
    parents = set(family.values())
    try:
        for pid in family:
            _pin(pid, {caller if pid in parents or pid == os.getpid() else worker})
        yield
    finally:
        for pid in family:
            _pin(pid, set(CORES))


def _pin(pid: int, cores: set[int]) -> None:
    for thread in Path(f"/proc/{pid}/task").glob("*"):
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread.name), cores)
