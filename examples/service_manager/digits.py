"""The worker that knows digits: scikit-learn's support vectors, learned when it starts from the file `data` names."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.svm import SVC

from mlports_worker import Worker

worker = Worker("digits")
model = SVC(gamma=0.001)


@worker.setup
def learn(config: dict[str, Any]) -> None:
    """From comma-separated rows of 64 pixels and, last, the digit. A worker that starts again knows as much."""
    table = np.loadtxt(config["data"], delimiter=",")
    model.fit(table[:, :-1], table[:, -1].astype(int))


@worker.method(idempotent=True)
def predict(images: Any) -> list[int]:
    """The digit for each image (n × 64)."""
    digits: list[int] = model.predict(images).tolist()
    return digits


if __name__ == "__main__":
    worker.run()
