"""`mlports init`: a project that runs as it stands."""

from __future__ import annotations

import os
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mlports.cli import shipped
from mlports.cli.command import JsonOption, WrongUsage

_PYTHON_TEMPLATE = Path(__file__).parent / "template"
# A template's file that a tool would take for one of this project's own has this suffix, which the project's has not.
_SHELTER = ".txt"


class Language(StrEnum):
    """The languages that there is an SDK for."""

    PYTHON = "python"
    C = "c"
    CPP = "cpp"
    ELIXIR = "elixir"
    ERLANG = "erlang"
    GO = "go"
    JAVA = "java"
    LUA = "lua"
    NODE = "node"
    PERL = "perl"
    R = "r"
    RUBY = "ruby"
    RUST = "rust"


def init(
    directory: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where; made if it is not there.")] = Path("."),
    name: Annotated[str, typer.Option(help="What its service is called.", metavar="NAME")] = "model",
    language: Annotated[
        Language, typer.Option("--language", "-l", help="What its worker is written in.", metavar="LANGUAGE")
    ] = Language.PYTHON,
    json: JsonOption = False,
) -> None:
    """Make a project that runs as it stands: a configuration, a worker and a README. Nothing is overwritten.

    LANGUAGE is python, c, cpp, elixir, erlang, go, java, lua, node, perl, r, ruby or rust. All but Python's bring their
    SDK along, in the folder mlports, and a Makefile that builds the worker.
    """
    from mlports.cli.output import put
    from mlports.cli.values import write

    if not re.fullmatch(r"[a-z][a-z0-9_-]*", name):
        raise WrongUsage(f"{name!r} cannot be a service's name: a lower-case letter, then letters, digits, _ and -")
    files = {directory / target: source for target, source in _project(language.value).items()}
    there = [str(path) for path in files if path.exists() or path.is_symlink()]
    if there:
        is_or_are = "is" if len(there) == 1 else "are"
        raise WrongUsage(f"{' and '.join(there)} {is_or_are} there already: nothing was made. Name another directory")
    try:
        for path, source in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                file.write(source.read_text("utf-8").replace("@NAME@", name))
                os.fchmod(file.fileno(), source.stat().st_mode & 0o777 | 0o600)
    except OSError as error:
        raise WrongUsage(f"cannot make {error.filename or directory}: {error.strerror}") from None
    if json:
        put(write({"directory": str(directory), "service": name, "files": [str(path) for path in files]}))
        return
    put("\n".join(f"made {path}" for path in files))
    change = "" if directory == Path(".") else f"cd {directory} && "
    build = "make && " if directory / "Makefile" in files else ""
    put(f"Try: {change}{build}mlports call {name}.predict 2")


def _project(language: str) -> dict[Path, Path]:
    """Where each file of a project goes, and what it is a copy of."""
    if language == "python":
        return _files(_PYTHON_TEMPLATE)
    folder = shipped.sdk(language)
    if folder is None:
        raise WrongUsage(f"this installation of mlports came without the SDK for {language}: install it from its wheel")
    sdk = {Path("mlports") / path: source for path, source in _files(folder / "mlports").items()}
    return _files(folder / "template") | sdk


def _files(folder: Path) -> dict[Path, Path]:
    # What is told last is read first: the README.
    sources = sorted((path for path in folder.rglob("*") if path.is_file()), key=lambda p: (p.stem == "README", p))
    return {_unsheltered(source.relative_to(folder)): source for source in sources if "__pycache__" not in source.parts}


def _unsheltered(path: Path) -> Path:
    bare = path.with_suffix("")
    return bare if path.suffix == _SHELTER and bare.suffix else path
