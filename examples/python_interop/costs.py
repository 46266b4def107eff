"""The same function as a program that is started for each call, and as a worker that stays."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any, NamedTuple

import mlports

from .calling import train

CONFIG = Path(__file__).with_name("mlports.toml")
_CALLS = 10  # of the worker, in a round


class Costs(NamedTuple):
    """Seconds: of a run of the program and of a call of the worker, their medians; of the worker's start, once."""

    program: float
    worker: float
    start: float
    results: list[dict[str, Any]]
    """What they answered, each."""


def compare(data: Path, rounds: int) -> Costs:
    """Alternates: a run of the program, ten calls of the worker."""
    programs: list[float] = []
    calls: list[float] = []
    began = time.perf_counter()
    with mlports.open(CONFIG) as orch:
        results = [orch.call("trainer.train", str(data))]  # the first one imports scikit-learn
        start = time.perf_counter() - began
        for _ in range(rounds):
            answer = train(data)
            programs.append(answer.seconds)
            results.append(answer.result)
            for _ in range(_CALLS):
                began = time.perf_counter()
                results.append(orch.call("trainer.train", str(data)))
                calls.append(time.perf_counter() - began)
    return Costs(statistics.median(programs), statistics.median(calls), start, results)
