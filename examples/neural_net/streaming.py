"""Rows without end, drawn as they are asked for, and what a worker's memory was at most."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
STREAMED = 10
BLOCK = 4_000


class Stream:
    """Simulated rows of ten numbers, in blocks [rows, targets]: on which side of a plane is each?"""

    def __init__(self, rows: int, seed: int) -> None:
        self._rows = rows
        self._random = np.random.default_rng(seed)
        self._plane = self._random.normal(size=STREAMED)

    def draw(self, count: int) -> tuple[Array, Array]:
        """So many rows, and 0 or 1 for each."""
        rows = self._random.normal(size=(count, STREAMED))
        return rows, (rows @ self._plane > 0).astype(float)

    def __iter__(self) -> Iterator[list[Array]]:
        for start in range(0, self._rows, BLOCK):
            yield list(self.draw(min(BLOCK, self._rows - start)))


def peak_memory(pid: int) -> float | None:
    """MiB that a process has had resident at most; None where the system does not say, in /proc."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))
