"""Makes MLflow models in the folder that it is told, in a store of files, and tells as JSON how each is served.

A process of its own, because importing mlflow takes seconds, and warns of much.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import mlflow
import mlflow.sklearn
import numpy as np
import pandas as pd
from mlflow.models import infer_signature
from sklearn.datasets import load_wine
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mlports_models.mlflow_model import MlflowModel
from mlports_worker import Failure

OURS = ["mlflow", "scikit-learn"]  # said, because mlflow needs seconds to find them out
OTHERS = ["mlflow", "scikit-learn==1.0", "no-such-package>=2"]
X, Y = load_wine(return_X_y=True, as_frame=True)


def make(folder: Path) -> str:
    """Writes the models. Gives the run of the one that is logged and registered."""
    mlflow.set_tracking_uri(f"file://{folder}/store")
    wines = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, Y)
    signature = infer_signature(X, wines.predict(X))
    with mlflow.start_run() as run:
        mlflow.sklearn.log_model(
            wines, name="wines", signature=signature, registered_model_name="wines", pip_requirements=OURS
        )
    np.savez(folder / "reference.npz", inputs=X.to_numpy(), outputs=wines.predict(X))
    (folder / "columns.json").write_text(json.dumps(list(X.columns)))

    def save(model: Any, name: str, given: Any = None, requirements: list[str] = OURS) -> None:
        signature = None if given is None else infer_signature(given, model.predict(given))
        mlflow.sklearn.save_model(model, folder / name, signature=signature, pip_requirements=requirements)

    numbers = X.to_numpy()[:, :3]
    line = LinearRegression().fit(numbers, Y)
    save(line, "tensor", numbers)
    save(line, "unsigned", requirements=OTHERS)
    counts = pd.DataFrame({"count": [1, 2, 3], "half": [0.5, 1.0, 1.5]})
    save(LinearRegression().fit(counts, [1.0, 2.0, 3.0]), "kinds", counts)

    for copy in ("lacking", "damaged"):
        shutil.copytree(folder / "kinds", folder / copy)
    flavours = folder / "lacking" / "MLmodel"
    flavours.write_text(
        flavours.read_text().replace("loader_module: mlflow.sklearn", "loader_module: not_there.at_all")
    )
    (saved,) = (file for file in (folder / "damaged").iterdir() if file.name.startswith("model."))
    saved.write_bytes(saved.read_bytes()[:100])
    (folder / "no_model").mkdir()
    return str(run.info.run_id)


def told(folder: Path, run: str) -> dict[str, Any]:
    """What models and configs come to: failures as [code, message], answers as lists."""
    store = f"file://{folder}/store"
    table, line = X.to_numpy()[:5, :3], [0.0, 0.0, 0.0]
    row = X.iloc[0].to_dict()
    asked: dict[str, tuple[str, list[Any]]] = {
        "registered": ("models:/wines/1", [row]),
        "of a run": (f"runs:/{run}/wines", [row]),
        "tensor": ("tensor", [table, line, table[0], [1.0], "x"]),
        "unsigned": ("unsigned", [table, [{"a": 13.0, "b": 2.0, "c": 2.0}], 3.0]),
        "kinds": (
            "kinds",
            [
                {"count": 2, "half": 1},
                {"count": [1, 2], "half": [0.5, None]},
                {"count": 2.5, "half": 1.0},
                {"count": 2**63 - 1, "half": 1.0},
                {"count": 2},
                {"count": 2, "half": 1.0, "halves": 1},
                7,
                [],
            ],
        ),
        "no such name": ("models:/beers/1", []),
        "no such version": ("models:/wines/9", []),
        "no such run": ("runs:/0123456789abcdef0123456789abcdef/wines", []),
        "no such store": ("ftx://nowhere/wines", []),
        "no such folder": ("nothing", []),
        "no model": ("no_model", []),
        "lacking": ("lacking", []),
        "damaged": ("damaged", []),
    }
    found: dict[str, Any] = {"store": store}
    for case, (uri, values) in asked.items():
        try:
            model = MlflowModel(
                {"model": uri, "models_dir": str(folder), "tracking_uri": store, "trust": True}, lambda *_: None
            )
            found[case] = [_plain(outcome) for outcome in model.predict(values)]
            found[f"{case}: schema"], found[f"{case}: info"] = model.schema(), model.info()
        except Failure as failure:
            found[case] = _plain(failure)
    configs: dict[str, dict[str, Any]] = {
        "untrusted": {"model": "kinds"},
        "half trusted": {"model": "kinds", "trust": False},
        "unnamed": {},
        "misspelt": {"mode": "kinds", "trust": True},
    }
    for case, config in configs.items():
        try:
            MlflowModel({"models_dir": str(folder), **config}, lambda *_: None)
        except Failure as failure:
            found[case] = _plain(failure)
    expected = LinearRegression().fit(X.to_numpy()[:, :3], Y)
    found["line"] = expected.predict(np.array([*table, line])).tolist()
    return found


def _plain(outcome: Any) -> Any:
    if isinstance(outcome, Failure):
        return [outcome.code, outcome.message]
    return outcome.tolist() if isinstance(outcome, np.ndarray) else outcome


if __name__ == "__main__":
    home = Path(sys.argv[1])
    print(json.dumps(told(home, make(home))))
