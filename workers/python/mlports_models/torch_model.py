"""A PyTorch model out of a file that is no pickle: how it is loaded, and what it gives."""

from __future__ import annotations

import importlib
import inspect
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mlports_worker import Failure

from . import settings, tensors
from .tensors import Tensor, Values

_CONFIG = {
    "model": (str,),
    "models_dir": (str,),
    "module": (str,),
    "kwargs": (dict,),
    "inputs": (list,),
    "outputs": (list,),
    "threads": (int,),
    "device": (str,),
}
_DTYPES = ("float16", "float32", "float64", "uint8", "int8", "int16", "int32", "int64", "bool")


class TorchModel:
    """One model, loaded. `config` is the service's (see `torch`); raises `Failure` if it cannot be served."""

    def __init__(self, config: dict[str, Any]) -> None:
        settings.check(config, _CONFIG)
        settings.within(config, {"threads": (1, 1024)})
        torch.set_num_threads(config.get("threads", 1))
        self._device = _device(config.get("device", "cpu"))
        self._file = settings.model_file(config, "torch", ".pt", ".safetensors")
        self._kind = _kind(self._file)
        if self._kind == "safetensors":
            self._module = _from_weights(self._file, config)
        elif "module" in config:
            raise _invalid("config: module is for safetensors; TorchScript has its own. Leave it out")
        else:
            self._module = _from_script(self._file)
        self._module = self._module.to(self._device).eval()
        self._inputs = [_declared(one) for one in config["inputs"]] if "inputs" in config else self._undeclared()
        if not self._inputs or len({tensor.name for tensor in self._inputs}) < len(self._inputs):
            raise _invalid("config: inputs has a name of its own for each input, and one at least")
        self._names: list[str] | None = config.get("outputs")
        if self._names is not None and not _are_names(self._names):
            raise _invalid(f"config: outputs is a list of names, each its own, not {self._names!r:.80}")
        self._together = all(tensor.by_rows for tensor in self._inputs)

    def predict(self, values: list[Any]) -> list[Any]:
        """See `torch.predict`."""
        return tensors.predict(values, self._inputs, self._together, self._run)

    def run(self, inputs: Any) -> dict[str, Any]:
        """See `torch.run`."""
        return {
            name: tensors.sendable({name: value})
            for name, value in self._run(tensors.checked(inputs, self._inputs)).items()
        }

    def schema(self) -> dict[str, Any]:
        """See `torch.schema`."""
        return {"takes": [tensor.told() for tensor in self._inputs], "gives": self._names}

    def info(self) -> dict[str, Any]:
        """See `torch.info`."""
        return {
            "file": str(self._file),
            "kind": self._kind,
            "class": getattr(self._module, "original_name", type(self._module).__name__),
            "weights": sum(weight.numel() for weight in self._module.parameters()),
            "device": str(self._device),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        }

    def _run(self, given: Values) -> dict[str, Any]:
        arguments = [
            torch.from_numpy(np.require(given[tensor.name], requirements=["C", "W"])).to(self._device)
            for tensor in self._inputs
        ]
        try:
            with torch.inference_mode():
                found = self._module(*arguments)
        except Exception as error:  # torch says RuntimeError of nearly all that is wrong, and a module what it will
            shapes = ", ".join(f"{name!r} {list(array.shape)}" for name, array in given.items())
            raise _invalid(
                f"{self._file.name} cannot be run with inputs of shapes {shapes}: {_last_line(error)}"
            ) from error
        return self._named(found)

    def _named(self, found: Any) -> dict[str, Any]:
        if isinstance(found, dict):
            by_name = {str(name): _plain(value) for name, value in found.items()}
            if absent := [name for name in self._names or () if name not in by_name]:
                there = ", ".join(map(repr, by_name))
                raise Failure(
                    "failed_precondition",
                    f"the config's outputs has {absent[0]!r:.80}, and the model gives: {there[:600]}",
                )
            return {name: by_name[name] for name in self._names or by_name}
        values = list(found) if isinstance(found, tuple | list) else [found]
        names = self._names or [f"output_{place}" for place in range(len(values))]
        if len(names) != len(values):
            raise Failure(
                "failed_precondition", f"the model gives {len(values)} outputs, and the config names {len(names)}"
            )
        return {name: _plain(value) for name, value in zip(names, values, strict=True)}

    def _undeclared(self) -> list[Tensor]:
        """Inputs as forward names them, of the weights' dtype and any shape."""
        if self._kind == "torchscript":
            names = [argument.name for argument in self._module.forward.schema.arguments[1:]]
        else:
            given = inspect.signature(self._module.forward).parameters.values()
            names = [one.name for one in given if one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD]
        dtypes = [str(weight.dtype).removeprefix("torch.") for weight in self._module.parameters()]
        dtype = next((dtype for dtype in dtypes if dtype in _DTYPES), "float32")
        return [Tensor(name, dtype, None) for name in names]


def _kind(path: Path) -> str:
    """What a file holds, by its content: "torchscript" or "safetensors". Raises `Failure` for pickles and others."""
    with path.open("rb") as file:
        head = file.read(9)
    names = _names_in(path)
    if "constants.pkl" in names and any(name.startswith("code/") for name in names):
        return "torchscript"
    if "data.pkl" in names:
        raise _pickled(path)
    if head[:1] == b"\x80":
        raise _pickled(path)
    if len(head) == 9 and head[8:] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size:
        return "safetensors"
    what = "is empty" if not head else "is neither TorchScript nor safetensors, or it is damaged"
    raise _invalid(f"{path} {what}. Save the model again")


def _names_in(path: Path) -> list[str]:
    """The files in an archive, without the folder that they are in; none if it is no archive, or a damaged one."""
    try:
        with zipfile.ZipFile(path) as archive:
            return [name.partition("/")[2] for name in archive.namelist()]
    except Exception:  # what zipfile raises for a damaged one has no class in common
        return []


def _pickled(path: Path) -> Failure:
    return Failure(
        "permission_denied",
        f"{path} is a pickle, as torch.save writes it, which can run any code when it is read, and is never loaded. "
        "Where it was made, save the weights by safetensors.torch.save_file(model.state_dict(), …), or the model by "
        "torch.jit.script(model).save(…)",
    )


def _from_script(path: Path) -> Any:
    try:
        return torch.jit.load(str(path), map_location="cpu")
    except Exception as error:
        raise _invalid(
            f"{path} cannot be loaded by torch {torch.__version__}: {_last_line(error)}. If it is damaged, or made by "
            "a newer torch, save it again"
        ) from error


def _from_weights(path: Path, config: dict[str, Any]) -> Any:
    if "module" not in config:
        raise _invalid(
            f'config: {path.name} holds weights alone: name their class, as in module = "package.module:Net"'
        )
    if find_spec("safetensors") is None:
        raise Failure(
            "failed_precondition",
            f"reading {path.name} needs safetensors, which {sys.executable} lacks: pip install 'mlports[torch]'",
        )
    import safetensors.torch

    module = _made(config["module"], config.get("kwargs", {}))
    try:
        weights = safetensors.torch.load_file(str(path))
    except Exception as error:
        raise _invalid(f"{path} is damaged: {_last_line(error)}. Save the weights again") from error
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        told = " ".join(str(error).split())
        raise _invalid(f"the weights in {path} are not those of {config['module']}: {told[:600]}") from error
    return module


def _made(path: str, kwargs: dict[str, Any]) -> Any:
    """The module of a class such as "package.module:Class". Raises `Failure` if it cannot be made."""
    place, _, name = path.partition(":")
    if not place or not name:
        raise _invalid(f'config: module is written as "package.module:Class", not {path!r:.80}')
    try:
        found = getattr(importlib.import_module(place), name)
    except (ImportError, AttributeError) as error:
        raise Failure("not_found", f"config: module {path!r}: {error}. Is its folder on PYTHONPATH?") from error
    try:
        module = found(**kwargs)
    except Exception as error:
        raise _invalid(f"config: {path} cannot be made with {kwargs!r:.200}: {error}") from error
    if not isinstance(module, torch.nn.Module):
        raise _invalid(f"config: {path} is no torch.nn.Module")
    return module


def _declared(one: Any) -> Tensor:
    if not isinstance(one, dict) or one.keys() - {"name", "dtype", "shape"} or not isinstance(one.get("name"), str):
        raise _invalid(f"config: an input has a name, a dtype and a shape, not {one!r:.80}")
    dtype, shape = one.get("dtype", "float32"), one.get("shape")
    if dtype not in _DTYPES:
        raise _invalid(f"config: the dtype of {one['name']!r} is one of {', '.join(_DTYPES)}, not {dtype!r:.80}")
    if shape is not None and (not isinstance(shape, list) or not all(type(axis) in (int, str) for axis in shape)):
        raise _invalid(f'config: the shape of {one["name"]!r} is a list such as ["n", 4], not {shape!r:.80}')
    return Tensor(one["name"], dtype, None if shape is None else tuple(shape))


def _are_names(names: list[Any]) -> bool:
    return bool(names) and all(isinstance(name, str) for name in names) and len(set(names)) == len(names)


def _device(name: str) -> Any:
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except Exception as error:
        raise Failure(
            "failed_precondition", f"config: the device {name!r:.80} cannot be used: {_last_line(error)}"
        ) from error
    return device


def _plain(value: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        return value if isinstance(value, bool | int | float | str | None) else repr(value)
    value = value.detach().cpu()
    return value.float().numpy() if value.dtype == torch.bfloat16 else value.numpy()


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:600].rstrip(".")


def _invalid(message: str) -> Failure:
    return Failure("invalid_argument", message)
