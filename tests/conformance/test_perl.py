"""The SDK for Perl: the kit, its own tests, a model beside scikit-learn's, and what `mlports init` makes of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.feature_extraction.text import TfidfTransformer, TfidfVectorizer

import mlports
from mlports.testing.conformance import check
from tests.languages import built, configuration, new_project, own_tests, running

TEXTS = ["the cat sat on the mat", "A dog, a cat; a mouse!", "no mouse here", "", "the the the"]


@pytest.fixture(scope="module")
def folder() -> Path:
    return built("perl")


def test_level_full(folder: Path) -> None:
    report = check(configuration("perl").service["conformance"].command, cwd=folder, level="full")
    assert report.passed, str(report)


def test_its_own_tests(folder: Path) -> None:
    own_tests(folder)


def test_tf_idf_and_the_nearest_centre_are_scikit_learns(folder: Path) -> None:
    x, y = load_digits(return_X_y=True)
    train, held_out = slice(0, 600), slice(1500, None)
    weights = TfidfTransformer().fit(x[train])
    learned, unseen = weights.transform(x[train]).toarray(), weights.transform(x[held_out]).toarray()
    centres = np.array([learned[y[train] == label].mean(axis=0) for label in range(10)])
    nearest = np.linalg.norm(unseen[:, None] - centres, axis=2).argmin(axis=1)
    vectoriser = TfidfVectorizer()
    dense = vectoriser.fit_transform(TEXTS).toarray()
    names = vectoriser.get_feature_names_out()
    with running("perl", "rocchio") as orch:
        with pytest.raises(mlports.CallError, match="no model yet"):
            orch.call("rocchio.predict", [[0.0] * 64])
        vectors = orch.call("rocchio.tfidf", TEXTS)
        assert orch.call("rocchio.fit", x[train].tolist(), y[train].tolist())["classes"] == list(range(10))
        predicted = orch.call("rocchio.predict", x[held_out].tolist())
        record = orch.call("rocchio.vote", {"x": x[held_out][:5].tolist(), "votes": {"c": [1]}, "kept": "as it was"})
    for row, vector in zip(dense, vectors, strict=True):
        expected = {name: weight for name, weight in zip(names, row, strict=True) if weight}
        assert vector == pytest.approx(expected, rel=1e-12)
    assert np.array_equal(predicted, nearest)
    assert record["votes"] == {"c": [1], "perl": predicted[:5]}
    assert record["kept"] == "as it was"


def test_a_new_project_runs(folder: Path, tmp_path: Path) -> None:
    with new_project("perl", tmp_path) as orch:
        assert orch.call("line.predict", 2) == 7.0
        assert orch.map("line.predict", [0, 0.5, "x"], return_exceptions=True)[:2] == [1.0, 2.5]
        with pytest.raises(mlports.CallError, match="a number is needed") as failed:
            orch.call("line.predict", "x")
        assert failed.value.code == "invalid_argument"
        assert orch.call("line.describe") == {"kind": "line", "slope": 3.0, "intercept": 1.0}
        assert list(orch.stream("line.steps", 3, 0)) == [1, 2, 3]
