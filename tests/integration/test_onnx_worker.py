"""The onnx worker through an orchestrator."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from mlports import InvalidArgument, Orchestrator, ServiceConfig, StartFailed
from tests.extras import need

need("onnxruntime", how="pip install 'mlports[onnx]'")
need("onnx", how="pip install onnx")

ROOT = Path(__file__).resolve().parents[2]
ENV = {"PYTHONPATH": os.pathsep.join(str(ROOT / folder) for folder in ("protocol", "orchestrator", "workers/python"))}


def service(**config: object) -> ServiceConfig:
    command = ["python", "-m", "mlports_models.onnx"]
    return ServiceConfig(command=command, env=ENV, config=config, start_timeout="120s", shared_memory=False)


@pytest.mark.timeout(180)
async def test_rows_of_several_callers_get_their_own(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    nodes = [helper.make_node("Neg", ["x"], ["minus"]), helper.make_node("Abs", ["x"], ["size"])]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in ("x", "minus", "size")]
    graph = helper.make_graph(nodes, "made", values[:1], values[1:])
    opset = [helper.make_opsetid("", 15)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / "both.onnx")
    async with Orchestrator({"both": service(model="both.onnx", models_dir=str(tmp_path))}) as orch:
        rows = np.random.default_rng(0).normal(size=(50, 2)).astype("f4")
        found = await orch.map("both.predict", list(rows))
        np.testing.assert_array_equal([one["minus"] for one in found], -rows)
        table = await orch.call("both.predict", rows)
        np.testing.assert_array_equal(table["size"], np.abs(rows))
        np.testing.assert_array_equal((await orch.call("both.run", rows, ["size"]))["size"], np.abs(rows))
        with pytest.raises(InvalidArgument, match="this has shape \\[3\\]"):
            await orch.call("both.predict", [1, 2, 3])
        assert (await orch.call("both.schema"))["takes"] == [{"name": "x", "dtype": "float32", "shape": ["n", 2]}]


async def test_a_missing_file_ends_it_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(StartFailed, match="there is no file"):
        async with Orchestrator({"both": service(model="both.onnx", models_dir=str(tmp_path))}):
            pass
