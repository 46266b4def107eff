"""How long a worker with scikit-learn is away that was killed: started anew, and forked by a template."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import TYPE_CHECKING, Any, ClassVar

from benchmarks.contenders.contender import Unavailable
from benchmarks.dataplane.digits import COMMAND, Unbatched
from benchmarks.recovery.subject import PATIENCE, Figures

if TYPE_CHECKING:
    from mlports import Config, ServiceConfig

PRELOAD = ("mlports_worker", "numpy", "sklearn.linear_model")
"""What the worker imports."""


class ColdStart(Unbatched):
    """The worker that classifies digits. `run(starts)` kills it so often with SIGKILL while it has nothing to do.

    The figure "ms" is the time from a kill to the first digit that the next one tells.
    """

    name: ClassVar[str] = "start-cold"
    title: ClassVar[str] = "a start from nothing"

    def _configure(self) -> Config:
        from mlports import Config, SupervisorConfig

        root = SupervisorConfig(intensity=1_000_000, period=1)
        return Config(supervisor=root, service={"digits": self._service()}, directory=self._folder.name)

    def run(self, *request: Any) -> Figures:
        (starts,) = request
        return {"ms": self._thread.do(self._starts(starts))}

    async def _starts(self, starts: int) -> list[float]:
        async with asyncio.timeout(PATIENCE):
            await self._caller(0, 1)
            return [await self._start() for _ in range(starts)]

    async def _start(self) -> float:
        (replica,) = self._thread.orchestrator.status()["services"]["digits"]["replicas"]
        start = time.perf_counter()
        os.kill(replica["pid"], signal.SIGKILL)
        await self._caller(0, 1)
        return (time.perf_counter() - start) * 1e3


class TemplateStart(ColdStart):
    name: ClassVar[str] = "start-template"
    title: ClassVar[str] = "a start from a template"

    def _service(self) -> ServiceConfig:
        from mlports import ServiceConfig

        if "preload" not in ServiceConfig.model_fields:
            raise Unavailable("this mlports has no `preload`")
        # Not written out, because a version without it has no such argument.
        more: dict[str, Any] = {"preload": PRELOAD}
        return ServiceConfig(command=COMMAND, config=self._digits.config, **more)
