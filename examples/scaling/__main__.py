"""100,000 tasks at once over two workers, in bounded memory, and every one answered though a worker is killed.

python -m examples.scaling
python -m examples.scaling --tasks 1000000      # a million
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path
from typing import Any

from ..options import whole
from ..pictures import picture
from .drawing import draw
from .killing import Settlement, settle
from .processes import measure_processes
from .ways import MIB, WAYS, measure_apart

PROMISED_BYTES, PROMISED_FOR = 200 * MIB, 100_000
"""By how much the orchestrator may grow for so many tasks; for more, in proportion."""

TITLES = {"calls": "a call for each", "asyncio-tasks": "an asyncio task for each", "map": "orch.map"}


def counts_up_to(count: int) -> list[int]:
    """The powers of ten from 1,000 on that are less, and then the count itself."""
    return [*(10**power for power in range(3, 12) if 10**power < count), count]


def say_way(name: str, its: dict[str, Any]) -> None:
    count, seconds, cpu, growth = its["counts"][-1], its["seconds"][-1], its["cpu"][-1], its["growth"]
    grown = "memory not measured" if growth is None else f"{growth / MIB:6.1f} MiB, {growth / count:5,.0f} bytes a task"
    print(f"  {TITLES[name]:25}{count / seconds:9,.0f} tasks/s, {1e6 * cpu / count:5.1f} µs of processor each, {grown}")


def say_processes(its: dict[str, Any], count: int) -> None:
    each = its["seconds"] / its["count"]
    print(f"  {'a process for each':25}{1 / each:9,.0f} tasks/s, measured with {its['count']} Pythons, two at a time;")
    room = "" if its["bytes"] is None else f", and all at once {its['bytes'] * count / 2**30:,.0f} GiB"
    print(f"  {'':25}extrapolated to {count:,}: {each * count:,.0f} s{room}")


def say_settlement(found: Settlement) -> None:
    print(f"{len(found.settled):,} tasks that compute, a worker killed after {found.killed_at:.2f} s:")
    for death in found.deaths:
        print(f"  {death}")
    print(f"  {sum(found.settled):,} settled in {found.seconds:.2f} s, {len(found.errors):,} failed,", end=" ")
    print(f"{found.taken_in:,} answers taken in, {found.sent_again:,} sent again")
    if found.right:
        longest = max(range(len(found.answers)), key=lambda place: found.answers[place] or 0)
        print(f"  all are right; most steps, {found.answers[longest]}, lead from {longest + 1:,} to 1")


def problems(calls: dict[str, Any], found: Settlement) -> list[str]:
    """What did not hold of what this example is to show."""
    count = calls["counts"][-1]
    told = []
    if calls["growth"] is not None and calls["growth"] > PROMISED_BYTES * max(1, count / PROMISED_FOR):
        told.append(f"{count:,} tasks made the orchestrator grow by {calls['growth'] / MIB:.0f} MiB")
    if not found.once:
        told.append(f"{len(found.errors)} of {len(found.settled)} failed, and {found.taken_in} answers were taken in")
    if not found.right:
        told.append("not every answer is right")
    return told


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.scaling", description=__doc__)
    parser.add_argument("--tasks", type=whole(1), default=100_000, help="how many at once")
    parser.add_argument("--processes", type=whole(0), default=20, help="how many to start for comparison; 0: none")
    parser.add_argument("--out", type=Path, default=Path("pictures"), help="where the picture goes")
    options = parser.parse_args()
    run(options.tasks, options.processes, options.out)


def run(count: int, processes: int, out: Path) -> None:
    print(f"{count:,} empty tasks over two workers; by so much the orchestrator was larger at its largest:")
    measured = {}
    for name in WAYS:
        measured[name] = measure_apart(name, counts_up_to(count))
        say_way(name, measured[name])
    if processes:
        say_processes(asyncio.run(measure_processes(processes)), count)
    found = asyncio.run(settle(count))
    say_settlement(found)
    titled = {TITLES[name]: its for name, its in measured.items()}
    picture(out / "scaling.png", lambda figure: draw(figure, titled, found), size=(10, 4))
    if told := problems(measured["calls"], found):
        sys.exit("it did not hold: " + "; ".join(told))


if __name__ == "__main__":
    main()
