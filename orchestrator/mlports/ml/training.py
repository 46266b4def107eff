"""Training in workers, and serving what came of it: `Model`, `Trained`, `Served`."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlports import BlockingOrchestrator, Orchestrator, ServiceConfig, open
from mlports.ml.definition import Definition
from mlports.ml.errors import ModelError
from mlports.ml.table import columns_of, needed

COMMAND = ["python", "-m", "mlports_models.model"]
_START = "120s"  # scikit-learn and pandas are imported by as many workers as there are replicas, at the same time
_FRAME = "1GiB"  # the most that a table or a model may take on its way


@dataclass(frozen=True)
class Model:
    """A model that is defined, and not trained yet; see `mlports.ml.model`."""

    definition: Definition

    @property
    def formula(self) -> str:
        """The formula's text."""
        return self.definition.formula.text

    def train(
        self,
        table: Any,
        *,
        folds: int | None = None,
        holdout: float | None = 0.2,
        seed: int = 0,
        replicas: int = 2,
        orch: BlockingOrchestrator | None = None,
        service: str = "trainer",
    ) -> Trained:
        """Trains from all rows of a table, in a worker, and measures how good it is.

        table: see `mlports.ml.table.columns_of`. holdout: the share of rows that a model trained from the others is
        scored on; None for none. folds: cross-validation in so many, spread over all replicas. seed: what draws those
        rows. orch, service: an orchestrator of one's own and its service, such as `trainer(4)`; else workers are
        started for this training alone, `replicas` of them if there are folds.

        Raises `ModelError`, `InvalidArgument` when the worker finds the table wanting, `StartFailed` when it cannot
        start, and what calls raise.
        """
        _check_evaluation(folds, holdout, seed)
        columns = needed(columns_of(table), self.definition.formula)
        if orch is None:
            with open({service: trainer(replicas if folds else 1)}) as own:
                return self.train(columns, folds=folds, holdout=holdout, seed=seed, orch=own, service=service)
        work = self._folds(columns, folds, seed)
        scores = orch.map(f"{service}.score_fold", work, timeout=None) if folds else None
        plain = self.definition.as_plain()
        return Trained.of(
            plain["name"], orch.call(f"{service}.train", plain, columns, holdout, scores, seed, timeout=None)
        )

    async def train_in(
        self,
        orch: Orchestrator,
        service: str,
        table: Any,
        *,
        folds: int | None = None,
        holdout: float | None = 0.2,
        seed: int = 0,
    ) -> Trained:
        """`train` for async programs: by a service of one's own orchestrator, such as `trainer(4)`."""
        _check_evaluation(folds, holdout, seed)
        columns = needed(columns_of(table), self.definition.formula)
        scores = None
        if folds:
            scores = await orch.map(f"{service}.score_fold", self._folds(columns, folds, seed), timeout=None)
        plain = self.definition.as_plain()
        told = await orch.call(f"{service}.train", plain, columns, holdout, scores, seed, timeout=None)
        return Trained.of(plain["name"], told)

    def _folds(self, columns: Mapping[str, Any], folds: int | None, seed: int) -> Iterator[dict[str, Any]]:
        shared = {"definition": self.definition.as_plain(), "table": columns, "folds": folds, "seed": seed}
        return ({**shared, "fold": fold} for fold in range(folds or 0))


@dataclass(frozen=True)
class Trained:
    """A trained model: its card, and the file that serves it.

    `card` is plain values: formula, columns, rows, scores, coefficients, versions, digests; `markdown` is the same to
    read. `data` is what `save` writes.
    """

    name: str
    card: dict[str, Any]
    markdown: str
    data: bytes

    @classmethod
    def of(cls, name: str, told: Mapping[str, Any]) -> Trained:
        """What a worker's `train` answered."""
        return cls(name, told["card"], told["markdown"], bytes(told["model"]))

    @property
    def scores(self) -> dict[str, Any]:
        """`holdout`, and `cross_validation`: the folds', with mean and deviation. None where not measured."""
        scores: dict[str, Any] = self.card["scores"]
        return scores

    @property
    def coefficients(self) -> dict[str, float] | None:
        """Of a linear model, by feature, with "(intercept)"; None for others."""
        coefficients: dict[str, float] | None = self.card["coefficients"]
        return coefficients

    @property
    def trusted(self) -> list[str]:
        """The types in the file that only who knows where it comes from may trust: for `server`. Often none."""
        trusted: list[str] = self.card["trusted"]
        return trusted

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes the model to a .skops file, and its card beside it as .md and .json; each whole, or not at all.

        Raises `ModelError` when it cannot.
        """
        target = Path(path)
        if target.suffix != ".skops":
            raise ModelError(f"{target}: a model's file is called something.skops")
        card = json.dumps(self.card, indent=2, ensure_ascii=False) + "\n"
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            # The model last: where it stands, its card does.
            _write(target.with_suffix(".md"), self.markdown.encode())
            _write(target.with_suffix(".json"), card.encode())
            _write(target, self.data)
        except OSError as error:
            raise ModelError(f"{target} was not saved: {error.strerror or error}") from error
        return target

    @contextmanager
    def serve(self, replicas: int = 1) -> Iterator[Served]:
        """The model in workers of its own, for use with `with`. To serve it for long, `save` it and run `server()`."""
        with tempfile.TemporaryDirectory(prefix="mlports-model-") as folder:
            path = self.save(Path(folder) / "model.skops")
            with open({"model": server(path, replicas, trusted=self.trusted)}) as orch:
                yield Served(orch)


class Served:
    """A model in workers; see `Trained.serve`."""

    def __init__(self, orch: BlockingOrchestrator) -> None:
        self._orch = orch

    def predict(self, rows: Any) -> Any:
        """One prediction for a row (a dict), or a list of them for rows, or for a dict of lists.

        They are numbers on the scale of the formula's left side, or categories. Raises `InvalidArgument` for unknown
        and missing columns, by name, and for values that do not fit.
        """
        return self._orch.call("model.predict", _sendable(rows))

    def predict_proba(self, rows: Any) -> Any:
        """The probability of each category, in the schema's order, for a row; or a list of such lists."""
        return self._orch.call("model.predict_proba", _sendable(rows))

    def schema(self) -> dict[str, Any]:
        """What `predict` takes and gives: columns with types and categories."""
        schema: dict[str, Any] = self._orch.call("model.schema")
        return schema


def trainer(replicas: int = 1) -> ServiceConfig:
    """A service that trains and cross-validates models, for `Model.train_in`."""
    return ServiceConfig(command=COMMAND, replicas=replicas, start_timeout=_START, max_frame=_FRAME, timeout=None)


def server(path: str | os.PathLike[str], replicas: int = 1, *, trusted: Sequence[str] = ()) -> ServiceConfig:
    """A service that predicts by a saved model: `NAME.predict(row or rows)`, `NAME.schema()`, `NAME.card()`.

    trusted: types that skops does not trust by itself, and that the file may hold all the same; see `Trained.trusted`.
    """
    full = Path(path).resolve()
    config = {"model": full.name, "models_dir": str(full.parent), "trusted": [*trusted]}
    return ServiceConfig(command=COMMAND, replicas=replicas, start_timeout=_START, config=config)


def _sendable(rows: Any) -> Any:
    if isinstance(rows, Mapping | list):
        return rows
    return columns_of(rows)


def _check_evaluation(folds: Any, holdout: Any, seed: Any) -> None:
    if folds is not None and (type(folds) is not int or folds < 2):
        raise ModelError(f"folds is a whole number from 2, or None, not {folds!r:.80}")
    if holdout is not None and not (isinstance(holdout, float) and 0 < holdout < 1):
        raise ModelError(f"holdout is a share of the rows between 0 and 1, such as 0.2, or None, not {holdout!r:.80}")
    if type(seed) is not int or not 0 <= seed < 2**32:
        raise ModelError(f"seed is a whole number from 0, not {seed!r:.80}")


def _write(target: Path, data: bytes) -> None:
    """Puts a file in its place when all of it is on the disk, not before."""
    descriptor, unfinished = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(unfinished, 0o666 & ~_umask())
        os.replace(unfinished, target)
    except BaseException:
        Path(unfinished).unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


__all__: Sequence[str] = ["Model", "Served", "Trained", "server", "trainer"]
