"""The same network three ways: as arrays, layer by layer; a coroutine for each neuron; a process for each neuron."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any

import numpy as np

import mlports
from mlports_models.net.learner import NeuralNet
from mlports_models.net.neurons import Crowd

SIZES = [5, 5, 1]  # of the services in mlports.toml
ROWS, RATE = 32, 0.1
Array = np.ndarray[Any, Any]


def batch(inputs: int) -> tuple[Array, Array]:
    random = np.random.default_rng(0)
    return random.normal(size=(ROWS, inputs)), random.uniform(0, 1, (ROWS, 1))


async def arrays(sizes: list[int], steps: int) -> dict[str, Any]:
    """Steps of a network of whole layers, in this process."""
    net = NeuralNet({"layers": sizes, "seed": 7, "optimizer": "sgd", "rate": RATE})
    x, y = batch(sizes[0])

    async def step() -> float:
        return net.backprop(x, y)

    return await _timed(step, steps)


async def coroutines(sizes: list[int], steps: int) -> dict[str, Any]:
    """Steps of a network whose neurons are coroutines of this process."""
    x, y = batch(sizes[0])
    async with Crowd(sizes, seed=7, rate=RATE) as crowd:
        return await _timed(lambda: crowd.backprop(x, y), steps)


async def worker(orch: mlports.Orchestrator, steps: int) -> dict[str, Any]:
    """Steps of the worker that is a network of whole layers."""
    await orch.call("net.start_link", SIZES, {"seed": 7, "optimizer": "sgd", "rate": RATE})
    x, y = batch(SIZES[0])
    return await _timed(lambda: orch.call("net.backprop", x, y), steps)


async def processes(orch: mlports.Orchestrator, steps: int) -> dict[str, Any]:
    """Steps of the workers that are a neuron each."""
    x, y = batch(SIZES[0])

    async def step() -> float:
        await orch.call("neuron_2_0.take", "target", 0, y[:, 0].copy())
        await asyncio.gather(
            *(
                orch.call(f"neuron_1_{index}.take", "value", sender, x[:, sender].copy())
                for sender in range(SIZES[0])
                for index in range(SIZES[1])
            )
        )
        _, loss = await orch.call("neuron_2_0.answer", timeout=30)
        await asyncio.gather(*(orch.call(f"neuron_1_{index}.learned", timeout=30) for index in range(SIZES[1])))
        return float(loss)

    return await _timed(step, steps)


def casts(sizes: list[int]) -> int:
    """Messages that one step is, from neuron to neuron, from the inputs and to who asks."""
    there = sum(before * after for before, after in pairwise(sizes))
    back = there - sizes[0] * sizes[1]
    return there + back + sizes[1] + 2 * sizes[-1]


async def _timed(step: Callable[[], Awaitable[float]], steps: int) -> dict[str, Any]:
    """The loss before each step, and the seconds that the quickest took."""
    losses, seconds = [], []
    for _ in range(steps):
        began = time.perf_counter()
        losses.append(await step())
        seconds.append(time.perf_counter() - began)
    return {"losses": losses, "seconds": min(seconds)}
