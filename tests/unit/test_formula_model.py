"""Models by formulas, in this process: their matrices are formulaic's, and what cannot be learned from is told."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlports.ml import model
from mlports_models import formula_model, formulas
from mlports_models.model_service import ModelService
from mlports_worker import Failure

formulaic = pytest.importorskip("formulaic", reason="formulaic is not installed: it is in the extra `ml`")
import pandas  # noqa: E402
import skops.io  # noqa: E402
from sklearn.linear_model import LinearRegression  # noqa: E402

RANDOM = np.random.default_rng(3)
LEVELS = {"g": ["a", "b", "c"], "h": ["u", "v"]}


def a_table(rows: int) -> dict[str, Any]:
    """Numbers y, x, z and `a b`, categories g and h."""
    numbers = {name: RANDOM.uniform(1, 5, rows) for name in ("y", "x", "z", "a b")}
    return numbers | {name: RANDOM.choice(np.array(levels, object), rows) for name, levels in LEVELS.items()}


TABLE = a_table(60)
SERVICE = ModelService({}, print)


def trained(formula: str, table: Any = None, **said: Any) -> dict[str, Any]:
    """What the worker's `train` answers."""
    definition = model(formula, **said).definition.as_plain()
    return SERVICE.train(definition, TABLE if table is None else table, 0.2, None, 0)


def served(answer: dict[str, Any], folder: Path, log: Callable[..., None] = print) -> ModelService:
    """A service with the model of that answer."""
    (folder / "m.skops").write_bytes(answer["model"])
    trusted = answer.get("card", {}).get("trusted", [])
    return ModelService({"model": "m.skops", "models_dir": str(folder), "trusted": trusted}, log)


@pytest.mark.parametrize(
    "formula",
    [
        "y ~ x + z",
        "y ~ log(x) + C(g)*z + g:h",
        "y ~ 0 + g + log(`a b`) + center(x) + I(x**2) + {z / 2 - -x}",
        "y ~ (x + g + h)**3 - x",
        "y ~ x:g:h - 1",
        "y ~ `a b`:g + h:g",
        "y ~ scale(log(x)) + x/g",
        "y ~ .",
    ],
)
def test_a_plan_is_formulaics_matrix_for_other_rows_too(formula: str) -> None:
    """Guards serving: of rows that training never saw, the plan makes what formulaic's own model makes."""
    terms = formulas.Terms(formula, TABLE)
    columns = {name: TABLE[name] for name in terms.inputs}
    plan = formulas.Plan(
        json.loads(json.dumps(terms.plan(columns, {k: v for k, v in LEVELS.items() if k in columns}).state))
    )
    frames = [
        pandas.DataFrame({n: pandas.Categorical(c, LEVELS[n]) if n in LEVELS else c for n, c in table.items()})
        for table in (TABLE, a_table(17))
    ]
    theirs = formulaic.model_matrix(formula, frames[0]).rhs.model_spec.get_model_matrix(frames[1])
    ours = plan.matrix({name: frames[1][name].to_numpy() for name in terms.inputs})
    expected = theirs.drop(columns="Intercept") if plan.intercept else theirs
    assert plan.features == list(expected.columns)
    assert np.allclose(ours, expected.to_numpy(float), rtol=1e-12)


@pytest.mark.parametrize(
    "formula",
    [
        "y ~ {open('/tmp/x')}",
        "y ~ I(x.real)",
        "y ~ log(x, out=x)",
        "y ~ C(g, contr.sum)",
        "y ~ Q('x')",
        "y ~ {x[0]}",
        "y ~ I(9**9**9 + x)",
    ],
)
def test_no_code_of_a_formula_runs(formula: str) -> None:
    """Guards the worker from definitions and files of strangers: it reads formulas by itself before formulaic does."""
    with pytest.raises(Failure, match="is no expression of columns and numbers"):
        formulas.Terms(formula, TABLE)


def test_linear_regression_is_scikit_learns_to_the_last_digits(tmp_path: Path) -> None:
    """Guards the exercise: the coefficients and predictions are LinearRegression's own, within 1e-9."""
    answer = trained("y ~ x + z + C(g)")
    matrix = np.column_stack([TABLE["x"], TABLE["z"], TABLE["g"] == "b", TABLE["g"] == "c"])
    theirs = LinearRegression().fit(matrix, TABLE["y"])
    told = answer["card"]["coefficients"]
    assert np.allclose([told[n] for n in ("x", "z", "C(g)[T.b]", "C(g)[T.c]")], theirs.coef_, rtol=1e-9, atol=1e-9)
    assert math.isclose(told["(intercept)"], theirs.intercept_, rel_tol=1e-9)
    (ours,) = served(answer, tmp_path).predict([{name: TABLE[name] for name in ("x", "z", "g")}])
    assert np.allclose(ours, theirs.predict(matrix), rtol=1e-9, atol=1e-9)


def with_column(name: str, values: list[Any]) -> dict[str, Any]:
    """TABLE with one column more."""
    return {**TABLE, name: values}


N = len(TABLE["y"])
BAD: dict[str, tuple[str, Any, dict[str, Any], str]] = {
    "empty": ("y ~ x", [], {}, "no rows"),
    "headers only": ("y ~ x", {"y": [], "x": []}, {}, "no rows; it has the columns 'y', 'x'"),
    "one row": ("y ~ x", {"y": 1, "x": 2}, {}, "single row"),
    "ragged": ("y ~ x", {"y": [1, 2], "x": [1]}, {}, "differ in length"),
    "unknown column": ("y ~ xx", TABLE, {}, "no column 'xx'; did you mean 'x'?"),
    "missing values": ("y ~ w", with_column("w", [None, *range(N - 1)]), {}, "'w' has no value in 1 row (row 0)"),
    "missing everywhere": ("y ~ w", with_column("w", [None] * N), {"impute": "mean"}, "no value in any row"),
    "missing everywhere, dropped": ("y ~ w", with_column("w", [None] * N), {"impute": "drop"}, "leaves none"),
    "missing target": ("w ~ x", with_column("w", [None] * N), {}, "the target `w` has no value in any row"),
    "infinite": ("y ~ w", with_column("w", [math.inf, *range(N - 1)]), {}, "infinite in 1 row (row 0)"),
    "infinite by the formula": ("y ~ log(w)", with_column("w", list(range(N))), {}, "in row 0, w = 0"),
    "infinite target": ("log(w) ~ x", with_column("w", [-1.0] * N), {}, "log(w) is not a finite number in 60 rows"),
    "one class": ("w ~ x", with_column("w", ["a"] * N), {"estimator": "logistic"}, "has the class 'a'"),
    "fractions as classes": ("y ~ x", TABLE, {"estimator": "logistic"}, "has fractions"),
    "texts as numbers": ("g ~ x", TABLE, {}, "'logistic' predicts those"),
    "texts in log": ("y ~ log(g)", TABLE, {}, "holds categories"),
    "texts declared numbers": ("y ~ g", TABLE, {"columns": {"y": float, "g": float}}, "is of numbers, and row 0 has"),
    "too many categories": (
        "y ~ w",
        {"y": list(range(1300)), "w": [f"film {n}" for n in range(1300)]},
        {},
        "'w' has more than 1,000 categories",
    ),
    "the target's copy": ("y ~ x + w", with_column("w", TABLE["y"].tolist()), {}, "'w' is the target 'y' again"),
    "only a constant category": ("y ~ C(w)", with_column("w", [1] * N), {}, "leaves no features"),
    "unknown parameter": ("y ~ x", TABLE, {"estimator": "ridge", "params": {"alhpa": 1}}, "did you mean 'alpha'"),
    "parameter of another kind": ("y ~ x", TABLE, {"estimator": "ridge", "params": {"alpha": "a"}}, "Ridge: "),
    "a list in a cell": ("y ~ x", with_column("x", [[1]] * N), {}, "row 0 has [1]"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_table_that_teaches_nothing_is_told(name: str) -> None:
    """Guards against models of nonsense: which column, which row, why."""
    formula, table, said, told = BAD[name]
    with pytest.raises(Failure) as caught:
        trained(formula, table, **said)
    assert told in caught.value.message, caught.value.message
    assert caught.value.code == "invalid_argument"


def test_what_is_odd_but_no_error_stands_in_the_card() -> None:
    """Guards against odd tables that pass in silence: constants, numbers among texts, rows that were left out."""
    titles: list[Any] = ["Mad Max", 300, *["9", "Up"] * ((N - 2) // 2)]
    table = {**TABLE, "title": titles, "one": [1.0] * N, "y": [None, *TABLE["y"][1:]], "x": [*TABLE["x"][:-1], None]}
    card = trained("y ~ title + one + x", table, impute="drop")["card"]
    told = " ".join(card["notes"])
    assert "'title' has 1 numbers among texts" in told
    assert "'one' is the same in every row" in told
    assert "1 rows without `y` were left out" in told
    assert "1 rows that miss an input were left out" in told
    assert card["rows"] == N - 2
    assert next(column for column in card["columns"] if column["name"] == "title")["categories"] == ["9", "300", "Up"]


def test_the_card_says_where_a_model_came_from() -> None:
    """Guards the card: the data's digest follows the data, and the markdown has what the map has."""
    first, again = trained("y ~ x + C(g)", scale=True), trained("y ~ x + C(g)", scale=True)
    other = trained("y ~ x + C(g)", {**TABLE, "x": TABLE["x"] + 1e-12})
    card = first["card"]
    assert card["data_digest"] == again["card"]["data_digest"] != other["card"]["data_digest"]
    assert {"python", "scikit-learn", "numpy", "formulaic"} <= set(card["versions"])
    assert 0 <= card["scores"]["holdout"]["rmse"] < 3
    for text in (card["formula"], card["data_digest"], card["preparation_digest"], card["date"], "`C(g)[T.b]`"):
        assert text in first["markdown"]


@pytest.mark.parametrize("estimator", ["tree", "neighbours", "baseline"])
def test_one_estimator_for_numbers_and_for_categories(estimator: str, tmp_path: Path) -> None:
    """Guards the names that stand for two classes: the target decides, and skops gives back what was trained."""
    row = {"x": 2.0, "z": 3.0}
    number = served(trained("y ~ x + z", estimator=estimator), tmp_path)
    assert isinstance(number.predict([row])[0], float)
    category = served(trained("C(g) ~ x + z", estimator=estimator), tmp_path)
    assert category.predict([row])[0] in LEVELS["g"]
    assert category.schema()["gives"] == {"name": "C(g)", "type": "category", "categories": LEVELS["g"]}


def test_callers_of_one_batch_do_not_spoil_each_other(tmp_path: Path) -> None:
    """Guards batches: each gets its own answer or its own error, in its own shape."""
    told: list[str] = []
    service = served(trained("y ~ log(x) + C(g)"), tmp_path, lambda level, text: told.append(text))
    good, unseen = {"x": 2.0, "g": "b"}, {"x": 2.0, "g": "new"}
    bad = [{"x": 0.0, "g": "b"}, {"x": "2", "g": "b"}, {"x": 2.0}, {**good, "y": 1.0}, {**good, "z": 1}, 7, [good, 7]]
    answers = service.predict([good, *bad, [good, unseen], {"x": [2.0], "g": ["b"]}, unseen, []])
    alone = service.predict([good])[0]
    assert answers[0] == alone
    assert all(isinstance(answer, Failure) for answer in answers[1:8])
    assert [answers[8][0], answers[9], answers[11]] == [alone, [alone], []]
    assert answers[10] == answers[8][1]
    assert told == ["column 'g': 'new' is a category that training has not met"]
    texts = [answer.message for answer in answers[1:6]]
    wanted = ["in row 0, x = 0", "row 0 has '2'", "missing: 'g'", "'y' (it is what the model predicts)", "unknown: 'z'"]
    assert all(part in text for part, text in zip(wanted, texts, strict=True))


def test_unseen_categories_can_be_refused(tmp_path: Path) -> None:
    """Guards the models for which a guess is worse than none; their evaluation is not stopped by one."""
    table = {**TABLE, "g": ["rare", *TABLE["g"][1:]]}
    service = served(trained("y ~ x + C(g)", table, unseen="refuse"), tmp_path)
    assert isinstance(service.predict([{"x": 1.0, "g": "rare"}])[0], float)
    (failure,) = service.predict([{"x": 1.0, "g": "new"}])
    assert "none of the categories that the model knows: 'a', 'b', 'c', 'rare'" in failure.message
    definition = model("y ~ x + C(g)", unseen="refuse").definition.as_plain()
    work = {"definition": definition, "table": table, "folds": 5, "seed": 0}
    assert all(SERVICE.score_fold({**work, "fold": fold})["rows"] == 12 for fold in range(5))


def test_missing_inputs_are_imputed_as_in_training(tmp_path: Path) -> None:
    """Guards serving against training: a missing value is what it was there."""
    table = {**TABLE, "x": [None, *TABLE["x"][1:]], "g": [*TABLE["g"][:-1], None]}
    service = served(trained("y ~ x + C(g)", table, impute="mean"), tmp_path)
    mean, values = float(np.mean(TABLE["x"][1:])), table["g"][:-1]
    most = max(sorted(set(values)), key=values.count)
    missing, given = service.predict([{"x": None, "g": None}, {"x": mean, "g": most}])
    assert math.isclose(missing, given, rel_tol=1e-12)


def with_state(answer: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The answer with a file in which these keys of the state are others."""
    loaded = skops.io.loads(answer["model"], trusted=skops.io.get_untrusted_types(data=answer["model"]))
    loaded.state = json.dumps({**json.loads(loaded.state), **changes})
    return {**answer, "model": skops.io.dumps(loaded)}


def test_a_model_of_other_versions_is_told(tmp_path: Path) -> None:
    """Guards upgrades: another format is refused; another scikit-learn is served, and said."""
    answer, told = trained("y ~ x"), list[str]()
    with pytest.raises(Failure, match="is a model of format 2, and this mlports reads format 1"):
        served(with_state(answer, format=2), tmp_path)
    served(with_state(answer, versions={"scikit-learn": "1.0.1"}), tmp_path, lambda level, text: told.append(text))
    assert told == [
        "m.skops: it was saved with scikit-learn 1.0.1, and here is "
        f"{formula_model.versions()['scikit-learn']}: compare its scores with its card's"
    ]


def test_a_model_that_was_tampered_with_is_refused(tmp_path: Path) -> None:
    """Guards files: a preparation must be the one of its digest, and no expression may be more than one."""
    answer = trained("y ~ log(x)")
    with pytest.raises(Failure, match="digest differs"):
        served(with_state(answer, preparation_digest="0" * 64), tmp_path)
    with pytest.raises(Failure, match="is no expression of columns and numbers"):
        served(with_state(answer, target="__import__('os').getpid()"), tmp_path)
    with pytest.raises(Failure, match="is not a skops file"):
        served({"model": answer["model"][:500]}, tmp_path)
    with pytest.raises(Failure, match="not a model by a formula"):
        served({"model": skops.io.dumps(LinearRegression())}, tmp_path)


def test_an_untrusted_type_is_refused_by_name(tmp_path: Path) -> None:
    """Guards against files that bring code: the type is named, and nothing of it was run."""
    saved = formula_model.SavedModel("{}", None)
    saved.estimator = Path
    with pytest.raises(Failure, match=r"types that are not trusted: pathlib.Path") as caught:
        served({"model": skops.io.dumps(saved)}, tmp_path)
    assert caught.value.code == "permission_denied"


def test_training_without_formulaic_says_which_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Guards installations: training says what to install, and serving does without it."""
    answer = trained("y ~ x + C(g)")
    monkeypatch.setitem(sys.modules, "formulaic", None)
    with pytest.raises(Failure, match=r"needs formulaic, which .* lacks .*: pip install 'mlports\[ml\]'"):
        trained("y ~ x")
    assert served(answer, tmp_path).predict([{"x": 1.0, "g": "a"}])[0] > 0


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    """Guards the service's configuration."""
    with pytest.raises(Failure, match=r"there is no file .*films\.skops; models beside it: none"):
        ModelService({"model": "films.skops", "models_dir": str(tmp_path)}, print)
    with pytest.raises(Failure, match="did you mean 'models_dir'"):
        ModelService({"model_dir": str(tmp_path)}, print)
    with pytest.raises(Failure, match="no model to predict with"):
        SERVICE.predict([{}])
