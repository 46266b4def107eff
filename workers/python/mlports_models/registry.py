"""scikit-learn's estimators by name: the only names that are ever turned into classes."""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import sklearn
from sklearn.base import BaseEstimator
from sklearn.utils import all_estimators

from mlports_worker import Failure

KINDS = ("classifier", "regressor", "cluster", "transformer")

_OPERATORS_ONLY = frozenset(["memory", "input"])
"""Parameters with which an estimator reads or writes files of its caller's choice."""


@functools.cache
def _classes() -> Mapping[str, type]:
    return dict(all_estimators())


@functools.cache
def _class(name: str) -> type | None:
    """The class of this name, if there is one. Only where no module says that it has it are all of them imported."""
    for module in _modules_naming(name):
        cls = getattr(importlib.import_module(module), name, None)
        if isinstance(cls, type) and issubclass(cls, BaseEstimator) and not inspect.isabstract(cls):
            return cls if cls is not BaseEstimator else None
    return _classes().get(name)


def _modules_naming(name: str) -> list[str]:
    """scikit-learn's modules whose text has this name in quotes, as their `__all__` does."""
    root = Path(sklearn.__path__[0])
    modules = {f"sklearn.{file.stem}": file for file in root.glob("[!_]*.py") if file.stem != "conftest"}
    packages = {f"sklearn.{file.parent.name}": file for file in root.glob("[!_]*/__init__.py")}
    return [module for module, file in (modules | packages).items() if f'"{name}"' in file.read_text("utf-8")]


def names(kind: Any = None) -> list[str]:
    """The names of all estimators, or of one of `KINDS`, sorted. Raises `Failure` for another kind."""
    if kind is None:
        return sorted(_classes())
    if kind not in KINDS:
        raise Failure("invalid_argument", f"there is no kind {kind!r:.80} of estimators; there are: {', '.join(KINDS)}")
    return sorted(name for name, _ in all_estimators(type_filter=kind))


def build(name: Any, params: Any, *, by_operator: bool = True) -> Any:
    """An unfitted estimator. `by_operator` says whether `params` come from the config, or from just any caller.

    Raises `Failure` for names that there are not and parameters that the estimator does not have.
    """
    cls = _class(name) if isinstance(name, str) else None
    if cls is None:
        near = _nearest(str(name), _classes())
        raise Failure(
            "not_found",
            f"scikit-learn has no estimator {name!r:.80}; {near or 'estimators() lists those there are'}",
        )
    given = params_given(params)
    signature = inspect.signature(cls).parameters
    own, deeper = {}, {}
    for key, value in given.items():
        if key in signature:
            default = signature[key].default
            own[key] = _value(value, default, by_operator, key)
        else:
            deeper[key] = value
    try:
        estimator = cls(**own)
    except TypeError as error:
        raise Failure("invalid_argument", f"{name} cannot be made of these parameters: {error}") from error
    return set_params(estimator, deeper, by_operator=by_operator)


def set_params(estimator: Any, params: Any, *, by_operator: bool) -> Any:
    """The same estimator with these parameters set; `a__b` is the parameter b of the estimator a inside it."""
    values = {}
    given = params_given(params)
    known = estimator.get_params(deep=True) if given else {}
    for key, value in given.items():
        if key not in known:
            near = _nearest(key, known)
            shown = ", ".join(sorted(name for name in known if "__" not in name)) or "none"
            raise Failure(
                "invalid_argument",
                f"{type(estimator).__name__} has no parameter {key!r:.80}; {near or f'it has: {shown}'}",
            )
        values[key] = _value(value, known[key], by_operator, key)
    try:
        return estimator.set_params(**values)
    except (ValueError, TypeError, AttributeError) as error:
        raise Failure("invalid_argument", f"{type(estimator).__name__}: {error}") from error


def params_given(params: Any) -> dict[str, Any]:
    """`params` as a dict, which None is too. Raises `Failure` for anything else."""
    if params is None:
        return {}
    if not isinstance(params, dict) or not all(isinstance(key, str) for key in params):
        raise Failure("invalid_argument", f"params is a map from names to values, not {params!r:.80}")
    return params


def nearest(name: str, among: Iterable[str]) -> str | None:
    """The most similar name, if any is similar: upper and lower case do not matter."""
    by_lower = {other.lower(): other for other in among}
    found = difflib.get_close_matches(name.lower(), by_lower, n=1)
    return by_lower[found[0]] if found else None


def _nearest(name: str, among: Iterable[str]) -> str | None:
    near = nearest(name, among)
    return None if near is None else f"did you mean {near!r}?"


def _value(value: Any, default: Any, by_operator: bool, key: str) -> Any:
    """A parameter as scikit-learn wants it: maps and lists stand for estimators and tuples, which cannot be sent."""
    if key.rpartition("__")[2] in _OPERATORS_ONLY and not by_operator and value != default:
        raise Failure(
            "permission_denied",
            f"only the service's config may set {key!r}: with it the estimator uses files outside of models_dir",
        )
    if isinstance(value, dict) and isinstance(value.get("estimator"), str) and value.keys() <= {"estimator", "params"}:
        return build(value["estimator"], value.get("params"), by_operator=by_operator)
    if isinstance(value, list):
        values = [_value(item, None, by_operator, "") for item in value]
        return tuple(values) if isinstance(default, tuple) else values
    return value
