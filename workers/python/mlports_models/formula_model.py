"""A model by a formula: trained from a table, scored on rows that it has not seen, and asked for predictions."""

from __future__ import annotations

import json
import platform
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import sklearn
from sklearn import metrics
from sklearn.base import BaseEstimator
from sklearn.model_selection import KFold, StratifiedKFold, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mlports_worker import Failure

from . import registry, tables
from .formulas import Expression, Plan, Terms
from .preparation import Preparation, digest_of
from .rows import Array

FORMAT = 1
"""Of what a model file holds. Another one is not read."""

_MOST_COEFFICIENTS = 500


class SavedModel(BaseEstimator):  # type: ignore[misc]
    """What stands in a model file: all that is ours as JSON, and scikit-learn's own estimator."""

    def __init__(self, state: str = "{}", estimator: Any = None) -> None:
        self.state = state
        self.estimator = estimator


@dataclass
class Data:
    """A table for a formula: typed columns of the rows that have a target, and what the model's card has to say."""

    terms: Terms
    columns: tables.Columns
    kinds: dict[str, str]
    task: str
    labels: Array
    notes: list[str] = field(default_factory=list)

    @property
    def rows(self) -> int:
        return len(self.labels)

    @property
    def digest(self) -> str:
        """SHA-256 of the columns that the model uses, in hex."""
        used = {name: [None if value != value else value for value in c.tolist()] for name, c in self.columns.items()}
        return digest_of(used)


class FormulaModel:
    """A trained model: preparation, formula, estimator. `train` makes one, `from_saved` takes it from a file."""

    def __init__(self, state: dict[str, Any], estimator: Any) -> None:
        self.state = state
        self.estimator = estimator
        self.preparation = Preparation.from_state(state["preparation"], state["preparation_digest"])
        self.plan = Plan(state["plan"])
        self.target = Expression(state["target"])
        self.inputs = list(self.preparation.steps)

    def saved(self) -> SavedModel:
        """What a file holds of it."""
        return SavedModel(json.dumps(self.state), self.estimator)

    @classmethod
    def from_saved(cls, saved: Any, path: str) -> FormulaModel:
        """Raises `Failure` for what is no such model, or one of another format."""
        if not isinstance(saved, SavedModel):
            name = type(saved).__name__
            raise _invalid(f"{path} holds a {name}, not a model by a formula: `mlports_models.estimator` serves those")
        try:
            state = dict(json.loads(saved.state))
        except (AttributeError, TypeError, ValueError) as error:
            raise _invalid(f"{path} is damaged: {error}") from error
        if state.get("format") != FORMAT:
            raise Failure(
                "failed_precondition",
                f"{path} is a model of format {state.get('format')!r}, and this mlports reads format {FORMAT}: train "
                "it again, or serve it with the mlports that saved it",
            )
        try:
            return cls(state, saved.estimator)
        except (KeyError, AttributeError) as error:
            raise _invalid(f"{path} is damaged: it lacks {error}") from error

    def version_warnings(self) -> list[str]:
        """What differs between the packages that saved it and those here, a sentence for each."""
        here = versions()
        return [
            f"it was saved with {package} {there}, and here is {here[package]}: compare its scores with its card's"
            for package, there in self.state["versions"].items()
            if package in ("scikit-learn", "numpy") and here.get(package) != there
        ]

    def columns(self, table: Any) -> tuple[tables.Columns, int, bool]:
        """A caller's table as typed columns, how many rows, and whether it was one row. Raises `Failure`."""
        given, rows, single = tables.columns_of(table)
        if not rows:
            return {}, 0, single
        tables.check_columns(given, self.inputs, self.target.columns)
        return self.preparation.typed(given), rows, single

    def predict(self, columns: tables.Columns, *, probabilities: bool = False) -> Any:
        """One prediction for each row: numbers on the scale of the formula's left side, or categories."""
        matrix = self.plan.matrix(self.preparation.fill(columns))
        if not probabilities:
            return self.estimator.predict(matrix)
        if not hasattr(self.estimator, "predict_proba"):
            raise Failure("unimplemented", f"{self.state['class']} has no probabilities: predict() has its answers")
        return self.estimator.predict_proba(matrix)

    def schema(self) -> dict[str, Any]:
        """The columns that `predict` takes, with their types and categories, and what it gives."""
        columns = []
        for name, step in self.preparation.steps.items():
            told: dict[str, Any] = {"name": name, "type": self.state["kinds"][name]}
            if told["type"] == "category":
                told |= {"categories": step.state["levels"], "unseen": self.state["definition"]["unseen"]}
            told["may_be_missing"] = self.preparation.specs[name]["impute"] is not None
            columns.append(told)
        gives: dict[str, Any] = {"name": self.state["target_text"]}
        gives["type"] = "number" if self.state["task"] == "regression" else "category"
        if gives["type"] == "category":
            gives["categories"] = self.estimator.classes_.tolist()
        return {"takes": columns, "gives": gives, "digest": self.state["preparation_digest"]}

    def scores(self, data: Data, rows: Array) -> dict[str, Any]:
        """How well it predicts these rows: r2, rmse and mae, or accuracy, balanced accuracy and macro F1."""
        truth, found = data.labels[rows], self.predict({n: data.columns[n][rows] for n in self.inputs})
        told: dict[str, Any] = {"rows": len(rows)}
        if data.task == "regression":
            told["r2"] = float(metrics.r2_score(truth, found)) if len(rows) > 1 else None
            told["rmse"] = float(metrics.root_mean_squared_error(truth, found))
            told["mae"] = float(metrics.mean_absolute_error(truth, found))
        else:
            told["accuracy"] = float(metrics.accuracy_score(truth, found))
            told["balanced_accuracy"] = _balanced(truth, found)
            told["f1"] = float(metrics.f1_score(truth, found, average="macro", zero_division=0.0))
        return told

    def coefficients(self) -> dict[str, float] | None:
        """The estimator's coefficients by feature, with the intercept; None where it has none, or more than one row."""
        last = self.estimator[-1] if hasattr(self.estimator, "steps") else self.estimator
        values, intercept = getattr(last, "coef_", None), getattr(last, "intercept_", 0.0)
        if values is None or np.size(values) != len(self.plan.features) or len(self.plan.features) > _MOST_COEFFICIENTS:
            return None
        told = {"(intercept)": float(np.ravel(intercept)[0])} if self.plan.intercept else {}
        return told | dict(zip(self.plan.features, map(float, np.ravel(values)), strict=True))


def versions() -> dict[str, str]:
    """The packages that a model depends on, as they are here."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version(), "scikit-learn": sklearn.__version__, "numpy": np.__version__}
    for package in ("mlports", "skops", "formulaic"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def read_table(definition: Mapping[str, Any], table: Any) -> Data:
    """A table as a definition needs it. Raises `Failure` for one that no model can be trained from."""
    given, rows, single = tables.columns_of(table, "the table")
    if single:
        raise _invalid("the table is a single row: a model is trained from many, in a list")
    if not given or not rows:
        names = f"; it has the columns {', '.join(map(repr, given))}" if given else ""
        raise _invalid(f"the table has no rows{names}. Nothing can be learned from it")
    terms = Terms(definition["formula"], given)
    needed = [*terms.inputs, *terms.target.columns]
    _check_there(needed, given)
    kinds, notes = _kinds(definition, terms, needed, given)
    for name, text in terms.numbers.items():
        if kinds[name] == "category":
            raise _invalid(f"column {name!r} holds categories, and {text} takes numbers")
    columns = {name: tables.typed(name, given[name], kinds[name]) for name in needed}
    keep = _rows_to_keep(definition, terms, columns, rows, notes)
    columns = tables.take(columns, keep)
    _check_copies(terms, columns)
    notes += [
        f"{name!r} is the same in every row, so it tells nothing" for name in terms.inputs if _constant(columns[name])
    ]
    task = _task(definition, terms.target, kinds)
    return Data(terms, columns, kinds, task, _labels(terms.target, columns, task), notes)


def rehearse(definition: Mapping[str, Any], data: Data, train_rows: Array, test_rows: Array) -> dict[str, Any]:
    """The scores on some rows of a model trained from others."""
    # A category that only the test rows have is no reason to measure nothing.
    return train({**definition, "unseen": "frequent"}, data, train_rows).scores(data, test_rows)


def train(definition: Mapping[str, Any], data: Data, rows: Array) -> FormulaModel:
    """A model fitted to these rows of the table. Raises `Failure` for rows that the estimator cannot learn from."""
    columns = tables.take(data.columns, rows)
    preparation = Preparation({name: _spec(definition, data.kinds[name]) for name in data.terms.inputs})
    inputs = {name: columns[name] for name in data.terms.inputs}
    preparation.partial_fit(inputs)
    digest = preparation.freeze()
    filled = preparation.fill(inputs)
    levels = {name: step.state["levels"] for name, step in preparation.steps.items() if "levels" in step.state}
    plan = data.terms.plan(filled, levels)
    if not plan.features:
        raise _invalid(
            f"formula {definition['formula']!r:.200} leaves no features: every input is the same in all rows"
        )
    name = definition["regressor"] if data.task == "regression" else definition["classifier"]
    estimator = _estimator(definition, name, plan.intercept)
    _check_classes(data, rows)
    notes = _fit(estimator, name, plan.matrix(filled), data.labels[rows])
    state = {
        "format": FORMAT,
        "definition": dict(definition),
        "class": name,
        "task": data.task,
        "target": data.terms.target.text,
        "target_text": definition["formula"].partition("~")[0].strip(),
        "kinds": dict(data.kinds),
        "preparation": preparation.as_state(),
        "preparation_digest": digest,
        "plan": plan.state,
        "versions": versions(),
        "notes": notes,
        "card": {},
    }
    return FormulaModel(state, estimator)


def hold_out(data: Data, share: float, seed: int) -> tuple[Array, Array]:
    """Rows to train from, and the share of them to score on, drawn by the seed; each class in proportion."""
    counts = Counter(data.labels.tolist()) if data.task == "classification" else Counter({"all": data.rows})
    size = max(1, round(data.rows * share))
    fair = data.task == "classification" and min(counts.values()) > 1 and size >= len(counts) <= data.rows - size
    train_rows, test_rows = train_test_split(
        np.arange(data.rows), test_size=size, random_state=seed, stratify=data.labels if fair else None
    )
    return np.sort(train_rows), np.sort(test_rows)


def fold(data: Data, index: int, folds: int, seed: int) -> tuple[Array, Array]:
    """Rows to train from and to score on in one fold of a cross-validation; the same in every worker."""
    if not 2 <= folds <= data.rows:
        raise _invalid(f"{folds} folds of {data.rows} rows cannot be: from 2 to as many as there are rows")
    splitter: Any = KFold(folds, shuffle=True, random_state=seed)
    if data.task == "classification":
        rarest, count = min(Counter(data.labels.tolist()).items(), key=lambda item: item[1])
        if count < folds:
            raise _invalid(
                f"{folds} folds need {folds} rows of each class, and there are {count} of {rarest!r}: fewer folds"
            )
        splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    splits = list(splitter.split(np.zeros(data.rows), data.labels))
    train_rows, test_rows = splits[index]
    return train_rows, test_rows


# -- what a table has to be


def _check_there(needed: list[str], given: Mapping[str, Any]) -> None:
    for name in needed:
        if name not in given:
            near = registry.nearest(name, given)
            hint = f"did you mean {near!r}?" if near else f"there are: {', '.join(map(repr, list(given)[:20]))}"
            raise _invalid(f"the table has no column {name!r}; {hint}")


def _kinds(
    definition: Mapping[str, Any], terms: Terms, needed: list[str], given: Mapping[str, Any]
) -> tuple[dict[str, str], list[str]]:
    """The kind of each column, declared or seen, and what is worth telling of those that were seen."""
    kinds, notes = {}, []
    declared = definition.get("columns") or {}
    for name in needed:
        seen = tables.kind_of(given[name])
        kinds[name] = declared.get(name) or ("category" if name in terms.categories else seen)
        if name not in declared and seen == "category":
            values = given[name].tolist() if isinstance(given[name], np.ndarray) else given[name]
            odd = sum(isinstance(value, int | float) and value == value for value in values)
            if odd:
                notes.append(f"{name!r} has {odd:,} numbers among texts; all of them are taken as categories")
    return kinds, notes


def _rows_to_keep(
    definition: Mapping[str, Any], terms: Terms, columns: tables.Columns, rows: int, notes: list[str]
) -> Array:
    """The rows that have a target, and with impute = "drop" every input too."""
    keep = np.ones(rows, bool)
    for name in terms.target.columns:
        keep &= ~tables.missing_in(columns[name])
    if not keep.any():
        raise _invalid(f"the target {terms.target.text} has no value in any row: nothing can be learned from the table")
    if keep.sum() < rows:
        notes.append(f"{rows - int(keep.sum()):,} rows without {terms.target.text} were left out")
    if definition.get("impute") == "drop":
        with_target = int(keep.sum())
        for name in terms.inputs:
            keep &= ~tables.missing_in(columns[name])
        if not keep.any():
            raise _invalid("every row misses some input, so impute = 'drop' leaves none: use 'mean' or 'median'")
        if keep.sum() < with_target:
            notes.append(f"{with_target - int(keep.sum()):,} rows that miss an input were left out")
    return np.flatnonzero(keep)


def _check_copies(terms: Terms, columns: tables.Columns) -> None:
    """Raises `Failure` for an input that has the target's own values."""
    for target in terms.target.columns:
        for name in terms.inputs:
            ours, theirs = columns[target], columns[name]
            same = ours.dtype == theirs.dtype and len(ours) > 2 and bool(np.all(ours == theirs))
            if same and not _constant(ours):
                raise _invalid(
                    f"column {name!r} is the target {target!r} again, the same value in every row, so the model would "
                    "be told the answer. Take it out of the formula"
                )


def _constant(column: Array) -> bool:
    return len(set(column[~tables.missing_in(column)].tolist())) <= 1


def _task(definition: Mapping[str, Any], target: Expression, kinds: Mapping[str, str]) -> str:
    category = target.category is not None and kinds[target.category] == "category"
    named = definition.get("estimator") or definition.get("regressor") or definition.get("classifier")
    if category and not definition.get("classifier"):
        raise _invalid(f"{named!r} predicts numbers, and {target.text} is a category; 'logistic' predicts those")
    if category or not definition.get("regressor"):
        if target.category is None:
            raise _invalid(f"{named!r} predicts categories, and {target.text} is an expression of numbers")
        return "classification"
    return "regression"


def _labels(target: Expression, columns: tables.Columns, task: str) -> Array:
    if task == "regression":
        return target.evaluate(columns)
    assert target.category is not None
    column = columns[target.category]
    if column.dtype.kind == "f":
        if not np.all(column == np.round(column)) or np.abs(column).max() > 2**53:
            raise _invalid(
                f"the target {target.text!r} has fractions, so it is no class: an estimator of numbers fits it"
            )
        return column.astype(np.int64)
    return column.astype(str)


def _check_classes(data: Data, rows: Array) -> None:
    if data.task == "classification":
        classes = sorted(set(data.labels[rows].tolist()))
        if len(classes) < 2:
            raise _invalid(f"every row to train from has the class {classes[0]!r}: there is nothing to tell apart")


# -- the estimator


def _spec(definition: Mapping[str, Any], kind: str) -> dict[str, Any]:
    impute = definition.get("impute") if definition.get("impute") in ("mean", "median") else None
    if kind == "number":
        return {"kind": "number", "impute": impute}
    return {"kind": "category", "impute": "frequent" if impute else None, "unseen": definition["unseen"]}


def _estimator(definition: Mapping[str, Any], name: str, intercept: bool) -> Any:
    estimator = registry.build(name, definition.get("params"), by_operator=False)
    known = estimator.get_params(deep=False)
    if "random_state" in known and known["random_state"] is None:
        estimator.set_params(random_state=0)
    if "fit_intercept" in known and not intercept:
        estimator.set_params(fit_intercept=False)
    return make_pipeline(StandardScaler(), estimator) if definition.get("scale") else estimator


def _fit(estimator: Any, name: str, matrix: Array, labels: Array) -> list[str]:
    """Fits it, and gives what scikit-learn warned of."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            estimator.fit(matrix, labels)
        except (ValueError, TypeError) as error:
            raise _invalid(f"{name}: {error}") from error
    return list(dict.fromkeys(f"{name}: {' '.join(str(warning.message).split())[:300]}" for warning in warned))


def _balanced(truth: Array, found: Array) -> float:
    """The mean recall of the classes that there are."""
    return float(np.mean([np.mean(found[truth == label] == label) for label in np.unique(truth)]))


def _invalid(message: str) -> Failure:
    return Failure("invalid_argument", message)
