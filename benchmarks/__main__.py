"""`python -m benchmarks`: measure mlports beside its peers, print the tables, write results.json and the README's."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks.contenders import CONTENDERS
from benchmarks.dataplane import rounds as dataplane
from benchmarks.driver import ROOT
from benchmarks.flow.rounds import FLOW, measure_flow
from benchmarks.languages import rounds as languages
from benchmarks.measure import Board, measure, plan
from benchmarks.recovery import rounds as recovery
from benchmarks.report import (
    START_MARK,
    describe_machine,
    from_json,
    language_table,
    readme_table,
    terminal_tables,
    to_json,
    write_between_marks,
)
from benchmarks.scaling import measure_scaling
from benchmarks.startup import measure_startup
from benchmarks.streaming import measure_streaming
from benchmarks.systems import rounds as systems
from benchmarks.targets import targets

RESULTS = Path(__file__).with_name("results.json")
README = ROOT / "README.md"
LANGUAGE_TABLE = ROOT / "docs" / "languages.md"
STARTUP, STREAMING, SCALING, DATAPLANE, RECOVERY = "startup", "streaming", "scaling", "dataplane", "recovery"
_PARTS = (*dataplane.PARTS, *recovery.PARTS, *languages.PARTS, *systems.PARTS)
OTHERS = (STARTUP, STREAMING, SCALING, DATAPLANE, RECOVERY, *_PARTS, FLOW)
"""What `--only` takes besides contenders: the data plane and recovery are all their parts."""

FULL_ROUNDS, FULL_BUDGET = 5, 110.0
QUICK_ROUNDS, QUICK_BUDGET = 3, 14.0
QUICK_LEAVES_OUT = ("loky", "ray", "dask", DATAPLANE, *languages.PARTS, *systems.PARTS, FLOW)
BUSY = 0.5
"""The load average above which other work on this machine is worth a warning."""


def parse(arguments: list[str] | None) -> argparse.Namespace:
    names = [*CONTENDERS, STARTUP, STREAMING, SCALING, DATAPLANE, RECOVERY, *languages.PARTS, *systems.PARTS, FLOW]
    known = [*CONTENDERS, *OTHERS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    quick = "under 60 s, without loky, Ray, Dask, the data plane, the languages, the systems and flows; writes no file"
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--only", metavar="NAME[,NAME]", help=f"only these; writes no file. {', '.join(known)}")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the results there")
    parser.add_argument("--strict", action="store_true", help="exit status 1 when a target is missed")
    parser.add_argument("--render", action="store_true", help="measure nothing: tables from the last results.json")
    options = parser.parse_args(arguments)
    options.names = options.only.split(",") if options.only else names
    if unknown := set(options.names) - set(known):
        parser.error(f"no such contender: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    if options.quick and not options.only:
        options.names = [name for name in names if name not in QUICK_LEAVES_OUT]
    return options


def _parts(whole: str, parts: Sequence[str], names: Collection[str]) -> Sequence[str]:
    return parts if whole in names else [part for part in parts if part in names]


def _stop(signum: int, frame: FrameType | None) -> None:
    sys.exit(128 + signum)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    if options.render:
        board, machine = from_json((options.json or RESULTS).read_text(encoding="utf-8"))
        print(terminal_tables(board))
        publish(board, machine)
        return 0
    # Ended by SIGTERM, too, every contender is closed on the way out.
    signal.signal(signal.SIGTERM, _stop)
    rounds, budget = (QUICK_ROUNDS, QUICK_BUDGET) if options.quick else (FULL_ROUNDS, FULL_BUDGET)
    started = time.monotonic()
    machine = describe_machine()
    if machine["load_before"] > BUSY:
        print(f"note: load average {machine['load_before']:.1f} before the first run; other work disturbs the figures")
    board = Board()
    try:
        measure(plan([n for n in options.names if n not in OTHERS], options.quick), rounds, budget, board)
        if STARTUP in options.names:
            measure_startup(board, rounds)
        if STREAMING in options.names:
            measure_streaming(board, options.quick)
        if SCALING in options.names:
            measure_scaling(board)
        dataplane.measure_dataplane(board, _parts(DATAPLANE, dataplane.PARTS, options.names), options.quick)
        languages.measure_languages(board, _parts("languages", languages.PARTS, options.names), options.quick)
        systems.measure_systems(board, _parts("systems", systems.PARTS, options.names), options.quick)
        recovery.measure_recovery(board, _parts(RECOVERY, recovery.PARTS, options.names), options.quick)
        if FLOW in options.names:
            measure_flow(board, options.quick)
    except KeyboardInterrupt:
        print("interrupted: every contender has been closed, nothing was written", file=sys.stderr)
        return 130
    seconds = time.monotonic() - started
    machine["load_after"] = os.getloadavg()[0]
    print(f"\n{terminal_tables(board)}\n\n{seconds:.0f} s in all")

    settings = {"rounds": rounds, "budget_s": budget, "quick": options.quick, "only": options.only, "seconds": seconds}
    whole = not options.quick and not options.only
    if path := options.json or (RESULTS if whole else None):
        path.write_text(to_json(board, machine, settings), encoding="utf-8")
        print(f"results: {path}")
    if whole:
        publish(board, machine)
    return int(options.strict and any(target.met is not True for target in targets(board)))


def publish(board: Board, machine: Mapping[str, Any]) -> None:
    """Put the tables where their readers look, or say that a file has no place for its table and print it."""
    for path, table in ((README, readme_table(board, machine)), (LANGUAGE_TABLE, language_table(board, machine))):
        if write_between_marks(path, table):
            print(f"table: {path}")
        else:
            print(f"{path} has no {START_MARK} marks, so here is its table:\n\n{table}")


if __name__ == "__main__":
    sys.exit(main())
