"""The example's findings on real tables: equal to scikit-learn, refused where defined, and what scaling is worth."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.extras import need, need_movies

need("formulaic", "sklearn", how="pip install 'mlports[ml]'")

from examples.model_language import __main__ as example  # noqa: E402


@pytest.mark.soak
def test_the_findings(tmp_path: Path) -> None:
    """Guards what the README says of the example."""
    need_movies()
    found = example.run(tmp_path)
    assert example.holds(found)
    assert found.served[0] == found.served[1]
    assert "unknown: 's6'" in found.served[2]
    assert example.mean(found.wine_unscaled, "accuracy") < 0.75
    assert example.mean(found.wine, "accuracy") > 0.95
    assert 0.40 < example.mean(found.progression, "r2") < 0.52
    assert {path.suffix for path in tmp_path.iterdir()} == {".skops", ".md", ".json"}
    assert "0.972" in example.report(found)


def test_films_bring_in_less_than_twice_as_much_for_twice_the_budget() -> None:
    """On the whole table, with its holes; equal to least squares by scikit-learn."""
    need_movies()
    import math

    from sklearn.linear_model import LinearRegression

    table = example.film_table()
    trained = example.films.train(table, folds=3, holdout=None)
    assert trained.card["notes"] == [
        "54 rows without log(gross) were left out",
        "248 rows that miss an input were left out",
    ]
    assert 0.40 < example.mean(trained, "r2") < 0.50
    whole = [film for film in table if None not in (film["budget"], film["gross"], film["genre"])]
    genres = sorted({film["genre"] for film in whole})[1:]
    matrix = [[math.log(film["budget"]), *(film["genre"] == genre for genre in genres)] for film in whole]
    reference = LinearRegression().fit(matrix, [math.log(film["gross"]) for film in whole])
    expected = [reference.intercept_, *reference.coef_]
    assert trained.coefficients is not None
    assert list(trained.coefficients.values()) == pytest.approx(expected, abs=1e-9)


def test_wrong_models_are_refused_where_they_are_defined() -> None:
    """Guards the article's idea, an expressive language, against its price, a misread one."""
    told = example.refusals()
    assert set(told) == set(example.WRONG)
    assert "position 24: this bracket is never closed" in told["a typo"]
    assert "did you mean 'bp'?" in told["an unknown column"]
    assert "cannot be an input too" in told["the target among the inputs"]
    assert "did you mean 'ridge'?" in told["an estimator that there is not"]
