"""Rounds of the flows: who does what, how often, and where the figures go."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.heats import Heat, Job, run_heats
from benchmarks.measure import Board

FLOW = "flow"
IN_PROCESS, LARGE_FILE = "flow-in-process", "flow-large-file"

ITEMS = 300_000
STEPS = {"cheap": (2, 4_000), "heavy": (1000, 60)}
"""Futures played for each customer, and how many customers."""


def step_key(cost: str) -> str:
    """The figures of a step in workers: `KEY: us` of it in the loop, `KEY: over` the loop's speed."""
    return f"flow-in-workers {cost}"


def heats(quick: bool) -> list[Heat]:
    rounds = 2 if quick else 3
    steps = [
        Job(IN_PROCESS, IN_PROCESS, (ITEMS,), (ITEMS,)),
        *[Job(step_key(cost), "flow-in-workers", request, (request[0], 10)) for cost, request in STEPS.items()],
    ]
    # The file is in the page cache: it has just been written.
    return [Heat("steps", rounds, 1, steps), Heat("a large file", rounds, 1, [Job(LARGE_FILE, LARGE_FILE, (1,), (0,))])]


def measure_flow(board: Board, quick: bool, say: Callable[[str], None] = print) -> None:
    """Fill `board.rounds`; what cannot be measured goes to `board.skipped` with its reason."""
    run_heats("flow", heats(quick), board, say)
