"""The SDK for Lua: the kit, its own tests, a model beside numpy's, and what `mlports init` makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

import mlports
from mlports.testing.conformance import check
from tests.languages import built, configuration, new_project, own_tests, running

STEPS = 15


@pytest.fixture(scope="module")
def folder() -> Path:
    return built("lua")


def test_level_standard(folder: Path) -> None:
    report = check(configuration("lua").service["conformance"].command, cwd=folder, level="standard")
    assert report.passed, str(report)


def test_its_own_tests(folder: Path) -> None:
    own_tests(folder)


def descent(x: Any, y: Any, steps: int) -> Any:
    """The weights of softmax regression after so many steps of 1 from zeros, (10, 65)."""
    rows = np.c_[x / 16, np.ones(len(x))]
    weights = np.zeros((10, rows.shape[1]))
    for _ in range(steps):
        scores = rows @ weights.T
        p = np.exp(scores - scores.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        p[np.arange(len(y)), y] -= 1
        weights -= p.T @ rows / len(rows)
    return weights


def test_softmax_regression_is_numpys(folder: Path) -> None:
    x, y = load_digits(return_X_y=True)
    train, held_out = slice(0, 600), slice(1200, None)
    expected = descent(x[train], y[train], STEPS)
    with running("lua", "softmax") as orch:
        with pytest.raises(mlports.CallError, match="no model yet"):
            orch.call("softmax.predict", [[0.0] * 64])
        fitted = orch.call("softmax.fit", x[train].tolist(), y[train].tolist(), STEPS)
        predicted = orch.call("softmax.predict", x[held_out].tolist())
        record = orch.call("softmax.vote", {"x": x[held_out][:5].tolist(), "votes": {"c": [1]}, "kept": "as it was"})
        with pytest.raises(mlports.CallError, match="a row of 3 features"):
            orch.call("softmax.predict", [[1.0, 2.0, 3.0]])
    assert np.allclose(fitted["weights"], expected, rtol=0, atol=1e-9)
    labels = (np.c_[x[held_out] / 16, np.ones(597)] @ expected.T).argmax(axis=1)
    assert np.array_equal(predicted, labels)
    assert np.mean(labels == y[held_out]) > 0.8
    assert record == {"x": x[held_out][:5].tolist(), "votes": {"c": [1], "lua": predicted[:5]}, "kept": "as it was"}


def test_a_new_project_runs(folder: Path, tmp_path: Path) -> None:
    with new_project("lua", tmp_path) as orch:
        assert orch.call("line.predict", 2) == 7.0
        assert orch.map("line.predict", [0, 0.5, "x"], return_exceptions=True)[:2] == [1.0, 2.5]
        with pytest.raises(mlports.CallError, match="a number is needed") as failed:
            orch.call("line.predict", "x")
        assert failed.value.code == "invalid_argument"
        assert orch.call("line.describe") == {"kind": "line", "slope": 3.0, "intercept": 1.0}
        assert list(orch.stream("line.steps", 3, 0)) == [1, 2, 3]
