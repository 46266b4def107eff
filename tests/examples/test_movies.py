"""The table of films: the row that the article has, and what the file has wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from examples.movies import Movie, movies, movies_file
from tests.extras import need_movies


def test_the_table_is_read_as_what_it_means() -> None:
    need_movies()
    table = movies()
    assert len(table) == 3_201
    assert table[603] == Movie("Mad Max", 1980, 200_000, 99_750_000, 8_750_000, None, "Action")
    assert {"300", "1776", "2012"} <= {movie.title for movie in table}
    assert {type(movie.title) for movie in table} == {str, type(None)}
    assert {type(movie.gross) for movie in table} == {int, type(None)}
    assert 0 not in {movie.gross for movie in table}
    years = [movie.year for movie in table]
    assert (min(years), max(years)) == (1915, 2011)


def test_a_missing_table_is_told_with_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"npm install --prefix \S*examples"):
        movies_file([tmp_path])
    file = tmp_path / "node_modules" / "vega-datasets" / "data" / "movies.json"
    file.parent.mkdir(parents=True)
    file.touch()
    assert movies_file([tmp_path / "nowhere", tmp_path]) == file
