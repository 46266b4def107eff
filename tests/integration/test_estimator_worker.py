"""The estimator worker through an orchestrator: its answers are scikit-learn's own, and its errors say what to do."""

from __future__ import annotations

import asyncio
import os
import sys
import sysconfig
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
import skops.io
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from mlports import (
    CallError,
    InvalidArgument,
    Orchestrator,
    ServiceConfig,
    ServiceDown,
    StartFailed,
    UnknownMethod,
)

# Six workers import scikit-learn at the same time, before the first test.
pytestmark = pytest.mark.asyncio(loop_scope="module")
START = "120s"

ROOT = Path(__file__).resolve().parents[2]
COMMAND = ["python", "-m", "mlports_models.estimator"]
PYTHONPATH = os.pathsep.join(str(ROOT / folder) for folder in ("protocol", "orchestrator", "workers/python"))
ENV = {"PYTHONPATH": PYTHONPATH}

IMAGES, LABELS = load_digits(return_X_y=True)
TRAIN, TRAIN_LABELS, TEST, TEST_LABELS = IMAGES[:600], LABELS[:600], IMAGES[1200:], LABELS[1200:]
MODEL = LogisticRegression(C=0.001, max_iter=300).fit(TRAIN, TRAIN_LABELS)
TIGHT = 100  # blocks of at least 512 bytes: what the service "tight" can write into one file

SGD = {"loss": "log_loss", "random_state": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the models are: digits.skops, and one of each kind that is fitted to next to nothing."""
    folder = tmp_path_factory.mktemp("models")
    skops.io.dump(MODEL, folder / "digits.skops")
    some, labels = TRAIN[:50], TRAIN_LABELS[:50]
    for name, model in {
        "classifier": LogisticRegression(C=0.001, max_iter=300),
        "regressor": Ridge(alpha=2.0),
        "clusterer": KMeans(n_clusters=5, n_init=1, random_state=0),
        "transformer": StandardScaler(),
    }.items():
        skops.io.dump(model.fit(some, labels), folder / f"{name}.skops")
    skops.io.dump(DecisionTreeClassifier().fit(some, labels), folder / "tree.skops")
    skops.io.dump(KNeighborsClassifier(algorithm="brute").fit(TRAIN, TRAIN_LABELS), folder / "large.skops")
    (folder / "text.skops").write_text("hello")
    return folder


def without(folder: Path, *packages: str) -> ServiceConfig:
    """A service in an environment that has every package there is here but these."""
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if entry.name.partition(".")[0] not in packages:
            (folder / entry.name).symlink_to(entry)
    command = [sys.executable, "-S", "-m", "mlports_models.estimator"]
    return ServiceConfig(
        command=command,
        start_timeout=START,
        env={"PYTHONPATH": os.pathsep.join([PYTHONPATH, str(folder)])},
        config={"estimator": "Ridge"},
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def orch(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Orchestrator]:
    """Two that serve the digits, and others each with a want of its own: an estimator, room, a right config, skops."""
    services = {
        "digits": ServiceConfig(
            command=COMMAND,
            start_timeout=START,
            replicas=2,
            env=ENV,
            config={"model": "digits.skops", "models_dir": str(folder)},
            shared_memory=False,  # segments that wait to be used again would be taken for a test's leak
        ),
        "any": ServiceConfig(
            command=COMMAND, start_timeout=START, env=ENV, config={"models_dir": str(folder)}, shared_memory=False
        ),
        "tight": ServiceConfig(
            command=["sh", "-c", f'ulimit -f {TIGHT}; exec "$0" -m mlports_models.estimator', sys.executable],
            env=ENV,
            start_timeout=START,
            config={"estimator": "SGDClassifier", "params": SGD, "models_dir": str(folder)},
            shared_memory=False,
        ),
        "wrong": ServiceConfig(
            command=COMMAND, start_timeout=START, env=ENV, config={"estimator": "LogisticRegresion"}
        ),
        "bare": without(tmp_path_factory.mktemp("packages"), "skops"),
    }
    async with Orchestrator(services) as orchestrator:
        yield orchestrator


def of_code(code: str, *words: str) -> Any:
    """A block that has to raise a `CallError` of this code, with these words in its message."""
    return pytest.raises(CallError, check=lambda e: e.code == code and all(word in str(e) for word in words))


# -- answers


async def test_single_rows_get_single_answers(orch: Orchestrator) -> None:
    expected, probabilities = MODEL.predict(TEST), MODEL.predict_proba(TEST)
    for index in range(20):
        label = await orch.call("digits.predict", TEST[index])
        assert type(label) is int
        assert label == expected[index]
        assert await orch.call("digits.predict", TEST[index].tolist()) == label
        np.testing.assert_allclose(await orch.call("digits.predict_proba", TEST[index]), probabilities[index])


async def test_tables_get_arrays(orch: Orchestrator) -> None:
    labels = await orch.call("digits.predict", TEST)
    assert isinstance(labels, np.ndarray)
    np.testing.assert_array_equal(labels, MODEL.predict(TEST))
    np.testing.assert_array_equal(await orch.call("digits.predict", TEST.tolist()), labels)
    np.testing.assert_allclose(await orch.call("digits.predict_proba", TEST), MODEL.predict_proba(TEST))
    score = await orch.call("digits.score", TEST, TEST_LABELS)
    assert score == MODEL.score(TEST, TEST_LABELS) > 0.85


async def test_map_gives_what_calls_give(orch: Orchestrator) -> None:
    assert await orch.map("digits.predict", TEST) == MODEL.predict(TEST).tolist()
    np.testing.assert_allclose(await orch.map("digits.predict_proba", list(TEST)), MODEL.predict_proba(TEST))
    mixed = await orch.map("digits.predict", [TEST[0], TEST[:3], TEST[1].tolist()])
    assert mixed[0] == MODEL.predict(TEST[:1])[0]
    np.testing.assert_array_equal(mixed[1], MODEL.predict(TEST[:3]))


async def test_one_that_is_wrong_harms_none_of_its_neighbours(orch: Orchestrator) -> None:
    wrong: dict[int, Any] = {
        40: TEST[40][:63],
        80: "an image",
        120: ["a"] * 64,
        160: [None] * 64,
        200: TEST[200].reshape(8, 8),
        240: None,
        280: [[1, 2], [3]],
    }
    items = [wrong.get(index, row) for index, row in enumerate(TEST)]
    outcomes = await orch.map("digits.predict", items, return_exceptions=True)
    expected = MODEL.predict(TEST)
    for index, outcome in enumerate(outcomes):
        if index in wrong:
            assert isinstance(outcome, InvalidArgument), (index, outcome)
        else:
            assert outcome == expected[index]
    assert "rows of 63 values; LogisticRegression was fitted to rows of 64" in str(outcomes[40])
    assert "NaN" in str(outcomes[160])
    assert "flatten it: 64 values" in str(outcomes[200])


async def test_both_replicas_answer(orch: Orchestrator) -> None:
    answers = await asyncio.gather(*(orch.call("digits.predict", row) for row in TEST))
    assert answers == MODEL.predict(TEST).tolist()
    assert all(replica["answered"] for replica in orch.status()["services"]["digits"]["replicas"])


@pytest.mark.parametrize("kind", ["classifier", "regressor", "clusterer", "transformer"])
async def test_every_kind_is_fitted_as_scikit_learn_does_it(orch: Orchestrator, folder: Path, kind: str) -> None:
    own = skops.io.load(folder / f"{kind}.skops")
    told = await orch.call("any.load", f"{kind}.skops")
    assert told["estimator"] == type(own).__name__
    small = await orch.call(f"any.{'transform' if kind == 'transformer' else 'predict'}", TEST)
    np.testing.assert_allclose(small, own.transform(TEST) if kind == "transformer" else own.predict(TEST))

    told = await orch.call("any.fit", TRAIN, TRAIN_LABELS)
    own.fit(TRAIN, TRAIN_LABELS)
    assert told["fitted"]
    assert told["features"] == 64
    assert told["file"] is None
    for method in ("predict", "predict_proba", "transform"):
        if not hasattr(own, method):
            assert method not in told["methods"]
            with pytest.raises(UnknownMethod, match=f"{type(own).__name__} has no {method}"):
                await orch.call(f"any.{method}", TEST)
            continue
        expected = getattr(own, method)(TEST)
        np.testing.assert_allclose(await orch.call(f"any.{method}", TEST), expected)
        np.testing.assert_allclose(await orch.call(f"any.{method}", TEST[7]), expected[7])
        np.testing.assert_allclose(await orch.map(f"any.{method}", TEST[:50]), expected[:50])
    if kind == "classifier":
        assert told["classes"] == list(range(10))
    if kind != "transformer":
        assert await orch.call("any.score", TEST, TEST_LABELS) == pytest.approx(own.score(TEST, TEST_LABELS))


async def test_a_model_is_saved_and_loaded_elsewhere(orch: Orchestrator, folder: Path) -> None:
    await orch.call("any.load", "classifier.skops")
    told = await orch.call("any.fit", TRAIN, TRAIN_LABELS, {"C": 0.5})
    assert told["params"]["C"] == 0.5
    saved = await orch.call("any.save", "new/version-2.skops")
    assert saved == {"path": "new/version-2.skops", "bytes": (folder / saved["path"]).stat().st_size, "trusted": []}
    np.testing.assert_array_equal(
        skops.io.load(folder / saved["path"]).predict_proba(TEST), await orch.call("any.predict_proba", TEST)
    )
    expected = await orch.call("any.predict_proba", TEST)
    await orch.call("any.load", "classifier.skops")
    told = await orch.call("any.load", saved["path"])
    assert told["file"] == str(folder / saved["path"])
    np.testing.assert_array_equal(await orch.call("any.predict_proba", TEST), expected)


async def test_partial_fit_goes_on(orch: Orchestrator, folder: Path) -> None:
    own = SGDClassifier(**SGD)
    skops.io.dump(own.fit(TRAIN[:50], TRAIN_LABELS[:50]), folder / "sgd.skops")
    await orch.call("any.load", "sgd.skops")
    for start in (50, 400):
        rows = slice(start, start + 300)
        await orch.call("any.partial_fit", TRAIN[rows], TRAIN_LABELS[rows])
        own.partial_fit(TRAIN[rows], TRAIN_LABELS[rows])
    np.testing.assert_array_equal(await orch.call("any.predict", TEST), own.predict(TEST))
    await orch.call("any.load", "regressor.skops")
    with pytest.raises(UnknownMethod, match="Ridge has no partial_fit; it has: fit"):
        await orch.call("any.partial_fit", TRAIN, TRAIN_LABELS)


async def test_labels_may_be_texts(orch: Orchestrator) -> None:
    names = ["even" if label % 2 == 0 else "odd" for label in LABELS]
    await orch.call("any.load", "classifier.skops")
    told = await orch.call("any.fit", TRAIN, names[:600])
    assert told["classes"] == ["even", "odd"]
    expected = LogisticRegression(C=0.001, max_iter=300).fit(TRAIN, names[:600]).predict(TEST).tolist()
    assert await orch.call("any.predict", TEST) == expected
    assert await orch.call("any.predict", TEST[0]) == expected[0]
    assert await orch.map("any.predict", TEST) == expected


async def test_the_names_are_the_registrys(orch: Orchestrator) -> None:
    names = await orch.call("digits.estimators")
    assert {"LogisticRegression", "KMeans", "Pipeline"} <= set(names)
    assert "KMeans" not in await orch.call("digits.estimators", "regressor")


# -- errors


async def test_a_worker_learns_from_nothing_until_the_disk_is_full(orch: Orchestrator, folder: Path) -> None:
    """Guards what a model goes through: not fitted, a first part, the next, saved, and not saved for want of room."""
    told = await orch.call("tight.info")
    assert (told["estimator"], told["fitted"], told["params"]["loss"]) == ("SGDClassifier", False, "log_loss")
    with of_code("failed_precondition", "SGDClassifier is not fitted yet", "fit(X, y)"):
        await orch.call("tight.predict", TEST)
    with of_code("failed_precondition", "SGDClassifier is not fitted yet"):
        await orch.call("tight.save", "small.skops")
    with of_code("invalid_argument", "SGDClassifier.partial_fit", "classes"):
        await orch.call("tight.partial_fit", TRAIN[:300], TRAIN_LABELS[:300])
    own = SGDClassifier(**SGD)
    own.partial_fit(TRAIN[:300], TRAIN_LABELS[:300], classes=np.arange(10))
    await orch.call("tight.partial_fit", TRAIN[:300], TRAIN_LABELS[:300], list(range(10)))
    own.partial_fit(TRAIN[300:600], TRAIN_LABELS[300:600])
    await orch.call("tight.partial_fit", TRAIN[300:600], TRAIN_LABELS[300:600])
    np.testing.assert_array_equal(await orch.call("tight.predict", TEST), own.predict(TEST))

    await orch.call("tight.save", "room/small.skops")
    before = (folder / "room" / "small.skops").read_bytes()
    await orch.call("tight.load", "large.skops")
    with of_code("resource_exhausted", "no room", "The file that was there is as it was"):
        await orch.call("tight.save", "room/small.skops")
    with of_code("resource_exhausted", "no room"):
        await orch.call("tight.save", "room/other.skops")
    assert (folder / "room" / "small.skops").read_bytes() == before
    assert os.listdir(folder / "room") == ["small.skops"]
    assert (await orch.call("tight.load", "room/small.skops"))["estimator"] == "SGDClassifier"


@pytest.mark.parametrize(
    ("target", "arguments", "code", "words"),
    [
        ("digits.predict_proba", [[1.0, 2.0]], "invalid_argument", ["rows of 2 values", "rows of 64"]),
        ("digits.predict", [[]], "invalid_argument", ["empty"]),
        ("digits.predict", [{"a": 1}], "invalid_argument", ["a list or an array"]),
        ("digits.predict", [], "invalid_argument", ["0 arguments", "(X"]),
        ("digits.transform", [TEST], "unimplemented", ["LogisticRegression has no transform; it has: fit, predict"]),
        ("digits.score", [TEST, TEST_LABELS[:5]], "invalid_argument", ["LogisticRegression.score", "inconsistent"]),
        ("digits.score", [TEST[0], TEST_LABELS[:1]], "invalid_argument", ["a single row"]),
        ("digits.fit", [TRAIN, TRAIN_LABELS, {"CC": 1}], "invalid_argument", ["no parameter 'CC'"]),
        ("digits.fit", [TRAIN, TRAIN_LABELS, {"C": -1.0}], "invalid_argument", ["'C' parameter"]),
        ("digits.fit", [TRAIN, TRAIN_LABELS[:7]], "invalid_argument", ["LogisticRegression.fit", "inconsistent"]),
        ("digits.fit", [TRAIN], "invalid_argument", ["LogisticRegression.fit"]),
        ("digits.estimators", ["dogs"], "invalid_argument", ["classifier, regressor"]),
        ("digits.save", ["../stolen.skops"], "permission_denied", ["models_dir"]),
        ("digits.save", ["/stolen.skops"], "permission_denied", ["models_dir"]),
        ("digits.save", [7], "invalid_argument", ["path"]),
        ("digits.load", ["../../etc/passwd"], "permission_denied", ["models_dir"]),
        ("digits.load", ["absent.skops"], "not_found", ["there is no file", "digits.skops"]),
        ("digits.load", ["text.skops"], "invalid_argument", ["is not a skops file"]),
        ("digits.load", ["tree.skops"], "permission_denied", ["sklearn.tree._tree.Tree", "trusted"]),
    ],
)
async def test_every_error_says_what_was_wrong(
    orch: Orchestrator, target: str, arguments: list[Any], code: str, words: list[str]
) -> None:
    with of_code(code, *words):
        await orch.call(target, *arguments)
    assert await orch.call("digits.predict", TEST[3]) == MODEL.predict(TEST[3:4])[0]


async def test_a_wrong_config_ends_the_start_with_its_reason(orch: Orchestrator) -> None:
    with pytest.raises(ServiceDown, match="did you mean 'LogisticRegression'") as caught:
        await orch.call("wrong.info")
    assert "Traceback" not in str(caught.value)


async def test_without_scikit_learn_it_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(StartFailed, match=r"scikit-learn is not installed .*pip install 'mlports\[models\]'") as caught:
        await Orchestrator({"ridge": without(tmp_path, "sklearn")}).start()
    assert "Traceback" not in str(caught.value)


async def test_without_skops_it_does_all_but_saving(orch: Orchestrator) -> None:
    await orch.call("bare.fit", [[0.0], [1.0]], [0.0, 1.0], {"alpha": 0.0})
    assert await orch.call("bare.predict", [2.0]) == pytest.approx(2)
    for method in ("save", "load"):
        with of_code("failed_precondition", "needs skops", "pip install 'mlports[models]'"):
            await orch.call(f"bare.{method}", "model.skops")
