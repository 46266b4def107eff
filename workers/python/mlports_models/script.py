"""A worker of any Python functions, by file and name; the file knows nothing of workers.

    [service.score]
    command = ["python", "-m", "mlports_models.script"]
    config = { file = "score.py", function = "predict" }

    mlports call score.predict 1.5

The service's `config`:

- `file`: the file, relative to the working directory. It is loaded once, and not as `__main__`.
- `function`, or `functions`: the name of one of its functions, or a list of names. Each is a method of that name.
- `setup`: a function of it that is called first, with `settings`, a table, as its keyword arguments.
- `batch`: those that take a list for each argument and give as many results: a list of names, or true for all.
- `idempotent`: those of which a call may be repeated after a crash: a list of names, or true for all.

A generator is a stream, and what `async def` defines may run many calls at once. `schema()` tells what each function
takes, unless the file's own `schema` is served.
"""

from __future__ import annotations

from typing import Any

from mlports_worker import Worker

from .functions import Functions

worker = Worker("script")


@worker.setup
def start(config: dict[str, Any]) -> None:
    """Loads the file and makes methods of its functions. Ends the worker, with the reason, if it cannot."""
    functions = Functions(config)
    for name, served in functions.served.items():
        worker.method(name=name, batch=served.batch, idempotent=served.idempotent)(served.function)
    if "schema" not in functions.served:
        worker.method(idempotent=True)(functions.schema)


if __name__ == "__main__":
    worker.run()
