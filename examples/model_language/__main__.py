"""Defines models by formulas, trains them in workers, and compares them with scikit-learn's own.

python -m examples.model_language
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlports
from mlports import BlockingOrchestrator
from mlports.ml import Model, ModelError, Trained, linear_regression, model

from ..movies import movies

CONFIG = Path(__file__).with_name("mlports.toml")
ALIKE = 1e-9
GENRE = "C(genre)[T."

# The article's exercise: a language for linear regression.
progression = linear_regression("progression ~ bmi + bp + s5 + C(sex)")


# The article's `model :predict do`, with types for what goes in. Distances need features of one size: so scale.
@model
class Wine:
    formula = "C(cultivar) ~ alcohol + malic_acid + flavanoids + color_intensity + proline"
    estimator = "neighbours"
    scale = True
    cultivar: str
    alcohol: float
    malic_acid: float
    flavanoids: float
    color_intensity: float
    proline: float


wine_unscaled = model(Wine.formula, estimator="neighbours", name="wine, not scaled")

# Formulas that say something of the world: what does a film bring in for what it cost?
films = model("log(gross) ~ log(budget) + C(genre)", impute="drop", name="films")

WRONG: dict[str, Callable[[], Model]] = {
    "a typo": lambda: model("progression ~ bmi + log(bp"),
    "an unknown column": lambda: model(
        "progression ~ bmi + pb", columns={"progression": float, "bmi": float, "bp": float}
    ),
    "the target among the inputs": lambda: model("progression ~ bmi + log(1 + progression)"),
    "an estimator that there is not": lambda: model("progression ~ bmi", estimator="rigde"),
}


@dataclass
class Findings:
    """What came out. `difference`: the largest between our coefficients and predictions and scikit-learn's."""

    refusals: dict[str, str]
    difference: float
    progression: Trained
    wine: Trained
    wine_unscaled: Trained
    films: Trained
    served: list[Any]


def diabetes() -> dict[str, Any]:
    """scikit-learn's 442 patients, in the units that they were measured in."""
    from sklearn.datasets import load_diabetes

    data = load_diabetes(scaled=False)
    return {**dict(zip(data.feature_names, data.data.T, strict=True)), "progression": data.target}


def wines() -> dict[str, Any]:
    """scikit-learn's 178 wines of three cultivars."""
    from sklearn.datasets import load_wine

    data = load_wine()
    cultivars = [str(data.target_names[label]) for label in data.target]
    return {**dict(zip(data.feature_names, data.data.T, strict=True)), "cultivar": cultivars}


def film_table() -> list[dict[str, Any]]:
    """The 3,201 films of the table, holes and all: only the formula's columns are sent."""
    return [movie._asdict() for movie in movies()]


def refusals() -> dict[str, str]:
    """What is said of each wrong model, where it is defined: no worker runs yet."""
    told = {}
    for what, define in WRONG.items():
        try:
            define()
        except ModelError as error:
            told[what] = str(error)
    return told


def compare(trained: Trained, table: dict[str, Any], predictions: list[float]) -> float:
    """The largest difference between scikit-learn's coefficients and predictions and ours."""
    import numpy as np
    from sklearn.linear_model import LinearRegression

    matrix = np.column_stack([table["bmi"], table["bp"], table["s5"], table["sex"] == 2])
    theirs = LinearRegression().fit(matrix, table["progression"])
    ours = trained.coefficients or {}
    names = ["bmi", "bp", "s5", "C(sex)[T.2]"]
    differences = [abs(ours["(intercept)"] - theirs.intercept_), *(np.abs([ours[n] for n in names] - theirs.coef_))]
    return float(max(*differences, np.abs(theirs.predict(matrix) - predictions).max()))


def run(folder: Path) -> Findings:
    """Trains all of them by two workers, and serves the first from a file in the folder."""
    patients, bottles, shown = diabetes(), wines(), film_table()
    with mlports.open(CONFIG) as orch:
        trained = train(progression, patients, orch)
        wine, unscaled = train(Wine, bottles, orch), train(wine_unscaled, bottles, orch)
        brought_in = train(films, shown, orch)
    trained.save(folder / "progression.skops")
    inputs = {name: patients[name] for name in ("bmi", "bp", "s5", "sex")}
    with trained.serve() as served:
        difference = compare(trained, patients, served.predict(inputs))
        patient = {"bmi": 25.0, "bp": 90.0, "s5": 4.6, "sex": 1}
        answers = [served.predict(patient), served.predict({**patient, "sex": 3})]
        try:
            served.predict({"bmi": 25.0, "bp": 90.0, "s6": 4.6, "sex": 1})
        except mlports.InvalidArgument as error:
            answers.append(str(error))
    return Findings(refusals(), difference, trained, wine, unscaled, brought_in, answers)


def train(defined: Any, table: Any, orch: BlockingOrchestrator) -> Trained:
    """Trained from the whole table, with the scores of ten folds."""
    trained: Trained = defined.train(table, folds=10, holdout=None, orch=orch)
    return trained


def mean(trained: Trained, score: str) -> float:
    """A score's mean over the folds."""
    value: float = trained.scores["cross_validation"]["mean"][score]
    return value


def report(found: Findings) -> str:
    """The findings, to read."""
    lines = ["Models that are wrong are refused where they are defined:"]
    for what, text in found.refusals.items():
        lines += ["", f"- {what}:", *(f"    {line}" for line in text.splitlines())]
    lines += [
        "",
        f"`{progression.formula}`: R² in ten folds {mean(found.progression, 'r2'):.3f}",
        f"scikit-learn's own coefficients and predictions differ from these by {found.difference:.1e} at most.",
        f"A patient: {found.served[0]:.1f}. One of an unknown sex, taken for the most frequent: {found.served[1]:.1f}.",
        f"One with a wrong column: {found.served[2]}",
        "",
        f"Wine by its neighbours, accuracy in ten folds: {mean(found.wine_unscaled, 'accuracy'):.3f}; with the step "
        f"scale = True: {mean(found.wine, 'accuracy'):.3f}.",
    ]
    told = found.films.coefficients or {}
    genres = {name[len(GENRE) : -1]: value for name, value in told.items() if name.startswith(GENRE)}
    least, most = min(genres, key=genres.__getitem__), max(genres, key=genres.__getitem__)
    lines += [
        "",
        found.films.markdown,
        f"Films, R² in ten folds: {mean(found.films, 'r2'):.3f}. For twice the budget, "
        f"{2 ** told['log(budget)']:.2f} times as much comes in. "
        f"For one budget, {least} brings in least and {most} most.",
    ]
    return "\n".join(lines)


def holds(found: Findings) -> bool:
    """Whether the models are scikit-learn's own, scaling is worth what it is, and every wrong one was refused."""
    worth = mean(found.wine, "accuracy") - mean(found.wine_unscaled, "accuracy")
    return found.difference < ALIKE and worth > 0.2 and set(found.refusals) == set(WRONG)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.model_language", description=__doc__)
    parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = run(Path(folder))
    print(report(found))
    if not holds(found):
        sys.exit("it does not hold: a model differs from scikit-learn's, or a wrong one was not refused")


if __name__ == "__main__":
    main()
