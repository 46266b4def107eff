"""A worker that prepares tables for models: fitted to a stream, frozen, saved, and the same wherever it is loaded.

    [service.prepare]
    command = ["python", "-m", "mlports_models.preprocess"]

    [service.prepare.config.columns]
    age = { kind = "number", impute = "median", scale = true }
    genre = { kind = "category", unseen = "zeros" }
    title = { kind = "text", width = 256 }

The service's `config`:

- `columns`: each column's step, see `mlports_models.preparation`. Or:
- `preparation`: a file that `save` has written, relative to `folder`; with `digest`, only if it has this one.
- `folder`: what `save` keeps to (default: the working directory).

`fit` and `partial_fit` change the one replica that they reach. So fit in a service of one replica, freeze, save, and
serve the file from as many as are wanted. The digest says which preparation a row went through: keep it with the model.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from mlports_worker import Worker

from . import settings

if TYPE_CHECKING:
    from .preparing import Preparing

worker = Worker("preprocess")
_preparing: Preparing


@worker.setup
def start(config: dict[str, Any]) -> None:
    """Makes the steps or loads a saved preparation. Ends the worker, with the reason, if it cannot."""
    global _preparing
    settings.need("preprocess", "models", numpy="numpy", sklearn="scikit-learn")
    from .preparing import Preparing

    _preparing = Preparing(config)


@worker.method
def partial_fit(rows: Any) -> dict[str, Any]:
    """Learns from some rows, or columns, and gives `info()`. Rows that are refused change nothing."""
    return _preparing.partial_fit(rows)


@worker.method(input=True)
def fit(chunks: Iterable[Any]) -> dict[str, Any]:
    """Learns from a stream of tables in bounded memory, freezes, and gives `info()`.

    A stream that breaks off, or has a table that is refused, changes nothing.
    """
    return _preparing.fit(chunks)


@worker.method
def freeze() -> dict[str, Any]:
    """Ends the learning, and gives `info()`, now with the digest."""
    return _preparing.freeze()


@worker.method(batch=True, idempotent=True)
def transform(rows: list[Any]) -> list[Any]:
    """The features of one row, a vector; or of a table, rows × features. They are called what `info()` says."""
    return _preparing.transform(rows)


@worker.method
def save(path: Any) -> dict[str, Any]:
    """Writes the frozen preparation to a JSON file in `folder`: all of it, or the old file stays."""
    return _preparing.save(path)


@worker.method(idempotent=True)
def info() -> dict[str, Any]:
    """Whether it is frozen, its digest, the rows that it has learned from, the steps, and the features' names."""
    return _preparing.info()


if __name__ == "__main__":
    worker.run()
