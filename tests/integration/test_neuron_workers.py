"""A process for each neuron: six workers that cast to one another learn what one worker with arrays learns."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlports import Orchestrator, ServiceConfig, StartFailed

ROOT = Path(__file__).resolve().parents[2]
ENV = {
    "PYTHONPATH": os.pathsep.join(str(ROOT / folder) for folder in ("protocol", "orchestrator", "workers/python")),
    "OPENBLAS_NUM_THREADS": "1",
}
SIZES = [2, 3, 1]


def service(module: str, **config: Any) -> ServiceConfig:
    command = ["python", "-m", f"mlports_models.{module}"]
    return ServiceConfig(command=command, env=ENV, config=config, start_timeout="60s", concurrency=64)


async def test_processes_learn_what_arrays_learn() -> None:
    services = {
        f"neuron_{layer}_{index}": service("neuron", layers=SIZES, layer=layer, index=index, seed=5)
        for layer in (1, 2)
        for index in range(SIZES[layer])
    }
    services["net"] = service("neural_net", layers=SIZES, seed=5, optimizer="sgd")
    x, targets = np.array([[0, 1], [1, 0], [1, 1.0]]), np.array([1, 1, 0.0])
    async with Orchestrator(services) as orch:
        for _ in range(3):
            loss = await orch.call("net.backprop", x, targets)
            await orch.call("neuron_2_0.take", "target", 0, targets)
            for sender, column in enumerate(x.T.copy()):
                await asyncio.gather(*(orch.call(f"neuron_1_{i}.take", "value", sender, column) for i in range(3)))
            _, told = await orch.call("neuron_2_0.answer", timeout=20)
            await asyncio.gather(*(orch.call(f"neuron_1_{i}.learned", timeout=20) for i in range(3)))
            assert told == pytest.approx(loss, abs=1e-9)
        state = await orch.call("net.snapshot")
        for layer in (1, 2):
            for index in range(SIZES[layer]):
                weights, bias = await orch.call(f"neuron_{layer}_{index}.weights")
                np.testing.assert_allclose(weights, state["weights"][layer - 1][:, index], atol=1e-9)
                assert bias == pytest.approx(state["biases"][layer - 1][index], abs=1e-9)


async def test_a_neuron_that_is_none_of_the_network_s_is_refused() -> None:
    with pytest.raises(StartFailed, match="no neuron 3 in layer 1"):
        async with Orchestrator({"neuron_1_3": service("neuron", layers=SIZES, layer=1, index=3)}):
            pass
