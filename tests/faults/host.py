"""A program that runs an orchestrator: it writes the pids of its workers, whose handlers are then busy, in a line."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from mlports import Orchestrator, ServiceConfig

BUSY = Path(__file__).with_name("busy.py")


async def main(handler: str) -> None:
    command = [sys.executable, str(BUSY)]
    services = {name: ServiceConfig(command=command) for name in ("first", "second")}
    async with Orchestrator(services=services) as orch:
        began = [asyncio.Event() for _ in services]
        calls = [
            orch.call(f"{name}.{handler}", timeout=None, progress=lambda *_, event=event: event.set())
            for name, event in zip(services, began, strict=True)
        ]
        for event in began:
            await event.wait()
        pids = [service["replicas"][0]["pid"] for service in orch.status()["services"].values()]
        print(*pids, flush=True)
        await asyncio.gather(*calls)
        await orch.wait_stopped()


asyncio.run(main(sys.argv[1]))
