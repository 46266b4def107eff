"""What a segmentation fault in a worker takes with it. It is to be seen from outside: in a program of its own.

python -m examples.native_code.risking LIBRARY inline|process
"""

from __future__ import annotations

import asyncio
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from mlports import Orchestrator, WorkerCrashed

from .building import HERE, configured


class Fate(NamedTuple):
    """How the program ended: its exit status, -11 for SIGSEGV, and what it could still say."""

    status: int
    said: list[dict[str, Any]]


def crashed(library: Path, service: str) -> Fate:
    """Runs this module as a program of its own, and tells what became of it."""
    command = [sys.executable, "-m", f"{__package__}.risking", str(library), service]
    done = subprocess.run(command, cwd=HERE.parent.parent, capture_output=True, text=True, timeout=100, check=False)
    return Fate(done.returncode, [json.loads(line) for line in done.stdout.splitlines()])


async def crash(library: Path, service: str) -> None:
    """Says what it lives to see: `before`, `crash` with the error that a caller gets, and `after`.

    Both services are there; the one that does not crash is the `neighbour`.
    """
    import numpy as np

    array = np.ones(8)
    neighbour = {"inline": "process", "process": "inline"}[service]
    async with Orchestrator(config=configured(library, service, neighbour)) as orch:
        _say("before", sum=await orch.call(f"{service}.in_c", array))
        try:
            await orch.call(f"{service}.crash")
        except WorkerCrashed as error:
            _say("crash", error=str(error).splitlines()[0])
        sums = {
            "sum": await orch.call(f"{service}.in_c", array),
            "neighbour": await orch.call(f"{neighbour}.in_c", array),
        }
        services = orch.status()["services"]
        _say("after", **sums, restarts=[services[name]["replicas"][0]["restarts"] for name in (service, neighbour)])


def _say(moment: str, **what: Any) -> None:
    print(json.dumps({"moment": moment, **what}), flush=True)


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # it is meant to crash: no core file is wanted
    asyncio.run(crash(Path(sys.argv[1]), sys.argv[2]))
