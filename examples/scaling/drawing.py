"""What a task costs, however many there are, and what a killed worker does to those that are under way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .killing import Settlement


def draw(figure: Any, measured: Mapping[str, Any], found: Settlement) -> None:
    """Cost on the left, tasks on the right. `measured` has, by the name of each way, what `ways.measure` gave."""
    cost, under_way = figure.subplots(1, 2)
    for name, its in measured.items():
        each = [1e6 * cpu / count for cpu, count in zip(its["cpu"], its["counts"], strict=True)]
        cost.plot(its["counts"], each, marker="o", label=name)
    cost.set_title("The orchestrator's processor time for a task")
    cost.set_xscale("log")
    cost.set_ylim(bottom=0)
    cost.set_xlabel("tasks at once")
    cost.set_ylabel("µs")
    cost.legend()
    under_way.plot(*zip(*found.curve, strict=True), color="tab:blue")
    under_way.axvline(found.killed_at, color="tab:red", linestyle=":", label="a worker killed")
    under_way.set_title("Tasks under way")
    under_way.set_ylim(bottom=0)
    under_way.set_xlabel("seconds since the first was submitted")
    under_way.legend()
