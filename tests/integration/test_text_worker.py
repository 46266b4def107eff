"""The text worker through an orchestrator: a kill takes nothing of what it has learned."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from mlports import CallError, InvalidArgument, Orchestrator, ServiceConfig

ROOT = Path(__file__).resolve().parents[2]
ENV = {
    "PYTHONPATH": os.pathsep.join(str(ROOT / folder) for folder in ("protocol", "orchestrator", "workers/python")),
    "OPENBLAS_NUM_THREADS": "1",
}
TEXTS = ["it does not start", "the screen stays dark", "thank you", "what a good machine"]


def service(**config: object) -> ServiceConfig:
    return ServiceConfig(command=["python", "-m", "mlports_models.text"], env=ENV, config=config, start_timeout="120s")


@pytest.mark.timeout(180)
async def test_it_learns_answers_and_goes_on_after_a_kill(tmp_path: Path) -> None:
    config = {"labels": ["fault", "praise"], "snapshot": {"dir": str(tmp_path), "every": 1}}
    async with Orchestrator({"tickets": service(**config)}) as orch:
        with pytest.raises(CallError, match="nothing was learned") as caught:
            await orch.call("tickets.predict", "a text")
        assert caught.value.code == "failed_precondition"
        await orch.call("tickets.learn", TEXTS, ["fault", "fault", "praise", "praise"])
        assert await orch.call("tickets.remember", list(range(4)), TEXTS) == 4
        before = await orch.map("tickets.predict_proba", [*TEXTS, "", TEXTS])
        os.kill(orch.status()["services"]["tickets"]["replicas"][0]["pid"], signal.SIGKILL)
        after = await orch.map("tickets.predict_proba", [*TEXTS, "", TEXTS])
        for one, other in zip(before, after, strict=True):
            np.testing.assert_array_equal(one, other)
        assert await orch.map("tickets.predict", ["what a screen", TEXTS]) == [
            "praise",
            ["fault", "fault", "praise", "praise"],
        ]
        assert (await orch.call("tickets.nearest", "the dark screen", 1))[0]["key"] == 1
        with pytest.raises(InvalidArgument, match="a NoneType, not a text"):
            await orch.call("tickets.predict", None)
        assert (await orch.call("tickets.info"))["learned"] == 4
