"""A configuration file, read and checked."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mlports.config.models import BackoffConfig, Config, SupervisorConfig, reserved
from mlports.config.story import Fault, told
from mlports.errors import ConfigError
from mlports.toml_lines import TomlLines, dotted, read_toml

_OF_PYTHON = ("path", "directory", "supervisors")
"""Fields of `Config` that are no keys of the file."""


class ConfigErrors(ConfigError):
    """Several things wrong with one file.

    `errors` has them in the file's order, and the text says one a line; the fields are the first one's.
    """

    def __init__(self, errors: Sequence[ConfigError]) -> None:
        first = errors[0]
        super().__init__(first.message, file=first.file, line=first.line, key=first.key, fix=first.fix)
        self.errors = tuple(errors)

    def __str__(self) -> str:
        return "\n".join(map(str, self.errors))


def load_config(path: str | os.PathLike[str]) -> Config:
    """Reads and checks a configuration file. Raises `ConfigError`; if several things are wrong, its `ConfigErrors`."""
    file = os.fspath(path)
    tables, text = read_toml(file)
    place = {"path": Path(os.path.abspath(file)), "directory": Path(os.path.abspath(file)).parent}
    faults = [Fault("extra_forbidden", (key,), tables.pop(key), {}) for key in _OF_PYTHON if key in tables]
    if tables.get("service", {}) == {} and tables.get("program", {}) == {}:
        faults.append(Fault("missing", ("service",), {}, {}))
    faults += _take_apart(tables)
    try:
        config = Config.model_validate({**tables, **place})
    except ValidationError as error:
        faults += [Fault(e["type"], e["loc"], e["input"], e.get("ctx", {})) for e in error.errors(include_url=False)]
    if not faults:
        return config
    lines = TomlLines(text)
    errors = sorted((_as_error(fault, lines, file) for fault in faults), key=lambda error: error.line or 0)
    raise errors[0] if len(errors) == 1 else ConfigErrors(errors)


def _take_apart(tables: dict[str, Any]) -> list[Fault]:
    """Puts each [supervisor.NAME] among the `supervisors`; what is wrong with their names."""
    root = tables.get("supervisor")
    if not isinstance(root, dict):
        return []
    faults = []
    below = tables["supervisors"] = {}
    for name, value in list(root.items()):
        if _is_backoff(value) or not (isinstance(value, dict) or _is_array_of_tables(value)):
            continue
        if name not in SupervisorConfig.model_fields:
            below[name] = root.pop(name)
        elif name != "backoff" or value.keys() & SupervisorConfig.model_fields.keys():
            del root[name]
            faults.append(Fault("mlports_config", ("supervisors", name), value, reserved(name).context or {}))
    return faults


def _is_backoff(value: object) -> bool:
    """Whether a table below [supervisor] is, perhaps misspelt, the one that is no supervisor."""
    return isinstance(value, dict) and bool(value) and value.keys() <= BackoffConfig.model_fields.keys()


def _is_array_of_tables(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value)


def _as_error(fault: Fault, lines: TomlLines, file: str) -> ConfigError:
    problem, fix = told(fault)
    return ConfigError(problem, file=file, line=lines.line(fault.key), key=dotted(fault.key) or None, fix=fix)
