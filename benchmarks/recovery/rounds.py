"""Rounds of deaths and crowds: who does what, how often, and where the figures go."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from benchmarks.contenders.contender import Unavailable
from benchmarks.driver import DriverFailed
from benchmarks.measure import Board, open_drivers
from benchmarks.recovery import SUBJECTS

KILLS, CROWD, MACHINE = "kills", "crowd", "machine"

PARTS = (KILLS, CROWD, MACHINE)

CROWDS = (10, 100, 1000)
"""Workers under one tree."""

CRASHES = 50
"""Kills in a crowd, one at a time."""

STRATEGIES = ("one_for_one", "one_for_all", "rest_for_one", "simple_one_for_one")

EVENTS = 30_000
"""What the state machine is told in one run."""

STANDBY, ALONE, RAY = "kills-mlports-standby", "kills-mlports", "kills-ray"


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


def kill_key(subject: str, beside_ray: bool = False) -> str:
    """The figures of a subject's kills, whose times are in milliseconds: `KEY: ms`."""
    return subject + (" beside Ray" if beside_ray else "")


def crowd_key(subject: str, workers: int) -> str:
    """The figures of a crowd, in seconds: `KEY: start`, `KEY: crash`."""
    return f"{subject} {workers}"


def machine_key(strategy: str) -> str:
    """The figure of the state machine, `KEY: events`: those of a second."""
    return f"machine {strategy}"


def heats(parts: Collection[str], quick: bool) -> list[Heat]:
    """Everything to be done for these parts; without Ray when it is to be quick."""
    found = []
    rounds, turns = (2, 2) if quick else (5, 4)
    if KILLS in parts:
        kills = {
            "kills-mlports-standby": 3 if quick else 5,
            "kills-mlports": 2,
            "kills-bare-start": 2,
            "kills-erlang": 2,
        }
        found.append(Heat("kills", rounds, turns, [Job(kill_key(s), s, (n,), (1,)) for s, n in kills.items()]))
    if KILLS in parts and not quick:
        # Ray keeps busy while idle, so it has its turn after the others, beside mlports alone.
        beside = {STANDBY: 2, ALONE: 1, RAY: 1}
        jobs = [Job(kill_key(s, True), s, (n,), (1,)) for s, n in beside.items()]
        found.append(Heat("kills beside Ray", 4, 2, jobs))
    if CROWD in parts:
        jobs = [
            Job(crowd_key(subject, workers), subject, (workers, CRASHES), (10, 5))
            for workers in CROWDS
            for subject in ("crowd-mlports", "crowd-spawned")
        ]
        found.append(Heat("crowds", 1 if quick else 5, 1, jobs))
    if MACHINE in parts:
        jobs = [Job(machine_key(s), "machine", (s, EVENTS), (s, EVENTS)) for s in STRATEGIES]
        found.append(Heat("the state machine", rounds, 1, jobs))
    return found


def measure_recovery(board: Board, parts: Collection[str], quick: bool, say: Callable[[str], None] = print) -> None:
    """Fill `board.rounds`; what cannot be measured goes to `board.skipped` with its reason."""
    for heat in heats(parts, quick):
        started = time.monotonic()
        _run(heat, board, say)
        say(f"  recovery: {heat.name}: {len(heat.jobs)} jobs, {time.monotonic() - started:.1f} s")


def _run(heat: Heat, board: Board, say: Callable[[str], None]) -> None:
    with open_drivers("recovery", dict.fromkeys(job.subject for job in heat.jobs), board, say) as drivers:
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
                    say(f"  recovery: without {job.key}: {reason}")
                    continue
                for name, values in figures.items():
                    gathered.setdefault(f"{job.key}: {name}", []).extend(values)
            if number >= 0:
                for key, values in gathered.items():
                    board.rounds.setdefault(key, []).append(values)
        for job in set(heat.jobs) - set(racing):
            board.drop(job.key)
