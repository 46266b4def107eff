"""Worker programs of a few lines, and how a test waits for what they do."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

PATIENCE = 30.0
"""Seconds that are enough for anything a test waits for, on a busy machine too."""

_POLL = 0.002  # seconds

# What every program begins with. `mark` and `seen` are its side channel: files that the test looks at, or makes.
_BEGINNING = """\
import asyncio, ctypes, fcntl, os, signal, subprocess, sys, threading, time
from mlports_worker import CallFailed, Cancelled, Failure, Worker, current

worker = Worker({name!r}, concurrency={concurrency})


def mark(path, text="x"):
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, text.encode() + b"\\n")
    os.close(descriptor)


def wait_for(path, until=lambda: False):
    end = time.monotonic() + 30
    while not os.path.exists(path) and not until():
        if time.monotonic() > end:
            raise TimeoutError(path)
        time.sleep(0.001)


"""


def program(directory: Path, body: str, name: str = "worker", concurrency: int | None = None) -> list[str]:
    """Writes a worker program into `directory`; gives its command. `body` defines methods of `worker`."""
    path = directory / f"{name}.py"
    path.write_text(_BEGINNING.format(name=name, concurrency=concurrency) + dedent(body) + "\n\nworker.run()\n")
    return [sys.executable, str(path)]


async def until(condition: Callable[[], object], what: str) -> None:
    """Returns as soon as `condition()` holds; fails the test when it does not come to hold."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"waited in vain until {what}"
        await asyncio.sleep(_POLL)


def until_blocking(condition: Callable[[], object], what: str) -> None:
    """The same for a thread without an event loop."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"waited in vain until {what}"
        time.sleep(_POLL)


def freeze(pid: int) -> None:
    """Stops a process with SIGSTOP; returns when all its threads stand still, which takes a while on a busy machine."""
    os.kill(pid, signal.SIGSTOP)

    def stands_still() -> bool:
        states = [path.read_text().rpartition(")")[2].split()[0] for path in Path(f"/proc/{pid}/task").glob("*/stat")]
        return set(states) == {"T"}

    until_blocking(stands_still, f"process {pid} is stopped")


def marks(path: Path) -> list[str]:
    """What a worker's `mark()` has written to this file so far."""
    return path.read_text().split("\n")[:-1] if path.exists() else []
