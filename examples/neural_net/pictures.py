"""What the example draws."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any


def draw(found: dict[str, Any], folder: Path) -> list[Path]:
    """width.png and neurons.png; none, and a word on it, where matplotlib is not installed."""
    try:
        import matplotlib
    except ImportError:
        print("no pictures are drawn: matplotlib is not installed (pip install 'mlports[examples]')", file=sys.stderr)
        return []
    matplotlib.use("Agg")
    from matplotlib import pyplot

    def save(name: str) -> Path:
        pyplot.legend()
        pyplot.savefig(folder / name, dpi=120)
        pyplot.close()
        return folder / name

    widths, seconds = found["width"]["widths"], found["width"]["seconds"]
    pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    pyplot.loglog(widths, seconds, "o-", label="measured")
    in_step = [seconds[-1] * width / widths[-1] for width in widths]
    pyplot.loglog(widths, in_step, "--", color="grey", label="in step with the arithmetic, from the widest back")
    pyplot.xticks(widths, [str(width) for width in widths])
    pyplot.title("What an epoch costs, by the width of the hidden layer")
    pyplot.xlabel("hidden neurons")
    pyplot.ylabel(f"seconds for an epoch of {found['width']['rows']} rows")
    paths = [save("width.png")]

    casting = found["casting"]
    pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    for name, label in (("arrays", "arrays, layer by layer"), ("coroutines", "a coroutine for each neuron")):
        pyplot.loglog(casting["neurons"], casting[name], "o-", label=label)
    few = casting["few"]
    pyplot.loglog(few["neurons"], few["worker"], "s", label="arrays in a worker")
    pyplot.loglog(few["neurons"], few["processes"], "^", label="a process for each neuron")
    pyplot.title("What one step by 32 rows costs, three ways to the same losses")
    pyplot.xlabel("neurons")
    pyplot.ylabel("seconds")
    return [*paths, save("neurons.png")]
