"""Preparations: learned from chunks as from the whole, frozen, known by a digest, and safe with what they never saw."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from mlports_models.preparation import SAMPLE, Preparation
from mlports_worker import Failure

SPECS: dict[str, Any] = {
    "age": {"kind": "number", "impute": "median", "scale": True},
    "genre": {"kind": "category"},
    "studio": {"kind": "hash", "width": 8},
    "title": {"kind": "text", "width": 16},
}
ROWS: dict[str, list[Any]] = {
    "age": [1.0, None, 3.0, 8.0, 4, 5],
    "genre": ["drama", "comedy", None, "drama", 300, "drama"],
    "studio": ["a", "b", None, "a", "c", "d"],
    "title": ["Mad Max", "300", "9", None, "Up", "mad max"],
}


def fitted(specs: dict[str, Any], *chunks: dict[str, Any]) -> Preparation:
    """A frozen preparation that has learned from these chunks."""
    made = Preparation(specs)
    for chunk in chunks:
        made.partial_fit(made.typed(chunk))
    made.freeze()
    return made


def test_it_is_what_scikit_learn_does() -> None:
    """Guards the numbers: imputing and encoding are those of the classes that everybody knows."""
    ages, genres = [1.0, math.nan, 3.0, 8.0, 4.0], [["drama"], ["comedy"], ["drama"], ["war"], ["drama"]]
    specs = {"age": {"kind": "number", "impute": "median"}, "genre": {"kind": "category"}}
    table = {"age": ages, "genre": [row[0] for row in genres]}
    made = fitted(specs, table)
    theirs = np.hstack(
        [
            SimpleImputer(strategy="median").fit_transform(np.array(ages).reshape(-1, 1)),
            OneHotEncoder(sparse_output=False).fit_transform(genres),
        ]
    )
    assert np.array_equal(made.matrix(made.typed(table)), theirs)
    scaled = fitted({"age": {"kind": "number", "scale": True}}, {"age": [1.0, 3.0, 8.0]})
    expected = StandardScaler().fit_transform([[1.0], [3.0], [8.0]])
    assert np.allclose(scaled.matrix(scaled.typed({"age": [1.0, 3.0, 8.0]})), expected, rtol=1e-12)


@given(
    st.lists(st.floats(-1e6, 1e6) | st.none(), min_size=1, max_size=40).filter(lambda values: set(values) != {None}),
    st.lists(st.integers(0, 40), max_size=4),
)
def test_chunks_teach_what_the_whole_teaches(values: list[float | None], cuts: list[int]) -> None:
    """Guards streams: how the rows arrive changes nothing that is learned."""
    specs: dict[str, Any] = {
        "x": {"kind": "number", "impute": "median", "scale": True},
        "g": {"kind": "category", "impute": "missing"},
    }
    places = [0, *sorted(min(cut, len(values)) for cut in cuts), len(values)]
    table: dict[str, Any] = {"x": values, "g": [None if value is None else str(int(value) % 3) for value in values]}
    chunks = [{name: column[a:b] for name, column in table.items()} for a, b in pairwise(places)]
    whole, parts = fitted(specs, table), fitted(specs, *chunks)
    ours, theirs = parts.matrix(parts.typed(table)), whole.matrix(whole.typed(table))
    deviation = whole.steps["x"].state["deviation"]
    # A deviation that is nothing but rounding says nothing of the values.
    assert deviation < 1e-6 * (1 + abs(whole.steps["x"].state["mean"])) or np.allclose(
        ours, theirs, rtol=1e-6, atol=1e-6
    )
    assert parts.steps["g"].state == whole.steps["g"].state
    assert parts.rows == len(values)


def test_what_it_never_saw_is_safe() -> None:
    """Guards serving: a new category is zeros, the most frequent, or a refusal that names it, as configured."""
    row = {
        **{name: column[:1] for name, column in ROWS.items()},
        "genre": ["opera"],
        "studio": ["new"],
        "title": ["New"],
    }
    made = fitted(SPECS, ROWS)
    vector = made.matrix(made.typed(row))[0]
    assert vector.shape == (1 + 3 + 8 + 16,) == (len(made.features()),)
    assert not vector[1:4].any()
    assert vector[4:12].any()
    assert made.unseen(made.typed(row)) == {"genre": ["opera"]}
    frequent = fitted({"genre": {"kind": "category", "unseen": "frequent"}}, {"genre": ROWS["genre"]})
    assert frequent.fill(frequent.typed({"genre": ["opera"]}))["genre"].tolist() == ["drama"]
    refusing = fitted({"genre": {"kind": "category", "unseen": "refuse"}}, {"genre": ROWS["genre"]})
    with pytest.raises(Failure, match=r"row 1: 'opera' is none of the categories.* '300', 'comedy', 'drama'"):
        refusing.fill(refusing.typed({"genre": ["drama", "opera"]}))


def test_it_travels_as_plain_values_under_its_digest() -> None:
    """Guards training against serving: the same digest, the same numbers; another state is refused."""
    made = fitted(SPECS, ROWS)
    state, digest = made.as_state(), made.digest
    again = Preparation.from_state(state, digest)
    assert again.digest == digest
    assert np.array_equal(again.matrix(again.typed(ROWS)), made.matrix(made.typed(ROWS)))
    assert fitted(SPECS, {**ROWS, "age": [1.0, None, 3.0, 8.0, 4, 6]}).digest != digest
    state["columns"]["age"]["learned"]["mean"] += 1e-9
    with pytest.raises(Failure, match="digest differs"):
        Preparation.from_state(state, digest)
    for nothing in (None, {}, {"columns": 5}, {"columns": {"x": 1}}):
        with pytest.raises(Failure):
            Preparation.from_state(nothing, digest)


def test_frozen_means_frozen() -> None:
    """Guards against a preparation that changes under a model, or is used before it knows anything."""
    made = Preparation(SPECS)
    with pytest.raises(Failure, match="no rows to learn from"):
        made.freeze()
    with pytest.raises(Failure, match="still learns"):
        made.fill(made.typed(ROWS))
    made.partial_fit(made.typed(ROWS))
    assert made.freeze() == made.freeze()
    with pytest.raises(Failure, match="is frozen"):
        made.partial_fit(made.typed(ROWS))


def test_a_chunk_that_is_refused_teaches_nothing() -> None:
    """Guards against half of a chunk: with too many categories in one column, no column has learned."""
    made = Preparation({"x": {"kind": "number"}, "g": {"kind": "category", "most": 2}, "h": {"kind": "category"}})
    made.partial_fit(made.typed({"x": [1.0, 3.0], "g": ["a", "b"], "h": ["a", "b"]}))
    with pytest.raises(Failure, match="'g' has more than 2 categories"):
        made.partial_fit(made.typed({"x": [100.0], "g": ["c"], "h": ["c"]}))
    made.freeze()
    assert made.steps["x"].state["mean"] == 2.0
    assert made.steps["h"].state["levels"] == ["a", "b"]
    assert made.rows == 2


def test_memory_is_bounded() -> None:
    """Guards long streams: of a million values, a sample is kept, and its median is near theirs."""
    made = Preparation({"x": {"kind": "number", "impute": "median"}})
    for chunk in np.random.default_rng(1).normal(5.0, 1.0, (10, 5 * SAMPLE // 10)):
        made.partial_fit({"x": chunk})
    made.freeze()
    step = made.steps["x"]
    assert len(getattr(step, "_sample")) == SAMPLE  # noqa: B009
    assert abs(step.state["fill"] - 5.0) < 0.05


@pytest.mark.parametrize(
    ("specs", "told"),
    [
        ({}, "maps each column"),
        ([], "maps each column"),
        ({"x": "numbr"}, "kind is 'number', 'category', 'hash', 'text', not 'numbr'"),
        ({"x": {"impute": "mean"}}, "kind is"),
        ({"x": {"kind": "number", "impute": "meen"}}, "not 'meen'"),
        ({"x": {"kind": "number", "impute": math.nan}}, "not nan"),
        ({"x": {"kind": "number", "scal": True}}, "did you mean 'scale'"),
        ({"x": {"kind": "category", "unseen": "ignore"}}, "'zeros', 'frequent' or 'refuse'"),
        ({"x": {"kind": "category", "most": 0}}, "from 1"),
        ({"x": {"kind": "text", "width": 2.0}}, "whole number"),
    ],
)
def test_a_wrong_step_is_told(specs: Any, told: str) -> None:
    """Guards whoever writes the configuration."""
    with pytest.raises(Failure) as caught:
        Preparation(specs)
    assert told in caught.value.message


@pytest.mark.parametrize(
    ("spec", "column", "told"),
    [
        ({"kind": "number"}, [None, math.nan], "no value in any row"),
        ({"kind": "category"}, [None, None], "no value in any row"),
        ({"kind": "number"}, [1.0, "two"], "row 1 has 'two'"),
        ({"kind": "number"}, [1.0, math.inf], "infinite in 1 row (row 1)"),
        ({"kind": "number"}, [10**400], "too large"),
        ({"kind": "category"}, ["a", ["b"]], "row 1: a category is a text or a number"),
    ],
)
def test_a_column_that_teaches_nothing_is_told(spec: dict[str, Any], column: list[Any], told: str) -> None:
    """Guards against means of nothing, and values of another kind."""
    with pytest.raises(Failure) as caught:
        fitted({"x": spec}, {"x": column})
    assert told in caught.value.message
    assert "'x'" in caught.value.message


def test_a_constant_column_is_scaled_to_zeros() -> None:
    """Guards against a division by a deviation of nothing."""
    made = fitted({"x": {"kind": "number", "scale": True}}, {"x": [7, 7, 7]})
    assert made.matrix(made.typed({"x": [7, 8]})).tolist() == [[0.0], [1.0]]


def test_numbers_too_large_to_be_squared_are_refused_and_teach_nothing() -> None:
    made = Preparation({"genre": {"kind": "category"}, "age": {"kind": "number"}})
    made.partial_fit(made.typed({"genre": ["a", "b"], "age": [1.0, None]}))
    before = made.rows
    with pytest.raises(Failure, match="'age' has numbers too large to be squared, such as 1e\\+200"):
        made.partial_fit(made.typed({"genre": ["c", "d"], "age": [1e200, -1.0]}))
    assert made.rows == before
