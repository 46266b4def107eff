"""What a command tells the Python interpreter to run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_INTERPRETER = re.compile(r"python[0-9.]*t?")
_OPTION = re.compile(r"-[bBdEIOPqsSu]+")
_OPTION_WITH_VALUE = re.compile(r"-[WX]")


@dataclass(frozen=True)
class PythonCommand:
    """`python OPTIONS script.py ARGUMENTS`, or `python OPTIONS -m module ARGUMENTS`.

    `name` is the script or the module, as `is_module` says.
    """

    interpreter: str
    options: tuple[str, ...]
    name: str
    is_module: bool
    arguments: tuple[str, ...]


def python_command(command: Sequence[str]) -> PythonCommand | None:
    """The parts of such a command; None for any other, such as `python -c` or one that runs no Python at all."""
    interpreter, *words = command
    if not _INTERPRETER.fullmatch(interpreter.rpartition("/")[2]):
        return None
    options: list[str] = []
    while words and words[0] != "-m" and words[0].startswith("-"):
        if _OPTION_WITH_VALUE.fullmatch(words[0]) and len(words) > 1:
            options += (words.pop(0), words.pop(0))
        elif _OPTION.fullmatch(words[0]) or _OPTION_WITH_VALUE.match(words[0]):
            options.append(words.pop(0))
        else:
            return None
    is_module = bool(words) and words[0] == "-m"
    if is_module:
        words.pop(0)
    if not words or not words[0]:
        return None
    return PythonCommand(interpreter, tuple(options), words[0], is_module, tuple(words[1:]))
