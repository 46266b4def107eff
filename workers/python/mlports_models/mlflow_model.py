"""An MLflow model: how it is found and loaded, what its signature takes, and what it gives."""

from __future__ import annotations

import importlib.metadata
import logging
import platform
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import mlflow
import mlflow.pyfunc
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from packaging.requirements import InvalidRequirement, Requirement

from mlports_worker import Failure

from . import rows, settings, tables, tensors
from .tensors import Asked, Tensor, Values

_CONFIG = {
    "model": (str,),
    "trust": (bool,),
    "models_dir": (str,),
    "tracking_uri": (str,),
    "registry_uri": (str,),
    "params": (dict,),
}
_ONLY = "inputs"  # what we call a tensor that the signature has no name for
_RANGES = {"integer": (-(2**31), 2**31), "long": (-(2**63), 2**63)}
_ABSENT = ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND")


class MlflowModel:
    """One model, loaded. `config` is the service's (see `mlflow`), `log(level, text)` takes what does not fit.

    Raises `Failure` if it cannot be served.
    """

    def __init__(self, config: dict[str, Any], log: Callable[..., None]) -> None:
        settings.check(config, _CONFIG)
        self._uri = _uri(config)
        logging.getLogger("mlflow.utils.requirements_utils").setLevel(logging.ERROR)  # we say the same
        folder = _fetched(self._uri, config)
        self._mismatches = list(_mismatches(folder))
        for text in self._mismatches:
            log("warning", f"{self._uri}: {text}")
        self._model = _loaded(folder, self._uri, self._mismatches)
        self._params = config.get("params")
        signature = self._model.metadata.signature
        self._takes = None if signature is None else signature.inputs
        self._gives = None if signature is None else signature.outputs
        self._tensors: list[Tensor] | None = None
        if self._takes is not None and self._takes.is_tensor_spec():
            self._tensors = [_tensor(spec) for spec in self._takes.inputs]

    def predict(self, values: list[Any]) -> list[Any]:
        """See `mlflow.predict`."""
        if self._tensors is not None:
            together = all(tensor.by_rows for tensor in self._tensors)
            return tensors.predict(values, self._tensors, together, self._run_tensors)
        return tensors.answer(values, self._read, True, self._run)

    def schema(self) -> dict[str, Any]:
        """See `mlflow.schema`."""
        return {"takes": _told(self._takes), "gives": _told(self._gives)}

    def info(self) -> dict[str, Any]:
        """See `mlflow.info`."""
        metadata = self._model.metadata
        return {
            "uri": self._uri,
            "flavours": sorted(metadata.flavors),
            "run": metadata.run_id,
            "made_with": {
                "mlflow": metadata.mlflow_version,
                "python": metadata.flavors.get("python_function", {}).get("python_version"),
            },
            "mismatches": self._mismatches,
            "mlflow": mlflow.__version__,
        }

    # -- its parts

    def _read(self, value: Any) -> Asked:
        if isinstance(value, list) and not value:
            return Asked({}, 0, False)
        if self._takes is None and not isinstance(value, dict) and not _is_rows(value):
            array = rows.as_array(value, "the table")
            if not array.ndim:
                raise _invalid("the model says nothing of what it takes: give a table, or rows with their columns")
            return Asked({_ONLY: array}, len(array), False)
        given, count, single = tables.columns_of(value)
        if self._takes is None:
            return Asked({name: _free(list(column)) for name, column in given.items()}, count, single)
        columns = {column.name: column for column in self._takes.inputs}
        wanted = [name for name, column in columns.items() if column.required or name in given]
        tables.check_columns(given, wanted if given.keys() <= columns.keys() else list(columns))
        return Asked({name: _typed(columns[name], given[name]) for name in wanted}, count, single)

    def _run(self, given: Values) -> dict[str, Any]:
        if given.keys() == {_ONLY} and self._takes is None:
            return self._outputs(given[_ONLY])
        return self._outputs(
            pd.DataFrame({name: list(column) if column.dtype == object else column for name, column in given.items()})
        )

    def _run_tensors(self, given: Values) -> dict[str, Any]:
        unnamed = given.keys() == {_ONLY}
        return self._outputs(given[_ONLY] if unnamed else given)

    def _outputs(self, given: Any) -> dict[str, Any]:
        try:
            found = self._model.predict(given) if self._params is None else self._model.predict(given, self._params)
        except MlflowException as error:
            raise _invalid(f"the model refuses it: {_reason(error)}") from error
        except (ValueError, TypeError) as error:
            raise _invalid(f"the model cannot take it: {error}") from error
        except Exception as error:
            raise Failure("unknown", f"the model failed: {type(error).__name__}: {error}") from error
        if isinstance(found, pd.DataFrame):
            return {str(name): _plain(found[name]) for name in found}
        if isinstance(found, dict):
            return {str(name): _plain(value) for name, value in found.items()}
        return {"output": _plain(found)}


def _uri(config: dict[str, Any]) -> str:
    model = config.get("model")
    if not model:
        raise _invalid(
            'config: the mlflow worker needs a model: its URI, such as "models:/NAME/VERSION", or its folder'
        )
    if config.get("trust") is not True:
        raise Failure(
            "permission_denied",
            f"{model} was not loaded: an MLflow model is a program, and loading it runs the code of whoever made it. "
            "If you know where it comes from, have the service's config say trust = true",
        )
    if ":/" in model:
        return str(model)
    path = Path(config.get("models_dir", "."), model).resolve()
    if not (path / "MLmodel").is_file():
        what = "has no file MLmodel, and so is no MLflow model" if path.is_dir() else "is not there"
        raise Failure("not_found", f"the folder {path} {what}")
    return str(path)


def _fetched(uri: str, config: dict[str, Any]) -> Path:
    """The model's folder, fetched if it is elsewhere."""
    if "tracking_uri" in config:
        mlflow.set_tracking_uri(config["tracking_uri"])
    if "registry_uri" in config:
        mlflow.set_registry_uri(config["registry_uri"])
    try:
        return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri))
    except MlflowException as error:
        code = "not_found" if error.error_code in _ABSENT else "failed_precondition"
        raise Failure(code, f"{uri} cannot be had from {mlflow.get_tracking_uri()}: {_reason(error)}") from error
    except ImportError as error:
        raise Failure(
            "failed_precondition",
            f"{uri} cannot be fetched: {error}, for {sys.executable}. Install what its store needs",
        ) from error
    except Exception as error:
        raise Failure("failed_precondition", f"{uri} cannot be fetched: {type(error).__name__}: {error}") from error


def _loaded(folder: Path, uri: str, mismatches: list[str]) -> Any:
    others = f". Other versions are installed than it was made with: {'; '.join(mismatches)}" if mismatches else ""
    try:
        return mlflow.pyfunc.load_model(str(folder))
    except ImportError as error:
        file = folder / "requirements.txt"
        how = f"pip install -r {file}" if file.is_file() else "install it"
        name = error.name or str(error)
        raise Failure(
            "failed_precondition", f"{uri} needs the package {name}, which {sys.executable} lacks: {how}{others}"
        ) from error
    except MlflowException as error:
        raise _invalid(f"{uri} cannot be loaded: {_reason(error)}{others}") from error
    except Exception as error:
        told = f"{type(error).__name__}: {error}"
        raise _invalid(f"{uri} cannot be loaded, it is damaged or of other versions: {told[:600]}{others}") from error


def _mismatches(folder: Path) -> Iterable[str]:
    """How what is installed differs from what the model's requirements pin."""
    file = folder / "requirements.txt"
    lines = file.read_text("utf-8").splitlines() if file.is_file() else []
    for line in lines:
        try:
            wanted = Requirement(line.partition("#")[0])
        except InvalidRequirement:  # an option of pip's, a path, or nothing
            continue
        if wanted.name == "mlflow":  # of which mlflow-skinny is the part that loads models
            continue
        try:
            there = importlib.metadata.version(wanted.name)
        except importlib.metadata.PackageNotFoundError:
            yield f"it wants {wanted}, and there is none"
        else:
            if not wanted.specifier.contains(there, prereleases=True):
                yield f"it wants {wanted}, and there is {there}"
    yield from _other_python(folder)


def _other_python(folder: Path) -> Iterable[str]:
    file = folder / "python_env.yaml"
    lines = file.read_text("utf-8").splitlines() if file.is_file() else []
    for line in lines:
        key, _, version = line.partition(":")
        here = platform.python_version()
        if key == "python" and version.strip().split(".")[:2] != here.split(".")[:2]:
            yield f"it was made with Python {version.strip()}, and this is {here}"


def _tensor(spec: Any) -> Tensor:
    dtype = "str" if spec.type.kind in "OSU" else spec.type.name
    return Tensor(spec.name or _ONLY, dtype, tuple(None if axis == -1 else axis for axis in spec.shape))


def _told(schema: Any) -> list[dict[str, Any]] | None:
    """A signature's inputs or outputs as plain values."""
    if schema is None:
        return None
    if schema.is_tensor_spec():
        return [_tensor(spec).told() for spec in schema.inputs]
    return [
        {"name": column.name, "type": getattr(column.type, "name", str(column.type)), "required": column.required}
        for column in schema.inputs
    ]


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _typed(column: Any, values: Any) -> rows.Array:
    """A column's values as its type in the signature has them. Raises `Failure` that names the column."""
    name, kind = column.name, getattr(column.type, "name", str(column.type))
    if kind in ("double", "float"):
        return tables.numbers(name, values).astype("f8" if kind == "double" else "f4")
    items = values.tolist() if isinstance(values, np.ndarray) else values
    if kind in _RANGES:
        least, limit = _RANGES[kind]
        wrong = [item for item in items if type(item) is not int or not least <= item < limit]
    elif kind in ("boolean", "string"):
        wanted = bool if kind == "boolean" else str
        wrong = [item for item in items if type(item) is not wanted and (item is not None or column.required)]
    else:
        return _datetimes(name, items) if kind == "datetime" else _free(items)
    if wrong:
        raise _invalid(f"column {name!r} is of type {kind}, and has {wrong[0]!r:.80}")
    return np.array(items, {"integer": "i4", "long": "i8"}.get(kind, object))


def _datetimes(name: str, items: list[Any]) -> rows.Array:
    try:
        return np.array(items, "M8[ns]")
    except (ValueError, TypeError) as error:
        raise _invalid(f"column {name!r} is of times such as '2026-11-21T20:00:00': {error}") from error


def _free(items: list[Any]) -> rows.Array:
    """Values as they are: numbers as an array of them, others as objects."""
    if items and all(type(item) in (int, float, bool) for item in items):
        return np.asarray(items)
    array = np.empty(len(items), object)
    array[:] = items
    return array


def _plain(value: Any) -> Any:
    array = value.to_numpy() if isinstance(value, pd.Series) else value
    if hasattr(array, "toarray"):
        array = array.toarray()
    if isinstance(array, np.ndarray) and array.dtype.kind == "M":
        array = np.datetime_as_string(array).astype(object)
    return array


def _reason(error: MlflowException) -> str:
    """mlflow's words without the table that they begin with."""
    return " ".join(str(error).rpartition("Error: ")[2].split())[:600].rstrip(".")


def _invalid(message: str) -> Failure:
    return Failure("invalid_argument", message)
