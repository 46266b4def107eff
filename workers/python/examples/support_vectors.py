"""Rows of numbers told apart by support vectors: scikit-learn's SVC. Needs `pip install 'mlports[models]'`.

The service's `config`, optional: `data`, a file to train on before the first call; comma-separated numbers without a
header, the integer label last.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.svm import SVC

from mlports_worker import Failure, Worker

worker = Worker("support_vectors")
model: SVC | None = None


@worker.setup
def load(config: dict[str, Any]) -> None:
    if "data" in config:
        table = np.loadtxt(config["data"], delimiter=",", ndmin=2)
        fit(table[:, :-1], table[:, -1].astype(int))


@worker.method(idempotent=True)
def fit(x: Any, y: Any, gamma: float = 0.001) -> dict[str, Any]:
    """Trains on rows and a label for each; `gamma` is the width of the kernel exp(-gamma |a - b|²)."""
    global model
    try:
        model = SVC(gamma=gamma).fit(x, y)
    except ValueError as error:
        raise Failure("invalid_argument", str(error)) from None
    return {"rows": len(x), "classes": model.classes_.tolist(), "support_vectors": len(model.support_)}


@worker.method(idempotent=True)
def predict(x: Any) -> list[int]:
    """A label for each row."""
    if model is None:
        raise Failure("failed_precondition", "no model yet: call fit, or set config data")
    try:
        labels: list[int] = model.predict(x).tolist()
    except ValueError as error:
        raise Failure("invalid_argument", str(error)) from None
    return labels


@worker.method(idempotent=True)
def vote(record: dict[str, Any]) -> dict[str, Any]:
    """A stage of a pipeline: a record {x: rows, votes: {…}} gets votes["python"], and is handed on."""
    return {**record, "votes": {**record.get("votes", {}), "python": predict(record["x"])}}


worker.run()
