"""The speed-up of workers over a loop, against what a step costs."""

from __future__ import annotations

from typing import Any

from .pipeline import Timed


def draw(figure: Any, rounds: list[Timed], even: float | None) -> None:
    """A line for each number of workers; `even` is the break-even point in µs."""
    axes = figure.subplots()
    for workers, colour in ((1, "tab:orange"), (2, "tab:blue")):
        points = sorted((timed.us, timed.speed_up(workers)) for timed in rounds)
        axes.plot(*zip(*points, strict=True), color=colour, marker="o", label=f"{workers} worker{'s' * (workers > 1)}")
    axes.axhline(1, color="0.5", linewidth=1)
    if even is not None:
        axes.axvline(even, color="tab:red", linestyle=":", label=f"2 workers pay from {even:,.0f} µs a step")
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("µs of a step in the loop")
    axes.set_ylabel("speed over the loop's")
    axes.set_title("What workers make of a step, by what it costs")
    axes.legend(loc="upper left")
