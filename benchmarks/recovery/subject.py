"""What a subject of these measurements is, and how a worker at work is killed."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

from benchmarks.contenders.contender import ECHO_WORKER
from benchmarks.processes import state_of

IN_FLIGHT = 64
"""The calls that are always open while a worker is killed."""

PAYLOAD = b"x" * 64

WORKER = (sys.executable, str(ECHO_WORKER))

PATIENCE = 30.0
"""Seconds that anything may take: a worker to come back, an answer to arrive."""

Figures = Mapping[str, list[float]]
"""By name: one value, or one for each time that something was done."""


class Subject(Protocol):
    """Something measured. Each lives in a process of its own, from `open` to `close`, as a contender does.

    `open` and `run` raise Unavailable when the machine lacks what they need.
    """

    name: ClassVar[str]
    title: ClassVar[str]

    def open(self) -> None: ...

    def close(self) -> None: ...

    def run(self, *request: Any) -> Figures: ...


def freeze(pid: int) -> None:
    """Stop a process with SIGSTOP; returns when the kernel says that it is stopped.

    A worker that is killed between two calls tells nothing, and one that is killed while it writes an answer may have
    answered. Frozen first it answers no more, requests pile up at it, and the next answer can only be another life's.
    Raises RuntimeError if it is gone, or does not stop.
    """
    os.kill(pid, signal.SIGSTOP)
    end = time.monotonic() + PATIENCE
    while (state := state_of(pid)) != "T":
        if state is None or time.monotonic() > end:
            raise RuntimeError(f"process {pid} should be stopped, and is {state or 'gone'}")
