"""What the rounds of deaths and crowds say, as tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.formats import duration, number, spread
from benchmarks.measure import Board, Spread
from benchmarks.recovery import SUBJECTS
from benchmarks.recovery.rounds import (
    ALONE,
    CROWDS,
    RAY,
    STANDBY,
    STRATEGIES,
    crowd_key,
    kill_key,
    machine_key,
)
from benchmarks.recovery.subject import IN_FLIGHT


@dataclass(frozen=True, slots=True)
class Table:
    """Heads and cells; the first head is the title. `note` says how it was measured."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str


KILLS_NOTE = f"""\
Workers at work are killed with SIGKILL: {IN_FLIGHT} calls of 64 bytes are in flight, and the victim was frozen with
SIGSTOP before, until it held requests and none of its answers was on its way, so that the next one is another life's.
The time is that from the kill to this answer: median (least to greatest) of all kills. No call may fail. Erlang:
one_for_one over a permanent gen_server that owns the port; its callers call again. Ray: max_restarts and
max_task_retries are -1. Bare start: a subprocess, hello and one echo by hand, without any orchestrator."""

CROWDS_NOTE = """\
One service of so many workers in C, up to the return of start(), beside a loop that only spawns as many, with two pipes
each. A crash is one kill -9 at a time, until the worker is back; the loop collects the dead one, spawns another and
awaits its answer to hello. CPU: user and system time of the owner and its collected children."""

MACHINE_NOTE = """\
Ten children, one killed after the other; every end, stop and start that the machine is told of is an event."""


def recovery_tables(board: Board) -> list[Table]:
    """Those of which anything was measured."""
    return [table for table in (_kills(board), _crowds(board), _machine(board)) if table.rows]


def _kills(board: Board) -> Table:
    rows = []
    for beside_ray, subjects in (
        (False, [name for name in SUBJECTS if name.startswith("kills-") and name != RAY]),
        (True, [STANDBY, ALONE, RAY]),
    ):
        standby, alone = (f"{kill_key(subject, beside_ray)}: ms" for subject in (STANDBY, ALONE))
        for subject in subjects:
            key = f"{kill_key(subject, beside_ray)}: ms"
            times, p99 = board.spread(key), board.p99(key)
            if times is None or p99 is None:
                continue
            beside = ", beside Ray" if beside_ray and subject != RAY else ""
            rows.append(
                [
                    SUBJECTS[subject].title + beside,
                    spread(times, " ms"),
                    f"{number(p99.median)} ms",
                    str(sum(map(len, board.rounds[key]))),
                    *("" if key == own else spread(board.ratio(key, own)) for own in (standby, alone)),
                ]
            )
    title = f"kill -9 of a worker with {IN_FLIGHT} calls in flight"
    head = [title, "to the next answer", "p99", "times", "its time over mlports's with a standby", "… and without"]
    return Table(head, rows, KILLS_NOTE)


def _crowds(board: Board) -> Table:
    rows = []

    def row(title: str, key: str, other: str) -> None:
        own, peer = board.spread(key), board.spread(other)
        if own is not None:
            rows.append([title, duration(own), duration(peer), spread(board.ratio(key, other))])

    for workers in CROWDS[1:]:
        own, peer = crowd_key("crowd-mlports", workers), crowd_key("crowd-spawned", workers)
        row(f"start of {workers:,}", f"{own}: start", f"{peer}: start")
        row(f"start of {workers:,}; the loop awaits answers, too", f"{own}: start", f"{peer}: hello")
    for workers in CROWDS:
        own, peer = crowd_key("crowd-mlports", workers), crowd_key("crowd-spawned", workers)
        row(f"CPU of a crash among {workers:,}", f"{own}: crash", f"{peer}: crash")
    few, many = CROWDS[0], CROWDS[-1]
    grown = [
        board.ratio(f"{crowd_key(subject, many)}: crash", f"{crowd_key(subject, few)}: crash")
        for subject in ("crowd-mlports", "crowd-spawned")
    ]
    if any(grown):
        rows.append([f"CPU of a crash among {many:,} over among {few}", *map(spread, grown), ""])
    head = ["C workers", SUBJECTS["crowd-mlports"].title, SUBJECTS["crowd-spawned"].title, "mlports's over the loop's"]
    return Table(head, rows, CROWDS_NOTE)


def _machine(board: Board) -> Table:
    def events(strategy: str) -> Spread | None:
        return board.spread(f"{machine_key(strategy)}: events")

    rows = [[strategy, spread(events(strategy), "")] for strategy in STRATEGIES if events(strategy) is not None]
    return Table(["Supervision's state machine", "events/s"], rows, MACHINE_NOTE)
