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
        replicas: int = 2,
        seed: int = 0,
        service: ServiceConfig | None = None,
    ) -> Trained:
        """Trains from all rows of a table, in a worker that is started for it, and measures how good it is.

        table: see `mlports.ml.table.columns_of`. holdout: the share of rows that a model trained from the others is
        scored on; None for none. folds: cross-validation in so many, spread over `replicas` workers. seed: what draws
        those rows. service: the workers, if not as `trainer()` has them.

        Raises `ModelError`, `InvalidArgument` when the worker finds the table wanting, `StartFailed` when it cannot
        start, and what calls raise.
        """
        _check_evaluation(folds, holdout, seed)
        columns = needed(columns_of(table), self.definition.formula)
        with open({"trainer": service or trainer(replicas if folds else 1)}) as orch:
            scores = orch.map("trainer.score_fold", self._folds(columns, folds, seed), timeout=None) if folds else None
            told = orch.call("trainer.train", self.definition.as_plain(), columns, holdout, scores, seed, timeout=None)
        return Trained.of(self.definition.name, told)

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
        """`train` by a service of one's own orchestrator, such as `trainer(4)`; the folds go to all of its replicas."""
        _check_evaluation(folds, holdout, seed)
        columns = needed(columns_of(table), self.definition.formula)
        scores = None
        if folds:
            scores = await orch.map(f"{service}.score_fold", self._folds(columns, folds, seed), timeout=None)
        plain = self.definition.as_plain()
        told = await orch.call(f"{service}.train", plain, columns, holdout, scores, seed, timeout=None)
        return Trained.of(self.definition.name, told)

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
    def serve(self, replicas: int = 1, *, service: ServiceConfig | None = None) -> Iterator[Served]:
        """The model in workers of its own, for use with `with`. `service` are the workers, if not `server()`'s."""
        with tempfile.TemporaryDirectory(prefix="mlports-model-") as folder:
            path = self.save(Path(folder) / "model.skops")
            config = service or server(path, replicas)
            if service is not None:
                config = service.model_copy(update={"config": {**service.config, **_config(path)}})
            with open({"model": config}) as orch:
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


def server(path: str | os.PathLike[str], replicas: int = 1) -> ServiceConfig:
    """A service that predicts by a saved model: `NAME.predict(row or rows)`, `NAME.schema()`, `NAME.card()`."""
    return ServiceConfig(command=COMMAND, replicas=replicas, start_timeout=_START, config=_config(Path(path)))


def _config(path: Path) -> dict[str, Any]:
    return {"model": path.name, "models_dir": str(path.resolve().parent)}


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
