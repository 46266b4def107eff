"""The table that all programs get: scikit-learn's breast cancer data, as a CSV file."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path


def write_dataset(path: Path) -> int:
    """Writes 569 lines of 30 measurements and the label, 0 or 1; gives how many lines there are.

    Raises `ModuleNotFoundError` where scikit-learn is not installed. It is not imported, which takes seconds.
    """
    spec = find_spec("sklearn")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("scikit-learn is not installed", name="sklearn")
    source = Path(spec.submodule_search_locations[0]) / "datasets" / "data" / "breast_cancer.csv"
    _, *lines = source.read_text().splitlines()  # without the line of names
    path.write_text("\n".join(lines) + "\n")
    return len(lines)
