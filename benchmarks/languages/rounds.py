"""Rounds of the languages: all workers take turns, so that their figures have ratios."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from benchmarks.heats import Heat, Job, run_heats
from benchmarks.languages.worker import LANGUAGES, LARGE, MANY, ONE_AT_A_TIME, START, subject_name
from benchmarks.measure import Board

PARTS = ("languages",)

_TIMES = {START: 1, ONE_AT_A_TIME: 1_000, MANY: 15_000, LARGE: 3}
_FEWER = {START: 1, ONE_AT_A_TIME: 300, MANY: 5_000, LARGE: 2}
_ROUNDS, _QUICK_ROUNDS = 5, 3


def language_key(language: str, what: str) -> str:
    """The figures of a language's worker: `KEY: ms`, `us` or `calls`, as `LanguageWorker` says."""
    return f"{subject_name(language)}, {what}"


def heats(quick: bool, languages: Iterable[str] = LANGUAGES) -> list[Heat]:
    times, rounds = (_FEWER, _QUICK_ROUNDS) if quick else (_TIMES, _ROUNDS)
    return [
        Heat(f"languages, {what}", rounds, 1, [_job(language, what, count) for language in languages])
        for what, count in times.items()
    ]


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
