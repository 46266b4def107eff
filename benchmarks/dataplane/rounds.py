"""Rounds of the data plane: who does what, how often, and where the figures go."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Collection

from benchmarks.heats import Heat, Job, run_heats
from benchmarks.measure import Board
from benchmarks.startup import output_of

FLAT, BATCHING, TEMPLATE = "flat", "batching", "template"

PARTS = (FLAT, BATCHING, TEMPLATE)

WAITING_BYTES = "memory of a waiting call, bytes"

ONE_SERVICE, ONE_OF_200, ALL_OF_200 = ("services-1", 1), ("services-200", 1), ("services-200", 200)
"""Which orchestrator, and over how many of its services the calls go."""

BARE_ONE, BARE_200 = ("bare-pipes", 1), ("bare-pipes", 200)
"""The same without an orchestrator."""

SERVICES = (ONE_SERVICE, ONE_OF_200, ALL_OF_200, BARE_ONE, BARE_200)

ECHO = ("service-of-echoes", 1)

LONE, FEW, DEEP = 1, 256, 50_000
"""Calls in flight."""

LONE_CALLS, FEW_CALLS, DEEP_CALLS = 2_000, 20_000, 150_000
"""And how many are made in a run."""

MANY_ROWS = {"digits-in-process": 40_000, "digits-batched": 20_000, "digits-unbatched": 1_600}
LONE_ROWS = 600


def flat_key(services: tuple[str, int], in_flight: int) -> str:
    """The figures of such calls, in microseconds a call: `KEY: us` by the clock, `KEY: cpu` of the orchestrator."""
    subject, used = services
    return f"{subject} over {used}, {in_flight} in flight"


def digits_key(subject: str, mode: str) -> str:
    """The figures of digits: `KEY: rows`, those of a second, where the mode is many, `KEY: us` where it is lone."""
    return f"{subject} {mode}"


def start_key(subject: str) -> str:
    """The figures of a worker's starts, in milliseconds: `KEY: ms`."""
    return subject


def heats(parts: Collection[str], quick: bool) -> list[Heat]:
    """Everything to be done for these parts."""
    found = []
    rounds = 2 if quick else 5
    if FLAT in parts:
        for name, in_flight, calls in (("one at a time", LONE, LONE_CALLS), (f"{FEW} in flight", FEW, FEW_CALLS)):
            jobs = [_flat(services, in_flight, calls) for services in SERVICES]
            found.append(Heat(f"1 and 200 services, {name}", rounds, 1, jobs))
        jobs = [_flat(ECHO, in_flight, DEEP_CALLS) for in_flight in (FEW, DEEP)]
        found.append(Heat(f"{FEW} and {DEEP:,} in flight", rounds, 1, jobs))
    if BATCHING in parts:
        many = [_same(digits_key(s, "many"), s, "many", rows) for s, rows in MANY_ROWS.items()]
        found.append(Heat("batching, many callers", rounds, 1, many))
        lone = [_same(digits_key(s, "lone"), s, "lone", LONE_ROWS) for s in ("digits-batched", "digits-unbatched")]
        found.append(Heat("batching, a lone caller", rounds, 1, lone))
    if TEMPLATE in parts:
        starts = [_same(start_key(s), s, 1) for s in ("start-cold", "start-template")]
        found.append(Heat("starts", rounds, 1, starts))
    return found


def _flat(services: tuple[str, int], in_flight: int, calls: int) -> Job:
    subject, used = services
    return _same(flat_key(services, in_flight), subject, used, in_flight, calls)


def _same(key: str, subject: str, *request: str | int) -> Job:
    """A job that warms up with what it then does."""
    return Job(key, subject, request, request)


def measure_dataplane(board: Board, parts: Collection[str], quick: bool, say: Callable[[str], None] = print) -> None:
    """Fill `board.rounds` and `board.figures`; what cannot be measured goes to `board.skipped` with its reason."""
    run_heats("data plane", heats(parts, quick), board, say)
    if FLAT not in parts:
        return
    try:
        for _ in range(1 if quick else 3):
            # Memory that was used before and is free again would count as none: a new process each time.
            answer = json.loads(output_of([sys.executable, "-m", "benchmarks.waiting_calls"]))
            board.figures.setdefault(WAITING_BYTES, []).append(answer["bytes"])
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        board.skipped[WAITING_BYTES] = str(error)
