"""A ready-made worker's `config`, checked before anything is made of it."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from mlports_worker import Failure

INSTALL = "pip install 'mlports[models]'"


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
    if find_spec("numpy") is None:
        raise Failure(
            "failed_precondition",
            f"the {worker} worker cannot start: numpy is not installed for {sys.executable}: {INSTALL}",
        )
