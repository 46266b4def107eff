"""A neural network from scratch: four tests of what it learns, how it scales, and what it costs neuron by neuron.

    python examples/neural_net/main.py --out pictures

Prints what it finds, and writes findings.json, width.png and neurons.png into the folder.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import time
from pathlib import Path
from typing import Any

import casting
import numpy as np
from pictures import draw
from problems import Problem, alternating, shots, two_bases, word_count

import mlports

HERE = Path(__file__).parent
WIDTHS = [16, 64, 256, 1024, 4096]
ROWS, INPUTS, OUTPUTS = 512, 64, 10
HIDDEN = [2, 5, 15, 50, 150]
SEED = 7


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


async def neuron_by_neuron(orch: mlports.Orchestrator) -> dict[str, Any]:
    """Seconds for one step each way, and how far their losses are from those of the arrays."""
    found: dict[str, Any] = {"neurons": [], "casts": [], "arrays": [], "coroutines": []}
    away = 0.0
    for hidden in HIDDEN:
        sizes = [5, hidden, 1]
        whole, crowd = await casting.arrays(sizes, 10), await casting.coroutines(sizes, 10)
        away = max(away, *np.abs(np.subtract(whole["losses"], crowd["losses"])))
        found["neurons"].append(hidden + 1)
        found["casts"].append(casting.casts(sizes))
        found["arrays"].append(whole["seconds"])
        found["coroutines"].append(crowd["seconds"])
    whole, one = await casting.arrays(casting.SIZES, 10), await casting.worker(orch, 10)
    many = await casting.processes(orch, 10)
    away = max(away, *np.abs(np.subtract(whole["losses"], many["losses"])))
    found["few"] = {"neurons": sum(casting.SIZES[1:]), "worker": one["seconds"], "processes": many["seconds"]}
    return {**found, "away": float(away)}


async def find() -> dict[str, Any]:
    """Everything, by the workers of mlports.toml."""
    problems = {
        "1 alternating": alternating(SEED),
        "2 two bases and noise": two_bases(SEED),
        "3 odd number of words": word_count(SEED),
        "4 simulated shots, inches on the floor": shots(SEED, other_coordinates=False),
        "4 simulated shots, distance and angle": shots(SEED, other_coordinates=True),
    }
    async with mlports.Orchestrator.from_config(HERE / "mlports.toml") as orch:
        return {
            "tests": {name: await examine(orch, problem) for name, problem in problems.items()},
            "width": await widths(orch),
            "casting": await neuron_by_neuron(orch),
        }


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
    cast = found["casting"]
    slower = cast["coroutines"][-1] / cast["arrays"][-1]
    few = cast["few"]
    print(
        f"neuron by neuron: losses within {cast['away']:.0e}; {cast['neurons'][-1]} coroutines take {slower:.0f} times "
        f"as long as arrays; {few['neurons']} processes {few['processes'] / few['worker']:.0f} times as long as one"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="A neural network from scratch.")
    parser.add_argument("--out", type=Path, default=Path("pictures"), help="folder for what it writes")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    found = asyncio.run(find())
    tell(found)
    (out / "findings.json").write_text(json.dumps(found, indent=1))
    for path in draw(found, out):
        print(f"see {path}")


if __name__ == "__main__":
    main()
