"""Makes each neuron a process that casts to the next, and measures that against a layer at a time.

python -m examples.neurons
python -m examples.neurons --processes 30 --rounds 20
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median
from typing import NamedTuple

from mlports import Orchestrator
from mlports_models.net.neurons import Crowd

from ..options import whole
from ..pictures import picture
from .drawing import draw
from .ways import RATE, SEED, Step, arrays, casts, coroutines, processes, services, worker

INPUTS = 5
HIDDEN = [2, 5, 10, 20, 50, 150]
ALIKE = 1e-9
TIMES_SLOWER = 2  # it is far more: less than this would be another finding


class Found(NamedTuple):
    """A network of so many neurons: seconds for a step by way, the median, and how far losses are apart at most."""

    neurons: int
    casts: int
    seconds: dict[str, float]
    apart: float


async def compare(hidden: int, rounds: int, with_processes: bool) -> Found:
    """Each way takes a step, in turn, `rounds` times."""
    sizes = [INPUTS, hidden, 1]
    async with AsyncExitStack() as stack:
        crowd = await stack.enter_async_context(Crowd(sizes, seed=SEED, rate=RATE))
        ways: dict[str, Step] = {"arrays": arrays(sizes), "coroutines": coroutines(crowd, sizes)}
        if with_processes:
            orch = await stack.enter_async_context(Orchestrator(services(sizes)))
            ways |= {"worker": worker(orch, sizes), "processes": processes(orch, sizes)}
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        apart = 0.0
        for _ in range(rounds):
            losses = []
            for name, step in ways.items():
                began = time.perf_counter()
                losses.append(await step())
                seconds[name].append(time.perf_counter() - began)
            apart = max(apart, max(losses) - min(losses))
    return Found(hidden + 1, casts(sizes), {name: median(each) for name, each in seconds.items()}, apart)


async def compare_all(most: int, rounds: int) -> list[Found]:
    """Every width; with a process for each neuron where there are no more than `most` of them."""
    return [await compare(hidden, rounds, hidden + 1 <= most) for hidden in HIDDEN]


def holds(found: list[Found]) -> bool:
    """Whether all ways learn the same, and a layer at a time is far quicker than a process for each neuron."""
    by_process = [each.seconds for each in found if "processes" in each.seconds]
    slower = all(each["processes"] > TIMES_SLOWER * each["worker"] for each in by_process)
    return bool(by_process) and slower and max(each.apart for each in found) < ALIKE


def tell(found: list[Found]) -> None:
    """Prints it."""
    print("milliseconds for a step by 32 rows, the median; a layer at a time, and neuron by neuron")
    print("neurons   casts   arrays  coroutines   a worker with all   a process for each")
    for each in found:
        times = {name: 1000 * seconds for name, seconds in each.seconds.items()}
        line = f"{each.neurons:7}  {each.casts:6}  {times['arrays']:7.3f}  {times['coroutines']:10.3f}"
        if "processes" in times:
            slower = times["processes"] / times["worker"]
            line += f"  {times['worker']:18.3f}  {times['processes']:19.3f}: {slower:.0f} times"
        print(line)
    print(f"the losses of all ways are within {max(each.apart for each in found):.0e} of each other")
    cast = [1e6 * each.seconds["processes"] / each.casts for each in found if "processes" in each.seconds]
    within = [1e6 * each.seconds["coroutines"] / each.casts for each in found]
    print(f"a cast costs {min(within):.0f} to {max(within):.0f} µs in one process, ", end="")
    print(f"{min(cast):.0f} to {max(cast):.0f} between processes" if cast else "and was not tried between processes")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.neurons", description=__doc__)
    parser.add_argument(
        "--processes", type=whole(HIDDEN[0] + 1), default=11, help="most neurons that are a process each"
    )
    parser.add_argument("--rounds", type=whole(1), default=10, help="how many steps each way takes")
    parser.add_argument("--out", type=Path, default=Path("pictures"), help="where the picture goes")
    options = parser.parse_args()
    found = asyncio.run(compare_all(options.processes, options.rounds))
    tell(found)
    picture(options.out / "neurons.png", lambda figure: draw(figure, found), size=(7, 4.5))
    if not holds(found):
        sys.exit("it does not hold: the ways differ in what they learn, or processes cost next to nothing")


if __name__ == "__main__":
    main()
