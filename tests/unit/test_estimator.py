"""The estimator worker's parts without a worker: rows, names and parameters, model files, and what is served."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
import skops.io
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils import all_estimators

from mlports_models import registry, rows
from mlports_models.model_files import ModelFolder
from mlports_models.served import Served
from mlports_worker import Failure

X = [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [5.0, 5.0], [6.0, 5.0], [5.0, 6.0], [6.0, 6.0]]
Y = ["near", "near", "near", "near", "far", "far", "far", "far"]


def silent(level: str, text: str) -> None:
    """For what nobody logs in a test."""
    raise AssertionError(f"{level}: {text}")


def refused(code: str, *words: str) -> Any:
    """A block that has to raise a `Failure` of this code, with these words in its message."""
    return pytest.raises(
        Failure, check=lambda failure: failure.code == code and all(w in failure.message for w in words)
    )


def served(estimator: str, folder: Path | str = ".", /, **params: Any) -> Served:
    """One that is not fitted yet."""
    return Served({"estimator": estimator, "params": params, "models_dir": str(folder)}, silent)


# -- arrays


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([1, 2], np.array([1, 2])),
        ([1, 2.5], np.array([1.0, 2.5])),
        ([1, None], np.array([1.0, np.nan])),
        ([[1], [None]], np.array([[1.0], [np.nan]])),
        (["a", "b"], np.array(["a", "b"])),
        (["a", 1], np.array(["a", 1], object)),
        (["1.5", None], np.array(["1.5", None], object)),
        ([True, False], np.array([True, False])),
        ([np.array([1, 2]), np.array([3, 4])], np.array([[1, 2], [3, 4]])),
    ],
)
def test_lists_become_arrays_and_texts_stay_texts(value: Any, expected: rows.Array) -> None:
    array = rows.as_array(value, "X")
    assert array.dtype.kind == expected.dtype.kind
    np.testing.assert_array_equal(array, expected)


def test_an_array_that_may_not_be_written_to_is_copied() -> None:
    """Guards estimators that work in place, which arrays from the wire would not let them."""
    frozen = np.arange(4.0)
    frozen.flags.writeable = False
    copied = rows.as_array(frozen, "X")
    copied[0] = 9
    assert frozen[0] == 0
    free = np.arange(4.0)
    assert rows.as_array(free, "X") is free


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ([[1, 2], [3]], "ragged"),
        ("text", "a list or an array"),
        (7, "a list or an array"),
        (None, "a list or an array"),
        ({"a": 1}, "a list or an array"),
        ([b"bytes"], "dtype"),
        (np.array(["2020-01-01"], "M8[D]"), "dtype"),
        ([1j], "dtype"),
    ],
)
def test_what_is_no_array_is_refused(value: Any, word: str) -> None:
    with refused("invalid_argument", word):
        rows.as_array(value, "X")


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ([1.0], "rows of 1"),
        ([[1.0, 2.0], [3.0, 4.0]], "rows of 2"),
        ([], "empty"),
        (np.empty((0, 4)), "empty"),
        (np.float64(3), "a list or an array"),
        (np.ones((1, 2, 2)), "Flatten"),
    ],
)
def test_a_table_of_another_shape_is_refused(value: Any, word: str) -> None:
    with refused("invalid_argument", word):
        rows.as_table(value, "vector", 4, "SVC")


def test_an_image_that_was_not_flattened_is_told_so() -> None:
    with refused("invalid_argument", "flatten it: 64 values"):
        rows.as_table(np.ones((8, 8)), "vector", 64, "SVC")


def test_a_row_is_told_from_a_table() -> None:
    assert rows.as_table([1, 2], "vector", 2, "SVC").single
    assert not rows.as_table([[1, 2]], "vector", 2, "SVC").single
    assert rows.as_table("some text", "item", None, "CountVectorizer").single
    assert not rows.as_table(["some text"], "item", None, "CountVectorizer").single
    assert rows.as_table(["a", "b"], "vector", 2, "OrdinalEncoder").rows.dtype == object


# -- many callers, one call


def table_of(value: Any) -> rows.Table:
    """What the tests below take for an argument: rows of 2."""
    return rows.as_table(value, "vector", 2, "it")


def total(table: rows.Array) -> rows.Array:
    """Stands for predict: refuses a table with a negative number in it."""
    if (table < 0).any():
        raise Failure("invalid_argument", "negative")
    sums: rows.Array = table.sum(axis=1)
    return sums


ROW = st.lists(st.integers(-1, 50), min_size=2, max_size=2)


@given(st.lists(st.one_of(ROW, st.lists(ROW, min_size=1, max_size=4), st.just([1, 2, 3]), st.just("text"))))
def test_together_everybody_gets_what_they_would_get_alone(values: list[Any]) -> None:
    """Guards neighbours in a batch: of one that is wrong, and of one that the estimator refuses."""
    together = rows.apply(values, table_of, total)
    for value, outcome in zip(values, together, strict=True):
        (alone,) = rows.apply([value], table_of, total)
        if isinstance(alone, Failure):
            assert isinstance(outcome, Failure)
            assert outcome.message == alone.message
        else:
            np.testing.assert_array_equal(outcome, alone)


def test_rows_of_a_kind_take_one_call() -> None:
    calls: list[int] = []

    def counted(table: rows.Array) -> rows.Array:
        calls.append(len(table))
        return total(table)

    values = [[1, 2], [[3, 4], [5, 6]], [1.5, 2], "wrong", [7, 8]]
    outcomes = rows.apply(values, table_of, counted)
    assert sorted(calls) == [1, 4]
    assert outcomes[0] == 3
    assert type(outcomes[0]) is int
    assert outcomes[1].tolist() == [7, 11]
    assert outcomes[2] == 3.5
    assert outcomes[4] == 15


def test_a_failure_that_is_nobodys_fault_is_not_tried_again_row_by_row() -> None:
    calls = []

    def unfitted(table: rows.Array) -> rows.Array:
        calls.append(len(table))
        raise Failure("failed_precondition", "not fitted")

    outcomes = rows.apply([[1, 2]] * 100, table_of, unfitted)
    assert calls == [100]
    assert {outcome.code for outcome in outcomes} == {"failed_precondition"}


def test_results_keep_to_what_every_language_can_read() -> None:
    def by(result: Callable[[int], Any]) -> list[Any]:
        return rows.apply([[1, 2], [[3, 4], [5, 6]]], table_of, lambda table: result(len(table)))

    assert by(lambda n: np.array(["a", "b", "c"][:n])) == ["a", ["b", "c"]]
    assert by(lambda n: np.array([True] * n))[0] is True
    several = by(lambda n: [np.ones((n, 2)), np.zeros((n, 3))])
    assert [part.tolist() for part in several[0]] == [[1, 1], [0, 0, 0]]
    assert [part.shape for part in several[1]] == [(2, 2), (2, 3)]
    outcomes = by(lambda n: np.ones(n + 1))
    assert {outcome.code for outcome in outcomes} == {"unimplemented"}


# -- names and parameters


def test_names_come_from_the_registry() -> None:
    assert {"LogisticRegression", "Ridge", "KMeans", "PCA", "Pipeline", "IsolationForest"} <= set(registry.names())
    assert "Ridge" in registry.names("regressor")
    assert "Ridge" not in registry.names("classifier")
    with refused("invalid_argument", "classifier, regressor"):
        registry.names("classifiers")


def test_a_class_that_is_found_by_its_name_alone_is_the_registrys() -> None:
    for name, cls in all_estimators():
        assert registry._class(name) is cls
    for name in ("BaseEstimator", "BaseEnsemble", "TransformerMixin", "clone", "load_iris", "svm", "", "."):
        assert registry._class(name) is None


def test_one_estimator_does_not_take_the_import_of_all() -> None:
    script = """
        import sys
        from mlports_models import registry
        assert type(registry.build("SVC", None)).__name__ == "SVC"
        assert "sklearn.svm" in sys.modules
        assert "sklearn.gaussian_process" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", dedent(script)], check=True)


@pytest.mark.parametrize("name", ["LogisticRegresion", "logisticregression", "LOGISTICREGRESSION"])
def test_an_unknown_estimator_is_told_the_nearest(name: str) -> None:
    with refused("not_found", "did you mean 'LogisticRegression'?"):
        registry.build(name, None)


@pytest.mark.parametrize("name", ["sklearn.svm.SVC", "os.system", "", 7, None, ["SVC"]])
def test_nothing_but_a_name_is_a_name(name: Any) -> None:
    """Guards against import paths: a caller must not be able to have anything imported."""
    with refused("not_found", "no estimator"):
        registry.build(name, None)


def test_parameters_are_set_or_refused_with_the_nearest() -> None:
    assert registry.build("SVC", {"C": 3.0}).C == 3.0
    with refused("invalid_argument", "SVC has no parameter 'gama'", "did you mean 'gamma'?"):
        registry.build("SVC", {"gama": 1})
    with refused("invalid_argument", "it has: ", "kernel"):
        registry.build("SVC", {"qqqqqqq": 1})
    with refused("invalid_argument", "params is a map"):
        registry.build("SVC", ["C"])
    with refused("invalid_argument", "cannot be made"):
        registry.build("GridSearchCV", {})


def test_estimators_inside_others_and_tuples_can_be_written_down() -> None:
    steps = [["scale", {"estimator": "StandardScaler"}], ["svc", {"estimator": "SVC", "params": {"C": 2.0}}]]
    pipeline = registry.build("Pipeline", {"steps": steps, "svc__gamma": 0.1})
    assert pipeline.fit(X, Y).predict([[0, 0]]) == ["near"]
    assert (pipeline.named_steps["svc"].C, pipeline.named_steps["svc"].gamma) == (2.0, 0.1)
    scaler = registry.build("MinMaxScaler", {"feature_range": [0, 2]})
    assert scaler.fit_transform([[0.0], [1.0]]).tolist() == [[0], [2]]
    with refused("not_found", "StandardScaler"):
        registry.build("Pipeline", {"steps": [["scale", {"estimator": "StandartScaler"}]]})


def test_callers_cannot_have_files_used_that_the_operator_did_not_allow() -> None:
    """Guards the folder: `memory` writes pickles wherever it says, `input` reads any file."""
    reader = {"estimator": "CountVectorizer", "params": {"input": "filename"}}
    assert registry.build("CountVectorizer", {"input": "filename"}).input == "filename"
    for estimator, params in [
        ("CountVectorizer", {"input": "filename"}),
        ("Pipeline", {"memory": "cache"}),
        ("Pipeline", {"steps": [["read", reader]]}),
    ]:
        with refused("permission_denied", "only the service's config"):
            registry.set_params(
                registry.build(estimator, {"steps": []} if "P" in estimator else {}), params, by_operator=False
            )


# -- model files


@pytest.fixture
def folder(tmp_path: Path) -> ModelFolder:
    """A folder for models, in which nothing is."""
    return ModelFolder(tmp_path / "models", [], silent)


@pytest.mark.parametrize("path", ["../out.skops", "a/../../out.skops", "/etc/passwd", ".", "a/..", "link/out.skops"])
def test_paths_stay_in_the_folder(folder: ModelFolder, path: str, tmp_path: Path) -> None:
    folder.folder.mkdir()
    (folder.folder / "link").symlink_to(tmp_path)
    with refused("permission_denied", "models_dir"):
        folder.confined(path)


@pytest.mark.parametrize("path", ["", 7, None, "a\0b", ["a"]])
def test_what_is_no_path_is_refused(folder: ModelFolder, path: Any) -> None:
    with refused("invalid_argument", "path"):
        folder.confined(path)


def test_a_path_inside_the_folder_may_be_written_in_any_way(folder: ModelFolder) -> None:
    for path in ["a/b.skops", "./a/b.skops", "a/x/../b.skops", str(folder.folder / "a/b.skops")]:
        assert folder.confined(path) == folder.folder / "a" / "b.skops"


def test_saved_and_loaded_it_is_the_same(folder: ModelFolder) -> None:
    model = LogisticRegression().fit(X, Y)
    told = folder.save(model, "deep/down.skops")
    assert told["path"] == os.path.join("deep", "down.skops")
    assert told["trusted"] == []
    path = folder.folder / told["path"]
    assert path.stat().st_size == told["bytes"]
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()
    np.testing.assert_array_equal(folder.load(path).predict_proba(X), model.predict_proba(X))
    assert os.listdir(path.parent) == ["down.skops"]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_save_that_fails_leaves_the_old_file_and_nothing_else(folder: ModelFolder) -> None:
    """Guards the model in service; a full disk is among the integration tests."""
    folder.save(LinearRegression().fit([[0.0]], [0.0]), "model.skops")
    before = (folder.folder / "model.skops").read_bytes()
    with refused("unimplemented", "Birch"):
        folder.save(registry.build("Birch", {}).fit(X), "model.skops")
    (folder.folder / "directory" / "inside").mkdir(parents=True)
    with refused("failed_precondition", "directory"):
        folder.save(LinearRegression().fit([[0.0]], [0.0]), "directory")
    with refused("failed_precondition", "model.skops"):
        folder.save(LinearRegression().fit([[0.0]], [0.0]), "model.skops/inside.skops")
    assert (folder.folder / "model.skops").read_bytes() == before
    assert sorted(os.listdir(folder.folder)) == ["directory", "model.skops"]


def test_what_is_left_of_a_worker_that_was_killed_is_in_nobodys_way(folder: ModelFolder) -> None:
    folder.folder.mkdir()
    (folder.folder / f".model.skops.{os.getpid()}.unfinished").write_bytes(b"half a model")
    folder.save(LinearRegression().fit([[0.0]], [0.0]), "model.skops")
    assert os.listdir(folder.folder) == ["model.skops"]


def test_a_type_that_nobody_trusts_is_refused_by_its_name(folder: ModelFolder) -> None:
    model = DecisionTreeClassifier(random_state=0).fit(X, Y)
    told = folder.save(model, "tree.skops")
    assert told["trusted"] == ["sklearn.tree._tree.Tree"]
    path = folder.folder / "tree.skops"
    with refused("permission_denied", 'trusted = ["sklearn.tree._tree.Tree"]') as caught:
        folder.load(path)
    assert caught.value.data == {"types": ["sklearn.tree._tree.Tree"]}
    trusting = ModelFolder(folder.folder, told["trusted"], silent)
    assert trusting.load(path).predict(X).tolist() == Y


def test_what_is_no_model_is_refused(folder: ModelFolder, tmp_path: Path) -> None:
    folder.folder.mkdir()

    def holding(data: bytes) -> Path:
        path = folder.folder / "file.skops"
        path.write_bytes(data)
        return path

    model = LogisticRegression().fit(X, Y)
    with refused("invalid_argument", "is not a skops file"):
        folder.load(holding(b"hello"))
    with refused("invalid_argument", "is empty"):
        folder.load(holding(b""))
    with refused("invalid_argument", "looks like a pickle"):
        folder.load(holding(pickle.dumps(model)))
    with refused("invalid_argument"):
        folder.load(holding(skops.io.dumps(model)[:-40]))
    with refused("invalid_argument", "a dict, not an estimator"):
        folder.load(holding(skops.io.dumps({"a": 1})))
    with zipfile.ZipFile(folder.folder / "other.skops", "w") as other:
        other.writestr("readme.txt", "a zip file of another kind")
    with refused("invalid_argument", "damaged"):
        folder.load(folder.folder / "other.skops")
    with refused("not_found", "there is no file", "other.skops"):
        folder.load(folder.folder / "absent.skops")
    with refused("failed_precondition", "cannot be read"):
        folder.load(folder.folder)


def test_a_model_of_another_version_is_loaded_with_a_warning(tmp_path: Path) -> None:
    model = LogisticRegression().fit(X, Y)
    skops.io.dump(model, tmp_path / "new.skops")
    with zipfile.ZipFile(tmp_path / "new.skops") as new, zipfile.ZipFile(tmp_path / "old.skops", "w") as old:
        for name in new.namelist():
            data = new.read(name)
            if name == "schema.json":
                schema = json.loads(data)
                schema["content"]["content"]["_sklearn_version"]["content"] = '"1.0.2"'
                data = json.dumps(schema).encode()
            old.writestr(name, data)
    logged: list[tuple[str, str]] = []
    folder = ModelFolder(tmp_path, [], lambda level, text: logged.append((level, text)))
    assert folder.load(tmp_path / "old.skops").predict(X).tolist() == Y
    ((level, text),) = logged
    assert level == "warning"
    assert "1.0.2" in text
    assert "old.skops" in text


# -- what is served


@pytest.mark.parametrize(
    ("config", "code", "word"),
    [
        ({"estimater": "SVC"}, "invalid_argument", "did you mean 'estimator'?"),
        ({"qqq": 1}, "invalid_argument", "there are: estimator"),
        ({"estimator": 7}, "invalid_argument", "estimator is a str"),
        ({"estimator": "SVC", "params": "C"}, "invalid_argument", "params is a dict"),
        ({"params": {"C": 1}}, "invalid_argument", "params of what?"),
        ({"model": "m.skops", "params": {"C": 1}}, "invalid_argument", "its own parameters"),
        ({"trusted": [7]}, "invalid_argument", "trusted"),
        ({"estimator": "SVM"}, "not_found", "SVM"),
        ({"estimator": "SVC", "params": {"c": 1}}, "invalid_argument", "did you mean 'C'?"),
        ({"model": "absent.skops"}, "not_found", "absent.skops"),
    ],
)
def test_a_config_that_cannot_be_used_is_explained(
    config: dict[str, Any], code: str, word: str, tmp_path: Path
) -> None:
    with refused(code, word):
        Served({"models_dir": str(tmp_path), **config}, silent)


def test_the_model_has_to_be_the_estimator_that_is_named(tmp_path: Path) -> None:
    skops.io.dump(LogisticRegression().fit(X, Y), tmp_path / "m.skops")
    assert Served({"model": "m.skops", "estimator": "LogisticRegression", "models_dir": str(tmp_path)}, silent)
    with refused("failed_precondition", "holds a LogisticRegression", "'SVC'"):
        Served({"model": "m.skops", "estimator": "SVC", "models_dir": str(tmp_path)}, silent)


def test_a_model_that_was_never_fitted_is_refused(tmp_path: Path) -> None:
    skops.io.dump(LogisticRegression(), tmp_path / "m.skops")
    with refused("failed_precondition", "not fitted"):
        Served({"model": "m.skops", "models_dir": str(tmp_path)}, silent)


def test_a_fit_that_fails_leaves_the_model() -> None:
    it = served("KNeighborsClassifier", n_neighbors=1)
    it.fit(X, Y, None)
    for x, y, params in [(X, Y[:3], None), ([[None, 1]], ["near"], None), (X, Y, {"n_neighbors": -1})]:
        with refused("invalid_argument", "KNeighborsClassifier.fit"):
            it.fit(x, y, params)
    with refused("invalid_argument", "single row"):
        it.fit([1, 2], ["near"], None)
    assert it.apply("predict", [[0, 0], [6, 6]]) == ["near", "far"]


def test_each_fit_begins_from_the_configured_parameters() -> None:
    it = served("KNeighborsClassifier", n_neighbors=3)
    assert it.fit(X, Y, {"n_neighbors": 1})["params"]["n_neighbors"] == 1
    assert it.fit(X, Y, None)["params"]["n_neighbors"] == 3


def test_a_warm_start_goes_on_from_the_model() -> None:
    it = served("SGDClassifier", warm_start=True, max_iter=1, tol=None, random_state=0)
    it.fit(X, Y, None)
    first = it.info()
    it.fit(X, Y, {"max_iter": 2})
    assert first["params"]["max_iter"] == 1
    fresh = registry.build("SGDClassifier", {"max_iter": 1, "tol": None, "random_state": 0, "warm_start": True})
    fresh.fit(X, Y)
    fresh.set_params(max_iter=2).fit(X, Y)
    scores = it.apply("predict", [X])[0]
    assert scores == fresh.predict(X).tolist()


def test_texts_maps_and_labels_are_rows_too() -> None:
    words = served("CountVectorizer")
    words.fit(["a cat and a dog", "the cat"], None, None)
    one, many = words.apply("transform", ["cat dog dog", ["cat", "the cat"]])
    assert one.tolist() == [0, 1, 2, 0]
    assert many.tolist() == [[0, 1, 0, 0], [0, 1, 0, 1]]
    maps = served("DictVectorizer")
    maps.fit([{"a": 1, "b": 2}, {"b": 3}], None, None)
    assert maps.apply("transform", [{"a": 5.0}])[0].tolist() == [5, 0]
    labels = served("LabelEncoder")
    labels.fit(["b", "a"], None, None)
    assert labels.apply("transform", ["b", ["a", "b"]])[0] == 1
    inside = served(
        "Pipeline",
        steps=[["words", {"estimator": "TfidfVectorizer"}], ["model", {"estimator": "LogisticRegression"}]],
    )
    inside.fit(["good film", "bad film", "good", "bad"], [1, 0, 1, 0], None)
    assert inside.apply("predict", ["a good one", ["bad", "good"]])[0] == 1
    categories = served("OrdinalEncoder")
    categories.fit([["a", 1], ["b", 2]], None, None)
    unknown, known = categories.apply("transform", [["c", 1], ["b", 1]])
    assert known.tolist() == [1, 0]
    assert (unknown.code, "unknown categories" in unknown.message) == ("invalid_argument", True)


def test_what_can_only_be_fitted_tells_what_it_found() -> None:
    """Guards the use of estimators such as DBSCAN, which say nothing of rows that they were not fitted to."""
    it = served("DBSCAN", eps=2.0, min_samples=2)
    assert it.fit(X, None, None)["labels"].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    with refused("unimplemented", "DBSCAN has no predict; it has: fit"):
        it.apply("predict", [X])
    assert "labels" not in served("KMeans", n_clusters=2).fit(X, None, None)


def test_what_needs_no_fit_works_without_one() -> None:
    it = served("Normalizer")
    assert it.apply("transform", [[3.0, 4.0]])[0].tolist() == [0.6, 0.8]
    with refused("failed_precondition", "fit(X, y)"):
        served("KMeans").apply("predict", [X])
    with refused("unimplemented", "no predict_proba"):
        served("KMeans").apply("predict_proba", [X])
    with refused("failed_precondition", "there is no estimator yet"):
        Served({}, silent).apply("predict", [X])


def test_why_a_method_is_missing_is_told() -> None:
    it = served("SGDClassifier", loss="hinge")
    it.fit(X, Y, None)
    with refused("unimplemented", "predict_proba", "hinge"):
        it.apply("predict_proba", [X])


def test_the_parameters_of_info_are_plain() -> None:
    it = served("GridSearchCV", estimator={"estimator": "SVC"}, param_grid={"C": [1, 2]}, cv=2)
    told = it.fit(X, Y, None)
    json.dumps(told)
    assert told["params"]["param_grid"] == {"C": [1, 2]}
    assert told["params"]["estimator"] == "SVC()"
    assert told["classes"] == ["far", "near"]
    assert told["fitted"]
    assert told["features"] == 2


def test_saving_and_loading_are_told_of(tmp_path: Path) -> None:
    it = served("LogisticRegression", tmp_path)
    with refused("failed_precondition", "not fitted"):
        it.save("m.skops")
    it.fit(X, Y, None)
    assert it.info()["file"] is None
    it.save("m.skops")
    assert it.info()["file"] == str(tmp_path.resolve() / "m.skops")
    other = Served({"models_dir": str(tmp_path)}, silent)
    assert not other.info()["fitted"]
    assert other.load("m.skops")["estimator"] == "LogisticRegression"
    np.testing.assert_array_equal(other.apply("predict_proba", [X])[0], LogisticRegression().fit(X, Y).predict_proba(X))
    with refused("not_found"):
        other.load("absent.skops")
    assert other.info()["fitted"]
