"""Models in a few lines: a formula, an estimator, typed columns; trained, measured and served by workers.

    films = model("log(gross) ~ log(budget) + C(genre)", estimator="linear", impute="drop")
    trained = films.train("films.csv", folds=5)
    print(trained.scores["cross_validation"]["mean"], trained.coefficients)
    trained.save("models/films.skops")
    with trained.serve() as served:
        served.predict({"budget": 200_000, "genre": "Action"})

Workers need `pip install 'mlports[ml]'`; the program that defines models needs nothing more than mlports.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, overload

from mlports.ml.definition import annotated, define
from mlports.ml.errors import FormulaError, LeakageError, ModelError
from mlports.ml.training import Model, Served, Trained, server, trainer

__all__ = [
    "FormulaError",
    "LeakageError",
    "Model",
    "ModelError",
    "Served",
    "Trained",
    "linear_regression",
    "model",
    "server",
    "trainer",
]

Impute = Literal["mean", "median", "drop"]
Unseen = Literal["frequent", "refuse"]


@overload
def model(formula: type, /) -> Model: ...
@overload
def model(
    formula: str,
    /,
    *,
    name: str = "model",
    estimator: str = "linear",
    impute: Impute | None = None,
    scale: bool = False,
    unseen: Unseen = "frequent",
    columns: Mapping[str, Any] | None = None,
    params: Mapping[str, Any] | None = None,
) -> Model: ...
def model(formula: str | type, /, **said: Any) -> Model:
    """A model, checked where it is defined. Also a class decorator:

        @model
        class Films:
            formula = "log(gross) ~ log(budget) + C(genre)"
            estimator = "ridge"
            gross: float
            budget: float
            genre: str

    formula: see `mlports.ml.formula`. estimator: a name of `mlports.ml.definition.ESTIMATORS`, with `params`.
    impute: what stands for a missing input: "mean" or "median" for numbers, with the most frequent one for categories;
    "drop" leaves the rows out; None refuses them. scale: features to mean 0 and deviation 1. unseen: what becomes of a
    category that training has not met: "frequent" takes it for the most frequent one, "refuse" refuses it. columns:
    their kinds, "number" or "category"; left out, they are seen from the table.

    Raises `ModelError`: `FormulaError`, which points at the place, and `LeakageError` for a target among the inputs.
    """
    if isinstance(formula, type):
        return Model(define(**annotated(formula)))
    return Model(define(formula, **said))


def linear_regression(
    formula: str,
    /,
    *,
    name: str = "linear regression",
    impute: Impute | None = None,
    unseen: Unseen = "frequent",
    columns: Mapping[str, Any] | None = None,
) -> Model:
    """Ordinary least squares, as scikit-learn's LinearRegression: `linear_regression("y ~ x1 + x2")`. See `model`."""
    return model(formula, name=name, impute=impute, unseen=unseen, columns=columns)
