"""One step of the same network four ways: as arrays, and neuron by neuron; in this process, and in workers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from mlports import Orchestrator, ServiceConfig, load_config
from mlports_models.net.learner import NeuralNet
from mlports_models.net.neurons import Crowd

CONFIG = Path(__file__).with_name("mlports.toml")
ROWS, RATE, SEED = 32, 0.1, 7
SECONDS = 60.0
Array = np.ndarray[Any, Any]
Step = Callable[[], Awaitable[float]]
"""Learns from the batch; gives the loss before that."""


def batch(inputs: int) -> tuple[Array, Array]:
    """The 32 rows of which each step is."""
    random = np.random.default_rng(0)
    return random.normal(size=(ROWS, inputs)), random.uniform(0, 1, (ROWS, 1))


def arrays(sizes: list[int]) -> Step:
    """Layer by layer, in this process."""
    net = NeuralNet({"layers": sizes, "seed": SEED, "optimizer": "sgd", "rate": RATE})
    x, y = batch(sizes[0])

    async def step() -> float:
        return net.backprop(x, y)

    return step


def coroutines(crowd: Crowd, sizes: list[int]) -> Step:
    """A coroutine of this process for each neuron."""
    x, y = batch(sizes[0])
    return lambda: crowd.backprop(x, y)


def services(sizes: list[int]) -> dict[str, ServiceConfig]:
    """The worker that has the whole network, and a worker for each of its neurons: neuron_LAYER_INDEX."""
    known = load_config(CONFIG).service
    shared = {"layers": sizes, "seed": SEED, "rate": RATE}
    found = {"net": known["net"].model_copy(update={"config": {**shared, "optimizer": "sgd"}})}
    for layer, size in enumerate(sizes[1:], 1):
        for index in range(size):
            config = {**shared, "layer": layer, "index": index}
            found[f"neuron_{layer}_{index}"] = known["neuron"].model_copy(update={"config": config})
    return found


def worker(orch: Orchestrator, sizes: list[int]) -> Step:
    """Layer by layer, in a worker."""
    x, y = batch(sizes[0])
    return lambda: orch.call("net.backprop", x, y, timeout=SECONDS)


def processes(orch: Orchestrator, sizes: list[int]) -> Step:
    """A worker for each neuron, which casts what it has to say to other workers."""
    x, y = batch(sizes[0])
    inputs, hidden, _ = sizes

    async def step() -> float:
        await orch.call("neuron_2_0.take", "target", 0, y[:, 0].copy(), timeout=SECONDS)
        takes = [
            orch.call(f"neuron_1_{index}.take", "value", sender, x[:, sender].copy(), timeout=SECONDS)
            for sender in range(inputs)
            for index in range(hidden)
        ]
        await asyncio.gather(*takes)
        _, loss = await orch.call("neuron_2_0.answer", timeout=SECONDS)
        learned = [orch.call(f"neuron_1_{index}.learned", timeout=SECONDS) for index in range(hidden)]
        await asyncio.gather(*learned)
        return float(loss)

    return step


def casts(sizes: list[int]) -> int:
    """Messages that one step is, from neuron to neuron, from the inputs and to who asks."""
    there = sum(before * after for before, after in pairwise(sizes))
    back = there - sizes[0] * sizes[1]
    return there + back + sizes[1] + 2 * sizes[-1]
