"""`mlports init`: a project that runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from mlports.cli.command import JsonOption, WrongUsage

_TEMPLATE = Path(__file__).parent / "template"
# The worker's template has a suffix that keeps it from being taken for a module of ours.
_FILES = {"mlports.toml": "mlports.toml", "worker.py": "worker.py.txt", "README.md": "README.md"}


def init(
    directory: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where; made if it is not there.")] = Path("."),
    name: Annotated[str, typer.Option(help="What its service is called.", metavar="NAME")] = "model",
    json: JsonOption = False,
) -> None:
    """Make a project that runs as it stands: a configuration, a worker and a README. Nothing is overwritten."""
    from mlports.cli.output import put
    from mlports.cli.values import write

    if not re.fullmatch(r"[a-z][a-z0-9_-]*", name):
        raise WrongUsage(f"{name!r} cannot be a service's name: a lower-case letter, then letters, digits, _ and -")
    files = {directory / target: (_TEMPLATE / source).read_text("utf-8") for target, source in _FILES.items()}
    there = [str(path) for path in files if path.exists() or path.is_symlink()]
    if there:
        is_or_are = "is" if len(there) == 1 else "are"
        raise WrongUsage(f"{' and '.join(there)} {is_or_are} there already: nothing was made. Name another directory")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for path, text in files.items():
            with path.open("x", encoding="utf-8") as file:
                file.write(text.replace("@NAME@", name))
    except OSError as error:
        raise WrongUsage(f"cannot make {error.filename or directory}: {error.strerror}") from None
    if json:
        put(write({"directory": str(directory), "service": name, "files": [str(path) for path in files]}))
        return
    put("\n".join(f"made {path}" for path in files))
    change = "" if directory == Path(".") else f"cd {directory} && "
    put(f"Try: {change}mlports call {name}.predict 2")
