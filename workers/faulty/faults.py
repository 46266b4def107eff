"""The faults by their names: those in place of the answer to `$/hello`, and those in place of the answer to `go`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from workers.faulty.wire import Wire

Start = Callable[[Wire, int], None]  # is given the id of `$/hello`
Go = Callable[[Wire, list[Any]], None]  # is given the request

AT_START: dict[str, Start] = {}
IN_CALL: dict[str, Go] = {}


def at_start(function: Start) -> Start:
    """Decorator: a fault that stands in place of the answer to hello."""
    AT_START[function.__name__.replace("_", "-")] = function
    return function


def in_call(function: Go) -> Go:
    """Decorator: a fault that stands in place of the answer to `go`."""
    IN_CALL[function.__name__.replace("_", "-")] = function
    return function
