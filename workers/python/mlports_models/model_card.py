"""What a model is, where it came from and how good it is: a card in plain values, and the same to read."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from .formula_model import Data, FormulaModel


def card(model: FormulaModel, data: Data, holdout: Any, folds: Any, now: datetime) -> dict[str, Any]:
    """The card. `holdout` are the scores on rows kept back, `folds` those of a cross-validation, in order; or None."""
    state, schema = model.state, model.schema()
    definition = state["definition"]
    return {
        "name": definition["name"],
        "formula": definition["formula"],
        "task": state["task"],
        "estimator": {"name": definition["estimator"], "class": state["class"], "params": dict(definition["params"])},
        "steps": {key: definition[key] for key in ("impute", "scale", "unseen")},
        "columns": [*schema["takes"], {**schema["gives"], "target": True}],
        "features": len(model.plan.features),
        "coefficients": model.coefficients(),
        "rows": data.rows,
        "data_digest": data.digest,
        "preparation_digest": state["preparation_digest"],
        "scores": {"holdout": holdout, "cross_validation": _together(folds) if folds else None},
        "notes": [*data.notes, *state["notes"]],
        "format": state["format"],
        "versions": dict(state["versions"]),
        "date": now.isoformat(timespec="seconds"),
    }


def markdown(card: dict[str, Any]) -> str:
    """A card as Markdown."""
    estimator = card["estimator"]
    params = ", ".join(f"{key} = {value!r}" for key, value in estimator["params"].items())
    steps = ", ".join(f"{key}: {value}" for key, value in card["steps"].items())
    parts = [
        f"# {card['name']}",
        f"`{_line(card['formula'])}`, a {card['task']} by {estimator['class']}{f' ({params})' if params else ''}, "
        f"trained from {card['rows']:,} rows on {card['date']}.",
        "## Scores",
        _scores(card["scores"]),
        "## Columns",
        _table(["column", "type", "categories"], [_column(column) for column in card["columns"]]),
    ]
    if card["coefficients"]:
        rows = [[_code(name), f"{value:.6g}"] for name, value in card["coefficients"].items()]
        of = ", of features scaled to deviation 1" if card["steps"]["scale"] else ""
        parts += [f"## Coefficients{of}", _table(["feature", "coefficient"], rows)]
    if card["notes"]:
        parts += ["## Worth knowing", "\n".join(f"- {_line(note)}" for note in card["notes"])]
    origin = [
        f"- steps: {steps}",
        f"- data: SHA-256 `{card['data_digest']}`",
        f"- preparation: SHA-256 `{card['preparation_digest']}`",
        *(f"- to be trusted where it is served: `{name}`" for name in card["trusted"]),
        *(f"- {package} {version}" for package, version in card["versions"].items()),
    ]
    return "\n\n".join([*parts, "## Origin", "\n".join(origin)]) + "\n"


def _together(folds: list[dict[str, Any]]) -> dict[str, Any]:
    """Each score's mean and standard deviation (n - 1) over the folds."""
    told: dict[str, Any] = {"folds": folds, "mean": {}, "deviation": {}}
    for key in folds[0]:
        values = [fold[key] for fold in folds if fold.get(key) is not None]
        if key != "rows" and values:
            mean = sum(values) / len(values)
            told["mean"][key] = mean
            spread = sum((value - mean) ** 2 for value in values)
            told["deviation"][key] = (spread / (len(values) - 1)) ** 0.5 if len(values) > 1 else 0.0
    return told


def _scores(scores: dict[str, Any]) -> str:
    holdout, crossed = scores["holdout"], scores["cross_validation"]
    if not holdout and not crossed:
        return "Not measured."
    keys = [key for key in (holdout or crossed["mean"]) if key != "rows"]
    rows = []
    if holdout:
        rows.append([f"hold-out, {holdout['rows']:,} rows", *(_number(holdout[key]) for key in keys)])
    if crossed:
        told = [f"{_number(crossed['mean'].get(key))} ± {_number(crossed['deviation'].get(key))}" for key in keys]
        rows.append([f"{len(crossed['folds'])} folds", *told])
    return _table(["measured on", *keys], rows)


def _column(column: dict[str, Any]) -> list[str]:
    categories = column.get("categories") or []
    shown = ", ".join(str(category) for category in categories[:12]) + (", …" if len(categories) > 12 else "")
    kind = f"{column['type']}, target" if column.get("target") else column["type"]
    return [_code(column["name"]), kind, _cell(shown)]


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _code(text: str) -> str:
    return f"`{_cell(text).replace('`', chr(39))}`"


def _cell(text: str) -> str:
    return _line(text).replace("|", "\\|")


def _line(text: str) -> str:
    return " ".join(str(text).split())


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
