"""What the rounds of the flows say, as a table."""

from __future__ import annotations

from benchmarks.flow.large_file import LargeFile
from benchmarks.flow.rounds import IN_PROCESS, LARGE_FILE, STEPS, step_key
from benchmarks.formats import spread
from benchmarks.measure import Board
from benchmarks.recovery.tables import Table

NOTE = f"""\
In process: processor time of map, filter and batches of 100 over a list, less that of a comprehension that does the
same. Steps: a customer's outlook from real purchases (examples/data_pipeline), in two workers that run already, over
the loop. Large file: {LargeFile.mib} MiB of CSV grouped and summed (examples/large_data) by a flow in at most 256 MiB
of memory, over pandas in chunks of 100,000 rows."""


def flow_tables(board: Board) -> list[Table]:
    """One; none when nothing of it was measured."""
    rows = []

    def row(title: str, key: str, unit: str) -> None:
        if (found := board.spread(key)) is not None:
            rows.append([title, spread(found, unit)])

    row("in process, an item", f"{IN_PROCESS}: us", " µs")
    for cost in STEPS:
        key = step_key(cost)
        if (us := board.spread(f"{key}: us")) is not None:
            row(f"a {cost} step, {us.median:,.0f} µs: speed over the loop's", f"{key}: over", "x")
    row("large file: speed over pandas's", f"{LARGE_FILE}: over", "x")
    row("large file: memory at most", f"{LARGE_FILE}: mib", " MiB")
    return [Table(["Flows", ""], rows, NOTE)] if rows else []
