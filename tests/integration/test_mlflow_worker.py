"""The mlflow worker: what is served out of a store of files is the scikit-learn model that was logged there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlports import InvalidArgument, Orchestrator, ServiceConfig
from tests.extras import need

need("mlflow", "pandas", "sklearn", how="pip install 'mlports[mlflow]'")

ROOT = Path(__file__).resolve().parents[2]
ENV = {
    "PYTHONPATH": os.pathsep.join(str(ROOT / folder) for folder in ("protocol", "orchestrator", "workers/python")),
    "MLFLOW_ALLOW_FILE_STORE": "true",  # newer ones would rather have a database, which needs more packages
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "OPENBLAS_NUM_THREADS": "1",
}

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder of models, and what came of serving each."""
    folder = tmp_path_factory.mktemp("models")
    command = [sys.executable, "-W", "ignore", str(ROOT / "tests" / "mlflow_program.py"), str(folder)]
    told = subprocess.run(command, env={**os.environ, **ENV}, cwd=folder, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    return folder, json.loads(told.stdout.splitlines()[-1])


async def test_a_registered_model_is_served(made: tuple[Path, dict[str, Any]]) -> None:
    folder, told = made
    with np.load(folder / "reference.npz") as saved:
        reference = dict(saved)
    columns = json.loads((folder / "columns.json").read_text())
    rows = [dict(zip(columns, row, strict=True)) for row in reference["inputs"].tolist()]
    config = {"model": "models:/wines/1", "tracking_uri": told["store"], "trust": True}
    command = ["python", "-m", "mlports_models.mlflow"]
    service = ServiceConfig(command=command, env=ENV, config=config, start_timeout="180s", shared_memory=False)
    async with Orchestrator({"wines": service}) as orch:
        assert await orch.map("wines.predict", rows[::10]) == reference["outputs"][::10].tolist()
        np.testing.assert_array_equal(await orch.call("wines.predict", rows), reference["outputs"])
        table = dict(zip(columns, reference["inputs"].T.tolist(), strict=True))
        np.testing.assert_array_equal(await orch.call("wines.predict", table), reference["outputs"])
        assert (await orch.call("wines.schema"))["takes"][0] == {"name": columns[0], "type": "double", "required": True}
        without = {name: value for name, value in rows[0].items() if name != "hue"}
        with pytest.raises(InvalidArgument, match=r"missing: 'hue'; unknown: 'huh' \(did you mean 'hue'"):
            await orch.call("wines.predict", {**without, "huh": 1.0})
        with pytest.raises(InvalidArgument, match="'hue' is of numbers, and row 0 has 'red'"):
            await orch.call("wines.predict", {**without, "hue": "red"})


def test_a_run_is_served_too(made: tuple[Path, dict[str, Any]]) -> None:
    assert made[1]["of a run"] == made[1]["registered"] == [0]


def test_a_signature_of_tensors_takes_arrays(made: tuple[Path, dict[str, Any]]) -> None:
    _, told = made
    table, line, row, short, text = told["tensor"]
    assert [*table, line] == pytest.approx(told["line"])
    assert row == pytest.approx(told["line"][0])
    assert "shape [1]" in short[1]
    assert text[0] == "invalid_argument"
    assert told["tensor: schema"]["takes"] == [{"name": "inputs", "dtype": "float64", "shape": [None, 3]}]


def test_a_model_without_a_signature_takes_what_it_is_given(made: tuple[Path, dict[str, Any]]) -> None:
    _, told = made
    table, named, scalar = told["unsigned"]
    assert table == pytest.approx(told["line"][:-1])
    assert len(named) == 1
    assert scalar[0] == "invalid_argument"
    assert told["unsigned: schema"] == {"takes": None, "gives": None}


def test_columns_take_the_signatures_types(made: tuple[Path, dict[str, Any]]) -> None:
    good, missing, fraction, large, lacking, more, number, nothing = made[1]["kinds"]
    assert good == pytest.approx(2)
    assert missing[0] == "invalid_argument"  # by scikit-learn, which takes no NaN here
    assert "'count' is of type long, and has 2.5" in fraction[1]
    assert large > 1e18
    assert "missing: 'half'" in lacking[1]
    assert "unknown: 'halves'" in more[1]
    assert "a list of rows" in number[1]
    assert nothing == []


def test_other_versions_are_told(made: tuple[Path, dict[str, Any]]) -> None:
    scikit, absent = made[1]["unsigned: info"]["mismatches"]
    assert scikit.startswith("it wants scikit-learn==1.0, and there is ")
    assert absent == "it wants no-such-package>=2, and there is none"


@pytest.mark.parametrize(
    ("case", "code", "words"),
    [
        ("untrusted", "permission_denied", ["trust = true"]),
        ("half trusted", "permission_denied", ["trust = true"]),
        ("unnamed", "invalid_argument", ["needs a model"]),
        ("misspelt", "invalid_argument", ["did you mean 'model'"]),
        ("no such name", "not_found", ["models:/beers/1"]),
        ("no such version", "not_found", ["models:/wines/9"]),
        ("no such run", "not_found", ["runs:/0123"]),
        ("no such store", "failed_precondition", ["ftx://nowhere"]),
        ("no such folder", "not_found", ["nothing is not there"]),
        ("no model", "not_found", ["has no file MLmodel"]),
        ("lacking", "failed_precondition", ["the package not_there", "pip install -r"]),
        ("damaged", "invalid_argument", ["cannot be loaded"]),
    ],
)
def test_what_cannot_be_served_is_refused(
    made: tuple[Path, dict[str, Any]], case: str, code: str, words: list[str]
) -> None:
    assert made[1][case][0] == code, made[1][case]
    assert all(word in made[1][case][1] for word in words), made[1][case]
