"""One film's weight and error, step by step."""

from __future__ import annotations

from typing import Any


def draw(figure: Any, film: dict[str, Any]) -> None:
    """The weight on the left, the error on the right."""
    left, right = figure.subplots(1, 2)
    left.plot(film["weights"], ".-")
    left.axhline(film["gross"] / film["budget"], color="grey", linewidth=0.8)
    left.set(title=f"the weight goes to {film['weights'][-1]}, and stops", xlabel="step", ylabel="weight")
    right.semilogy([error for error in film["errors"] if error], ".-")
    right.set(title="the error falls to nothing", xlabel="step", ylabel="error (dollars²)")
