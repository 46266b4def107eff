"""workers/python/examples/support_vectors.py: what it learns, what it votes, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("sklearn", reason="the worker is made of scikit-learn, of the extra models")

import numpy as np
from sklearn.datasets import load_iris
from sklearn.svm import SVC

import mlports
from mlports import BlockingOrchestrator, CallError, Config, InvalidArgument
from tests.languages import configuration, running

X, Y = load_iris(return_X_y=True)


@pytest.fixture(scope="module")
def orch() -> Iterator[BlockingOrchestrator]:
    with running("python", "support_vectors") as orch:
        with pytest.raises(CallError, match="no model yet") as untrained:
            orch.call("support_vectors.predict", X)
        assert untrained.value.code == "failed_precondition"
        yield orch


def test_it_predicts_what_the_same_estimator_does_here(orch: BlockingOrchestrator) -> None:
    here = SVC(gamma=0.1).fit(X[::2], Y[::2])
    summary = orch.call("support_vectors.fit", X[::2], Y[::2].tolist(), 0.1)
    assert summary == {"rows": 75, "classes": [0, 1, 2], "support_vectors": len(here.support_)}
    expected = here.predict(X[1::2]).tolist()
    assert orch.call("support_vectors.predict", X[1::2].tolist()) == expected
    record = {"x": X[1::2].tolist(), "votes": {"go": [1]}, "else": 7}
    assert orch.call("support_vectors.vote", record) == record | {"votes": {"go": [1], "python": expected}}


def test_what_does_not_fit_is_refused_and_the_model_stays(orch: BlockingOrchestrator) -> None:
    orch.call("support_vectors.fit", X, Y)
    for method, params in [("predict", ([[1.0]],)), ("fit", (X, Y[:3])), ("fit", (X, Y, -1.0))]:
        with pytest.raises(InvalidArgument):
            orch.call(f"support_vectors.{method}", *params)
    assert len(orch.call("support_vectors.predict", X)) == len(X)


def test_it_learns_from_a_file_before_its_first_call(tmp_path: Path) -> None:
    np.savetxt(tmp_path / "iris.csv", np.column_stack([X, Y]), delimiter=",")
    whole = configuration("python")
    service = whole.service["support_vectors"].model_copy(update={"config": {"data": str(tmp_path / "iris.csv")}})
    with mlports.open(Config(service={"iris": service}, directory=whole.directory)) as trained:
        assert trained.call("iris.predict", X) == SVC(gamma=0.001).fit(X, Y).predict(X).tolist()
