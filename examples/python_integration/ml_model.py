"""The model as a worker, by the SDK. Whoever opens it says in the config where the model is."""

from __future__ import annotations

from typing import Any

from softmax import Softmax  # type: ignore[import-not-found]  # it stands beside this program

from mlports_worker import Worker

worker = Worker("ml_model")
model: Softmax


@worker.setup
def load(config: dict[str, Any]) -> None:
    global model
    model = Softmax(config["model"])


@worker.method(idempotent=True)
def predict(row: list[float]) -> dict[str, Any]:
    print("a print does no harm here")
    answer: dict[str, Any] = model.predict(row)
    return answer


worker.run()
