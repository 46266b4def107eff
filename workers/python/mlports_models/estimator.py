"""A worker for any scikit-learn estimator: fits it, saves it, loads it and answers with it.

    [service.digits]
    command = ["python", "-m", "mlports_models.estimator"]
    config = { model = "digits.skops" }

The service's `config`, all of it optional:

- `estimator`: the class's name, such as "LogisticRegression"; from scikit-learn's own registry, never an import path.
- `params`: its parameters. An estimator inside another is written {estimator = "SVC", params = {C = 2.0}}, so the
  steps of a "Pipeline" are [["scale", {estimator = "StandardScaler"}], ["svc", {estimator = "SVC"}]]
  and `svc__C` is one more.
- `model`: a file that `save` has written, to be loaded at the start, relative to `models_dir`. Instead of `estimator`.
- `models_dir`: the folder that `save` and `load` keep to (default: the working directory).
- `trusted`: names of types, beyond those that skops itself trusts, that a model file may hold.

`fit`, `partial_fit` and `load` change the one replica that they reach. So train in a service of one replica, save, and
serve the file from as many as are wanted, by `model`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlports_worker import Worker

from . import settings

if TYPE_CHECKING:
    from .served import Served

worker = Worker("estimator")
_served: Served


@worker.setup
def start(config: dict[str, Any]) -> None:
    """Imports scikit-learn, makes the estimator or loads the model. Ends the worker, with the reason, if it cannot."""
    global _served
    settings.need("estimator", "models", numpy="numpy", sklearn="scikit-learn")
    from .served import Served

    _served = Served(config, worker.log)


@worker.method
def fit(X: Any, y: Any = None, params: Any = None) -> dict[str, Any]:
    """Fits a fresh estimator to a table and its labels, and gives its `info()`.

    `params` override the configured parameters, this time. A fit that fails leaves the model that there was.
    """
    return _served.fit(X, y, params)


@worker.method
def partial_fit(X: Any, y: Any = None, classes: Any = None) -> dict[str, Any]:
    """Goes on fitting with one more table, and gives `info()`; a classifier needs all `classes` the first time."""
    return _served.partial_fit(X, y, classes)


@worker.method(batch=True, idempotent=True)
def predict(X: list[Any]) -> list[Any]:
    """The label or number for one row, or an array of them for a table."""
    return _served.apply("predict", X)


@worker.method(batch=True, idempotent=True)
def predict_proba(X: list[Any]) -> list[Any]:
    """The classes' probabilities for one row, or an array with a row of them for each of a table's."""
    return _served.apply("predict_proba", X)


@worker.method(batch=True, idempotent=True)
def transform(X: list[Any]) -> list[Any]:
    """One row transformed, or a table."""
    return _served.apply("transform", X)


@worker.method(idempotent=True)
def score(X: Any, y: Any = None) -> float:
    """What the estimator's own score gives: mean accuracy for a classifier, R² for a regressor."""
    return _served.score(X, y)


@worker.method
def save(path: Any) -> dict[str, Any]:
    """Writes the fitted estimator, as skops, to a file in `models_dir`: all of it, or the old file stays.

    Gives the path, its size in bytes, and as `trusted` what a config has to name for the file to be loaded.
    """
    return _served.save(path)


@worker.method
def load(path: Any) -> dict[str, Any]:
    """Loads what `save` wrote in place of the present estimator, and gives its `info()`."""
    return _served.load(path)


@worker.method(idempotent=True)
def info() -> dict[str, Any]:
    """The estimator, its parameters, whether it is fitted, its features, classes and methods."""
    return _served.info()


@worker.method(idempotent=True)
def estimators(kind: Any = None) -> list[str]:
    """The names that `estimator` may have; of one kind ("classifier", "regressor", "cluster", "transformer") or all."""
    from . import registry

    return registry.names(kind)


if __name__ == "__main__":
    worker.run()
