"""The Python model: says how likely a web site is phishing, and learns from the stream of those that are settled."""

from __future__ import annotations

from typing import Any

from mlports_models.online_logistic import OnlineLogistic
from mlports_worker import Failure, Worker

worker = Worker("sites")
_model = OnlineLogistic({})
_last: dict[str, Any] = {"number": 0, "expected": []}
"""The last window: it is answered again if its answer was lost with a worker."""


@worker.method(idempotent=True)
def learn(window: dict[str, Any]) -> dict[str, Any]:
    """Learns from a window of cases: `number` is that of its first, `cases` are n × 9, `frauds` n of 0 and 1.

    Gives `cases`, how many it knows now, and `expected`, what it took each for before it learned it. A window that
    comes twice is learned once. Fails with `failed_precondition` if some before it are missing.
    """
    global _last
    known, number = _model.info()["cases"], window["number"]
    if number == known:
        found = _model.learn(window["cases"], window["frauds"])
        _last = {"number": number, "expected": found.tolist()}
    elif number != _last["number"]:
        raise Failure("failed_precondition", f"case {known} comes next, and not {number}", {"cases": known})
    return {"cases": _model.info()["cases"], "expected": _last["expected"]}


@worker.method(batch=True, idempotent=True)
def judge(sites: list[Any]) -> list[Any]:
    """How likely a site (9 numbers) is phishing, from 0 to 1, as `score`; and of how many `cases` that was learned."""
    return [_judged(site) for site in sites]


def _judged(site: Any) -> Any:
    try:
        score = _model.predict(site)
    except Failure as failure:  # of this site alone, not of those that came with it
        return failure
    if not isinstance(score, float):
        return Failure("invalid_argument", "a site is one vector of numbers, and this is a table")
    return {"score": score, "cases": _model.info()["cases"]}


@worker.snapshot
def keep() -> dict[str, Any]:
    """What a crash leaves."""
    return {"model": _model.state(), "last": _last}


@worker.restore
def take(state: dict[str, Any]) -> None:
    """Goes on from it."""
    global _last
    _model.take(state["model"])
    _last = state["last"]


if __name__ == "__main__":
    worker.run()
