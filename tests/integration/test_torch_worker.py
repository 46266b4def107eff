"""The torch worker through an orchestrator, run by whatever interpreter has torch.

That is this one, or the system's (Debian has python3-torch and python3-msgpack), or the one that the environment
variable MLPORTS_TORCH_PYTHON names.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlports import CallError, InvalidArgument, Orchestrator, ServiceConfig

ROOT = Path(__file__).resolve().parents[2]
PYTHONPATH = os.pathsep.join(str(ROOT / folder) for folder in ("protocol", "workers/python"))
LOOK = """
import importlib.util, sys
print(sys.version_info >= (3, 11), *[bool(importlib.util.find_spec(name)) for name in ("numpy", "msgpack", "torch")])
"""

pytestmark = pytest.mark.timeout(180)


@functools.cache
def interpreter() -> str | None:
    """The first that can run the worker, or None."""
    for python in (os.environ.get("MLPORTS_TORCH_PYTHON"), sys.executable, "/usr/bin/python3"):
        if python and Path(python).exists():
            told = subprocess.run([python, "-c", LOOK], capture_output=True, text=True)
            if told.returncode == 0 and "False" not in told.stdout:
                return python
    return None


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, dict[str, list[str]]]:
    """The interpreter, the folder of models, and what it said of each config that is wrong."""
    python = interpreter()
    if python is None:
        pytest.skip("no Python with torch, numpy and msgpack: pip install 'mlports[torch]', or Debian's python3-torch")
    folder = tmp_path_factory.mktemp("models")
    if python != sys.executable and (spec := find_spec("safetensors")) is not None and spec.origin is not None:
        # The interpreter that has torch may lack this one, which any interpreter of this machine can load.
        (folder / "safetensors").symlink_to(Path(spec.origin).parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([PYTHONPATH, str(folder)])}
    command = [python, str(ROOT / "tests" / "torch_program.py"), str(folder)]
    told = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    return python, folder, json.loads(told.stdout)


def service(python: str, folder: Path, **config: Any) -> ServiceConfig:
    return ServiceConfig(
        command=[python, "-m", "mlports_models.torch"],
        env={"PYTHONPATH": os.pathsep.join([PYTHONPATH, str(folder)])},
        config={"models_dir": str(folder), **config},
        start_timeout="120s",
        shared_memory=False,
    )


async def test_it_gives_what_torch_gives(made: tuple[str, Path, Any]) -> None:
    python, folder, _ = made
    with np.load(folder / "reference.npz") as reference:
        inputs, outputs = reference["inputs"], reference["outputs"]
    services = {
        "net": service(python, folder, model="net.pt", inputs=[{"name": "x", "shape": ["n", 4]}]),
        "two": service(python, folder, model="two.pt", outputs=["products", "sums"]),
    }
    if (folder / "net.safetensors").exists():
        services["weights"] = service(python, folder, model="net.safetensors", module="nets:Net", kwargs={"hidden": 8})
    async with Orchestrator(services) as orch:
        np.testing.assert_allclose(await orch.call("net.predict", inputs), outputs, atol=1e-6)
        np.testing.assert_allclose(await orch.map("net.predict", inputs.tolist()), outputs, atol=1e-6)
        run = await orch.call("net.run", inputs.astype("f8"))
        np.testing.assert_allclose(run["output_0"], outputs, atol=1e-6)
        with pytest.raises(InvalidArgument, match="this has shape \\[3\\]"):
            await orch.call("net.predict", inputs[0][:3])
        assert (await orch.call("net.info"))["kind"] == "torchscript"

        table = {"x": inputs, "count": np.arange(20.0)}
        both = await orch.call("two.predict", table)
        np.testing.assert_allclose(both["products"], inputs * np.arange(20)[:, None], rtol=1e-6)
        np.testing.assert_allclose(both["sums"], inputs.sum(axis=1), rtol=1e-5, atol=1e-6)
        with pytest.raises(InvalidArgument, match="missing: 'count'"):
            await orch.call("two.predict", {"x": inputs})
        with pytest.raises(InvalidArgument, match=r"'x' \[20, 4, 1\]"):
            await orch.call("two.run", {"x": inputs[:, :, None], "count": np.arange(19.0)})
        assert [one["name"] for one in (await orch.call("two.schema"))["takes"]] == ["x", "count"]

        if "weights" in services:
            np.testing.assert_allclose(await orch.call("weights.predict", inputs), outputs, atol=1e-6)
            assert (await orch.call("weights.info"))["weights"] == 4 * 8 + 8 + 8 * 3 + 3


async def test_an_output_that_a_map_lacks_is_told(made: tuple[str, Path, Any]) -> None:
    python, folder, _ = made
    inputs = np.ones((2, 4), "f4")
    async with Orchestrator({"named": service(python, folder, model="named.pt", outputs=["doubled", "sum"])}) as orch:
        with pytest.raises(CallError, match="outputs has 'sum', and the model gives: 'sums', 'doubled'"):
            await orch.call("named.predict", inputs)


@pytest.mark.parametrize(
    ("case", "code", "words"),
    [
        ("pickle", "permission_denied", ["is a pickle", "safetensors.torch.save_file"]),
        ("old pickle", "permission_denied", ["is a pickle"]),
        ("cut", "invalid_argument", ["neither TorchScript nor safetensors"]),
        ("bent", "invalid_argument", ["neither TorchScript nor safetensors"]),
        ("empty", "invalid_argument", ["is empty"]),
        ("text", "invalid_argument", ["neither TorchScript nor safetensors"]),
        ("missing", "not_found", ["there is no file", "net.pt"]),
        ("no class", "invalid_argument", ['module = "package.module:Net"']),
        ("not a path", "invalid_argument", ['"package.module:Class"']),
        ("unknown class", "not_found", ["'Nett'", "PYTHONPATH"]),
        ("no module", "invalid_argument", ["no torch.nn.Module"]),
        ("wrong kwargs", "invalid_argument", ["depth"]),
        ("other weights", "invalid_argument", ["not those of nets:Net", "size mismatch"]),
        ("damaged", "invalid_argument", ["is damaged"]),
        ("script and class", "invalid_argument", ["Leave it out"]),
        ("dtype", "invalid_argument", ["one of float16"]),
        ("one name twice", "invalid_argument", ["each its own", "['a', 'a']"]),
        ("device", "failed_precondition", ["'quantum'"]),
        ("unknown key", "invalid_argument", ["did you mean 'threads'"]),
    ],
)
def test_what_cannot_be_served_is_refused(made: tuple[str, Path, Any], case: str, code: str, words: list[str]) -> None:
    _, folder, failures = made
    if "safetensors" not in [file.suffix[1:] for file in folder.iterdir()] and case not in failures:
        pytest.skip("that Python has no safetensors")
    assert failures[case][0] == code, failures[case]
    assert all(word in failures[case][1] for word in words), failures[case]
