"""`mlports demo --list` and `mlports demo NAME`: the examples, listed and run."""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import NoReturn

from mlports.cli import shipped
from mlports.cli.command import WrongUsage


def described() -> dict[str, str]:
    """The examples by name, and of each the first line that its program says of itself. Raises `WrongUsage`."""
    programs = sorted((_folder() / "examples").glob("*/__main__.py"))
    return {program.parent.name: _first_line(program) for program in programs}


def run(name: str, arguments: Sequence[str]) -> NoReturn:
    """Runs an example in place of this process, so that its exit status and Ctrl-C are its own. Raises `WrongUsage`."""
    known = described()
    if name not in known:
        near = get_close_matches(name, known, 1)
        meant = f"did you mean {near[0]}? There are" if near else "there are"
        raise WrongUsage(f"there is no example called {name!r}; {meant} {', '.join(known)}")
    # What is in the caller's folder, or on a path of theirs, and happens to have the same name is not meant: hence -P.
    path = os.pathsep.join(filter(None, [str(_folder()), os.environ.get("PYTHONPATH")]))
    with suppress(OSError, AttributeError):
        sys.stdout.flush()
    command = [sys.executable, "-P", "-m", f"examples.{name}", *arguments]
    os.execve(sys.executable, command, os.environ | {"PYTHONPATH": path})


def _folder() -> Path:
    folder = shipped.examples()
    if folder is None:
        raise WrongUsage("this installation of mlports came without the examples: install it from its wheel")
    return folder


def _first_line(program: Path) -> str:
    return (ast.get_docstring(ast.parse(program.read_text("utf-8"))) or "").partition("\n")[0]
