"""A worker for models by a formula: trains them, scores them, and serves one that was saved.

    [service.films]
    command = ["python", "-m", "mlports_models.model"]
    config = { model = "films.skops" }

The service's `config`, all of it optional:

- `model`: a file of `mlports.ml`, to be served; relative to `models_dir`. Without it the worker only trains.
- `models_dir`: the folder that the file is in (default: the working directory).
- `trusted`: names of types, beyond those that skops itself trusts, that the file may hold.

Training leaves nothing behind in the worker: `train` and `score_fold` give what they made to their caller, so they may
be sent to any replica, and again when one has died. What `mlports.ml` does with them can be done by any caller.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlports_worker import Worker

from . import settings

if TYPE_CHECKING:
    from .model_service import ModelService

worker = Worker("model")
_service: ModelService


@worker.setup
def start(config: dict[str, Any]) -> None:
    """Imports scikit-learn and loads the model. Ends the worker, with the reason, if it cannot."""
    global _service
    settings.need("model", "ml", numpy="numpy", sklearn="scikit-learn", skops="skops")
    from .model_service import ModelService

    _service = ModelService(config, worker.log)


@worker.method(idempotent=True)
def train(definition: Any, table: Any, holdout: Any = 0.2, folds: Any = None, seed: Any = 0) -> dict[str, Any]:
    """Trains from all rows of a table: {model: the file's bytes, card: its card, markdown: the same to read}.

    With `holdout`, the share of rows that are kept back, a first model is trained from the others and scored on them.
    `folds` are the scores of a cross-validation, for the card.
    """
    return _service.train(definition, table, holdout, folds, seed)


@worker.method(idempotent=True)
def score_fold(work: Any) -> dict[str, Any]:
    """The scores of one fold of a cross-validation. `work` is {definition, table, fold, folds, seed}."""
    return _service.score_fold(work)


@worker.method(batch=True, idempotent=True)
def predict(rows: list[Any]) -> list[Any]:
    """The prediction for a row, or a list of them for rows or columns. Unknown and missing columns are refused."""
    return _service.predict(rows)


@worker.method(batch=True, idempotent=True)
def predict_proba(rows: list[Any]) -> list[Any]:
    """The classes' probabilities for a row, in the order of the schema's categories, or a list of them."""
    return _service.predict(rows, probabilities=True)


@worker.method(idempotent=True)
def schema() -> dict[str, Any]:
    """What `predict` takes and gives: columns, types, categories; and the preparation's digest."""
    return _service.schema()


@worker.method(idempotent=True)
def card() -> dict[str, Any]:
    """The model's card."""
    return _service.card()


if __name__ == "__main__":
    worker.run()
