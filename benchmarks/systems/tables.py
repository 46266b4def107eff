"""What the rounds of the systems say, as a table."""

from __future__ import annotations

from benchmarks.formats import number, spread
from benchmarks.measure import Board
from benchmarks.recovery.tables import Table
from benchmarks.systems.online import AT_ONCE, PACED, SYMBOLS
from benchmarks.systems.rounds import EVENTS, INDICATORS, MONITORING, READINGS, RECOMMENDING

SYSTEMS_NOTE = f"""\
Examples, run by their own functions. recommendation_system: {EVENTS:,} ratings are learned, then an update with its
recommendations is called for, one at a time, in turns with a call that does nothing, which tells how late the machine
alone makes one. equipment_monitor: the time from a reading to its alert, {READINGS:,} readings as fast as it goes, then
{PACED} at 250 a second. market_analyzer: {SYMBOLS} symbols, {AT_ONCE} bars a call, two workers. Of times, the median of
all, and the 99th percentile (that of the best round to that of the worst)."""


def systems_tables(board: Board) -> list[Table]:
    """The table, if anything was measured."""
    rows = []
    for title, key in (
        ("recommendation_system: an update", f"{RECOMMENDING}: ms"),
        ("recommendation_system: a call that does nothing", f"{RECOMMENDING}: idle"),
        ("equipment_monitor: an alert, as fast as it goes", f"{MONITORING}: ms"),
        ("equipment_monitor: an alert, at the pace of sensors", f"{MONITORING}: paced"),
    ):
        if (all_of_them := board.spread(key)) is not None:
            rows.append([title, f"p50 {number(all_of_them.median)} ms", f"p99 {spread(board.p99(key), ' ms')}"])
    if (bars := board.spread(f"{INDICATORS}: bars")) is not None:
        rows.append(["market_analyzer", spread(bars, " bars/s"), ""])
    return [Table(["Systems", "", ""], rows, SYSTEMS_NOTE)] if rows else []
