"""A worker for PyTorch models: TorchScript, or a module's class with its weights as safetensors.

    [service.digits]
    command = ["python", "-m", "mlports_models.torch"]
    config = { model = "digits.pt", inputs = [{ name = "x", dtype = "float32", shape = ["n", 64] }] }

TorchScript, and a module's class, are programs: serve only those whose maker you trust. Pickles, which torch.save
writes, are refused. The service's `config`, of which only `model` is needed:

- `model`: a file of TorchScript, or of safetensors; relative to `models_dir`.
- `models_dir`: the folder that the file is in (default: the working directory).
- `module`: for safetensors the class that they are the weights of, as "package.module:Class"; `kwargs`: what it is
  made with.
- `inputs`: what forward takes, in its order: name, dtype and shape of each; a name in the shape is an axis of any
  length. Left out, the names are forward's own, the dtype is that of the weights, the shape any, and `predict` takes
  tables only.
- `outputs`: names for what forward gives, if that is several (default: "output_0" and on, or its own if it is a map).
- `threads`: how many a call may use (default: 1). `device`: where it runs (default: "cpu").
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlports_worker import Worker

from . import settings

if TYPE_CHECKING:
    from .torch_model import TorchModel

worker = Worker("torch")
_model: TorchModel


@worker.setup
def start(config: dict[str, Any]) -> None:
    """Imports torch and loads the model. Ends the worker, with the reason, if it cannot."""
    global _model
    settings.need("torch", "torch", numpy="numpy", torch="torch")
    from .torch_model import TorchModel

    _model = TorchModel(config)


@worker.method(batch=True, idempotent=True)
def predict(inputs: list[Any]) -> list[Any]:
    """What the model gives for a row, which lacks the inputs' first axis, or for a table, which has it.

    An array for a model of one input, or a map of them by name; the same of what comes out.
    """
    return _model.predict(inputs)


@worker.method(idempotent=True)
def run(inputs: Any) -> dict[str, Any]:
    """The model run once with these inputs alone, as they are: its outputs by name."""
    return _model.run(inputs)


@worker.method(idempotent=True)
def schema() -> dict[str, Any]:
    """What the model `takes`: of each input its name, dtype and shape; and the names that it `gives`, if configured."""
    return _model.schema()


@worker.method(idempotent=True)
def info() -> dict[str, Any]:
    """The file, its kind, how many weights it has, and by what it is run."""
    return _model.info()


if __name__ == "__main__":
    worker.run()
