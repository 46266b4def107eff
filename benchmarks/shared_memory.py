"""Arrays through the pipe against arrays in shared memory, by size: python -m benchmarks.shared_memory

For each size the microseconds of one call, in the message (extension 1) and in shared memory (2), taken by turns:
`echo`, whose result is its argument, and `fresh`, whose result is another array. `memcpy` is the argument copied there
and back. Every figure is the lower quartile. Here everything from 4 KiB on is shared, so as to find where that begins
to be worth it.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from mlports import Orchestrator, ServiceConfig
from mlports.runtime import shared_arrays
from mlports.runtime.blocking import new_event_loop

KIB = 1024
SIZES = [16, 32, 64, 128, 256, 512, 1024, 4096, 8192, 16384, 65536]  # KiB
SECONDS = 1.0  # for each size
LEAST = 4 * KIB

WORKER = """
from mlports_worker import Worker, shared_memory
shared_memory.LEAST = shared_memory.LEAST_ROOM = {least}
worker = Worker("arrays")

@worker.method
def echo(x):
    return x

@worker.method
def fresh(x):
    return kept[len(x)] if len(x) in kept else kept.setdefault(len(x), x + 1)

kept = {{}}
worker.run()
"""


def quartile(times: list[float]) -> float:
    return sorted(times)[len(times) // 4] * 1e6


async def measure() -> None:
    shared_arrays.LEAST = LEAST  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "arrays.py"
        path.write_text(WORKER.format(least=LEAST))
        command = [sys.executable, str(path)]
        services = {
            "pipe": ServiceConfig(command=command, shared_memory=False, max_frame="256MiB"),
            "shared": ServiceConfig(command=command, max_frame="256MiB"),
        }
        print(f"{'KiB':>6} {'memcpy':>8} {'echo 1':>8} {'echo 2':>8} {'fresh 1':>8} {'fresh 2':>8}")
        async with Orchestrator(services=services) as orchestrator:
            for size in SIZES:
                await measure_size(orchestrator, size)


async def measure_size(orchestrator: Orchestrator, size: int) -> None:
    sent = np.ones(size * KIB // 4, np.float32)
    there, back = np.empty_like(sent), np.empty_like(sent)
    targets = ["pipe.echo", "shared.echo", "pipe.fresh", "shared.fresh"]
    times: dict[str, list[float]] = {name: [] for name in ["memcpy", *targets]}
    for target in targets:
        for _ in range(3):
            await orchestrator.call(target, sent)
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end or len(times["memcpy"]) < 8:
        began = time.perf_counter()
        there[:] = sent
        back[:] = there
        times["memcpy"].append(time.perf_counter() - began)
        for target in targets:
            for _ in range(2):
                began = time.perf_counter()
                await orchestrator.call(target, sent)
                took = time.perf_counter() - began
            times[target].append(took)  # of the second: the first finds the other worker awake
    print(f"{size:>6} " + " ".join(f"{quartile(values):>8.0f}" for values in times.values()), flush=True)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(measure())
