"""Streams of large chunks: how fast they are, and that a slow end of one costs the orchestrator no memory.

    python -m benchmarks.streaming WAY MIB CHUNK_MIB PAUSE_MS

runs one in a process of its own and prints, as JSON, `mib_per_s` and `growth_mib`: how much larger the orchestrator's
resident memory was at its largest than before the stream. WAY is out, in or both.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from benchmarks.driver import ROOT
from benchmarks.measure import Board
from mlports import Orchestrator, ServiceConfig

STREAM_WORKER = Path(__file__).with_name("stream_worker.py")
MIB = 2**20

WHOLE_MIB, QUICK_MIB = 10 * 1024, 512
GROWTH_MIB = "10 GiB stream, slow reader: orchestrator grows by, MiB"
RATE = "stream of 1 MiB chunks, MiB/s"


def measure_streaming(board: Board, quick: bool, say: Callable[[str], None] = print) -> None:
    """Fill `board.figures`; a figure that cannot be had goes to `board.skipped` with its reason.

    The memory is that of 10 GiB (0.5 GiB when `quick`) in chunks of 1 MiB, through a reader that pauses for 1 ms after
    each; the rate that of a reader that does not, over 2 GiB.
    """
    runs = {GROWTH_MIB: ("growth_mib", 1.0), RATE: ("mib_per_s", 0.0)}
    for name, (key, pause) in runs.items():
        whole = WHOLE_MIB if key == "growth_mib" else WHOLE_MIB // 5
        try:
            board.figures[name] = [run_apart("out", QUICK_MIB if quick else whole, 1, pause)[key]]
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            board.skipped[name] = str(error)
    say(f"  streaming: {', '.join(name for name in runs if name in board.figures) or 'nothing could be measured'}")


def run_apart(way: str, mib: int, chunk_mib: float, pause_ms: float, timeout: float = 600) -> dict[str, float]:
    """One stream in a process of its own. Raises `RuntimeError` when that fails."""
    command = [sys.executable, "-m", "benchmarks.streaming", way, str(mib), str(chunk_mib), str(pause_ms)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command[1:])} ended with status {done.returncode}: {done.stderr.strip()}")
    answer: dict[str, float] = json.loads(done.stdout)
    return answer


def memory_mib(field: str) -> float:
    """`VmRSS`, what this process has in memory, or `VmHWM`, the most that it had since `forget_peak()`."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/self/status has no {field}")


def forget_peak() -> None:
    """Lets `VmHWM` begin again from what there is now."""
    Path("/proc/self/clear_refs").write_text("5")


async def stream(orch: Orchestrator, way: str, count: int, size: int, pause: float) -> int:
    """Streams `count` chunks of `size` bytes, this end pausing for so many seconds after each; gives how many came."""

    async def given() -> AsyncIterator[bytes]:
        for _ in range(count):
            yield bytes(size)
            if pause and way == "in":
                await asyncio.sleep(pause)

    if way == "in":
        total: int = await orch.call("streams.length", input=given(), timeout=None)
        return total
    items = orch.stream("streams.echo", input=given()) if way == "both" else orch.stream("streams.chunks", count, size)
    total = 0
    async for chunk in items:
        total += len(chunk)
        if pause:
            await asyncio.sleep(pause)
    return total


async def main(way: str, mib: int, chunk_mib: float, pause_ms: float) -> dict[str, Any]:
    size = int(chunk_mib * MIB)
    count = max(1, int(mib / chunk_mib))
    service = ServiceConfig(command=[sys.executable, str(STREAM_WORKER)])
    async with Orchestrator(services={"streams": service}) as orch:
        await stream(orch, way, 3, 1000, 0)
        forget_peak()
        before = memory_mib("VmRSS")
        began = time.perf_counter()
        came = await stream(orch, way, count, size, pause_ms / 1e3)
        seconds = time.perf_counter() - began
        if came != count * size:
            raise RuntimeError(f"{came} bytes came, of {count * size}")
        return {"mib_per_s": came / MIB / seconds, "growth_mib": memory_mib("VmHWM") - before}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])))))
