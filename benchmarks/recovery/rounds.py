"""Rounds of deaths and crowds: who does what, how often, and where the figures go."""

from __future__ import annotations

from collections.abc import Callable, Collection

from benchmarks.heats import Heat, Job, run_heats
from benchmarks.measure import Board

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
    run_heats("recovery", heats(parts, quick), board, say)
