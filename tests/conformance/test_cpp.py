"""The SDK for C++: the conformance kit, its own tests, its example against scikit-learn, and what goes wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_digits
from sklearn.linear_model import Ridge, RidgeClassifier

import mlports
from tests.compiled import CompiledWorkers
from tests.languages import built, configuration


@pytest.fixture(scope="module")
def folder() -> Path:
    return built("cpp")


class TestCpp(CompiledWorkers):
    """What every compiled SDK must do, and what is C++'s own."""

    language = "cpp"
    example = "ridge"

    @pytest.mark.parametrize("alpha", [0.01, 1.0, 30.0])
    def test_coefficients_are_those_of_scikit_learn(self, folder: Path, alpha: float) -> None:
        x, y = load_diabetes(return_X_y=True)
        theirs = Ridge(alpha=alpha).fit(x, y)
        with mlports.open(configuration("cpp")) as orch:
            ours = orch.call("ridge.regress", x, y.tolist(), alpha)
        assert np.abs(np.array(ours["coefficients"][0]) - theirs.coef_).max() < 1e-9
        assert abs(ours["intercepts"][0] - theirs.intercept_) < 1e-9

    @pytest.mark.parametrize("classes", [2, 10])
    def test_the_classifier_is_that_of_scikit_learn(self, folder: Path, classes: int) -> None:
        x, y = load_digits(n_class=classes, return_X_y=True)
        half = len(x) // 2
        theirs = RidgeClassifier().fit(x[:half], y[:half])
        with mlports.open(configuration("cpp")) as orch:
            fitted = orch.call("ridge.fit", x[:half].tolist(), y[:half].tolist())
            ours = orch.call("ridge.predict", x[half:])
        assert np.abs(np.array(fitted["coefficients"]) - theirs.coef_).max() < 1e-9
        assert np.abs(np.array(fitted["intercepts"]) - theirs.intercept_).max() < 1e-9
        assert ours == theirs.predict(x[half:]).tolist()

    def test_rows_that_do_not_fit_are_told(self, folder: Path) -> None:
        with mlports.open(configuration("cpp")) as orch:
            with pytest.raises(mlports.CallError, match="not fitted yet"):
                orch.call("ridge.predict", [[1, 2]])
            with pytest.raises(mlports.InvalidArgument, match="row 1 has 1 numbers, the first has 2"):
                orch.call("ridge.fit", [[1, 2], [1]], [1, 2])
            with pytest.raises(mlports.InvalidArgument, match="1 targets for 2 rows"):
                orch.call("ridge.fit", [[1, 2], [1, 3]], [1])

    def test_an_exception_is_told_with_its_type(self, folder: Path) -> None:
        with mlports.open(configuration("cpp")) as orch, pytest.raises(mlports.WorkerError, match="oops") as raised:
            orch.call("conformance.fail", "oops")
        assert raised.value.remote_type == "std::runtime_error"
