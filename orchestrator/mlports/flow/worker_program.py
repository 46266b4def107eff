"""The worker program of a stage that runs in workers: it imports one function by its name and applies it to items."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from functools import reduce
from typing import Any

from mlports_worker import Worker

worker = Worker("flow")
_function: Callable[[Any], Any]


@worker.setup
def load(config: dict[str, Any]) -> None:
    """config: `function` as "module:name"; `path`, where modules are looked for; `unfold`, to send a result's items."""
    global _function
    os.environ["MLPORTS_FLOW_WORKER"] = "1"
    sys.path[:] = config["path"]
    module, _, name = config["function"].partition(":")
    function = reduce(getattr, name.split("."), importlib.import_module(module))
    assert callable(function)
    _function = (lambda item: list(function(item))) if config["unfold"] else function


@worker.method(batch=True, idempotent=True)
def apply(items: list[Any]) -> list[Any]:
    """The function's result for each item, or its exception in the result's place."""
    made: list[Any] = []
    for item in items:
        try:
            made.append(_function(item))
        except Exception as error:
            made.append(error)
    return made


if __name__ == "__main__":
    worker.run()
