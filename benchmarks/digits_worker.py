"""The worker that classifies digits: a logistic regression of scikit-learn's, fitted elsewhere."""

from __future__ import annotations

from typing import Any

import numpy
from sklearn.linear_model import LogisticRegression

from mlports_worker import Worker

worker = Worker("digits")
model = LogisticRegression()


@worker.setup
def load(config: dict[str, Any]) -> None:
    model.classes_ = numpy.array(config["classes"])
    model.coef_ = numpy.array(config["coef"])
    model.intercept_ = numpy.array(config["intercept"])
    model.n_features_in_ = model.coef_.shape[1]


@worker.method(batch=True, idempotent=True)
def predict(rows: list[Any]) -> list[int]:
    """The digit of each row of 64 pixels."""
    digits: list[int] = model.predict(numpy.stack(rows)).tolist()
    return digits


if __name__ == "__main__":
    worker.run()
