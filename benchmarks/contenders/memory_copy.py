"""The limit of arrays: one copy there and one back, within a process."""

from __future__ import annotations

import importlib
from typing import Any, ClassVar

from benchmarks.contenders.contender import ONE, SIZES, Modes, Sample, Unavailable, check_echo, make_payload, time_each


class MemoryCopy:
    """Two numpy copies into arrays that exist already, so that no page is new to the process."""

    name: ClassVar[str] = "memcpy"
    title: ClassVar[str] = "two copies in memory"
    distribution: ClassVar[str | None] = None
    modes: ClassVar[Modes] = {payload: (ONE,) for payload in SIZES if "array" in payload}

    def open(self) -> None:
        try:
            self._numpy: Any = importlib.import_module("numpy")
        except ImportError as error:
            raise Unavailable("numpy is not installed") from error

    def close(self) -> None:
        pass

    def run(self, payload: str, mode: str, calls: int) -> Sample:
        value, copy = make_payload(payload), self._numpy.copyto
        there, back = self._numpy.zeros_like(value), self._numpy.zeros_like(value)

        def call() -> None:
            copy(there, value)
            copy(back, there)

        call()
        check_echo(value, back)
        return time_each(call, calls)
