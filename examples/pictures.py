"""What the examples draw, where matplotlib is installed."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .ending import INSTALL


def picture(path: Path, draw: Callable[[Any], None], size: tuple[float, float] = (10, 5)) -> bool:
    """Has `draw` fill a figure of so many inches, writes it as a PNG, and prints where; or that there is none, and why.

    Returns whether there is one. The folder is made if it is not there.
    """
    if find_spec("matplotlib") is None:
        print(f"no picture: matplotlib is not installed ({INSTALL})")
        return False
    from matplotlib.figure import Figure  # without pyplot, which keeps figures and wants a display

    figure = Figure(figsize=size, layout="constrained")
    draw(figure)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=100)
    except OSError as error:
        print(f"no picture: {path} cannot be written: {error.strerror}")
        return False
    print(f"the picture: {path}")
    return True
