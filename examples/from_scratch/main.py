"""A model made from scratch: one film, then tables of patients and athletes, by the same gradient descent.

    python examples/from_scratch/main.py --out pictures

Prints what it finds, and writes findings.json and descent.png into the folder.
"""

from __future__ import annotations

import argparse
import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

import mlports

HERE = Path(__file__).parent
BUDGET, GROSS = 200_000, 99_750_000  # Mad Max, 1979, in dollars


def film(orch: Any) -> dict[str, Any]:
    """What a film cost, times a weight, is to be what it brought in: each step of the way."""
    steps = list(orch.stream("films.trace", BUDGET, GROSS))
    guess = 2.5
    return {
        "weights": [step["weight"] for step in steps],
        "errors": [step["error"] for step in steps],
        "run(100_000, 2.5)": orch.call("films.run", 100_000, guess),
        "learned": orch.call("films.run", BUDGET),
    }


def read(name: str, header: int = 0) -> Any:
    """A table of scikit-learn's, from its file: importing what reads it takes longer than everything else here."""
    found = find_spec("sklearn")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("the tables are scikit-learn's, which is not installed: pip install 'mlports[examples]'")
    return np.loadtxt(Path(found.submodule_search_locations[0]) / "datasets" / "data" / name, skiprows=header)


def table(orch: Any, x: Any, y: Any) -> dict[str, Any]:
    """Many examples with several inputs, and one output or several; beside them, least squares by linear algebra."""
    inputs = np.column_stack([(x - x.mean(axis=0)) / x.std(axis=0), np.ones(len(x))])
    orch.call("tables.reset")
    told = orch.call("tables.train", inputs, y)
    best = np.linalg.lstsq(inputs, y, rcond=None)[0]
    left = y - inputs @ told["weight"]
    return {
        "examples": len(x),
        "inputs": x.shape[1],
        "outputs": 1 if y.ndim == 1 else y.shape[1],
        "steps": told["steps"],
        "settled": told["settled"],
        "away from least squares": float(np.abs(told["weight"] - best).max() / np.abs(best).max()),
        "explained": float(1 - (left**2).sum() / ((y - y.mean(axis=0)) ** 2).sum()),
    }


def draw(found: dict[str, Any], path: Path) -> bool:
    """The film's weight and error, step by step. Returns whether there is a picture."""
    try:
        import matplotlib
    except ImportError:
        print("no picture is drawn: matplotlib is not installed (pip install 'mlports[examples]')", file=sys.stderr)
        return False
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    weights, errors = found["film"]["weights"], found["film"]["errors"]
    left.plot(weights, ".-")
    left.axhline(GROSS / BUDGET, color="grey", linewidth=0.8)
    left.set(title="the weight goes to 498.75, and stops", xlabel="step", ylabel="weight")
    right.semilogy([error for error in errors if error], ".-")
    right.set(title="the error falls to nothing", xlabel="step", ylabel="error (dollars²)")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description="A model made from scratch.")
    parser.add_argument("--out", type=Path, default=Path("pictures"), help="folder for what it writes")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    with mlports.open(HERE / "mlports.toml") as orch:
        found: dict[str, Any] = {
            "film": film(orch),
            "patients": table(orch, read("diabetes_data_raw.csv.gz"), read("diabetes_target.csv.gz")),
            "athletes": table(orch, read("linnerud_exercise.csv", 1), read("linnerud_physiological.csv", 1)),
        }
    weights = found["film"]["weights"]
    print("one film:", " → ".join(str(weight) for weight in [*weights[:3], "…", *weights[-2:]]))
    print(f"  after {len(weights) - 1} steps the error is {found['film']['errors'][-1]}, and it stops")
    for name in ("patients", "athletes"):
        each = found[name]
        print(
            f"{each['examples']} {name}, {each['inputs']} inputs, {each['outputs']} outputs: {each['steps']} steps to "
            f"within {each['away from least squares']:.0e} of least squares; {each['explained']:.1%} explained"
        )
    (out / "findings.json").write_text(json.dumps(found, indent=1))
    if draw(found, out / "descent.png"):
        print(f"see {out / 'descent.png'}")


if __name__ == "__main__":
    main()
