"""Three ways to have many tasks done, each measured in a process of its own, whose memory nothing else has used.

python -m examples.scaling.ways WAY COUNT [COUNT…]      # prints what `measure` gives, as JSON
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from mlports import Config, Orchestrator, load_config

CONFIG = Path(__file__).with_name("mlports.toml")
ROOT = Path(__file__).resolve().parents[2]
MIB = 2**20

_WARM_UP = 2000
_ROUNDS, _LONG = 3, 0.5
"""Each count is measured so often, or until it has taken so many seconds."""


async def calls(orch: Orchestrator, count: int) -> list[Any]:
    """A call for every task, all of them before the first answer."""
    under_way = [orch.call("tasks.nothing", number) for number in range(count)]
    return [await call for call in under_way]


async def asyncio_tasks(orch: Orchestrator, count: int) -> list[Any]:
    """An asyncio task for every one of them, which makes its call and awaits it."""

    async def task(number: int) -> Any:
        return await orch.call("tasks.nothing", number)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(task(number)) for number in range(count)]
    return [task.result() for task in tasks]


async def mapped(orch: Orchestrator, count: int) -> list[Any]:
    """`orch.map`, which has only as many under way as keep the workers busy."""
    return await orch.map("tasks.nothing", range(count))


Way = Callable[[Orchestrator, int], Awaitable[list[Any]]]
WAYS: dict[str, Way] = {"calls": calls, "asyncio-tasks": asyncio_tasks, "map": mapped}


def config_for(count: int) -> Config:
    """The file's, with a queue that so many tasks fit into."""
    config = load_config(CONFIG)
    service = config.service["tasks"]
    service = service.model_copy(update={"queue": max(count, service.queue)})
    return config.model_copy(update={"service": {"tasks": service}})


async def measure(way: Way, counts: Sequence[int]) -> dict[str, Any]:
    """Does so many tasks, for each of `counts` in turn; the largest should be the last.

    `seconds` and `cpu` are medians of up to three rounds, for each count: of the wall clock, and of this process's
    processor time. `growth` is by how many bytes this process was larger at its largest than before; None where there
    is no /proc. `done` is how many results came, of all rounds together.
    """
    async with Orchestrator(config=config_for(max(counts))) as orch:
        await way(orch, _WARM_UP)
        done = 0
        before = _forget_peak()
        seconds, cpu = [], []
        for count in counts:
            rounds: list[tuple[float, float]] = []
            while len(rounds) < _ROUNDS and sum(wall for wall, _ in rounds) < _LONG:
                began, used = time.perf_counter(), time.process_time()
                done += len(await way(orch, count))
                rounds.append((time.perf_counter() - began, time.process_time() - used))
            seconds.append(statistics.median(wall for wall, _ in rounds))
            cpu.append(statistics.median(used for _, used in rounds))
        growth = None if before is None else _memory("VmHWM") - before
        return {"counts": [*counts], "seconds": seconds, "cpu": cpu, "growth": growth, "done": done}


def measure_apart(way: str, counts: Sequence[int]) -> dict[str, Any]:
    """`measure` in a process of its own. Raises `RuntimeError`, with what it said, when that fails."""
    command = [sys.executable, "-m", "examples.scaling.ways", way, *map(str, counts)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{way} ended with status {done.returncode}: {done.stderr.strip()[-2000:]}")
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


def _forget_peak() -> int | None:
    """Lets the peak of this process's memory begin again; gives what it has now, in bytes. None without /proc."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return _memory("VmRSS")
    except OSError:
        return None


def _memory(field: str) -> int:
    text = Path("/proc/self/status").read_text()
    return int(text.partition(f"\n{field}:")[2].split()[0]) * 1024


if __name__ == "__main__":
    try:
        print(json.dumps(asyncio.run(measure(WAYS[sys.argv[1]], [int(count) for count in sys.argv[2:]]))))
    except KeyboardInterrupt:
        sys.exit(130)
