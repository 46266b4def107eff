"""The text worker's parts: the same answers as scikit-learn's pipeline on real prose, and texts that nobody expects.

The prose is what comes with scikit-learn: the descriptions of its data sets, paragraph by paragraph; a paragraph's
label is the data set that it speaks of.
"""

from __future__ import annotations

from importlib import resources
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import HashingVectorizer, TfidfVectorizer
from sklearn.linear_model import SGDClassifier
from sklearn.pipeline import make_pipeline

from mlports_models.text_model import TextModel
from mlports_worker import Failure

SETS = ("breast_cancer", "california_housing", "covtype", "kddcup99", "lfw", "rcv1", "twenty_newsgroups", "wine_data")


def paragraphs() -> tuple[list[str], list[str]]:
    """Texts and their labels, in an order in which the labels alternate."""
    folder = resources.files("sklearn.datasets.descr")
    found = []
    for name in SETS:
        parts = [part.strip() for part in (folder / f"{name}.rst").read_text("utf-8").split("\n\n")]
        found += [(place, part, name) for place, part in enumerate(parts) if len(part) > 40]
    found.sort(key=lambda one: one[0])
    return [text for _, text, _ in found], [label for _, _, label in found]


TEXTS, LABELS = paragraphs()
HALF = len(TEXTS) // 2


def refused(code: str, *words: str) -> Any:
    """A block that has to raise a `Failure` of this code, with these words in its message."""
    return pytest.raises(
        Failure, check=lambda failure: failure.code == code and all(w in failure.message for w in words)
    )


def test_there_is_prose_enough() -> None:
    assert len(TEXTS) > 60
    assert set(LABELS[:HALF]) == set(SETS)


@pytest.mark.parametrize("features", ["hashing", "tfidf"])
def test_what_is_fitted_is_scikit_learns_pipeline(features: str) -> None:
    vectorizer = (
        HashingVectorizer(n_features=4096, ngram_range=(1, 2))
        if features == "hashing"
        else TfidfVectorizer(max_features=4096, ngram_range=(1, 2))
    )
    pipeline = make_pipeline(vectorizer, SGDClassifier(loss="log_loss", random_state=0)).fit(
        TEXTS[:HALF], LABELS[:HALF]
    )
    model = TextModel({"features": features, "width": 4096, "words": [1, 2]})
    assert model.fit(TEXTS[:HALF], LABELS[:HALF])["labels"] == sorted(SETS)
    rest = TEXTS[HALF:]
    together, alone = model.predict([rest, rest[0]])
    assert together == pipeline.predict(rest).tolist()
    assert alone == together[0]
    (probabilities,) = model.predict([rest], probabilities=True)
    np.testing.assert_allclose(probabilities, pipeline.predict_proba(rest))
    assert np.mean([a == b for a, b in zip(together, LABELS[HALF:], strict=True)]) > 0.4  # by chance: 1/8


def test_what_is_learned_online_is_partial_fit_and_goes_on_from_a_snapshot() -> None:
    features, reference = HashingVectorizer(n_features=2**12), SGDClassifier(loss="log_loss", random_state=0)
    config = {"labels": list(SETS), "width": 2**12}
    model = TextModel(config)
    for start in range(0, HALF, 7):
        end = min(start + 7, HALF)
        model.learn(TEXTS[start:end], LABELS[start:end])
        reference.partial_fit(features.transform(TEXTS[start:end]), LABELS[start:end], classes=sorted(SETS))
        state, model = model.state(), TextModel(config)
        model.take(state)
    model.learn(TEXTS[HALF], LABELS[HALF])
    reference.partial_fit(features.transform([TEXTS[HALF]]), [LABELS[HALF]])
    (found,) = model.predict([TEXTS], probabilities=True)
    np.testing.assert_array_equal(found, reference.predict_proba(features.transform(TEXTS)))
    assert model.info()["learned"] == HALF + 1


def test_tfidf_and_what_is_remembered_come_back_too() -> None:
    model = TextModel({"features": "tfidf", "width": 500})
    model.fit(TEXTS[:HALF], LABELS[:HALF])
    model.remember(list(range(HALF)), TEXTS[:HALF])
    other = TextModel({"features": "tfidf", "width": 500})
    other.take(model.state())
    for name in ("predict", "embed"):
        np.testing.assert_array_equal(getattr(other, name)([TEXTS])[0], getattr(model, name)([TEXTS])[0])
    assert other.nearest(TEXTS[HALF], 3) == model.nearest(TEXTS[HALF], 3)
    assert other.info() == model.info()
    with refused("failed_precondition", "remove the snapshot"):
        TextModel({"features": "tfidf"}).take(model.state())
    with refused("failed_precondition", "'zebra'"):
        TextModel({"features": "tfidf", "width": 500, "labels": ["wine_data", "zebra"]}).take(model.state())


def test_those_most_alike_are_found() -> None:
    model = TextModel({"most": 200})
    assert model.nearest("anything", 3) == []
    assert model.remember(LABELS[:3], TEXTS[:3]) == len(set(LABELS[:3]))
    model.forget(LABELS[:3])
    model.remember([f"p{place}" for place in range(len(TEXTS))], TEXTS)
    matrix = HashingVectorizer(n_features=2**16).transform(TEXTS)
    expected = (matrix @ matrix[10].T).toarray().ravel()
    found = model.nearest(TEXTS[10], 4)
    assert found[0] == {"key": "p10", "similarity": pytest.approx(1)}
    assert [one["similarity"] for one in found] == pytest.approx(np.sort(expected)[::-1][:4])
    assert model.remember("p10", "wholly other words") == len(TEXTS)
    assert model.nearest(TEXTS[10], 1)[0]["key"] != "p10"
    assert model.forget(["p10", "never there"]) == len(TEXTS) - 1
    with refused("resource_exhausted", "201", "200"):
        model.remember(list(range(202 - len(TEXTS))), ["x"] * (202 - len(TEXTS)))
    assert model.info()["remembered"] == len(TEXTS) - 1


def test_an_embedding_is_the_hashed_words_of_length_one() -> None:
    model = TextModel({"dimensions": 64})
    many, one, nothing = model.embed([TEXTS, TEXTS[5], ""])
    np.testing.assert_array_equal(many, HashingVectorizer(n_features=64).transform(TEXTS).toarray())
    np.testing.assert_array_equal(one, many[5])
    np.testing.assert_allclose(np.linalg.norm(many, axis=1), 1)
    assert not nothing.any()


HOSTILE = ["", " \n", "\0", "\ufeff", "ﷺ" * 1000, "e\u0301" * 99, "\U0001f468\u200d\U0001f469" * 50, "\u202e" + "x" * 9]


def test_texts_that_nobody_expects_have_a_label_too() -> None:
    model = TextModel({})
    model.fit(TEXTS, LABELS)
    megabyte = "wine quality " * 80_660
    assert len(megabyte) > 2**20
    values: list[Any] = [*HOSTILE, megabyte, HOSTILE, []]
    outcomes = model.predict(values)
    assert all(label in SETS for label in outcomes[:-2])
    assert outcomes[-2:] == [outcomes[: len(HOSTILE)], []]
    model.learn(HOSTILE, [SETS[0]] * len(HOSTILE))
    assert np.isfinite(model.predict([HOSTILE], probabilities=True)[0]).all()


@pytest.mark.parametrize(
    "value", [None, 7, 1.5, True, b"bytes", {"text": "x"}, ["good", None], [["x"]], "\ud800", "x" * 51]
)
def test_what_is_no_text_is_refused_alone(value: Any) -> None:
    model = TextModel({"longest": 50, "labels": ["a", "b"]})
    model.learn(["one", "two"], ["a", "b"])
    before = model.state()["weights"][0].copy()
    good, bad = model.predict(["one", value])
    assert good == "a"
    assert isinstance(bad, Failure)
    assert bad.code == "invalid_argument"
    with pytest.raises(Failure):
        model.learn(["one", value], ["a", "b"])
    with pytest.raises(Failure):
        model.remember(["k"], [value])
    np.testing.assert_array_equal(model.state()["weights"][0], before)
    assert model.info()["remembered"] == 0


@pytest.mark.parametrize(
    ("texts", "labels", "words"),
    [
        (["a", "b"], ["x"], "2 texts, and 1 labels"),
        (["a", "b"], "xy", "no list of"),
        (["a", "b"], ["x", "x"], "Texts of two labels"),
        (["a", "b"], ["x", 1], "all texts, or all whole numbers"),
        (["a", "b"], [1.5, 2.5], "all texts, or all whole numbers"),
        (["a", "b"], [True, False], "all texts, or all whole numbers"),
        (["a", "b"], [["x"], ["y"]], "texts or whole numbers"),
        (["a", "b"], [1, 2**63], "64 bits"),
        (["a", "b"], ["x", "x\0"], "NUL"),
        ([], [], "no texts"),
        ("a", "x", "Texts of two labels"),
        ({"a": 1}, ["x"], "a list of texts"),
    ],
)
def test_labels_that_cannot_be_learned_are_refused(texts: Any, labels: Any, words: str) -> None:
    model = TextModel({})
    for teach in (model.learn, model.fit):
        with refused("invalid_argument", words):
            teach(texts, labels)
    with refused("failed_precondition", "nothing was learned"):
        model.predict(["x"])


def test_a_label_that_was_not_announced_is_refused_and_changes_nothing() -> None:
    model = TextModel({"labels": [3, 1, 2]})
    assert model.info()["labels"] == [1, 2, 3]
    with refused("invalid_argument", "fit needs a text of each label", "2"):
        model.fit(["one", "three"], [1, 3])
    model.learn("one", 1)
    for label in (4, "1", True, 1.0):
        with refused("invalid_argument", "no such label is known"):
            model.learn(["one", "two"], [1, label])
    assert model.info()["learned"] == 1
    assert model.predict(["one"]) == [1]
    first = TextModel({})
    first.learn(["one", "two"], ["a", "b"])
    with refused("invalid_argument", "'c'", "'a', 'b'"):
        first.learn("three", "c")


def test_tfidf_wants_a_fit_and_a_loss_may_have_no_probabilities() -> None:
    model = TextModel({"features": "tfidf", "loss": "hinge"})
    with refused("failed_precondition", "fit(texts, labels) comes first"):
        model.learn(["one", "two"], ["a", "b"])
    with refused("invalid_argument", "no features"):
        model.fit(["", "!"], ["a", "b"])
    model.fit(["one", "two"], ["a", "b"])
    assert model.learn("one one", "a")["width"] == 2
    with refused("unimplemented", "'hinge'", "log_loss"):
        model.predict(["one"], probabilities=True)


@pytest.mark.parametrize(
    ("config", "word"),
    [
        ({"feature": "tfidf"}, "did you mean 'features'"),
        ({"features": "bm25"}, "one of hashing, tfidf"),
        ({"words": [2, 1]}, "as in [1, 2]"),
        ({"words": [0, 1]}, "as in [1, 2]"),
        ({"width": 0}, "width is from 1"),
        ({"width": True}, "width takes int"),
        ({"labels": ["a"]}, "two at least"),
        ({"labels": ["a", 1]}, "all texts"),
        ({"loss": "squared_error"}, "one of log_loss"),
        ({"alpha": float("nan")}, "alpha is from"),
    ],
)
def test_a_wrong_config_is_refused(config: dict[str, Any], word: str) -> None:
    with refused("invalid_argument", word):
        TextModel(config)


SMALL = TextModel({"width": 64, "labels": ["a", "b"]})
SMALL.learn(["the cat", "a dog"], ["a", "b"])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.one_of(st.text(), st.none(), st.integers(), st.lists(st.text(max_size=5), max_size=3)), max_size=6))
def test_what_a_caller_gets_does_not_depend_on_the_others(values: list[Any]) -> None:
    together = SMALL.predict(values)
    for value, outcome in zip(values, together, strict=True):
        (alone,) = SMALL.predict([value])
        if isinstance(outcome, Failure):
            assert isinstance(alone, Failure)
        else:
            assert alone == outcome
