"""Rounds of the systems: what each does, how often, and where its figures go."""

from __future__ import annotations

from collections.abc import Callable, Collection

from benchmarks.heats import Heat, Job, run_heats
from benchmarks.measure import Board
from benchmarks.systems.online import SYMBOLS

PARTS = ("systems",)

RECOMMENDING, MONITORING, INDICATORS = "system-recommending", "system-monitoring", "system-indicators"
"""The keys of the figures: `KEY: ms`, and so on, as the subjects say."""

EVENTS, TIMED = 5_000, 1_000
READINGS = 4_000

_ROUNDS, _QUICK_ROUNDS = 3, 2


def heats(quick: bool) -> list[Heat]:
    jobs = [
        Job(RECOMMENDING, RECOMMENDING, (EVENTS, TIMED), (500, 10)),
        Job(MONITORING, MONITORING, (READINGS,), (1_200,)),
        Job(INDICATORS, INDICATORS, (SYMBOLS,), (2,)),
    ]
    return [Heat("systems", _QUICK_ROUNDS if quick else _ROUNDS, 1, jobs)]


def measure_systems(board: Board, parts: Collection[str], quick: bool, say: Callable[[str], None] = print) -> None:
    """Fill `board.rounds`; an example whose data is not there goes to `board.skipped` with its reason."""
    if parts:
        run_heats("systems", heats(quick), board, say)
