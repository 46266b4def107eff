"""The onnx worker's parts: the numbers of the scikit-learn model that was converted, and files that are no model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from mlports_worker import Failure
from tests.extras import need

need("onnxruntime", how="pip install 'mlports[onnx]'")
need("skl2onnx", how="pip install skl2onnx")

import onnx  # noqa: E402
from onnx import TensorProto, helper  # noqa: E402
from skl2onnx import to_onnx  # noqa: E402

from mlports_models.onnx_model import OnnxModel  # noqa: E402

IMAGES, LABELS = load_digits(return_X_y=True)
REFERENCE = LogisticRegression(C=0.001, max_iter=300).fit(IMAGES[:600], LABELS[:600])
OPSET = [helper.make_opsetid("", 15)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the models are, good ones and others."""
    folder = tmp_path_factory.mktemp("models")
    sample = IMAGES[:1].astype("f4")
    digits = to_onnx(REFERENCE, sample, options={"zipmap": False}).SerializeToString()
    (folder / "digits.onnx").write_bytes(digits)
    (folder / "maps.onnx").write_bytes(to_onnx(REFERENCE, sample).SerializeToString())
    (folder / "cut.onnx").write_bytes(digits[: len(digits) // 2])
    (folder / "empty.onnx").write_bytes(b"")
    (folder / "text.onnx").write_text("hello")
    (folder / "folder.onnx").mkdir()
    return folder


def refused(code: str, *words: str) -> Any:
    """A block that has to raise a `Failure` of this code, with these words in its message."""
    return pytest.raises(
        Failure, check=lambda failure: failure.code == code and all(w in failure.message for w in words)
    )


def loaded(folder: Path, name: str = "digits.onnx", **config: Any) -> OnnxModel:
    """A model of the folder."""
    return OnnxModel({"model": name, "models_dir": str(folder), **config})


def built(folder: Path, nodes: list[Any], inputs: dict[str, Any], outputs: dict[str, Any]) -> OnnxModel:
    """A model of some nodes; inputs and outputs are their types and shapes by name."""

    def declared(values: dict[str, Any]) -> list[Any]:
        return [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in values.items()]

    graph = helper.make_graph(nodes, "made", declared(inputs), declared(outputs))
    onnx.save(helper.make_model(graph, opset_imports=OPSET, ir_version=8), folder / "built.onnx")
    return loaded(folder, "built.onnx")


def test_a_converted_model_gives_what_scikit_learn_gives(folder: Path) -> None:
    model = loaded(folder)
    rest = IMAGES[600:]
    table, row, listed = model.predict([rest, rest[0], rest[0].tolist()])
    np.testing.assert_array_equal(table["label"], REFERENCE.predict(rest))
    np.testing.assert_allclose(table["probabilities"], REFERENCE.predict_proba(rest), atol=1e-5)
    assert type(row["label"]) is int
    assert row["label"] == listed["label"] == table["label"][0]
    np.testing.assert_allclose(row["probabilities"], table["probabilities"][0], atol=1e-6)
    (only,) = loaded(folder, outputs=["label"]).predict([rest])
    np.testing.assert_array_equal(only, table["label"])
    (mapped,) = loaded(folder, "maps.onnx").predict([rest[:2]])
    np.testing.assert_allclose(list(mapped["output_probability"][1].values()), table["probabilities"][1], atol=1e-5)
    assert model.run(rest[:3], ["label"])["label"].tolist() == table["label"][:3].tolist()


def test_it_says_what_it_takes_and_gives(folder: Path) -> None:
    model = loaded(folder, threads=2)
    assert model.schema() == {
        "takes": [{"name": "X", "dtype": "float32", "shape": [None, 64]}],
        "gives": [
            {"name": "label", "dtype": "int64", "shape": [None]},
            {"name": "probabilities", "dtype": "float32", "shape": [None, 10]},
        ],
    }
    info = model.info()
    assert (info["file"], info["threads"], info["producer"]) == (str(folder / "digits.onnx"), 2, "skl2onnx")


def test_inputs_that_do_not_fit_are_refused_alone(folder: Path) -> None:
    good, *bad = loaded(folder).predict(
        [IMAGES[0], IMAGES[0][:63], np.ones((2, 8, 8)), ["x"] * 64, None, {"Y": IMAGES[0]}, [1e39] * 64]
    )
    assert good["label"] == REFERENCE.predict(IMAGES[:1])[0]
    words = ("shape [63]", "shape [2, 8, 8]", "texts", "not None", "missing: 'X'; unknown: 'Y'", "too large")
    for failure, word in zip(bad, words, strict=True):
        assert isinstance(failure, Failure)
        assert failure.code == "invalid_argument"
        assert word in failure.message
    with refused("invalid_argument", "no output 'labels'", "'label', 'probabilities'"):
        loaded(folder).run(IMAGES[:1], ["labels"])


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("cut.onnx", "invalid_argument", ["no model that onnxruntime", "export it again"]),
        ("empty.onnx", "invalid_argument", ["no model that onnxruntime"]),
        ("text.onnx", "invalid_argument", ["no model that onnxruntime"]),
        ("digit.onnx", "not_found", ["there is no file", "cut.onnx, digits.onnx"]),
        ("folder.onnx", "permission_denied", ["cannot be read as a file"]),
        ("", "invalid_argument", ["needs a model"]),
    ],
)
def test_a_file_that_is_no_model_is_refused(folder: Path, name: str, code: str, words: list[str]) -> None:
    with refused(code, *words):
        loaded(folder, name)


@pytest.mark.parametrize(
    ("config", "word"),
    [
        ({"output": ["label"]}, "did you mean 'outputs'"),
        ({"outputs": ["nothing"]}, "no output 'nothing'"),
        ({"outputs": []}, "a list of their names"),
        ({"threads": -1}, "threads is from 0"),
        ({"providers": ["NoSuchProvider"]}, "CPUExecutionProvider"),
    ],
)
def test_a_wrong_config_is_refused(folder: Path, config: dict[str, Any], word: str) -> None:
    with pytest.raises(Failure, match=word.replace("[", r"\[")):
        loaded(folder, **config)


def test_several_inputs_of_several_dtypes(tmp_path: Path) -> None:
    model = built(
        tmp_path,
        [
            helper.make_node("Cast", ["count"], ["number"], to=TensorProto.DOUBLE),
            helper.make_node("Mul", ["price", "number"], ["sum"]),
            helper.make_node("Identity", ["word"], ["same"]),
        ],
        {
            "price": (TensorProto.DOUBLE, ["n"]),
            "count": (TensorProto.UINT8, ["n"]),
            "word": (TensorProto.STRING, ["n"]),
        },
        {"sum": (TensorProto.DOUBLE, ["n"]), "same": (TensorProto.STRING, ["n"])},
    )
    table = {"price": [0.1, 0.2], "count": np.array([3, 4]), "word": ["ä", ""]}
    row = {"price": 2, "count": 5, "word": "b"}
    first, second, wrong, many = model.predict([table, row, row | {"count": 256}, table | {"count": [1, 2, 3]}])
    np.testing.assert_array_equal(first["sum"], [0.1 * 3, 0.2 * 4])
    assert first["same"] == ["ä", ""]
    assert second == {"sum": 10.0, "same": "b"}
    assert "too large" in wrong.message
    assert "'count' 3" in many.message
    assert [tensor["dtype"] for tensor in model.schema()["takes"]] == ["float64", "uint8", "str"]


def test_a_first_axis_of_fixed_length_and_an_output_that_is_not_by_rows(tmp_path: Path) -> None:
    fixed = built(
        tmp_path,
        [helper.make_node("Neg", ["x"], ["y"])],
        {"x": (TensorProto.FLOAT, [2, 3])},
        {"y": (TensorProto.FLOAT, [2, 3])},
    )
    first, second, wrong = fixed.predict([np.ones((2, 3)), np.zeros((2, 3)), np.ones((4, 3))])
    assert (first.tolist(), second.tolist()) == ([[-1, -1, -1]] * 2, [[0, 0, 0]] * 2)
    assert "[2, 3]" in wrong.message
    total = built(
        tmp_path,
        [helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)],
        {"x": (TensorProto.FLOAT, ["n", 3])},
        {"y": (TensorProto.FLOAT, [])},
    )
    assert total.predict([np.ones((2, 3)), [1, 2, 3]]) == [6, 6]


def test_what_fails_inside_is_told_and_takes_nobody_along(tmp_path: Path) -> None:
    model = built(
        tmp_path,
        [helper.make_node("Gather", ["table", "place"], ["y"])],
        {"table": (TensorProto.FLOAT, ["n"]), "place": (TensorProto.INT64, ["n"])},
        {"y": (TensorProto.FLOAT, ["n"])},
    )
    good, bad = model.predict([{"table": [5], "place": [0]}, {"table": [5], "place": [7]}])
    assert good.tolist() == [5]
    assert "'place' [1]" in bad.message
    assert "Gather" in bad.message
