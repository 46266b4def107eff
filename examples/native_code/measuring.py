"""How long a call takes: in Python and in C, as a process and inline, with a small array and with a large one."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mlports import Orchestrator

from .building import configured

SIZES = {"64 bytes": 8, "8 MiB": 1 << 20}
"""Numbers of float64, by what they take."""
SERVICES = ("inline", "process")
_CALLS = {("in_python", "8 MiB"): 1, ("in_c", "8 MiB"): 10}  # at a time; 100 of the others


class Case(NamedTuple):
    """One thing that is measured."""

    method: str
    size: str
    service: str


class Measured(NamedTuple):
    """Microseconds a call, the median of the rounds; the greatest relative difference of any result from numpy's."""

    micros: dict[Case, float]
    furthest: float


async def measure(library: Path, rounds: int, calls: float = 1.0) -> Measured:
    """Takes all cases in turn, again and again; a call begins when the one before is answered. `calls` scales them."""
    arrays = {size: np.random.default_rng(0).normal(size=count) for size, count in SIZES.items()}
    right = {size: float(array @ array) for size, array in arrays.items()}
    cases = [Case(*case) for case in product(("in_python", "in_c"), SIZES, SERVICES)]
    times: dict[Case, list[float]] = defaultdict(list)
    furthest = 0.0
    async with Orchestrator(config=configured(library, *SERVICES)) as orch:
        for _ in range(rounds):
            for case in cases:
                count = max(1, round(_CALLS.get((case.method, case.size), 100) * calls))
                result, micros = await _call(orch, case, arrays[case.size], count)
                times[case].append(micros)
                furthest = max(furthest, abs(result / right[case.size] - 1))
    return Measured({case: statistics.median(each) for case, each in times.items()}, furthest)


async def _call(orch: Orchestrator, case: Case, array: Any, count: int) -> tuple[float, float]:
    target = f"{case.service}.{case.method}"
    began = time.perf_counter()
    for _ in range(count):
        result: float = await orch.call(target, array)
    return result, (time.perf_counter() - began) / count * 1e6
