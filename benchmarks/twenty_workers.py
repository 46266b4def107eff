"""Prints, as JSON, the resident memory of an orchestrator that runs 20 echo workers: `rss_mib`, `workers`."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from mlports import Orchestrator, ServiceConfig

ECHO_WORKER = Path(__file__).with_name("echo_worker.py")
REPLICAS = 20
CALLS = 1000


def echo_workers() -> int:
    """How many descendants of this process run the echo worker."""
    parents: dict[int, int] = {}
    workers: list[int] = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text()
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
        if ECHO_WORKER.name.encode() in command:
            workers.append(int(entry.name))

    def is_ours(pid: int) -> bool:
        while pid in parents:
            pid = parents[pid]
            if pid == os.getpid():
                return True
        return False

    return sum(map(is_ours, workers))


def resident_mib() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("/proc/self/status has no VmRSS")


async def main() -> None:
    service = ServiceConfig(command=[sys.executable, str(ECHO_WORKER)], replicas=REPLICAS)
    async with Orchestrator(services={"echo": service}) as orchestrator:
        await asyncio.gather(*[orchestrator.call("echo.echo", b"x" * 64) for _ in range(CALLS)])
        # Entering may mean that one replica is ready, not that all twenty run; and /proc has no event to wait for.
        async with asyncio.timeout(60):
            while (workers := echo_workers()) < REPLICAS:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        await asyncio.gather(*[orchestrator.call("echo.echo", b"x" * 64) for _ in range(CALLS)])
        print(json.dumps({"rss_mib": resident_mib(), "workers": workers}))


if __name__ == "__main__":
    asyncio.run(main())
