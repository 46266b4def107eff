"""What the rounds of the languages say, as a table."""

from __future__ import annotations

from benchmarks.formats import number, spread
from benchmarks.languages.rounds import beside, language_key
from benchmarks.languages.worker import LANGUAGES, LARGE, MANY, ONE_AT_A_TIME, START
from benchmarks.measure import Board, Spread
from benchmarks.recovery.tables import Table

NOTE = """\
The conformance worker of each SDK, one replica behind an orchestrator, all in the same rounds: median (least to
greatest). Start: from spawning the bare program to its first echo, without an orchestrator. Round trip: p50 of echoes
of 64 bytes, one at a time, the processes placed by the scheduler. 8 MiB: an echo of so many bytes, there and back.
Throughput: echoes of 64 bytes, 256 in flight; each language takes turns with the Python SDK's worker, and beside it is
how many times that one's it was, turn by turn: median (first to third quartile). The orchestrator's own work is what
bounds it for the quick ones, so that these are equal; their rates, from different minutes, compare less well."""


def language_tables(board: Board) -> list[Table]:
    """One, or none where nothing was measured."""
    rows = []
    for language, title in LANGUAGES.items():
        start = board.spread(f"{language_key(language, START)}: ms")
        trip = board.spread(f"{language_key(language, ONE_AT_A_TIME)}: us")
        calls = throughput(board, language)
        large = board.spread(f"{language_key(language, LARGE)}: ms")
        if calls is None:
            continue
        ratio = "" if language == "python" else spread(over_python(board, language))
        rows.append(
            [
                title,
                spread(start, " ms"),
                spread(trip, " µs"),
                f"{number(calls.median)} calls/s",
                ratio,
                spread(large, " ms"),
            ]
        )
    head = ["Workers in", "start", "round trip", "throughput", "over Python's", "8 MiB echo"]
    return [Table(head, rows, NOTE)] if rows else []


def throughput(board: Board, language: str) -> Spread | None:
    """Calls a second, 256 in flight; of Python's worker in the turns beside all others."""
    keys = [beside(other) for other in LANGUAGES] if language == "python" else [language_key(language, MANY)]
    return Spread.middle(value for key in keys for values in board.rounds.get(f"{key}: calls", ()) for value in values)


def over_python(board: Board, language: str) -> Spread | None:
    """How many times the Python SDK's throughput, with the quartiles of the rounds."""
    return Spread.middle(board.ratios(f"{language_key(language, MANY)}: calls", f"{beside(language)}: calls"))
