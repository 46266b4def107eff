"""What an epoch costs, by the width of the hidden layer."""

from __future__ import annotations

from typing import Any


def draw(figure: Any, found: dict[str, Any]) -> None:
    """Seconds against hidden neurons, beside what they would be in step with the arithmetic."""
    widths, seconds = found["widths"], found["seconds"]
    axes = figure.subplots()
    axes.loglog(widths, seconds, "o-", label="measured")
    in_step = [seconds[-1] * width / widths[-1] for width in widths]
    axes.loglog(widths, in_step, "--", color="grey", label="in step with the arithmetic, from the widest back")
    axes.set_xticks(widths, [str(width) for width in widths])
    axes.set_title("What an epoch costs, by the width of the hidden layer")
    axes.set(xlabel="hidden neurons", ylabel=f"seconds for an epoch of {found['rows']} rows")
    axes.legend()
