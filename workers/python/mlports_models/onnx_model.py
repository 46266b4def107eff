"""An ONNX model in a session of onnxruntime: what it declares, and what it gives."""

from __future__ import annotations

import re
from typing import Any

import onnxruntime

from mlports_worker import Failure

from . import settings, tensors
from .tensors import Tensor, Values

_CONFIG = {"model": (str,), "models_dir": (str,), "outputs": (list,), "threads": (int,), "providers": (list,)}
_DTYPES = {"float": "float32", "double": "float64", "string": "str"} | {
    name: name for name in ("float16", "bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))
}


class OnnxModel:
    """One model, loaded. `config` is the service's (see `onnx`); raises `Failure` if it cannot be served."""

    def __init__(self, config: dict[str, Any]) -> None:
        settings.check(config, _CONFIG)
        settings.within(config, {"threads": (0, 1024)})
        self._file = settings.model_file(config, "onnx", ".onnx")
        self._session = _session(str(self._file), config)
        self._inputs = [_input(node, str(self._file)) for node in self._session.get_inputs()]
        declared = self._session.get_outputs()
        self._gives = {node.name: {"name": node.name, **_shape_of(node)} for node in declared}
        self._outputs = self._chosen(config["outputs"]) if "outputs" in config else list(self._gives)
        self._together = all(tensor.by_rows for tensor in self._inputs) and all(
            not isinstance((self._gives[name]["shape"] or [None])[0], int) for name in self._outputs
        )

    def predict(self, values: list[Any]) -> list[Any]:
        """See `onnx.predict`."""
        return tensors.predict(values, self._inputs, self._together, lambda given: self._run(given, self._outputs))

    def run(self, inputs: Any, outputs: Any) -> dict[str, Any]:
        """See `onnx.run`."""
        names = list(self._gives) if outputs is None else self._chosen(outputs)
        found = self._run(tensors.checked(inputs, self._inputs), names)
        return {name: tensors.sendable({name: value}) for name, value in found.items()}

    def schema(self) -> dict[str, Any]:
        """See `onnx.schema`."""
        return {
            "takes": [tensor.told() for tensor in self._inputs],
            "gives": [self._gives[name] for name in self._outputs],
        }

    def info(self) -> dict[str, Any]:
        """See `onnx.info`."""
        of = self._session.get_modelmeta()
        return {
            "file": str(self._file),
            "producer": of.producer_name,
            "graph": of.graph_name,
            "description": of.description,
            "version": of.version,
            "metadata": dict(of.custom_metadata_map),
            "providers": self._session.get_providers(),
            "threads": self._session.get_session_options().intra_op_num_threads,
            "onnxruntime": onnxruntime.__version__,
        }

    def _run(self, given: Values, names: list[str]) -> dict[str, Any]:
        try:
            found = self._session.run(names, given)
        except Exception as error:  # onnxruntime has no class that all its errors have in common
            shapes = ", ".join(f"{name!r} {list(array.shape)}" for name, array in given.items())
            raise Failure(
                "invalid_argument", f"{self._file.name} cannot be run with inputs of shapes {shapes}: {_told(error)}"
            ) from error
        return dict(zip(names, found, strict=True))

    def _chosen(self, names: Any) -> list[str]:
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            raise Failure("invalid_argument", f"outputs is a list of their names, not {names!r:.80}")
        for name in names:
            if name not in self._gives:
                there = ", ".join(map(repr, self._gives))
                raise Failure("invalid_argument", f"the model has no output {name!r:.80}; there are: {there}")
        return names


def _session(path: str, config: dict[str, Any]) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = config.get("threads", 1)
    options.log_severity_level = 3  # what is worth a warning is said here
    providers = config.get("providers", ["CPUExecutionProvider"])
    missing = [name for name in providers if name not in onnxruntime.get_available_providers()]
    if missing or not providers:
        there = ", ".join(onnxruntime.get_available_providers())
        raise Failure(
            "failed_precondition", f"config: this onnxruntime has no provider {missing or 'named'}; there are: {there}"
        )
    try:
        return onnxruntime.InferenceSession(path, options, providers=providers)
    except Exception as error:  # as in `_run`
        raise Failure(
            "invalid_argument",
            f"{path} is no model that onnxruntime {onnxruntime.__version__} can run: {_told(error)}. If it is damaged, "
            "export it again; if its operators are too new, export it for an older opset",
        ) from error


def _input(node: Any, path: str) -> Tensor:
    dtype = _dtype(node.type)
    if dtype not in _DTYPES.values():
        raise Failure("unimplemented", f"{path}: the input {node.name!r} is a {node.type}, which cannot be sent")
    return Tensor(node.name, dtype, tuple(node.shape) or None)  # [] is an unknown shape, too


def _shape_of(node: Any) -> dict[str, Any]:
    tensor = node.type.startswith("tensor(")
    return {"dtype": _dtype(node.type), "shape": list(node.shape) if tensor and node.shape is not None else None}


def _dtype(kind: str) -> str:
    """numpy's name for a tensor's element, as in "tensor(float)"; for anything else the type as it is."""
    found = re.fullmatch(r"tensor\((\w+)\)", kind)
    return _DTYPES.get(found[1], kind) if found else kind


def _told(error: Exception) -> str:
    """onnxruntime's words without its prefixes and places in its source."""
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", str(error))
    return " ".join(text.split())[:600].rstrip(".")
