"""What a step costs, by the number of neurons."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .__main__ import Found

_LABELS = {
    "arrays": ("o-", "arrays, a layer at a time"),
    "coroutines": ("o-", "a coroutine for each neuron"),
    "worker": ("s-", "arrays in a worker"),
    "processes": ("^-", "a process for each neuron"),
}


def draw(figure: Any, found: list[Found]) -> None:
    """A line for each way, as far as it was measured."""
    axes = figure.subplots()
    for way, (marker, label) in _LABELS.items():
        points = [(each.neurons, each.seconds[way]) for each in found if way in each.seconds]
        axes.loglog(*zip(*points, strict=True), marker, label=label)
    axes.set(title="What one step by 32 rows costs, four ways to the same losses", xlabel="neurons", ylabel="seconds")
    figure.legend(loc="outside lower center", ncols=2)
