"""A worker's jobs: the requests for its own methods."""

from __future__ import annotations

from typing import Any, NamedTuple

from .context import Context
from .handlers import Handler


class Job(NamedTuple):
    """A request for one of the worker's methods, on its way to the handler.

    `columns` are the arguments of a batch, one list for each, for a handler that takes them so; `params` is then empty.
    """

    number: int
    handler: Handler
    context: Context
    params: list[Any]
    columns: list[list[Any]] | None = None
