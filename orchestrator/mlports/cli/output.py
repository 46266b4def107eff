"""Where everything is printed: results on stdout, all that is said about them on stderr."""

from __future__ import annotations

import errno
import os
import re
import sys
from contextlib import suppress
from typing import Any

_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class OutputFailed(Exception):
    """Nothing more can be written on stdout. `quiet` when its reader has gone, which is nobody's fault."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"cannot write on standard output: {error.strerror}")
        self.quiet = error.errno == errno.EPIPE


def is_terminal(stream: Any) -> bool:
    """Whether somebody sees what is written there at once; False for a stream that is closed."""
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):
        return False


def coloured(stream: Any) -> bool:
    """Whether colours are welcome there: at a terminal that has them, unless NO_COLOR is set."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def styled(text: str, style: str, colour: bool) -> str:
    """The text in a style, one of `_STYLES`."""
    return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if colour else text


def harmless(text: str) -> str:
    """A worker's text without what would make a terminal do things."""
    return _CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", _ESCAPES.sub("", text))


def put(text: str) -> None:
    """A line on stdout, at once. Raises `OutputFailed`."""
    if sys.stdout is None:  # it was closed when we were started
        return
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except OSError as error:
        give_up_stdout()
        raise OutputFailed(error) from None


def say(text: str) -> None:
    """A line on stderr; what cannot be said there is lost."""
    with suppress(OSError, AttributeError, ValueError):
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


def give_up_stdout() -> None:
    """What is still buffered would fail again when the interpreter ends, with a message of its own."""
    with suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.close(nowhere)


def prepare() -> None:
    """Makes sure that no text fails for a terminal's want of a letter."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
