"""Heats of jobs that are no echoes of a contender's: subjects that take turns, round by round."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.contenders.contender import Unavailable
from benchmarks.driver import DriverFailed
from benchmarks.measure import Board, open_drivers
from benchmarks.subjects import SUBJECTS


@dataclass(frozen=True, slots=True)
class Job:
    """What a subject is asked at each turn, and once before the first, to warm up; `key` names its figures."""

    key: str
    subject: str
    request: tuple[str | int, ...]
    warm_up: tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Heat:
    """Jobs that take so many turns in each of so many rounds, so that their figures have ratios."""

    name: str
    rounds: int
    turns: int
    jobs: Sequence[Job]


def run_heats(stage: str, heats: Sequence[Heat], board: Board, say: Callable[[str], None] = print) -> None:
    """Fill `board.rounds`; what cannot be measured goes to `board.skipped` with its reason."""
    for heat in heats:
        started = time.monotonic()
        _run(stage, heat, board, say)
        say(f"  {stage}: {heat.name}: {len(heat.jobs)} jobs, {time.monotonic() - started:.1f} s")


def _run(stage: str, heat: Heat, board: Board, say: Callable[[str], None]) -> None:
    with open_drivers(stage, dict.fromkeys(job.subject for job in heat.jobs), board, say) as drivers:
        racing = [job for job in heat.jobs if job.subject in drivers]
        for number in range(-1, heat.rounds):
            # Each round begins with another one, as it does among the contenders.
            first = number % len(racing) if racing else 0
            order = [*racing[first:], *racing[:first]]
            gathered: dict[str, list[float]] = {}
            for job in order * (heat.turns if number >= 0 else 1):
                if job not in racing:
                    continue
                try:
                    figures = drivers[job.subject].ask(*(job.request if number >= 0 else job.warm_up))
                except (Unavailable, DriverFailed) as reason:
                    racing.remove(job)
                    board.skipped[f"{SUBJECTS[job.subject].title}, {job.key}"] = str(reason)
                    say(f"  {stage}: without {job.key}: {reason}")
                    continue
                for name, values in figures.items():
                    gathered.setdefault(f"{job.key}: {name}", []).extend(values)
            if number >= 0:
                for key, values in gathered.items():
                    board.rounds.setdefault(key, []).append(values)
        for job in set(heat.jobs) - set(racing):
            board.drop(job.key)
