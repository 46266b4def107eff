"""The table that all programs get: scikit-learn's breast cancer data, as a CSV file."""

from __future__ import annotations

from pathlib import Path

from ..packaged_data import packaged


def write_dataset(path: Path) -> int:
    """Writes 569 lines of 30 measurements and the label, 0 or 1; gives how many lines there are.

    Raises `SystemExit`, saying what to install, where scikit-learn is missing. It is not imported, which takes seconds.
    """
    source = packaged("sklearn", "datasets", "data", "breast_cancer.csv", what="the breast cancer data")
    _, *lines = source.read_text().splitlines()  # without the line of names
    path.write_text("\n".join(lines) + "\n")
    return len(lines)
