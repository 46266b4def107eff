"""Builds a neural network from scratch: four tests of what it learns, its cost by width, a million rows an epoch.

python -m examples.neural_net
"""

from __future__ import annotations

import argparse
import asyncio
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import mlports

from ..findings import keep
from ..options import whole
from ..pictures import picture
from .drawing import draw
from .problems import Problem, alternating, shots, two_bases, word_count
from .streaming import BLOCK, STREAMED, Stream, peak_memory

CONFIG = Path(__file__).with_name("mlports.toml")
WIDTHS = [16, 64, 256, 1024, 4096]
ROWS, INPUTS, OUTPUTS = 512, 64, 10
SEED = 7
LEARNABLE = ["1 alternating", "2 two bases and noise", "4 simulated shots, distance and angle"]
MOST_MIB = 40  # blocks that wait, what is worked on, and the allocator's own


async def examine(orch: mlports.Orchestrator, problem: Problem) -> dict[str, Any]:
    """Learns one problem; gives the shares that are right of what it learned from, and of what is new to it.

    base: the share that one gets by always saying what is more frequent. p: how likely it is to be so much better than
    that by chance (one-sided, by the normal approximation); interval: where 95 of 100 that know nothing would be.
    """
    await orch.call("net.start_link", problem.layers, {"seed": SEED, **problem.options})
    told = await orch.call("net.fit", problem.rows, problem.targets, problem.epochs, timeout=120)
    known = await orch.call("net.evaluate", problem.rows, problem.targets)
    new = (await orch.call("net.evaluate", problem.new_rows, problem.new_targets))["accuracy"]
    often = float(problem.new_targets.mean())
    base = max(often, 1 - often)
    spread = math.sqrt(base * (1 - base) / len(problem.new_targets))
    return {
        "layers": problem.layers,
        "factors": told["factors"],
        "known": known["accuracy"],
        "new": new,
        "base": base,
        "interval": [base - 1.96 * spread, base + 1.96 * spread],
        "p": math.erfc((new - base) / spread / math.sqrt(2)) / 2,
    }


async def widths(orch: mlports.Orchestrator) -> dict[str, Any]:
    """Seconds for an epoch, the best of seven, by the number of hidden neurons."""
    random = np.random.default_rng(0)
    x, y = random.normal(size=(ROWS, INPUTS)), np.eye(OUTPUTS)[random.integers(0, OUTPUTS, ROWS)]
    best = []
    for width in WIDTHS:
        await orch.call("net.start_link", [INPUTS, width, OUTPUTS], {"output": "softmax"})
        seconds = []
        for _ in range(7):
            began = time.perf_counter()
            await orch.call("net.fit", x, y, 1, timeout=120)
            seconds.append(time.perf_counter() - began)
        best.append(min(seconds))
    return {"rows": ROWS, "widths": WIDTHS, "seconds": best}


async def a_million(orch: mlports.Orchestrator, rows: int) -> dict[str, Any]:
    """One epoch over a stream of so many rows: seconds, and MiB that the worker grew by meanwhile."""
    await orch.call("net.start_link", [STREAMED, 8, 1], {"batch": 500, "rate": 0.003, "seed": SEED})
    stream = Stream(rows, SEED)
    await orch.call("net.evaluate", *stream.draw(BLOCK))  # what working on a block needs is there before
    pid = orch.status()["services"]["net"]["replicas"][0]["pid"]
    before, began = peak_memory(pid), time.perf_counter()
    told = await orch.call("net.fit_stream", input=stream, timeout=600)
    seconds, after = time.perf_counter() - began, peak_memory(pid)
    return {
        "rows": told["rows"],
        "seconds": seconds,
        "rows are MiB": rows * (STREAMED + 1) * 8 / 2**20,
        "grew MiB": None if before is None or after is None else after - before,
        "accuracy": (await orch.call("net.evaluate", *stream.draw(BLOCK)))["accuracy"],
    }


async def find(rows: int) -> dict[str, Any]:
    """Everything, by the worker of mlports.toml; `rows` are streamed."""
    problems = {
        "1 alternating": alternating(SEED),
        "2 two bases and noise": two_bases(SEED),
        "3 odd number of words": word_count(SEED),
        "4 simulated shots, inches on the floor": shots(SEED, other_coordinates=False),
        "4 simulated shots, distance and angle": shots(SEED, other_coordinates=True),
    }
    async with mlports.Orchestrator.from_config(CONFIG) as orch:
        found: dict[str, Any] = {
            "tests": {name: await examine(orch, problem) for name, problem in problems.items()},
            "width": await widths(orch),
        }
    async with mlports.Orchestrator.from_config(CONFIG) as orch:  # a worker that has not needed memory for wide layers
        return {**found, "million": await a_million(orch, rows)}


def tell(found: dict[str, Any]) -> None:
    """Prints it."""
    for name, each in found["tests"].items():
        low, high = each["interval"]
        if each["new"] > high:
            word = f"learned (base {each['base']:.3f}, p = {each['p']:.0e})"
        else:
            word = f"no better than chance ({low:.3f} to {high:.3f})"
        print(f"{name}: {each['new']:.3f} of what is new, {each['known']:.3f} of what is known: {word}")
    wide = found["width"]
    costs = [1e6 * seconds / width for width, seconds in zip(wide["widths"], wide["seconds"], strict=True)]
    each = ", ".join(f"{cost:.0f} at {width}" for width, cost in zip(wide["widths"], costs, strict=True))
    print(f"an epoch of {wide['rows']} rows, microseconds for each hidden neuron: {each}")
    many = found["million"]
    grew = "unknown here" if many["grew MiB"] is None else f"{many['grew MiB']:.0f} MiB"
    print(
        f"an epoch of {many['rows']:,} rows, {many['rows are MiB']:.0f} MiB: {many['seconds']:.1f} s; "
        f"the worker grew by {grew}; {many['accuracy']:.3f} of new ones"
    )


def holds(found: dict[str, Any]) -> bool:
    """Whether it learned what can be learned, and a neuron costs about as much in a wide layer as in a narrow one."""
    learned = [each["new"] > each["interval"][1] for name, each in found["tests"].items() if name in LEARNABLE]
    wide, many = found["width"], found["million"]
    # Twice, for a machine that is busier at one time than at another; a fall-off is tens of times.
    in_step = wide["seconds"][-1] / wide["seconds"][1] < 2 * wide["widths"][-1] / wide["widths"][1]
    bounded = many["grew MiB"] is None or many["grew MiB"] < MOST_MIB
    return all(learned) and in_step and bounded


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.neural_net", description=__doc__)
    parser.add_argument("--rows", type=whole(1), default=1_000_000, help="how many rows are streamed")
    parser.add_argument("--out", type=Path, default=Path("pictures"), help="where the picture and findings.json go")
    options = parser.parse_args()
    found = asyncio.run(find(options.rows))
    tell(found)
    out: Path = options.out
    picture(out / "neural_net.png", lambda figure: draw(figure, found["width"]), size=(7, 4.5))
    keep(found, out)
    if not holds(found):
        sys.exit("it does not hold: something was not learned, or took more than it has to")


if __name__ == "__main__":
    main()
