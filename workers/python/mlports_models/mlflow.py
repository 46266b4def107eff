"""A worker for any MLflow model, by its URI.

    [service.wines]
    command = ["python", "-m", "mlports_models.mlflow"]
    config = { model = "models:/wines/3", tracking_uri = "sqlite:///mlflow.db", trust = true }

An MLflow model is a program: loading it runs the code of its maker, most often out of a pickle. So the config has to
say `trust = true`. The service's `config`, of which only `model` and `trust` are needed:

- `model`: a URI, such as "models:/NAME/VERSION", "models:/NAME@ALIAS", "runs:/RUN/NAME", or a folder, relative to
  `models_dir`.
- `trust`: true says that you know whose code this runs.
- `models_dir`: the folder that the model's is in (default: the working directory).
- `tracking_uri`, `registry_uri`: where runs and registered models are (default: as mlflow has it).
- `params`: what the model's predict gets besides, if its signature has parameters.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from mlports_worker import Worker

from . import settings

if TYPE_CHECKING:
    from .mlflow_model import MlflowModel

worker = Worker("mlflow")
_model: MlflowModel


@worker.setup
def start(config: dict[str, Any]) -> None:
    """Imports mlflow and loads the model. Ends the worker, with the reason, if it cannot."""
    global _model
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    settings.need("mlflow", "mlflow", numpy="numpy", pandas="pandas", sklearn="scikit-learn", mlflow="mlflow-skinny")
    from .mlflow_model import MlflowModel

    _model = MlflowModel(config, worker.log)


@worker.method(batch=True, idempotent=True)
def predict(rows: list[Any]) -> list[Any]:
    """What the model gives for a row (a map of columns), or a table: a list of rows, or a map of columns to lists.

    Unknown and missing columns are refused by name. A model whose signature has tensors takes arrays, and one without
    a signature either.
    """
    return _model.predict(rows)


@worker.method(idempotent=True)
def schema() -> dict[str, Any]:
    """What the model's signature says that it `takes` and `gives`; None where it says nothing."""
    return _model.schema()


@worker.method(idempotent=True)
def info() -> dict[str, Any]:
    """The URI, flavours, versions that the model was made with, and where those installed here are others."""
    return _model.info()


if __name__ == "__main__":
    worker.run()
