"""Functions of a file, by the names that a worker's config has for them."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from mlports_worker import Failure

from . import settings
from .exits import exits_told
from .program_file import load

_KNOWN: dict[str, tuple[type, ...]] = {
    "file": (str,),
    "function": (str,),
    "functions": (list,),
    "setup": (str,),
    "settings": (dict,),
    "batch": (bool, list),
    "idempotent": (bool, list),
}


class Served(NamedTuple):
    """One function, and how it is served."""

    function: Callable[..., Any]
    batch: bool
    idempotent: bool


class Functions:
    """The functions that a config names; `config` is that of `mlports_models.script`.

    Raises `Failure` for a config that cannot be used and a file that cannot be loaded; what its set-up raises goes
    through.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        settings.check(config, _KNOWN)
        if not config.get("file"):
            raise _refused("there is no file: name a Python file")
        names = _names(config)
        chosen = {option: _among(config, option, names) for option in ("batch", "idempotent")}
        module = load(Path(config["file"]))
        functions = {name: _function(module, name) for name in names}
        _set_up(module, config)
        self.served = {
            name: Served(exits_told(function, name), *(name in chosen[option] for option in ("batch", "idempotent")))
            for name, function in functions.items()
        }

    def schema(self) -> dict[str, Any]:
        """What each function takes and gives, as its file says: signature, parameters, documentation."""
        return {name: _described(served) for name, served in self.served.items()}


def _refused(text: str) -> Failure:
    return Failure("invalid_argument", f"config: {text}")


def _names(config: Mapping[str, Any]) -> list[str]:
    if ("function" in config) == ("functions" in config):
        raise _refused("name what is served, either by function, a name, or by functions, a list of names")
    names = config["functions"] if "functions" in config else [config["function"]]
    if not names or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise _refused(f"functions takes names, each once, not {names!r:.80}")
    return list(names)


def _among(config: Mapping[str, Any], option: str, names: list[str]) -> list[str]:
    chosen = config.get(option, False)
    if isinstance(chosen, bool):
        return names if chosen else []
    for name in chosen:
        if name not in names:
            raise _refused(f"{option} names {name!r:.80}, which is not served; there are: {', '.join(names)}")
    return list(chosen)


def _function(module: ModuleType, name: str) -> Callable[..., Any]:
    file = Path(module.__file__ or "").name
    if not hasattr(module, name):
        raise _refused(f"{file} has no function {name!r:.80}; {_hint(module, name)}")
    function: Any = getattr(module, name)
    if not callable(function):
        raise _refused(f"{name} in {file} is no function, but {type(function).__name__}; {_hint(module, name)}")
    return function  # type: ignore[no-any-return]  # callable, as just seen


def _hint(module: ModuleType, name: str) -> str:
    there = [
        key
        for key, value in vars(module).items()
        if inspect.isroutine(value) and not key.startswith("_") and key != name and value.__module__ == module.__name__
    ]
    near = difflib.get_close_matches(name, there, n=1)
    return f"did you mean {near[0]!r}?" if near else f"its functions are: {', '.join(there) or 'none'}"


def _set_up(module: ModuleType, config: Mapping[str, Any]) -> None:
    given = config.get("settings", {})
    if "setup" not in config:
        if given:
            raise _refused("settings are for a setup function, and none is named")
        return
    name = config["setup"]
    setup = _function(module, name)
    if inspect.iscoroutinefunction(setup):
        raise _refused(f"the setup function {name} is async; it is called before there is an event loop")
    try:
        inspect.signature(setup).bind(**given)
    except TypeError as error:
        raise _refused(f"settings: {error}; the function is {name}{inspect.signature(setup)}") from None
    exits_told(setup, name)(**given)


def _described(served: Served) -> dict[str, Any]:
    function = served.function
    described: dict[str, Any] = {
        "doc": inspect.getdoc(function),
        "stream": inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function),
        "batch": served.batch,
        "idempotent": served.idempotent,
    }
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some of those that are written in C
        return {"signature": None, "parameters": None, **described}
    return {
        "signature": str(signature),
        "parameters": [_parameter(p) for p in signature.parameters.values()],
        **described,
    }


def _parameter(parameter: inspect.Parameter) -> dict[str, Any]:
    empty = inspect.Parameter.empty
    annotation = parameter.annotation
    if annotation is not empty and not isinstance(annotation, str):
        annotation = inspect.formatannotation(annotation)
    told = {
        "name": parameter.name,
        "type": None if annotation is empty else annotation,
        "required": parameter.default is empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD),
    }
    return told if parameter.default is empty else {**told, "default": repr(parameter.default)}
