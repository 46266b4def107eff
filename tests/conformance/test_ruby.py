"""The SDK for Ruby: the kit, its own tests, a model beside scikit-learn's, and what `mlports init` makes of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.naive_bayes import MultinomialNB

import mlports
from mlports.testing.conformance import check
from tests.languages import built, configuration, new_project, own_tests, running


@pytest.fixture(scope="module")
def folder() -> Path:
    return built("ruby")


def test_level_full(folder: Path) -> None:
    report = check(configuration("ruby").service["conformance"].command, cwd=folder, level="full")
    assert report.passed, str(report)


def test_its_own_tests(folder: Path) -> None:
    own_tests(folder)


def test_naive_bayes_is_scikit_learns(folder: Path) -> None:
    x, y = load_digits(return_X_y=True)
    train, held_out = slice(0, 1200), slice(1200, None)
    expected = MultinomialNB().fit(x[train], y[train]).predict(x[held_out])
    with running("ruby", "bayes") as orch:
        with pytest.raises(mlports.CallError, match="no model yet"):
            orch.call("bayes.predict", [[0.0] * 64])
        assert orch.call("bayes.fit", x[train].tolist(), y[train].tolist())["classes"] == list(range(10))
        predicted = orch.call("bayes.predict", x[held_out].tolist())
        record = orch.call("bayes.vote", {"x": x[held_out][:5].tolist(), "votes": {"c": [1]}, "kept": "as it was"})
        with pytest.raises(mlports.CallError, match="a row of 3 features"):
            orch.call("bayes.predict", [[1.0, 2.0, 3.0]])
    assert np.array_equal(predicted, expected)
    assert record["votes"] == {"c": [1], "ruby": predicted[:5]}
    assert record["kept"] == "as it was"


def test_a_new_project_runs(folder: Path, tmp_path: Path) -> None:
    with new_project("ruby", tmp_path) as orch:
        assert orch.call("line.predict", 2) == 7.0
        assert orch.map("line.predict", [0, 0.5, "x"], return_exceptions=True)[:2] == [1.0, 2.5]
        with pytest.raises(mlports.CallError, match="a number is needed") as failed:
            orch.call("line.predict", "x")
        assert failed.value.code == "invalid_argument"
        assert orch.call("line.describe") == {"kind": "line", "slope": 3.0, "intercept": 1.0}
        assert list(orch.stream("line.steps", 3, 0)) == [1, 2, 3]
