"""What is done to a table's columns before a model sees them: learned from a stream, frozen, and known by a digest.

Each column has a step, a map with `kind`:

- "number": `impute` is "mean", "median", a number, or None (a missing value is refused); `scale`, to mean 0 and
  deviation 1.
- "category": a column of zeros and ones for each category. `impute` is "frequent" (the most frequent one), "missing" (a
  category of its own) or None; `unseen` says what stands for one that training has not met: "zeros", "frequent", or
  "refuse". At most `most` categories (default 1,000).
- "hash": categories hashed to `width` numbers (default 64): any number of them, in bounded memory.
- "text": words hashed to `width` counts (default 1,024), each text's to length 1.

A step holds counts and sums, never the rows. The median is exact up to `SAMPLE` values, then that of a sample.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from mlports_worker import Failure

from . import registry, tables
from .rows import Array

_LARGEST = 1e150
SAMPLE = 10_000
MISSING = "(missing)"
State = dict[str, Any]


class Number:
    """Imputes and scales a column of numbers. Mean and deviation are those of the values that there were."""

    options: Mapping[str, Any] = {"impute": "mean", "scale": False}

    def __init__(self, name: str, spec: Mapping[str, Any]) -> None:
        self.name, self.impute, self.scale = name, spec["impute"], spec["scale"]
        if self.impute not in ("mean", "median", None) and not _is_finite(self.impute):
            raise _wrong(name, "impute", self.impute, "'mean', 'median', a number or None")
        if not isinstance(self.scale, bool):
            raise _wrong(name, "scale", self.scale, "True or False")
        self.state: State = {"count": 0, "missing": 0, "mean": 0.0, "deviation": 0.0, "fill": None}
        self._squares = 0.0
        self._sample: list[float] = []
        self._random = random.Random(0)

    def typed(self, values: Any) -> Array:
        return tables.numbers(self.name, values)

    def check(self, column: Array) -> None:
        """Raises `Failure` for numbers whose squares could not be summed."""
        most = np.nanmax(np.abs(column), initial=0.0)
        if most > _LARGEST:
            raise _invalid(f"column {self.name!r} has numbers too large to be squared, such as {most:g}: scale it down")

    def partial_fit(self, column: Array) -> None:
        """Chan, Golub and LeVeque's update of mean and sum of squares by a chunk (1983, equation 2.1)."""
        values = column[~np.isnan(column)]
        state, old = self.state, self.state["count"]
        state["missing"] += len(column) - len(values)
        if not len(values):
            return
        mean = float(values.mean())
        count, delta = old + len(values), mean - state["mean"]
        self._squares += float(((values - mean) ** 2).sum()) + delta**2 * old * len(values) / count
        state["mean"] += delta * len(values) / count
        state["count"] = count
        if self.impute == "median":
            self._keep(values, old)

    def _keep(self, values: Array, seen: int) -> None:
        """Vitter's algorithm R: each value is in the sample with the same chance, drawn from a fixed seed."""
        for index, value in enumerate(values.tolist(), seen):
            if index < SAMPLE:
                self._sample.append(value)
            elif (place := self._random.randrange(index + 1)) < SAMPLE:
                self._sample[place] = value

    def freeze(self) -> None:
        state = self.state
        if not state["count"] and (self.scale or self.impute in ("mean", "median")):
            raise _invalid(f"column {self.name!r} has no value in any row, so there is nothing to learn from it")
        state["deviation"] = math.sqrt(self._squares / state["count"]) if state["count"] else 0.0
        fills = {"mean": state["mean"], "median": float(np.median(self._sample)) if self._sample else None}
        state["fill"] = fills[self.impute] if self.impute in ("mean", "median") else self.impute

    def fill(self, column: Array) -> Array:
        missing = np.isnan(column)
        if not missing.any():
            return column
        if self.state["fill"] is None:
            raise _missing(self.name, missing, "'mean', 'median' or a number")
        return np.where(missing, self.state["fill"], column)

    def encode(self, column: Array) -> Array:
        filled = self.fill(column)
        if self.scale:
            filled = (filled - self.state["mean"]) / (self.state["deviation"] or 1.0)
        return filled.reshape(-1, 1)

    def features(self) -> list[str]:
        return [self.name]


class Category:
    """Learns a column's categories, and makes a column of zeros and ones of each."""

    options: Mapping[str, Any] = {"impute": "frequent", "unseen": "zeros", "most": 1000}

    def __init__(self, name: str, spec: Mapping[str, Any]) -> None:
        self.name, self.impute, self.unseen, self.most = name, spec["impute"], spec["unseen"], spec["most"]
        if self.impute not in ("frequent", "missing", None):
            raise _wrong(name, "impute", self.impute, "'frequent', 'missing' or None")
        if self.unseen not in ("zeros", "frequent", "refuse"):
            raise _wrong(name, "unseen", self.unseen, "'zeros', 'frequent' or 'refuse'")
        if type(self.most) is not int or self.most < 1:
            raise _wrong(name, "most", self.most, "a whole number from 1")
        self.state: State = {"levels": [], "frequent": None, "missing": 0}
        self._counts: Counter[str] = Counter()

    def typed(self, values: Any) -> Array:
        return tables.levels(values, self.name)

    def check(self, column: Array) -> None:
        """Raises `Failure` if there would be too many categories with these."""
        if len(self._counts.keys() | {value for value in column if value is not None}) > self.most:
            example = next(value for value in column if value is not None)
            raise _invalid(
                f"column {self.name!r} has more than {self.most:,} categories, such as {example!r:.60}: leave it out, "
                "or prepare it as kind 'hash' or 'text'"
            )

    def partial_fit(self, column: Array) -> None:
        known = [value for value in column.tolist() if value is not None]
        self.state["missing"] += len(column) - len(known)
        self._counts.update(known)

    def freeze(self) -> None:
        if not self._counts and not (self.impute == "missing" and self.state["missing"]):
            raise _invalid(f"column {self.name!r} has no value in any row, so there is nothing to learn from it")
        if self.impute == "missing" and self.state["missing"]:
            self._counts[MISSING] += self.state["missing"]
        self.state["levels"] = sorted(self._counts, key=_level_order)
        most = max(self._counts.values())
        self.state["frequent"] = next(level for level in self.state["levels"] if self._counts[level] == most)

    def fill(self, column: Array) -> Array:
        """Every value as a category that is known, or None where `unseen` is "zeros"."""
        missing = tables.missing_in(column)
        levels, filled = self.state["levels"], column
        if missing.any():
            fill = self.state["frequent"] if self.impute == "frequent" else MISSING if self.impute else None
            if fill is None:
                raise _missing(self.name, missing, "'frequent' or 'missing'")
            filled = column.copy()
            filled[missing] = fill
        unseen = self.unseen_in(filled)
        if not unseen.any():
            return filled
        if self.unseen == "refuse":
            row = int(np.flatnonzero(unseen)[0])
            raise _invalid(
                f"column {self.name!r}, row {row}: {filled[row]!r:.80} is none of the categories that the model knows: "
                + ", ".join(map(repr, levels[:20]))
                + (", …" if len(levels) > 20 else "")
            )
        filled = filled.copy()
        filled[unseen] = self.state["frequent"] if self.unseen == "frequent" else None
        return filled

    def unseen_in(self, column: Array) -> Array:
        """Where a column has a category that training has not met, as truth values."""
        known = {*self.state["levels"], None}
        return np.fromiter((value not in known for value in column), bool, len(column))

    def encode(self, column: Array) -> Array:
        places = {level: place for place, level in enumerate(self.state["levels"])}
        at = np.fromiter((places.get(value, -1) for value in self.fill(column)), int, len(column))
        encoded = np.zeros((len(column), len(places)))
        encoded[np.flatnonzero(at >= 0), at[at >= 0]] = 1.0
        return encoded

    def features(self) -> list[str]:
        return [f"{self.name}={level}" for level in self.state["levels"]]


class Hashed:
    """Hashes categories, or the words of texts, to a fixed number of columns: nothing is learned, nothing is unseen."""

    options: Mapping[str, Any] = {"width": None}

    def __init__(self, name: str, spec: Mapping[str, Any], *, words: bool) -> None:
        self.name, self.words = name, words
        self.width = (1024 if words else 64) if spec["width"] is None else spec["width"]
        if type(self.width) is not int or not 1 <= self.width <= 2**20:
            raise _wrong(name, "width", self.width, "a whole number from 1 to 2**20")
        self.state: State = {}

    def typed(self, values: Any) -> Array:
        return tables.levels(values, self.name)

    def partial_fit(self, column: Array) -> None:
        """Nothing: what a hash is needs no rows."""

    def freeze(self) -> None:
        """Nothing."""

    def fill(self, column: Array) -> Array:
        return column

    def encode(self, column: Array) -> Array:
        from sklearn.feature_extraction import FeatureHasher
        from sklearn.feature_extraction.text import HashingVectorizer

        if self.words:
            hashed = HashingVectorizer(n_features=self.width).transform("" if v is None else v for v in column)
        else:
            hasher = FeatureHasher(n_features=self.width, input_type="string")
            hashed = hasher.transform([[] if value is None else [f"{self.name}={value}"] for value in column])
        encoded: Array = hashed.toarray()
        return encoded

    def features(self) -> list[str]:
        return [f"{self.name}#{place}" for place in range(self.width)]


Step = Number | Category | Hashed
_OPTIONS = {"number": Number.options, "category": Category.options, "hash": Hashed.options, "text": Hashed.options}


class Preparation:
    """The steps of a table's columns: `partial_fit` as often as there are rows, `freeze`, then `fill` or `matrix`.

    `specs` maps columns to their steps, see this module. Raises `Failure` for a step that there is not.
    """

    def __init__(self, specs: Any) -> None:
        if not isinstance(specs, Mapping) or not specs:
            raise _invalid("columns maps each column to its step, such as {'age': {'kind': 'number'}}")
        self.specs = {name: _complete(name, spec) for name, spec in specs.items()}
        self.steps = {name: _step(name, spec) for name, spec in self.specs.items()}
        self.rows = 0
        self.frozen = False

    def typed(self, columns: Mapping[str, Any]) -> tables.Columns:
        """Columns as sent, as arrays of their kinds. Raises `Failure` for those that are missing or unknown."""
        tables.check_columns(columns, list(self.steps))
        return {name: step.typed(columns[name]) for name, step in self.steps.items()}

    def partial_fit(self, columns: Mapping[str, Array]) -> None:
        """Learns from some rows: from all of their columns, or from none when `Failure` is raised."""
        if self.frozen:
            raise Failure("failed_precondition", "this preparation is frozen: rows change it no more. Make a new one")
        for name, step in self.steps.items():
            if isinstance(step, Number | Category):
                step.check(columns[name])
        for name, step in self.steps.items():
            step.partial_fit(columns[name])
        self.rows += len(next(iter(columns.values())))

    def freeze(self) -> str:
        """Ends the learning, and gives the digest. Raises `Failure` when there were no rows."""
        if not self.frozen:
            if not self.rows:
                raise Failure("failed_precondition", "there were no rows to learn from: send some, then freeze")
            for step in self.steps.values():
                step.freeze()
            self.frozen = True
        return self.digest

    def fill(self, columns: Mapping[str, Array]) -> tables.Columns:
        """The columns with missing and unseen values filled in, still one array each."""
        self._check_frozen()
        return {name: step.fill(columns[name]) for name, step in self.steps.items()}

    def matrix(self, columns: Mapping[str, Array]) -> Array:
        """The columns as numbers: float64, rows × features."""
        self._check_frozen()
        return np.hstack([step.encode(columns[name]) for name, step in self.steps.items()])

    def features(self) -> list[str]:
        """What each column of `matrix` is."""
        return [feature for step in self.steps.values() for feature in step.features()]

    def unseen(self, columns: Mapping[str, Array]) -> dict[str, list[str]]:
        """The categories in some rows that training has not met, by column."""
        found = {}
        for name, step in self.steps.items():
            if isinstance(step, Category):
                new = sorted(set(columns[name][step.unseen_in(columns[name])]))
                if new:
                    found[name] = new
        return found

    @property
    def digest(self) -> str:
        """SHA-256 of everything that decides what comes out, in hex: equal digests prepare equally."""
        return digest_of(self.as_state()["columns"])

    def as_state(self) -> State:
        """A frozen preparation as plain values. Raises `Failure` before it is frozen."""
        self._check_frozen()
        columns = {name: {**self.specs[name], "learned": dict(step.state)} for name, step in self.steps.items()}
        return {"rows": self.rows, "columns": columns}

    @classmethod
    def from_state(cls, state: Any, digest: Any) -> Preparation:
        """What `as_state` told. Raises `Failure` when it is not what the digest was made of."""
        try:
            columns = state["columns"]
            if digest_of(columns) != digest:
                raise Failure("data_loss", "the preparation is not the one that was saved: its digest differs")
            plain = {name: {k: v for k, v in spec.items() if k != "learned"} for name, spec in columns.items()}
            made = cls(plain)
            for name, step in made.steps.items():
                step.state = dict(columns[name]["learned"])
            made.rows, made.frozen = state["rows"], True
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise _invalid(f"this is no saved preparation: {type(error).__name__}: {error}") from error
        return made

    def _check_frozen(self) -> None:
        if not self.frozen:
            raise Failure("failed_precondition", "the preparation still learns: freeze it first")


def digest_of(value: Any) -> str:
    """SHA-256, in hex, of plain values as JSON with its keys sorted."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def _complete(name: Any, spec: Any) -> dict[str, Any]:
    if isinstance(spec, str):
        spec = {"kind": spec}
    kind = spec.get("kind") if isinstance(spec, dict) else None
    if kind not in _OPTIONS or not isinstance(name, str):
        raise _wrong(name, "kind", kind if isinstance(spec, dict) else spec, ", ".join(map(repr, _OPTIONS)))
    options = _OPTIONS[kind]
    for key in spec:
        if key != "kind" and key not in options:
            near = registry.nearest(str(key), options)
            hint = f"did you mean {near!r}?" if near else f"there are: {', '.join(options)}"
            raise _invalid(f"column {name!r}: kind {kind!r} has no {key!r:.80}; {hint}")
    return {**options, **spec}


def _step(name: str, spec: Mapping[str, Any]) -> Step:
    if spec["kind"] == "number":
        return Number(name, spec)
    if spec["kind"] == "category":
        return Category(name, spec)
    return Hashed(name, spec, words=spec["kind"] == "text")


def _level_order(level: str) -> tuple[bool, float, str]:
    """Numbers in their order, before texts in theirs."""
    try:
        number = float(level)
    except ValueError:
        return True, 0.0, level
    return (False, number, level) if math.isfinite(number) else (True, 0.0, level)


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _missing(name: str, missing: Array, choices: str) -> Failure:
    told = tables.rows_told(np.flatnonzero(missing))
    return _invalid(f"column {name!r} has no value in {told}, and nothing says what to do: set impute to {choices}")


def _wrong(name: Any, key: str, value: Any, allowed: str) -> Failure:
    return _invalid(f"column {name!r:.80}: {key} is {allowed}, not {value!r:.80}")


def _invalid(message: str) -> Failure:
    return Failure("invalid_argument", message)
