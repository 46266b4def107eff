"""A model is checked where it is defined, by a program that needs neither numpy nor scikit-learn."""

from __future__ import annotations

import subprocess
import sys
from typing import Any, ClassVar

import pytest

from mlports.ml import FormulaError, Model, ModelError, linear_regression, model
from mlports.ml.definition import ESTIMATORS


def test_a_class_says_the_same_as_keywords() -> None:
    """Guards the decorator: annotations are the columns' kinds."""

    class Films:
        formula = "log(gross) ~ log(budget) + C(genre)"
        estimator = "ridge"
        params: ClassVar = {"alpha": 2.0}
        impute = "median"
        gross: float
        budget: int
        genre: str

    columns = {"gross": "number", "budget": "number", "genre": "category"}
    said = model(
        Films.formula, name="films", estimator="ridge", params={"alpha": 2.0}, impute="median", columns=columns
    )
    assert model(Films) == said
    assert said.definition.as_plain()["regressor"] == "Ridge"


def test_linear_regression_is_scikit_learns() -> None:
    """Guards the exercise: it is the plain estimator, with no step that would change its numbers."""
    plain = linear_regression("y ~ x1 + x2").definition.as_plain()
    assert (plain["regressor"], plain["classifier"], plain["scale"], plain["impute"]) == (
        "LinearRegression",
        None,
        False,
        None,
    )


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"estimator": "rigde"}, "did you mean 'ridge'"),
        ({"estimator": "Rigde"}, "did you mean 'ridge'"),
        ({"estimator": "os.system"}, "there are: linear"),
        ({"estimator": None}, "no estimator None"),
        ({"impute": "meen"}, "did you mean 'mean'"),
        ({"impute": ["mean"]}, "impute"),
        ({"unseen": "refus"}, "did you mean 'refuse'"),
        ({"scale": 1}, "True or False"),
        ({"name": "a/b"}, "name"),
        ({"params": ["alpha"]}, "params"),
        ({"columns": {"y": float, "x": float}}, "no column 'g'"),
        ({"columns": {"y": float, "x": float, "G": str}}, "did you mean 'G'"),
        ({"columns": {"y": float, "x": complex, "g": str}}, "there are 'number'"),
        ({"columns": ["y", "x"]}, "columns is a dict"),
        ({"columns": {"y": float, "x": str, "g": str}}, "'x' is a category"),
    ],
)
def test_what_is_wrong_is_told_at_once(said: dict[str, Any], told: str) -> None:
    """Guards whoever defines a model: no worker has to be started to hear of it."""
    with pytest.raises(ModelError) as caught:
        model("y ~ log(x) + C(g)", **said)
    assert told in str(caught.value)


def test_an_attribute_that_means_nothing_is_told() -> None:
    """Guards against a step that is thought to be done."""

    class Films:
        formula = "y ~ x"
        inpute = "mean"

    with pytest.raises(ModelError, match="did you mean 'impute'"):
        model(Films)
    with pytest.raises(ModelError, match="has no formula"):
        model(type("Empty", (), {}))


def test_target_and_estimator_fit_each_other() -> None:
    """Guards against numbers that are predicted where categories are meant."""
    with pytest.raises(FormulaError, match="estimator='logistic'"):
        model("C(species) ~ x")
    with pytest.raises(FormulaError, match="predicts categories"):
        model("log(y) ~ x", estimator="logistic")
    assert isinstance(model("C(species) ~ x", estimator="forest"), Model)


def test_every_estimator_has_a_class() -> None:
    """Guards the table of names: each is something that scikit-learn has."""
    from mlports_models import registry

    names = {name for pair in ESTIMATORS.values() for name in pair if name}
    assert names <= set(registry.names())
    assert names & set(registry.names("regressor")) == {
        pair.regressor for pair in ESTIMATORS.values() if pair.regressor
    }


def test_the_functions_are_those_of_the_worker() -> None:
    """Guards the two lists against each other, which cannot import one another."""
    from mlports.ml.formula import FUNCTIONS
    from mlports_models import formulas

    assert set(FUNCTIONS) == {*formulas.FUNCTIONS, "center", "scale"}


def test_the_caller_stays_light() -> None:
    """Guards the process that defines models: the heavy packages belong to the workers."""
    heavy = "{'numpy', 'pandas', 'sklearn', 'formulaic'}"
    code = f"import sys\nfrom mlports.ml import model\nmodel('y ~ log(x)')\nprint({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
