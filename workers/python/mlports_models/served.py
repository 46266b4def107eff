"""The estimator that a worker serves, from its configuration to its answers."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from mlports_worker import Failure

from . import registry, rows
from .model_files import ModelFolder

_METHODS = ("partial_fit", "predict", "predict_proba", "transform", "score")
_CONFIG = {"estimator": str, "params": dict, "model": str, "models_dir": str, "trusted": list}


class Served:
    """One estimator and what can be done with it.

    `config` is the service's (see `estimator`), `log(level, text)` takes what its operator should know.
    Raises `Failure` for a config that cannot be used.
    """

    def __init__(self, config: dict[str, Any], log: Callable[..., None]) -> None:
        _check(config)
        self._files = ModelFolder(config.get("models_dir", "."), config.get("trusted", ()), log)
        self._template: Any = None  # unfitted: what fit begins with
        self._model: Any = None  # fitted
        self._file: str | None = None
        if "model" in config:
            path = self._files.folder / config["model"]
            self._take(self._files.load(path), path)
            wanted = config.get("estimator")
            if wanted is not None and wanted != self._name:
                raise Failure(
                    "failed_precondition", f"config: {path} holds a {self._name}, and estimator says {wanted!r}"
                )
        elif "estimator" in config:
            self._template = registry.build(config["estimator"], config.get("params"))

    # -- what the worker's methods do

    def fit(self, X: Any, y: Any, params: Any) -> dict[str, Any]:
        """See `estimator.fit`."""
        template = self._any()
        given = registry.params_given(params)
        go_on = self._model is not None and getattr(template, "warm_start", False)
        candidate = copy.deepcopy(self._model) if go_on else clone(template)
        registry.set_params(candidate, given, by_operator=False)
        table, labels = self._table(X, None).rows, _labels(y)
        with self._errors("fit"):
            candidate.fit(table) if labels is None else candidate.fit(table, labels)
        self._model, self._file = candidate, None
        return self._fitted_info()

    def partial_fit(self, X: Any, y: Any, classes: Any) -> dict[str, Any]:
        """See `estimator.partial_fit`."""
        candidate = self._model if self._model is not None else clone(self._any())
        method = self._method(candidate, "partial_fit")
        table, labels = self._table(X, None).rows, _labels(y)
        arguments = [table] if labels is None else [table, labels]
        keywords = {}
        if classes is not None:
            if "classes" not in inspect.signature(method).parameters:
                raise Failure("invalid_argument", f"partial_fit of {self._name} takes no classes: leave them out")
            keywords["classes"] = rows.as_array(classes, "classes")
        with self._errors("partial_fit"):
            method(*arguments, **keywords)
        self._model, self._file = candidate, None
        return self._fitted_info()

    def apply(self, name: str, values: list[Any]) -> list[Any]:
        """The outcomes of predict, predict_proba or transform, one for each value, in order."""
        model = self._fitted(name)
        method = self._method(model, name)
        row, width = _row_kind(model), getattr(model, "n_features_in_", None)

        def call(table: rows.Array) -> Any:
            with self._errors(name):
                return method(table)

        return rows.apply(values, lambda value: rows.as_table(value, row, width, self._name), call)

    def score(self, X: Any, y: Any) -> float:
        """See `estimator.score`."""
        model = self._fitted("score")
        method = self._method(model, "score")
        table, labels = self._table(X, getattr(model, "n_features_in_", None)).rows, _labels(y)
        with self._errors("score"):
            return float(method(table) if labels is None else method(table, labels))

    def save(self, path: Any) -> dict[str, Any]:
        """See `estimator.save`."""
        saved = self._files.save(self._fitted("save"), path)
        self._file = str(self._files.folder / saved["path"])
        return saved

    def load(self, path: Any) -> dict[str, Any]:
        """See `estimator.load`."""
        full = self._files.confined(path)
        self._take(self._files.load(full), full)
        return self.info()

    def info(self) -> dict[str, Any]:
        """See `estimator.info`."""
        estimator = self._model if self._model is not None else self._template
        classes = getattr(estimator, "classes_", None)
        return {
            "estimator": None if estimator is None else self._name,
            "params": {} if estimator is None else _plain(estimator.get_params(deep=False)),
            "fitted": estimator is not None and _is_fitted(estimator),
            "features": _plain(getattr(estimator, "n_features_in_", None)),
            "classes": None if classes is None else _plain(classes),
            "methods": [] if estimator is None else _methods(estimator),
            "file": self._file,
            "scikit-learn": sklearn.__version__,
        }

    # -- its parts

    @property
    def _name(self) -> str:
        return type(self._model if self._model is not None else self._template).__name__

    def _any(self) -> Any:
        if self._template is None:
            raise Failure(
                "failed_precondition",
                'there is no estimator yet: name one in the service\'s config, as in estimator = "LogisticRegression", '
                "or load(path) a saved model",
            )
        return self._template

    def _fitted(self, name: str) -> Any:
        if self._model is not None:
            return self._model
        template = self._any()
        if name != "save":
            self._method(template, name)
        if not _is_fitted(template):
            raise self._not_fitted()
        return template

    def _not_fitted(self) -> Failure:
        return Failure("failed_precondition", f"{self._name} is not fitted yet: call fit(X, y) or load(path) first")

    def _take(self, estimator: Any, path: Path) -> None:
        if not _is_fitted(estimator):
            raise Failure(
                "failed_precondition",
                f"{path} holds a {type(estimator).__name__} that is not fitted: fit, then save it",
            )
        self._template, self._model, self._file = clone(estimator), estimator, str(path)

    def _table(self, X: Any, width: int | None) -> rows.Table:
        table = rows.as_table(X, _row_kind(self._any()), width, self._name)
        if table.single:
            raise Failure("invalid_argument", "X is a single row; this takes a table, a list of rows")
        return table

    def _method(self, estimator: Any, name: str) -> Callable[..., Any]:
        try:
            method: Callable[..., Any] = getattr(estimator, name)
        except NotFittedError:
            raise self._not_fitted() from None
        except AttributeError as error:
            why = f" ({error.__cause__})" if error.__cause__ is not None else ""
            has = ", ".join(["fit", *_methods(estimator)])
            raise Failure("unimplemented", f"{self._name} has no {name}{why}; it has: {has}") from None
        return method

    @contextmanager
    def _errors(self, method: str) -> Iterator[None]:
        """What scikit-learn raises for wrong arguments, as the caller's fault."""
        try:
            yield
        except NotFittedError:
            raise self._not_fitted() from None
        except (ValueError, TypeError) as error:
            raise Failure("invalid_argument", f"{self._name}.{method}: {error}") from error

    def _fitted_info(self) -> dict[str, Any]:
        """`info()`, with the results that nothing but fitting gives: what DBSCAN or TSNE know of the rows given."""
        told = self.info()
        for attribute, method in (("labels_", "predict"), ("embedding_", "transform")):
            if hasattr(self._model, attribute) and not hasattr(self._model, method):
                told[attribute.rstrip("_")] = getattr(self._model, attribute)
        return told


def _check(config: dict[str, Any]) -> None:
    for key, value in config.items():
        kind = _CONFIG.get(key)
        if kind is None:
            near = registry.nearest(key, _CONFIG)
            hint = f"did you mean {near!r}?" if near else f"there are: {', '.join(_CONFIG)}"
            raise Failure("invalid_argument", f"config: there is no key {key!r:.80}; {hint}")
        if not isinstance(value, kind):
            raise Failure("invalid_argument", f"config: {key} is a {kind.__name__}, not {value!r:.80}")
    if not all(isinstance(name, str) for name in config.get("trusted", ())):
        raise Failure("invalid_argument", "config: trusted is a list of names of types")
    if "model" in config and "params" in config:
        raise Failure("invalid_argument", "config: a model has its own parameters: leave params out, or model")
    if "params" in config and "estimator" not in config:
        raise Failure("invalid_argument", 'config: params of what? Add estimator = "NAME"')


def _labels(y: Any) -> rows.Array | None:
    return None if y is None else rows.as_array(y, "y")


def _is_fitted(estimator: Any) -> bool:
    try:
        check_is_fitted(estimator)
    except (NotFittedError, TypeError):
        return False
    return True


def _methods(estimator: Any) -> list[str]:
    return [name for name in _METHODS if hasattr(estimator, name)]


def _row_kind(estimator: Any) -> rows.Row:
    """What one row is for the estimator that meets it first: that at the head of a pipeline, or inside a search."""
    while True:
        if getattr(estimator, "steps", None):
            estimator = estimator.steps[0][1]
        elif hasattr(getattr(estimator, "estimator", None), "fit"):
            estimator = estimator.estimator
        else:
            break
    if not hasattr(estimator, "get_params"):  # "passthrough"
        return "vector"
    try:
        from sklearn.utils import get_tags
    except ImportError:  # scikit-learn before 1.6
        return "vector" if "2darray" in estimator._get_tags()["X_types"] else "item"
    return "vector" if get_tags(estimator).input_tags.two_d_array else "item"


def _plain(value: Any) -> Any:
    """A parameter or attribute as something that every caller can read; what is no plain value, as its repr."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return value if value is None or isinstance(value, bool | int | float | str) else repr(value)
