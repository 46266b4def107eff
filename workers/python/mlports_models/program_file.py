"""Loads a Python file that knows nothing of workers, and says what is wrong with one that cannot be loaded."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from types import ModuleType

from mlports_worker import Failure


def load(path: Path) -> ModuleType:
    """The file as a module; what stands beside it can be imported, as when it is run itself.

    Raises `Failure` when there is no such file, when it is no Python, and with its traceback when it raises.
    """
    try:
        code = compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
    except OSError as error:
        raise _refusal(f"cannot read {path}: {error.strerror or error} (from {Path.cwd()})") from None
    except SyntaxError as error:
        told = "".join(traceback.format_exception_only(error)).rstrip()
        raise _refusal(f"{path.name} is no Python that {sys.version.split()[0]} reads:\n{told}") from None
    except ValueError as error:  # null bytes
        raise _refusal(f"{path.name} is no Python: {error}") from None
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    module = ModuleType(path.stem)
    module.__file__ = str(path)
    # For its dataclasses and pickles. A module that is there already stays what it is for those who imported it.
    sys.modules.setdefault(path.stem, module)
    complete = False
    try:
        exec(code, module.__dict__)
        complete = True
        return module
    except SystemExit as end:
        raise _refusal(
            f"{path.name}, line {_line(end, path)}: it called sys.exit({end.code!r}) when it was loaded. What it does "
            'as a program belongs under if __name__ == "__main__":'
        ) from None
    except ModuleNotFoundError as error:
        raise _refusal(
            f"{path.name}, line {_line(error, path)}: it needs {error.name}, which is not installed for "
            f"{sys.executable}. Install it there, or name another interpreter by the service's key python"
        ) from error
    except Exception as error:
        own = error.__traceback__.tb_next if error.__traceback__ is not None else None
        told = "".join(traceback.format_exception(type(error), error, own)).rstrip()
        raise _refusal(f"{path.name} raised when it was loaded:\n{told}") from error
    finally:
        if not complete and sys.modules.get(path.stem) is module:
            del sys.modules[path.stem]


def _refusal(text: str) -> Failure:
    return Failure("failed_precondition", text)


def _line(error: BaseException, path: Path) -> int:
    """The file's own last line on the way to an error; 0 when it has none."""
    lines = [frame.lineno or 0 for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return lines[-1] if lines else 0
