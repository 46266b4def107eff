"""The linear worker through an orchestrator: its methods as callers see them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from mlports import CallError, Orchestrator, ServiceConfig, StartFailed

ROOT = Path(__file__).resolve().parents[2]
ENV = {
    "PYTHONPATH": os.pathsep.join(str(ROOT / folder) for folder in ("protocol", "orchestrator", "workers/python")),
    "OPENBLAS_NUM_THREADS": "1",
}


def service(**config: object) -> ServiceConfig:
    return ServiceConfig(command=["python", "-m", "mlports_models.linear"], env=ENV, config=config, start_timeout="60s")


async def test_it_learns_runs_and_shows_its_steps() -> None:
    async with Orchestrator({"films": service(alpha=1e-11)}) as orch:
        assert await orch.call("films.run", 100_000, 2.5) == 250_000
        steps = [step async for step in orch.stream("films.trace", 200_000, 99_750_000)]
        assert [step["weight"] for step in steps[:3]] == [1.0, 200.1, 319.56]
        assert [step["weight"] for step in steps[-2:]] == [498.74999999999994, 498.75]
        assert await orch.call("films.weight") == 498.75
        await orch.call("films.reset")
        assert (await orch.call("films.train", 200_000, 99_750_000))["weight"] == 498.75
        assert await orch.call("films.run", 200_000) == 99_750_000
        x, y = np.arange(12.0).reshape(6, 2) % 5, np.arange(6.0)
        told = await orch.call("films.train", x, y)
        with pytest.raises(CallError, match="of shape"):
            await orch.call("films.train", x, y[:5])
        assert told["weight"].shape == (2,)


async def test_a_wrong_config_ends_it_with_the_reason() -> None:
    with pytest.raises(StartFailed, match="did you mean 'alpha'"):
        async with Orchestrator({"films": service(aplha=1)}):
            pass
