"""Films, what they cost and what they brought in: a file of the npm package vega-datasets."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
VERSION = "3.2.1"
LAST_YEAR = 2011
"""The table is of 2010. Years after 2011 are the file's misreading of two digits, 39 for 1939."""


class Movie(NamedTuple):
    """One film; None where the table has nothing. Money is in dollars, and 0 there stands for nothing known."""

    title: str | None
    year: int
    budget: int | None
    gross: int | None
    us_gross: int | None
    minutes: int | None
    genre: str | None


def movies() -> list[Movie]:
    """All 3,201, in the file's order. Raises `SystemExit`, saying what to install, where the package is missing."""
    return [_movie(row) for row in json.loads(movies_file().read_text("utf-8"))]


def movies_file(folders: Iterable[Path] | None = None) -> Path:
    """movies.json in node_modules, beside the examples or in the caller's folder."""
    for folder in folders or (HERE, Path.cwd()):
        file = folder / "node_modules" / "vega-datasets" / "data" / "movies.json"
        if file.is_file():
            return file
    raise SystemExit(f"films: to read this, install the npm package vega-datasets: {_install()}")


def _install() -> str:
    if (HERE.parent / "pyproject.toml").is_file():  # a checkout, whose package.json is meant
        return f"npm install --prefix {os.path.relpath(HERE)}"
    return f"npm install vega-datasets@{VERSION}"


def _movie(row: dict[str, Any]) -> Movie:
    title, year = row["Title"], int(row["Release Date"].rsplit(maxsplit=1)[-1])
    return Movie(
        title=None if title is None else str(title),  # 1776, 300 and 2012 are numbers there
        year=year if year <= LAST_YEAR else year - 100,
        budget=row["Production Budget"] or None,
        gross=row["Worldwide Gross"] or None,
        us_gross=row["US Gross"] or None,
        minutes=row["Running Time min"] or None,
        genre=row["Major Genre"],
    )
