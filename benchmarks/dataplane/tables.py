"""What the rounds of the data plane say, as tables."""

from __future__ import annotations

from benchmarks.dataplane.rounds import (
    ALL_OF_200,
    BARE_200,
    BARE_ONE,
    DEEP,
    ECHO,
    FEW,
    LONE,
    MANY_ROWS,
    ONE_OF_200,
    ONE_SERVICE,
    digits_key,
    flat_key,
    start_key,
)
from benchmarks.formats import spread
from benchmarks.measure import Board
from benchmarks.recovery.tables import Table
from benchmarks.subjects import SUBJECTS

FLAT_NOTE = f"""\
What a call of 64 bytes costs, by the clock and in processor time of the orchestrator's process, with as many calls in
flight in both lines of a pair; each answer makes the next. Services: a worker in C each, calls over 200 of them go to
each in turn. Bare pipes: the same workers under an epoll that only counts the bytes that come, so that what a pipe and
a wake-up for each call cost is seen apart. {DEEP:,} in flight: the Python echo worker."""

BATCHING_NOTE = """\
scikit-learn's logistic regression over its digits, a row of 64 float64 a call, one Python worker. In process: the same
model's predict of matrices that exist already. A lone caller awaits each answer before its next call."""

STARTS_NOTE = """\
The worker that classifies digits imports numpy and scikit-learn. It is killed with SIGKILL while it has nothing to do;
the time is that from the kill to the first digit that the next one tells."""


def dataplane_tables(board: Board) -> list[Table]:
    """Those of which anything was measured."""
    return [table for table in (_flat(board), _batching(board), _starts(board)) if table.rows]


def _flat(board: Board) -> Table:
    rows = []
    lines = [
        (f"{title}, {'one at a time' if in_flight == LONE else f'{in_flight} in flight'}", services, in_flight, first)
        for in_flight in (LONE, FEW)
        for title, services, first in (
            ("1 service", ONE_SERVICE, None),
            ("1 of 200 services", ONE_OF_200, (ONE_SERVICE, in_flight)),
            ("all of 200 services", ALL_OF_200, (ONE_SERVICE, in_flight)),
            ("bare pipes of 1 worker", BARE_ONE, None),
            ("bare pipes of 200 workers", BARE_200, (BARE_ONE, in_flight)),
        )
    ]
    lines += [
        (f"Python worker, {FEW} in flight", ECHO, FEW, None),
        (f"Python worker, {DEEP:,} in flight", ECHO, DEEP, (ECHO, FEW)),
    ]
    for title, services, in_flight, first in lines:
        key = flat_key(services, in_flight)
        time, cpu = board.spread(f"{key}: us"), board.spread(f"{key}: cpu")
        if time is None or cpu is None:
            continue
        other = flat_key(*first) if first else None
        ratio = spread(board.ratio(f"{key}: us", f"{other}: us")) if other else ""
        rows.append([title, spread(time, " µs"), spread(cpu, " µs"), ratio])
    return Table(["Cost of a call", "time", "CPU", "time over the first line's"], rows, FLAT_NOTE)


def _batching(board: Board) -> Table:
    rows = []
    batched = f"{digits_key('digits-batched', 'many')}: rows"
    for subject in MANY_ROWS:
        key = f"{digits_key(subject, 'many')}: rows"
        if (rate := board.spread(key)) is not None:
            ratio = "" if key == batched else spread(board.ratio(batched, key))
            rows.append([SUBJECTS[subject].title, spread(rate, " rows/s"), ratio])
    lone = {name: f"{digits_key(f'digits-{name}', 'lone')}: us" for name in ("batched", "unbatched")}
    for name, key in lone.items():
        if (time := board.spread(key)) is not None:
            # Speeds, as above.
            ratio = "" if name == "batched" else spread(board.ratio(key, lone["batched"]))
            rows.append([f"mlports, a lone caller, {name}", f"p50 {spread(time, ' µs')}", ratio])
    return Table(["Digits", "", "speed of mlports in batches over its"], rows, BATCHING_NOTE)


def _starts(board: Board) -> Table:
    forked = f"{start_key('start-template')}: ms"
    rows = []
    for subject in ("start-cold", "start-template"):
        key = f"{start_key(subject)}: ms"
        if (times := board.spread(key)) is not None:
            ratio = "" if key == forked else spread(board.ratio(key, forked))
            rows.append([SUBJECTS[subject].title, spread(times, " ms"), ratio])
    return Table(["A worker with scikit-learn", "to its first answer", "time over the template's"], rows, STARTS_NOTE)
