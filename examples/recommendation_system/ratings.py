"""100,000 ratings of films, MovieLens 100k, from the package recbole, which is not imported."""

from __future__ import annotations

import csv
from typing import NamedTuple

from ..packaged_data import packaged

INSTALL = "pip install --no-deps recbole"
"""The file alone: what the package needs to be imported is large, and not needed."""


class Rating(NamedTuple):
    """That a user rated a film. How many stars it got is not used."""

    user: str
    film: str


def ratings() -> list[Rating]:
    """All of them in the order of their times; of the same second, in that of the file.

    Raises `SystemExit`, saying what to install, where the package is missing.
    """
    path = packaged("recbole", "dataset_example", "ml-100k", "ml-100k.inter", what="ratings of films", install=INSTALL)
    with path.open(newline="") as file:
        rows = list(csv.reader(file, delimiter="\t"))[1:]
    rows.sort(key=lambda row: float(row[3]))
    return [Rating(row[0], row[1]) for row in rows]


def last_of_each_user(events: list[Rating]) -> set[int]:
    """The places in `events` of each user's last one."""
    return set({event.user: place for place, event in enumerate(events)}.values())
