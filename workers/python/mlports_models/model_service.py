"""What the model worker does: training on request, and predictions by the model that it was given."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np

from mlports_worker import Failure

from . import formula_model, model_card, registry, tables
from .formula_model import Data, FormulaModel, SavedModel
from .model_files import ModelFolder

OWN_TYPE = f"{SavedModel.__module__}.{SavedModel.__qualname__}"
"""The one type of ours that a model file holds."""

_CONFIG = {"model": str, "models_dir": str, "trusted": list}
_DEFINITION = {
    "formula": str,
    "name": str,
    "estimator": str,
    "regressor": str | None,
    "classifier": str | None,
    "impute": str | None,
    "scale": bool,
    "unseen": str,
    "columns": dict,
    "params": dict,
}
_DEFAULTS: dict[str, Any] = {
    "name": "model",
    "impute": None,
    "scale": False,
    "unseen": "frequent",
    "columns": {},
    "params": {},
}
_FEWEST = 5  # rows of which some can be held out
_MOST_TOLD = 100  # new categories that are logged


class ModelService:
    """Trains for anybody, and predicts by the model in `config`, see `mlports_models.model`."""

    def __init__(self, config: dict[str, Any], log: Callable[..., None]) -> None:
        for key, value in config.items():
            if key not in _CONFIG or not isinstance(value, _CONFIG[key]):
                near = registry.nearest(key, _CONFIG)
                hint = f"did you mean {near!r}?" if near else f"there are: {', '.join(_CONFIG)}"
                told = (
                    f"{key} is a {_CONFIG[key].__name__}" if key in _CONFIG else f"there is no key {key!r:.80}; {hint}"
                )
                raise _invalid(f"config: {told}")
        self._log = log
        self._told: set[tuple[str, str]] = set()
        self._model: FormulaModel | None = None
        if "model" in config:
            self._load(config)

    def _load(self, config: dict[str, Any]) -> None:
        files = ModelFolder(config.get("models_dir", "."), [*config.get("trusted", ()), OWN_TYPE], self._quiet)
        path = files.folder / config["model"]
        self._model = FormulaModel.from_saved(files.load(path), str(path))
        for text in self._model.version_warnings():
            self._log("warning", f"{path.name}: {text}")

    def _quiet(self, level: str, text: str) -> None:
        if "Trying to unpickle" not in text:  # scikit-learn's word for what version_warnings() says
            self._log(level, text)

    # -- training

    def train(self, definition: Any, table: Any, holdout: Any, folds: Any, seed: Any) -> dict[str, Any]:
        """See `model.train`."""
        definition = _checked(definition)
        share = _share(holdout)
        data = formula_model.read_table(definition, table)
        held = None
        if share is not None and data.rows < _FEWEST:
            data.notes.append(f"{data.rows} rows are too few to hold some out")
        elif share is not None:
            train_rows, test_rows = formula_model.hold_out(data, share, _whole(seed, "seed"))
            held = formula_model.rehearse(definition, data, train_rows, test_rows)
        model = formula_model.train(definition, data, np.arange(data.rows))
        card = model_card.card(model, data, held, folds, datetime.now(UTC))
        model.state["card"] = card
        file, card["trusted"] = _dumps(model.saved())
        return {"model": file, "card": card, "markdown": model_card.markdown(card)}

    def score_fold(self, work: Any) -> dict[str, Any]:
        """See `model.score_fold`."""
        keys = ("definition", "table", "fold", "folds", "seed")
        if not isinstance(work, dict) or work.keys() != set(keys):
            raise _invalid(f"a fold's work is a map of {', '.join(keys)}")
        definition = _checked(work["definition"])
        index, folds, seed = (_whole(work[key], key) for key in ("fold", "folds", "seed"))
        data: Data = formula_model.read_table(definition, work["table"])
        if not 0 <= index < folds:
            raise _invalid(f"fold {index} is none of {folds}: they are numbered from 0")
        train_rows, test_rows = formula_model.fold(data, index, folds, seed)
        return formula_model.rehearse(definition, data, train_rows, test_rows)

    # -- serving

    def predict(self, values: list[Any], *, probabilities: bool = False) -> list[Any]:
        """The outcomes of `predict`, one for each caller, in order; all rows that fit go through the model together."""
        model = self._loaded()
        outcomes: list[Any] = [None] * len(values)
        good: list[tuple[int, tables.Columns, int, bool]] = []
        for index, value in enumerate(values):
            try:
                columns, rows, single = model.columns(value)
            except Failure as failure:
                outcomes[index] = failure
                continue
            if rows:
                good.append((index, columns, rows, single))
            else:
                outcomes[index] = []
        if good:
            self._predict_together(model, good, outcomes, probabilities)
        return outcomes

    def _predict_together(
        self,
        model: FormulaModel,
        good: list[tuple[int, tables.Columns, int, bool]],
        outcomes: list[Any],
        probabilities: bool,
    ) -> None:
        stacked = {name: np.concatenate([columns[name] for _, columns, _, _ in good]) for name in model.inputs}
        self._tell_unseen(model, stacked)
        try:
            found = model.predict(stacked, probabilities=probabilities)
        except Failure as failure:
            if len(good) == 1:
                outcomes[good[0][0]] = failure
                return
            for one in good:  # one of them is at fault: each for itself
                self._predict_together(model, [one], outcomes, probabilities)
            return
        start = 0
        for index, _, rows, single in good:
            told = found[start : start + rows].tolist()
            outcomes[index] = told[0] if single else told
            start += rows

    def _tell_unseen(self, model: FormulaModel, columns: tables.Columns) -> None:
        for name, new in model.preparation.unseen(columns).items():
            for value in new:
                if len(self._told) < _MOST_TOLD and (name, value) not in self._told:
                    self._told.add((name, value))
                    self._log("warning", f"column {name!r}: {value!r:.80} is a category that training has not met")

    def schema(self) -> dict[str, Any]:
        """See `model.schema`."""
        return self._loaded().schema()

    def card(self) -> dict[str, Any]:
        """See `model.card`."""
        card: dict[str, Any] = self._loaded().state["card"]
        return card

    def _loaded(self) -> FormulaModel:
        if self._model is None:
            raise Failure(
                "failed_precondition",
                "this worker has no model to predict with: name a saved one in the service's config, as in "
                'model = "films.skops"',
            )
        return self._model


def _checked(definition: Any) -> dict[str, Any]:
    """A definition with its defaults. `mlports.ml` checks more, and earlier."""
    if not isinstance(definition, dict):
        raise _invalid(f"a definition is a map with a formula and an estimator's class, not {definition!r:.80}")
    for key, value in definition.items():
        if key not in _DEFINITION or not isinstance(value, _DEFINITION[key]):
            raise _invalid(f"the definition's {key!r:.80} cannot be {value!r:.80}")
    full = {**_DEFAULTS, "regressor": None, "classifier": None, **definition}
    full.setdefault("estimator", full["regressor"] or full["classifier"])
    if "formula" not in full or full["estimator"] is None:
        raise _invalid("a definition has a formula, and a class as regressor or classifier")
    if full["impute"] not in (None, "mean", "median", "drop"):
        raise _invalid(f"impute is 'mean', 'median', 'drop' or None, not {full['impute']!r:.80}")
    for name, kind in full["columns"].items():
        if kind not in ("number", "category"):
            raise _invalid(f"column {name!r:.80} is of kind 'number' or 'category', not {kind!r:.80}")
    return full


def _share(holdout: Any) -> float | None:
    if holdout is None or (isinstance(holdout, float) and 0 < holdout < 1):
        return holdout
    raise _invalid(f"holdout is a share of the rows between 0 and 1, such as 0.2, or None, not {holdout!r:.80}")


def _whole(value: Any, what: str) -> int:
    if type(value) is not int or not 0 <= value < 2**32:
        raise _invalid(f"{what} is a whole number from 0, not {value!r:.80}")
    return value


def _dumps(saved: SavedModel) -> tuple[bytes, list[str]]:
    """A model's file, and the types in it that who serves it has to name as trusted."""
    import skops.io

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            data: bytes = skops.io.dumps(saved)
        except Exception as error:
            name = type(saved.estimator).__name__
            raise Failure("unimplemented", f"skops cannot save this {name}: {error}") from error
    return data, [name for name in skops.io.get_untrusted_types(data=data) if name != OWN_TYPE]


def _invalid(message: str) -> Failure:
    return Failure("invalid_argument", message)
