"""The workers that learn as they go, through an orchestrator: a kill takes nothing of what they have learned."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlports import CallError, Orchestrator, ServiceConfig, StartFailed

ROOT = Path(__file__).resolve().parents[2]
ENV = {
    "PYTHONPATH": os.pathsep.join(str(ROOT / folder) for folder in ("protocol", "orchestrator", "workers/python")),
    "OPENBLAS_NUM_THREADS": "1",
}
READINGS = np.random.default_rng(0).normal(size=(1200, 3))


def service(worker: str, **config: object) -> ServiceConfig:
    command = ["python", "-m", f"mlports_models.{worker}"]
    return ServiceConfig(command=command, env=ENV, config=config, start_timeout="60s")


@pytest.mark.parametrize(
    ("worker", "calls", "ask"),
    [
        ("indicators", [("update", "A", 0, READINGS[:50].repeat(2, 1)[:, :5] ** 2)], ("position", "A")),
        ("anomaly", [("judge", READINGS[0])], ("info",)),  # in the first window
        ("anomaly", [("judge", READINGS)], ("info",)),
        ("recommender", [("event", "ada", 7), ("event", "bob", 7), ("event", "bob", "x")], ("recommend", "ada")),
        ("fraud", [("learn", READINGS, READINGS[:, 0] > 0)], ("predict", READINGS[0])),
    ],
)
async def test_a_kill_takes_nothing(tmp_path: Path, worker: str, calls: list[Any], ask: tuple[Any, ...]) -> None:
    async with Orchestrator({"learner": service(worker, snapshot={"dir": str(tmp_path), "every": 1})}) as orch:
        for method, *arguments in calls:
            await orch.call(f"learner.{method}", *arguments)
        before = await orch.call(f"learner.{ask[0]}", *ask[1:])
        os.kill(orch.status()["services"]["learner"]["replicas"][0]["pid"], signal.SIGKILL)
        assert await orch.call(f"learner.{ask[0]}", *ask[1:]) == before
        assert before


@pytest.mark.parametrize("worker", ["indicators", "anomaly", "recommender", "fraud"])
async def test_a_wrong_config_ends_it_with_the_reason(worker: str) -> None:
    with pytest.raises(StartFailed, match="there is no key 'colour'"):
        async with Orchestrator({"learner": service(worker, colour="red")}):
            pass


async def test_bars_that_are_missing_are_asked_for_by_number() -> None:
    async with Orchestrator({"market": service("indicators")}) as orch:
        with pytest.raises(CallError, match="0 comes next") as caught:
            await orch.call("market.update", "A", 5, [1, 2, 3, 4, 5])
        assert (caught.value.code, caught.value.data) == ("failed_precondition", {"position": 0})
