"""Prints, as JSON, by how many `bytes` an orchestrator's resident memory grows for each of so many waiting `calls`.

A call is what `call` returns, with its params and its place in line; the 64 bytes that it carries are the same object
for all, and there is no task that awaits it. All are made in one turn of the loop, in which nothing can be answered.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from benchmarks.twenty_workers import resident_mib
from mlports import Orchestrator, ServiceConfig

ECHO_WORKER = Path(__file__).with_name("echo_worker.py")
CALLS = 50_000
WARM_UP = 1000
PAYLOAD = b"x" * 64


async def main() -> None:
    service = ServiceConfig(command=[sys.executable, str(ECHO_WORKER)], queue=CALLS)
    async with Orchestrator(services={"echo": service}) as orchestrator:
        call = orchestrator.call
        await asyncio.gather(*[call("echo.echo", PAYLOAD) for _ in range(WARM_UP)])
        before = resident_mib()
        calls = [call("echo.echo", PAYLOAD) for _ in range(CALLS)]
        grown = resident_mib() - before
        await asyncio.gather(*calls)
        print(json.dumps({"bytes": grown * 2**20 / CALLS, "calls": CALLS}))


if __name__ == "__main__":
    asyncio.run(main())
