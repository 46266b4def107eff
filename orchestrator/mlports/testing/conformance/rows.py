"""The rows of the kit: what each checks, where SPEC.md says so, and what a worker must have for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from mlports.testing.conformance.trial import Trial

Level = Literal["bare", "standard", "full"]
TOPICS = (
    *("framing", "values", "messages", "handshake", "requests", "deadlines"),
    *("streams", "inputs", "batches", "arrays", "calls_by_workers", "stopping", "violations"),
)
"""The modules that hold the rows, in the order of SPEC.md."""

LEVELS: tuple[Level, ...] = ("bare", "standard", "full")

Check = Callable[["Trial"], None]


@dataclass(frozen=True)
class Row:
    """One check. `name` is what `--only` takes, `topic` the module that it stands in.

    `needs` are methods of the conformance worker, without which it cannot be tried. `feature` is one that the worker
    must claim; a row of a claimed feature is tried at every level, because what is claimed will be used. An `optional`
    row that does not hold says what the worker lacks and counts against no level.
    """

    name: str
    title: str
    section: str
    level: Level
    needs: tuple[str, ...]
    feature: str | None
    optional: bool
    topic: str
    check: Check


_ROWS: dict[str, Row] = {}


def row(
    title: str,
    *,
    section: str,
    level: Level,
    needs: tuple[str, ...] = (),
    feature: str | None = None,
    optional: bool = False,
) -> Callable[[Check], Check]:
    """Decorator: registers a function that raises `Failed` when the worker does not do what `title` says."""

    def register(check: Check) -> Check:
        name = check.__name__.replace("_", "-")
        topic = check.__module__.rpartition(".")[2].replace("_", " ")
        if name in _ROWS:
            raise ValueError(f"two rows are called {name}")
        _ROWS[name] = Row(name, title, section, level, needs, feature, optional, topic, check)
        return check

    return register


def all_rows() -> list[Row]:
    """Every row there is, in the order of SPEC.md."""
    for topic in TOPICS:
        import_module(f"{__package__}.{topic}")
    return sorted(_ROWS.values(), key=lambda row: TOPICS.index(row.topic.replace(" ", "_")))


def rank(level: Level | None) -> int:
    """Where a level stands: none is 0, bare 1."""
    return 0 if level is None else LEVELS.index(level) + 1
