"""The SDK for R: the kit, its own tests, glm beside scikit-learn's regression, and what `mlports init` makes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.linear_model import LogisticRegression

import mlports
from mlports.testing.conformance import check
from tests.languages import built, configuration, new_project, own_tests, running


@pytest.fixture(scope="module")
def folder() -> Path:
    return built("r")


def test_level_standard(folder: Path) -> None:
    report = check(configuration("r").service["conformance"].command, cwd=folder, level="standard", timeout=20)
    assert report.passed, str(report)


def test_its_own_tests(folder: Path) -> None:
    own_tests(folder)


def test_glm_is_scikit_learns_logistic_regression(folder: Path) -> None:
    table, y = load_breast_cancer(return_X_y=True)
    x = table[:, [0, 1, 4, 8]]
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    reference = LogisticRegression(C=np.inf, tol=1e-12, max_iter=10_000, solver="newton-cholesky").fit(x, y)
    with running("r", "glm") as orch:
        fitted = orch.call("glm.logistic", x, y.tolist())
        as_lists = orch.call("glm.logistic", x.tolist(), y.tolist())
        with pytest.raises(mlports.CallError, match="other than 0 and 1"):
            orch.call("glm.logistic", x, (y + 1).tolist())
    assert fitted["converged"]
    assert fitted == as_lists
    assert np.allclose(fitted["coefficients"], reference.coef_[0], rtol=0, atol=1e-6)
    assert fitted["intercept"] == pytest.approx(reference.intercept_[0], abs=1e-6)


def test_digits(folder: Path) -> None:
    x, y = load_digits(return_X_y=True)
    train, held_out = slice(0, 1200), slice(1200, None)
    with running("r", "glm") as orch:
        with pytest.raises(mlports.CallError, match="no model yet"):
            orch.call("glm.predict", [[0.0] * 64])
        assert orch.call("glm.fit", x[train], y[train].tolist())["classes"] == list(range(10))
        predicted = orch.call("glm.predict", x[held_out])
        record = orch.call("glm.vote", {"x": x[held_out][:5].tolist(), "votes": {"c": [1]}, "kept": "as it was"})
        with pytest.raises(mlports.CallError, match="rows of 3 features"):
            orch.call("glm.predict", [[1.0, 2.0, 3.0]])
    assert np.mean(predicted == y[held_out]) > 0.85
    assert record["votes"] == {"c": [1], "r": predicted[:5]}
    assert record["kept"] == "as it was"


def test_a_new_project_runs(folder: Path, tmp_path: Path) -> None:
    with new_project("r", tmp_path) as orch:
        assert orch.call("line.predict", 2) == 7.0
        assert orch.map("line.predict", [0, 0.5, "x"], return_exceptions=True)[:2] == [1.0, 2.5]
        with pytest.raises(mlports.CallError, match="a number is needed") as failed:
            orch.call("line.predict", "x")
        assert failed.value.code == "invalid_argument"
        assert orch.call("line.describe") == {"kind": "line", "slope": 3.0, "intercept": 1.0}
        assert list(orch.stream("line.steps", 3, 0)) == [1, 2, 3]
