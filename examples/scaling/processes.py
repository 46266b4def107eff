"""What other programs do who have nobody to do their tasks: start a process for each of them."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from pathlib import Path
from typing import Any

_LEAST = [sys.executable, "-I", "-S", "-c"]
"""A Python that is ready soonest: no environment, no site-packages."""


async def measure_processes(count: int, at_once: int = 2) -> dict[str, Any]:
    """Starts so many Pythons that do nothing, `at_once` at a time: `seconds` in all, and `bytes` of one that waits.

    Its bytes are those that it shares with nobody, None where /proc does not tell.
    """
    numbers = iter(range(count))

    async def one_after_the_other() -> None:
        for _ in numbers:
            process = await asyncio.create_subprocess_exec(*_LEAST, "pass")
            await process.wait()

    began = time.perf_counter()
    await asyncio.gather(*(one_after_the_other() for _ in range(at_once)))
    return {"count": count, "seconds": time.perf_counter() - began, "bytes": await _private_bytes()}


async def _private_bytes() -> int | None:
    pipe = asyncio.subprocess.PIPE
    program = "print(flush=True); input()"
    process = await asyncio.create_subprocess_exec(*_LEAST, program, stdin=pipe, stdout=pipe)
    assert process.stdout
    await process.stdout.readline()
    told = None
    with contextlib.suppress(OSError):
        lines = await asyncio.to_thread(Path(f"/proc/{process.pid}/smaps_rollup").read_text)
        told = sum(int(line.split()[1]) * 1024 for line in lines.splitlines() if line.startswith("Private_"))
    await process.communicate(b"\n")
    return told
