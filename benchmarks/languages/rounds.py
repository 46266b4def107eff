"""Rounds of the languages. In each part they take turns; for throughput each takes turns with Python's, by twos."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from benchmarks.heats import Heat, Job, run_heats
from benchmarks.languages.worker import LANGUAGES, LARGE, MANY, ONE_AT_A_TIME, START, subject_name
from benchmarks.measure import Board

PARTS = ("languages",)

_TIMES = {START: 1, ONE_AT_A_TIME: 1_000, LARGE: 3}
_FEWER = {START: 1, ONE_AT_A_TIME: 300, LARGE: 2}
_ROUNDS, _QUICK_ROUNDS = 5, 3
_PAIRS, _QUICK_PAIRS = 20, 6
_CALLS = 15_000
_SLOW = {"r": 1_000}  # calls, of a language that would take seconds for as many as the others


def language_key(language: str, what: str) -> str:
    """The figures of a language's worker: `KEY: ms`, `us` or `calls`, as `LanguageWorker` says."""
    return f"{subject_name(language)}, {what}"


def beside(language: str) -> str:
    """The key of the Python SDK's throughput in the rounds that it shares with this language's alone."""
    return f"{language_key('python', MANY)}, beside {subject_name(language)}"


def heats(quick: bool, languages: Iterable[str] = LANGUAGES) -> list[Heat]:
    times, rounds, pairs = (_FEWER, _QUICK_ROUNDS, _QUICK_PAIRS) if quick else (_TIMES, _ROUNDS, _PAIRS)
    together = [
        Heat(f"languages, {what}", rounds, 1, [_job(language, what, count) for language in languages])
        for what, count in times.items()
    ]
    return together + [_pair(language, pairs) for language in languages if language != "python"]


def _pair(language: str, rounds: int) -> Heat:
    # Nothing else is open meanwhile, and the two follow each other within a tenth of a second: what else the machine
    # does is then mostly the same for both. Each round begins with the other one.
    python = Job(beside(language), subject_name("python"), (MANY, _CALLS), (MANY, 2 * _CALLS))
    return Heat(
        f"{MANY}, {language} and python", rounds, 1, [python, _job(language, MANY, _SLOW.get(language, _CALLS))]
    )


def _job(language: str, what: str, count: int) -> Job:
    # Warmed up by twice of it: compilers that work while a program runs are at their best only then.
    return Job(
        language_key(language, what),
        subject_name(language),
        (what, count),
        (what, 2 * count if what in (ONE_AT_A_TIME, MANY) else 1),
    )


def measure_languages(board: Board, parts: Collection[str], quick: bool, say: Callable[[str], None] = print) -> None:
    """Fill `board.rounds`; a language whose worker is not built goes to `board.skipped` with its reason."""
    if parts:
        run_heats("languages", heats(quick), board, say)
