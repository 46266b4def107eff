"""Trains a model on a table and prints what came of it, as one JSON object; it knows nothing of mlports.

python train_model.py --data dataset.csv

The table: a line for each case, numbers with commas between them, the label last. Exit status 2 when it cannot be read.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any


def train(data: str) -> dict[str, Any]:
    """Fits logistic regression to three quarters of the cases; `accuracy` is that on the others."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import train_test_split
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    table = np.loadtxt(data, delimiter=",", ndmin=2)
    x, held_out, y, truth = train_test_split(table[:, :-1], table[:, -1], stratify=table[:, -1], random_state=0)
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(x, y)
    right = int((model.predict(held_out) == truth).sum())
    return {"cases": len(x), "features": x.shape[1], "held_out": len(truth), "accuracy": right / len(truth)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    options = parser.parse_args()
    print(f"reading {options.data}", file=sys.stderr)
    try:
        with open(options.data):
            pass
        print(json.dumps(train(options.data)))
    except (OSError, ValueError) as error:
        print(f"the table cannot be used: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
