"""The preparation that a worker serves, from its configuration to its answers; see `preprocess`."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable
from typing import Any

import numpy as np

from mlports_worker import Failure

from . import registry, tables
from .model_files import ModelFolder
from .preparation import Preparation
from .rows import Array

_CONFIG = {"columns": dict, "preparation": str, "digest": str, "folder": str}
_FORMAT = 1


class Preparing:
    """One preparation and what can be done with it. Raises `Failure` for a config that cannot be used."""

    def __init__(self, config: dict[str, Any]) -> None:
        for key, value in config.items():
            if key not in _CONFIG or not isinstance(value, _CONFIG[key]):
                near = registry.nearest(key, _CONFIG)
                hint = f"did you mean {near!r}?" if near else f"there are: {', '.join(_CONFIG)}"
                told = f"{key} cannot be {value!r:.80}" if key in _CONFIG else f"there is no key {key!r:.80}; {hint}"
                raise _invalid(f"config: {told}")
        if ("columns" in config) == ("preparation" in config):
            raise _invalid("config: name either the columns to prepare, or a saved preparation")
        self._files = ModelFolder(config.get("folder", "."), (), lambda level, text: None)
        if "columns" in config:
            self._preparation = Preparation(config["columns"])
        else:
            self._preparation = self._load(config["preparation"], config.get("digest"))

    def partial_fit(self, rows: Any) -> dict[str, Any]:
        """See `preprocess.partial_fit`."""
        self._learn(self._preparation, rows)
        return self.info()

    def fit(self, chunks: Iterable[Any]) -> dict[str, Any]:
        """See `preprocess.fit`."""
        learning = copy.deepcopy(self._preparation)
        for number, chunk in enumerate(chunks):
            try:
                self._learn(learning, chunk)
            except Failure as failure:
                told = f"table {number} of the stream, {failure.message}. Nothing was learned from any of them"
                raise Failure(failure.code, told, data=failure.data) from failure
        learning.freeze()
        self._preparation = learning
        return self.info()

    def freeze(self) -> dict[str, Any]:
        """See `preprocess.freeze`."""
        self._preparation.freeze()
        return self.info()

    def transform(self, values: list[Any]) -> list[Any]:
        """The outcome for each caller, in order."""
        outcomes: list[Any] = []
        for value in values:
            try:
                outcomes.append(self._features(value))
            except Failure as failure:
                outcomes.append(failure)
        return outcomes

    def save(self, path: Any) -> dict[str, Any]:
        """See `preprocess.save`."""
        digest = self._preparation.digest
        state = {"format": _FORMAT, "digest": digest, **self._preparation.as_state()}
        target = self._files.write(path, (json.dumps(state, indent=1) + "\n").encode())
        return {"path": str(target.relative_to(self._files.folder)), "digest": digest}

    def info(self) -> dict[str, Any]:
        """See `preprocess.info`."""
        preparation = self._preparation
        return {
            "frozen": preparation.frozen,
            "digest": preparation.digest if preparation.frozen else None,
            "rows": preparation.rows,
            "columns": preparation.specs,
            "features": preparation.features() if preparation.frozen else None,
        }

    def _learn(self, preparation: Preparation, rows: Any) -> None:
        given, count, _ = tables.columns_of(rows)
        if count:
            preparation.partial_fit(preparation.typed(given))

    def _features(self, value: Any) -> Any:
        given, count, single = tables.columns_of(value)
        if not count:
            return np.empty((0, len(self._preparation.features())))
        matrix: Array = self._preparation.matrix(self._preparation.typed(given))
        return matrix[0] if single else matrix

    def _load(self, name: str, digest: str | None) -> Preparation:
        path = self._files.folder / name
        try:
            state = json.loads(path.read_text("utf-8"))
        except OSError as error:
            raise Failure("not_found", f"{path} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise _invalid(f"{path} is no saved preparation: {error}") from error
        if not isinstance(state, dict) or state.get("format") != _FORMAT:
            told = state.get("format") if isinstance(state, dict) else None
            raise _invalid(f"{path} is of format {told!r:.80}, and this mlports reads format {_FORMAT}: save it again")
        preparation = Preparation.from_state(state, state.get("digest"))
        if digest is not None and digest != preparation.digest:
            raise Failure(
                "failed_precondition",
                f"{path} is the preparation {preparation.digest}, and the config wants {digest}: what the model was "
                "trained with is not what it would be served with",
            )
        return preparation


def _invalid(message: str) -> Failure:
    return Failure("invalid_argument", message)
