"""A worker that says how likely something is a fraud, and learns from each case as it is settled.

    [service.fraud]
    command = ["python", "-m", "mlports_models.fraud"]

    mlports call fraud.learn '[0.0, 1.0, 0.5]' 1      # how likely it was taken to be one; then learned that it is

A case is a vector of numbers, always as many. Logistic regression, by one step for each case. The service's `config`,
all of it optional:

- `rate`: how long the steps are (default: 0.5); each weight's shrink as it has moved (AdaGrad).
- `l2`: how strongly weights are drawn to 0 (default: 0.001).
- `snapshot`: see docs/snapshots.md. What is kept is all that was learned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlports_worker import Worker

from . import settings

if TYPE_CHECKING:
    from .online_logistic import OnlineLogistic

worker = Worker("fraud")
_model: OnlineLogistic


@worker.setup
def start(config: dict[str, Any]) -> None:
    """Imports numpy and checks the config. Ends the worker, with the reason, if it cannot be used."""
    global _model
    settings.need_numpy("fraud")
    from .online_logistic import OnlineLogistic

    _model = OnlineLogistic(config)


@worker.method(idempotent=True)
def predict(cases: Any) -> Any:
    """How likely a case is a fraud, from 0 to 1; for a table an array, with an element for each row."""
    return _model.predict(cases)


@worker.method
def learn(cases: Any, frauds: Any) -> Any:
    """Learns from cases that are settled, one after the other: 1 for a fraud, 0 for none; a vector of them for a table.

    Gives what `predict` would have given for each just before it was learned.
    """
    return _model.learn(cases, frauds)


@worker.method(idempotent=True)
def info() -> dict[str, Any]:
    """How many cases were learned, and the weight of each feature, per standard deviation; the last is the constant."""
    return _model.info()


@worker.snapshot
def keep() -> dict[str, Any]:
    """What a crash leaves."""
    return _model.state()


@worker.restore
def take(state: Any) -> None:
    """Goes on from it."""
    _model.take(state)


if __name__ == "__main__":
    worker.run()
