"""The model: which of three growers a wine is from, by 13 measurements, learned by scikit-learn and stored as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def train(path: Path) -> tuple[list[list[float]], Any]:
    """Writes the model; gives the 178 rows, and for each what scikit-learn itself says of the three classes."""
    from sklearn.datasets import load_wine
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    x, y = load_wine(return_X_y=True)
    scaler = StandardScaler().fit(x)
    model = LogisticRegression().fit(scaler.transform(x), y)
    # (x - mean) / scale · coef + intercept, written with x alone.
    weights = model.coef_ / scaler.scale_
    intercepts = model.intercept_ - weights @ scaler.mean_
    path.write_text(json.dumps({"weights": weights.tolist(), "intercepts": intercepts.tolist()}))
    return x.tolist(), model.predict_proba(scaler.transform(x))
