"""What the rounds of the languages say, as a table."""

from __future__ import annotations

from benchmarks.formats import number, spread
from benchmarks.languages.rounds import language_key
from benchmarks.languages.worker import LANGUAGES, LARGE, MANY, ONE_AT_A_TIME, START
from benchmarks.measure import Board, Spread
from benchmarks.recovery.tables import Table

NOTE = """\
The conformance worker of each SDK, one replica behind an orchestrator, all in the same rounds: median (least to
greatest). Start: from spawning the bare program to its first echo, without an orchestrator. Round trip: p50 of echoes
of 64 bytes, one at a time, the processes placed by the scheduler. Throughput: echoes of 64 bytes, 256 in flight; beside
it over the Python SDK's, round by round. 8 MiB: an echo of so many bytes, there and back."""


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
    """Calls a second, 256 in flight."""
    return board.spread(f"{language_key(language, MANY)}: calls")


def over_python(board: Board, language: str) -> Spread | None:
    """How many times the Python SDK's throughput."""
    return board.ratio(f"{language_key(language, MANY)}: calls", f"{language_key('python', MANY)}: calls")
