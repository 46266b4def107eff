"""Ray: kill -9 of an actor's process, to the next answer."""

from __future__ import annotations

import os
import signal
import time
from typing import Any, ClassVar

from benchmarks.contenders.ray_actor import RayActor
from benchmarks.recovery.subject import IN_FLIGHT, PATIENCE, PAYLOAD, Figures, freeze

UNDER_WAY = 512
"""Answers after which the load counts as being under way."""

QUIET = 0.05
"""Seconds without an answer after which none is on its way from a frozen actor."""


class RayKills:
    """An actor that Ray restarts and whose tasks it retries for ever; one more is submitted for each that is done."""

    name: ClassVar[str] = "kills-ray"
    title: ClassVar[str] = "Ray actor"

    def open(self) -> None:
        self._contender = RayActor()
        self._contender.open(max_restarts=-1, max_task_retries=-1)
        self._ray, self._actor = self._contender.ray, self._contender.actor

    def close(self) -> None:
        self._contender.close()

    def run(self, *request: Any) -> Figures:
        """`request` is the number of kills; each gives a figure "ms"."""
        (kills,) = request
        self._open = [self._actor.echo.remote(PAYLOAD) for _ in range(IN_FLIGHT)]
        times = [self._kill() for _ in range(kills)]
        self._ray.get(self._open, timeout=PATIENCE)
        return {"ms": times}

    def _kill(self) -> float:
        answered = 0
        while answered < UNDER_WAY:
            answered += self._take(PATIENCE)
        pid = self._ray.get(self._actor.pid.remote(), timeout=PATIENCE)
        freeze(pid)
        try:
            while self._take(QUIET):
                pass
            start = time.perf_counter()
        finally:
            os.kill(pid, signal.SIGKILL)
        done, _ = self._ray.wait(self._open, num_returns=1, timeout=PATIENCE)
        self._ray.get(done)
        seconds = time.perf_counter() - start
        if not done:
            raise RuntimeError(f"the actor has not come back within {PATIENCE:g} s")
        return seconds * 1e3

    def _take(self, timeout: float) -> int:
        """Replaces the calls that are done, or become so within `timeout` seconds; gives their number."""
        done, self._open = self._ray.wait(self._open, num_returns=1, timeout=timeout)
        self._ray.get(done)
        self._open += [self._actor.echo.remote(PAYLOAD) for _ in done]
        return len(done)
