"""A worker for any ONNX model, by onnxruntime.

    [service.digits]
    command = ["python", "-m", "mlports_models.onnx"]
    config = { model = "digits.onnx" }

The service's `config`, of which only `model` is needed:

- `model`: the file; relative to `models_dir`.
- `models_dir`: the folder that the file is in (default: the working directory).
- `outputs`: the names of those that `predict` gives (default: all).
- `threads`: how many a call may use (default: 1: more replicas use more processors); 0 for as many as there are.
- `providers`: what it is run by, as onnxruntime names it, the first that can (default: ["CPUExecutionProvider"]).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlports_worker import Worker

from . import settings

if TYPE_CHECKING:
    from .onnx_model import OnnxModel

worker = Worker("onnx")
_model: OnnxModel


@worker.setup
def start(config: dict[str, Any]) -> None:
    """Imports onnxruntime and loads the model. Ends the worker, with the reason, if it cannot."""
    global _model
    settings.need("onnx", "onnx", numpy="numpy", onnxruntime="onnxruntime")
    from .onnx_model import OnnxModel

    _model = OnnxModel(config)


@worker.method(batch=True, idempotent=True)
def predict(inputs: list[Any]) -> list[Any]:
    """What the model gives for a row, which lacks the inputs' first axis, or for a table, which has it.

    An array for a model of one input, or a map of them by name; the same of what comes out.
    """
    return _model.predict(inputs)


@worker.method(idempotent=True)
def run(inputs: Any, outputs: Any = None) -> dict[str, Any]:
    """The model run once with these inputs alone, as they are: its outputs by name, all or those that are named."""
    return _model.run(inputs, outputs)


@worker.method(idempotent=True)
def schema() -> dict[str, Any]:
    """What the model `takes` and `gives`: of each input and output its name, dtype and shape, None for any length."""
    return _model.schema()


@worker.method(idempotent=True)
def info() -> dict[str, Any]:
    """The file, who made it, what it says of itself, and by what it is run."""
    return _model.info()


if __name__ == "__main__":
    worker.run()
