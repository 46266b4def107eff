"""69,659 purchases at the music shop CDNOW, 1997 to mid-1998, from the package Lifetimes, which is not imported."""

from __future__ import annotations

from datetime import date
from typing import NamedTuple

from ..packaged_data import packaged

BEGIN = date(1997, 1, 1)


class Purchase(NamedTuple):
    """day: since 1997-01-01, the first of them 0."""

    customer: int
    day: int
    discs: int
    dollars: float


def purchases() -> list[Purchase]:
    """All of them in the order of their days; of a day, in that of the file.

    Raises `SystemExit`, saying what to install, where the package is missing.
    """
    lines = packaged("lifetimes", "datasets", "CDNOW_master.txt", what="purchases").read_text().splitlines()[1:]
    return sorted(map(purchase, lines), key=lambda one: one.day)


def purchase(line: str) -> Purchase:
    """One line: customer, day as 19970131, discs, dollars."""
    customer, day, discs, dollars = line.split()
    when = date(int(day[:4]), int(day[4:6]), int(day[6:]))
    return Purchase(int(customer), (when - BEGIN).days, int(discs), float(dollars))
