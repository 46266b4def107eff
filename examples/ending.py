"""How an example ends when it cannot go on: by a sentence and an exit status, not by a traceback of ours."""

from __future__ import annotations

import os
import sys
from types import TracebackType

INSTALL = "pip install 'mlports[examples]'"


def end(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """An exception hook. Ctrl-C: status 130; a missing package, or what mlports reports: 1, with a sentence.

    Anything else is a bug, and has its traceback.
    """
    if isinstance(error, KeyboardInterrupt):
        print("\ninterrupted", file=sys.stderr)
        raise SystemExit(130)
    if isinstance(error, BrokenPipeError):  # nobody reads on, as in `… | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1)
    if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith(("examples", "mlports.")):
        print(f"{error.name} is not installed for {sys.executable}: {INSTALL}", file=sys.stderr)
        raise SystemExit(1)
    if _is_ours(kind):
        print(f"it did not work: {error}", file=sys.stderr)
        raise SystemExit(1)
    sys.__excepthook__(kind, error, traceback)


def _is_ours(kind: type[BaseException]) -> bool:
    errors = sys.modules.get("mlports.errors")
    return errors is not None and issubclass(kind, errors.MlportsError)
