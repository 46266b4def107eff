"""Which commands run a Python program, and which one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlports.core.python_command import PythonCommand, python_command

PROGRAMS = {
    "python x.py": PythonCommand("python", (), "x.py", False, ()),
    "python3 x.py -m y": PythonCommand("python3", (), "x.py", False, ("-m", "y")),
    "/v/bin/python3.13t -u -W error -Xdev -m a.b -c": PythonCommand(
        "/v/bin/python3.13t", ("-u", "-W", "error", "-Xdev"), "a.b", True, ("-c",)
    ),
    "bin/python -OO -sE folder": PythonCommand("bin/python", ("-OO", "-sE"), "folder", False, ()),
}
OTHERS = [
    *("python", "python -m", "python -c pass", "python -", "python -i x.py", "python -V", "python -u", "python -W"),
    *("python --help", "python -um x", "pythonic x.py", "ruby x.py", "./python/x x.py", "x.py"),
]


@pytest.mark.parametrize("command", PROGRAMS)
def test_a_python_program_is_taken_apart(command: str) -> None:
    """Guards the start from a template, which has to run what the interpreter would."""
    assert python_command(command.split()) == PROGRAMS[command]


@pytest.mark.parametrize("command", OTHERS)
def test_what_is_no_python_program_is_none(command: str) -> None:
    """Guards programs that a template would run wrongly, or not at all."""
    assert python_command(command.split()) is None


@given(st.lists(st.sampled_from(["python", "-m", "-u", "-W", "-X", "-c", "x.py", "", "a"]), min_size=1))
def test_no_word_is_lost(command: list[str]) -> None:
    """Guards arguments that look like options."""
    parts = python_command(command)
    if parts is not None:
        words = [parts.interpreter, *parts.options, *(["-m"] if parts.is_module else []), parts.name, *parts.arguments]
        assert words == command
