"""100,000 tasks at once over two workers: by how much the orchestrator grows, and how many a second are done.

    python -m benchmarks.scaling

does it in a process of its own and prints, as JSON, `growth_mib`, of the first round, and `rates`, tasks a second of
each round. A task is a call that does nothing; all are made before the first answer, then awaited one by one.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.contenders.contender import ECHO_WORKER
from benchmarks.driver import ROOT
from benchmarks.measure import Board
from benchmarks.streaming import forget_peak, memory_mib
from mlports import Orchestrator, ServiceConfig

TASKS, WORKERS, ROUNDS = 100_000, 2, 5
WARM_UP = 2000

TASKS_GROWTH_MIB = f"{TASKS:,} tasks at once over {WORKERS} workers: orchestrator grows by, MiB"
TASKS_RATE = f"{TASKS:,} tasks at once over {WORKERS} workers, tasks/s"


def measure_scaling(board: Board, say: Callable[[str], None] = print) -> None:
    """Fill `board.figures`, or `board.skipped` with the reason."""
    command = [sys.executable, "-m", "benchmarks.scaling"]
    began = time.monotonic()
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    except subprocess.TimeoutExpired as error:
        board.skipped["scaling"] = str(error)
        return
    if done.returncode != 0:
        board.skipped["scaling"] = f"it ended with status {done.returncode}: {done.stderr.strip()}"
        return
    measured = json.loads(done.stdout)
    board.figures[TASKS_GROWTH_MIB] = [measured["growth_mib"]]
    board.figures[TASKS_RATE] = measured["rates"]
    say(f"  scaling: 2 figures, {time.monotonic() - began:.1f} s")


async def work(orch: Orchestrator, count: int) -> float:
    """Does so many tasks; gives the seconds. Raises RuntimeError if one has no answer."""
    began = time.perf_counter()
    calls = [orch.call("echo.echo", None) for _ in range(count)]
    answers = [await call for call in calls]
    if answers != [None] * count:
        raise RuntimeError(f"of {count} tasks, not all were answered as they should be")
    return time.perf_counter() - began


async def main() -> dict[str, Any]:
    service = ServiceConfig(command=[sys.executable, str(ECHO_WORKER)], replicas=WORKERS, queue=TASKS)
    async with Orchestrator(services={"echo": service}) as orch:
        await work(orch, WARM_UP)
        forget_peak()
        before = memory_mib("VmRSS")
        seconds = [await work(orch, TASKS)]
        growth = memory_mib("VmHWM") - before
        seconds += [await work(orch, TASKS) for _ in range(ROUNDS - 1)]
    return {"growth_mib": growth, "rates": [TASKS / each for each in seconds]}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main())))
