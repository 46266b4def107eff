"""Models by formulas through an orchestrator: trained in workers, crossed over replicas, served, as scikit-learn."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from sklearn.datasets import load_diabetes, load_wine
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import KFold, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mlports import InvalidArgument, Orchestrator, ServiceConfig
from mlports.ml import FormulaError, linear_regression, model, server, trainer
from tests.workers import until

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(find_spec("formulaic") is None, reason="formulaic is not installed: it is in the extra `ml`"),
]

ROOT = Path(__file__).resolve().parents[2]
ENV = {"PYTHONPATH": os.pathsep.join(str(ROOT / folder) for folder in ("protocol", "orchestrator", "workers/python"))}

DIABETES = load_diabetes(scaled=False)
PATIENTS: dict[str, Any] = {**dict(zip(DIABETES.feature_names, DIABETES.data.T, strict=True)), "y": DIABETES.target}
WINE = load_wine()


def here(service: ServiceConfig) -> ServiceConfig:
    """The service with this project's own sources."""
    return service.model_copy(update={"env": ENV})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def orch() -> AsyncIterator[Orchestrator]:
    """Two workers that train."""
    async with Orchestrator({"trainer": here(trainer(2))}) as orch:
        yield orch


async def test_linear_regression_is_scikit_learns(orch: Orchestrator, tmp_path: Path) -> None:
    """Guards the article's exercise, from the formula to the served prediction: within 1e-9 of scikit-learn."""
    trained = await linear_regression("y ~ bmi + bp + s5").train_in(orch, "trainer", PATIENTS, holdout=None)
    matrix = np.column_stack([PATIENTS[name] for name in ("bmi", "bp", "s5")])
    theirs = LinearRegression().fit(matrix, PATIENTS["y"])
    told = trained.coefficients
    assert told is not None
    assert np.allclose(
        [told["(intercept)"], told["bmi"], told["bp"], told["s5"]], [theirs.intercept_, *theirs.coef_], rtol=1e-9
    )
    path = trained.save(tmp_path / "diabetes.skops")
    assert json.loads(path.with_suffix(".json").read_text("utf-8")) == trained.card
    assert path.with_suffix(".md").read_text("utf-8") == trained.markdown
    async with Orchestrator({"diabetes": here(server(path, trusted=trained.trusted))}) as serving:
        rows = {name: PATIENTS[name] for name in ("bmi", "bp", "s5")}
        ours = await serving.call("diabetes.predict", rows)
        assert np.allclose(ours, theirs.predict(matrix), rtol=1e-9)
        one = {name: float(column[7]) for name, column in rows.items()}
        assert await serving.map("diabetes.predict", [one, one]) == [ours[7], ours[7]]
        with pytest.raises(InvalidArgument, match=r"missing: 's5'; unknown: 's55' \(did you mean 's5'\?\)"):
            await serving.call("diabetes.predict", {"bmi": 20.0, "bp": 90.0, "s55": 4.0})
        schema = await serving.call("diabetes.schema")
        assert [column["name"] for column in schema["takes"]] == ["bmi", "bp", "s5"]
        assert schema["digest"] == trained.card["preparation_digest"]
        assert (await serving.call("diabetes.card"))["data_digest"] == trained.card["data_digest"]


async def test_cross_validation_is_scikit_learns(orch: Orchestrator) -> None:
    """Guards the folds: over two replicas they are those of one process, for numbers and for classes."""
    crossed = await linear_regression("y ~ bmi + bp").train_in(orch, "trainer", PATIENTS, folds=5, holdout=None, seed=3)
    matrix = np.column_stack([PATIENTS["bmi"], PATIENTS["bp"]])
    split = KFold(5, shuffle=True, random_state=3)
    expected = cross_val_score(LinearRegression(), matrix, PATIENTS["y"], cv=split, scoring="r2")
    told = crossed.scores["cross_validation"]
    assert np.allclose([fold["r2"] for fold in told["folds"]], expected, rtol=1e-9)
    assert told["mean"]["r2"] == pytest.approx(expected.mean(), rel=1e-9)
    assert told["deviation"]["r2"] == pytest.approx(expected.std(ddof=1), rel=1e-9)

    table = {**dict(zip(WINE.feature_names, WINE.data.T, strict=True)), "cultivar": WINE.target}
    wine = model("cultivar ~ alcohol + flavanoids + proline", estimator="logistic", scale=True)
    trained = await wine.train_in(orch, "trainer", table, folds=4, holdout=None)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression())
    columns = [WINE.feature_names.index(name) for name in ("alcohol", "flavanoids", "proline")]
    stratified = StratifiedKFold(4, shuffle=True, random_state=0)
    expected = cross_val_score(pipeline, WINE.data[:, columns], WINE.target, cv=stratified)
    assert [fold["accuracy"] for fold in trained.scores["cross_validation"]["folds"]] == pytest.approx(list(expected))


async def test_a_worker_that_dies_in_a_fold_changes_nothing(orch: Orchestrator) -> None:
    """Guards the scores against deaths: training leaves nothing in a worker, so another does its folds."""
    forest = model("y ~ bmi + bp + s5", estimator="forest", params={"n_estimators": 20})
    calm = await forest.train_in(orch, "trainer", PATIENTS, folds=4, holdout=None)
    async with Orchestrator({"trainer": here(trainer(2))}) as shaken:

        def first() -> dict[str, Any]:
            replica: dict[str, Any] = shaken.status()["services"]["trainer"]["replicas"][0]
            return replica

        pid = first()["pid"]
        training = asyncio.ensure_future(forest.train_in(shaken, "trainer", PATIENTS, folds=4, holdout=None))
        await until(lambda: first()["in_flight"], "the first replica is at a fold")
        os.kill(pid, signal.SIGKILL)
        disturbed = await training
        assert first()["pid"] != pid
    assert disturbed.scores == calm.scores


async def test_what_the_worker_refuses_reaches_the_caller(orch: Orchestrator) -> None:
    """Guards errors across the process: the caller's fault, in the worker's words, and unknown columns before it."""
    bad = {**PATIENTS, "s1": [-1.0, *PATIENTS["s1"][1:]]}
    with pytest.raises(
        InvalidArgument, match=r"log\(s1\) is not a finite number in 1 row \(row 0\): in row 0, s1 = -1"
    ):
        await model("y ~ log(s1)").train_in(orch, "trainer", bad)
    few = {"g": ["a", "a", "a", "b", "b"], "x": [1, 2, 3, 4, 5]}
    with pytest.raises(InvalidArgument, match="3 folds need 3 rows of each class, and there are 2 of 'b'"):
        await model("g ~ x", estimator="logistic").train_in(orch, "trainer", few, folds=3)
    with pytest.raises(FormulaError, match=r"position 11: the table has no column 'bmj'; did you mean 'bmi'\?"):
        await model("y ~ log(1+bmj)").train_in(orch, "trainer", PATIENTS)
