"""What a model is: formula, estimator, steps and columns, checked when it is defined and handed to workers as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mlports.ml.errors import FormulaError, ModelError
from mlports.ml.formula import Formula, read, suggestion

KINDS = ("number", "category")
IMPUTES = ("mean", "median", "drop")
UNSEEN = ("frequent", "refuse")


class Estimator(NamedTuple):
    """scikit-learn's classes for targets that are numbers and for those that are categories; None where none is."""

    regressor: str | None
    classifier: str | None


ESTIMATORS: Mapping[str, Estimator] = {
    "linear": Estimator("LinearRegression", None),
    "ridge": Estimator("Ridge", "RidgeClassifier"),
    "lasso": Estimator("Lasso", None),
    "elastic_net": Estimator("ElasticNet", None),
    "huber": Estimator("HuberRegressor", None),
    "poisson": Estimator("PoissonRegressor", None),
    "logistic": Estimator(None, "LogisticRegression"),
    "naive_bayes": Estimator(None, "GaussianNB"),
    "tree": Estimator("DecisionTreeRegressor", "DecisionTreeClassifier"),
    "forest": Estimator("RandomForestRegressor", "RandomForestClassifier"),
    "boosting": Estimator("HistGradientBoostingRegressor", "HistGradientBoostingClassifier"),
    "neighbours": Estimator("KNeighborsRegressor", "KNeighborsClassifier"),
    "svm": Estimator("SVR", "SVC"),
    "baseline": Estimator("DummyRegressor", "DummyClassifier"),
}
"""The names that `estimator` may have. A class's own name, such as "Ridge", is one too."""

_TYPES = {"float": "number", "int": "number", "bool": "number", "str": "category"}


@dataclass(frozen=True)
class Definition:
    """A model that has been checked. See `mlports.ml.model` for what each field may be."""

    name: str
    formula: Formula
    estimator: str
    classes: Estimator
    impute: str | None = None
    scale: bool = False
    unseen: str = "frequent"
    columns: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)

    def as_plain(self) -> dict[str, Any]:
        """The definition as the worker and the model card have it."""
        return {
            "name": self.name,
            "formula": self.formula.text,
            "estimator": self.estimator,
            "regressor": self.classes.regressor,
            "classifier": self.classes.classifier,
            "impute": self.impute,
            "scale": self.scale,
            "unseen": self.unseen,
            "columns": {**self.columns, **dict.fromkeys(self.formula.categories, "category")},
            "params": dict(self.params),
        }


def define(
    formula: Any,
    *,
    name: Any = "model",
    estimator: Any = "linear",
    impute: Any = None,
    scale: Any = False,
    unseen: Any = "frequent",
    columns: Any = None,
    params: Any = None,
) -> Definition:
    """A checked definition. Raises `ModelError`, for the formula `FormulaError` or `LeakageError`."""
    _one_of("impute", impute, (*IMPUTES, None))
    _one_of("unseen", unseen, UNSEEN)
    if not isinstance(scale, bool):
        raise ModelError(f"scale is True or False, not {scale!r:.80}")
    if not isinstance(name, str) or not name.isprintable() or not name.strip() or "/" in name:
        raise ModelError(f"name is a text such as 'films', without '/', not {name!r:.80}")
    if params is not None and not (isinstance(params, Mapping) and all(isinstance(key, str) for key in params)):
        raise ModelError(f"params is a dict of the estimator's parameters, not {params!r:.80}")
    kinds = _kinds({} if columns is None else columns)
    checked = read(formula)
    if kinds:
        checked.check_columns(kinds, "`columns` has")
    _check_uses(checked, kinds)
    classes = estimator_classes(estimator)
    _check_target(checked, kinds, estimator, classes)
    return Definition(name, checked, estimator, classes, impute, scale, unseen, kinds, dict(params or {}))


def estimator_classes(name: Any) -> Estimator:
    """What a name of `ESTIMATORS`, or of one of their classes, stands for. Raises `ModelError`."""
    if isinstance(name, str) and name in ESTIMATORS:
        return ESTIMATORS[name]
    by_class: dict[str, Estimator] = {}
    for pair in ESTIMATORS.values():
        if pair.regressor:
            by_class[pair.regressor] = Estimator(pair.regressor, None)
        if pair.classifier:
            by_class[pair.classifier] = Estimator(None, pair.classifier)
    if isinstance(name, str) and name in by_class:
        return by_class[name]
    near = suggestion(str(name), [*ESTIMATORS, *by_class])
    known = near if near.startswith("did") else f"there are: {', '.join(ESTIMATORS)}"
    raise ModelError(f"there is no estimator {name!r:.80}; {known}")


def annotated(cls: type) -> dict[str, Any]:
    """The keywords of `define` that a class says: its attributes, and as columns its annotations.

    Raises `ModelError` for an attribute that is none of them.
    """
    known = {"name", "formula", "estimator", "impute", "scale", "unseen", "columns", "params"}
    said: dict[str, Any] = {"name": cls.__name__.lower()}
    for key, value in vars(cls).items():
        if key.startswith("__"):
            continue
        if key not in known:
            raise ModelError(
                f"class {cls.__name__}: there is nothing called {key!r} in a model; {suggestion(key, known)}"
            )
        said[key] = value
    if "formula" not in said:
        raise ModelError(f"class {cls.__name__} has no formula: add a line such as formula = 'y ~ x1 + x2'")
    columns = {key: kind for key, kind in vars(cls).get("__annotations__", {}).items() if key not in known}
    if columns:
        said["columns"] = {**columns, **(said.get("columns") or {})}
    return said


def _kinds(columns: Any) -> dict[str, str]:
    if not isinstance(columns, Mapping):
        raise ModelError(f"columns is a dict such as {{'budget': 'number', 'genre': 'category'}}, not {columns!r:.80}")
    kinds = {}
    for name, given in columns.items():
        kind = getattr(given, "__name__", given)
        kind = _TYPES.get(kind, kind) if isinstance(kind, str) else kind
        if not isinstance(name, str) or kind not in KINDS:
            raise ModelError(
                f"column {name!r:.80}: there is no kind {given!r:.80}; there are 'number' (float, int, bool) and "
                "'category' (str)"
            )
        kinds[name] = kind
    return kinds


def _check_uses(formula: Formula, kinds: Mapping[str, str]) -> None:
    """Raises `FormulaError` where a column has to be a number and a category at the same time."""
    as_category = set(formula.categories) | {name for name, kind in kinds.items() if kind == "category"}
    for mention in (*formula.target, *formula.inputs):
        if mention.use == "number" and mention.column in as_category:
            raise FormulaError(
                f"{mention.column!r} is a category, and an expression has numbers: have two columns of it",
                formula.text,
                mention.position,
            )


def _check_target(formula: Formula, kinds: Mapping[str, str], name: str, classes: Estimator) -> None:
    """Raises `FormulaError` where the estimator predicts numbers and the target has categories, or the reverse."""
    target = formula.target[0]
    if classes.regressor is None and target.use == "number":
        problem = f"{name!r} predicts categories, so its target is a column as it is, not an expression"
        raise FormulaError(problem, formula.text, target.position)
    category = target.use == "category" or kinds.get(target.column) == "category"
    if classes.classifier is None and category:
        problem = f"{name!r} predicts numbers, and {target.column!r} is a category; estimator='logistic' predicts those"
        raise FormulaError(problem, formula.text, target.position)


def _one_of(key: str, value: Any, allowed: tuple[Any, ...]) -> None:
    if not (value is None or isinstance(value, str)) or value not in allowed:
        names = [each for each in allowed if each is not None]
        extra = ", or None" if None in allowed else ""
        raise ModelError(f"{key}: there is no {value!r:.80}; {suggestion(str(value), names)}{extra}")
