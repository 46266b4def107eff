"""A ready-made worker's `config`, checked before anything is made of it."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mlports_worker import Failure


def check(config: Mapping[str, Any], known: Mapping[str, tuple[type, ...]]) -> None:
    """Raises `Failure` for a key of `config` that is not `known`, and for a value of none of the types it may have.

    True and False are no numbers here. The key `snapshot` is the SDK's, and always known.
    """
    for key, value in config.items():
        if key == "snapshot":
            continue
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known)}"
            raise Failure("invalid_argument", f"config: there is no key {key!r:.80}; {hint}")
        kinds = known[key]
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            names = " or ".join(kind.__name__ for kind in kinds)
            raise Failure("invalid_argument", f"config: {key} takes {names}, not {value!r:.80}")


def need_numpy(worker: str) -> None:
    """Raises `Failure` where numpy is not installed, saying how it gets there."""
    need(worker, "models", numpy="numpy")


def need(worker: str, extra: str, **packages: str) -> None:
    """Raises `Failure` for the first module that is not installed, of those named with their packages.

    It says which of this distribution's extras brings them. None of them is imported here.
    """
    for module, package in packages.items():
        if find_spec(module) is None:
            raise Failure(
                "failed_precondition",
                f"the {worker} worker cannot start: {package} is not installed for {sys.executable}: "
                f"pip install 'mlports[{extra}]'",
            )


def within(config: Mapping[str, Any], limits: Mapping[str, tuple[float, float]]) -> None:
    """Raises `Failure` for a number of `config` that is below or above its limits."""
    for key, (least, most) in limits.items():
        if key in config and not least <= config[key] <= most:
            raise Failure("invalid_argument", f"config: {key} is from {least:,} to {most:,}, not {config[key]}")


def model_file(config: Mapping[str, Any], worker: str, *suffixes: str) -> Path:
    """The file that `model` names, in `models_dir`. Raises `Failure` if none is named, or there is none.

    `suffixes` are those that such files have, to say which there are.
    """
    if not config.get("model"):
        kinds = " or ".join(suffixes)
        raise Failure("invalid_argument", f"config: the {worker} worker needs a model: the name of a file, {kinds}")
    path = Path(config.get("models_dir", "."), config["model"]).resolve()
    if not path.exists():
        there = sorted(file.name for file in path.parent.glob("*") if file.suffix in suffixes)
        raise Failure("not_found", f"there is no file {path}; models beside it: {', '.join(there[:20]) or 'none'}")
    if not path.is_file() or not os.access(path, os.R_OK):
        raise Failure("permission_denied", f"{path} cannot be read as a file")
    return path
