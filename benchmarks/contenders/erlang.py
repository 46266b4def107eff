"""Erlang's open_port, driving the same Python worker, and one that does not decode."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import ClassVar

from benchmarks.contenders.contender import (
    ECHO_WORKER,
    HERE,
    ONE,
    PLACEMENTS,
    SIZES,
    Modes,
    Sample,
    in_flight,
    is_single,
)
from benchmarks.contenders.escript import Escript


class _ErlangPort:
    """port_bench.escript as a child, asked for one run at a time."""

    name: ClassVar[str]
    title: ClassVar[str]
    distribution: ClassVar[str | None] = None
    modes: ClassVar[Modes] = {"64 B": (*PLACEMENTS, "64", "256"), "64 KiB": (ONE, "64", "256"), "8 MiB": (ONE, "64")}
    style: ClassVar[str]
    worker: ClassVar[Path]

    def open(self) -> None:
        self._escript = Escript("port_bench.escript", self.style, sys.executable, str(self.worker))

    def close(self) -> None:
        self._escript.close()

    def run(self, payload: str, mode: str, calls: int) -> Sample:
        self._escript.say(f"{SIZES[payload]} {in_flight(mode)} {calls}")
        count, nanos, p50, p99 = map(int, self._escript.answer().split())
        if is_single(mode):
            return Sample(count, nanos / 1e9, p50 / 1e3, p99 / 1e3)
        return Sample(count, nanos / 1e9)


class ErlangWorker(_ErlangPort):
    name: ClassVar[str] = "erlang"
    title: ClassVar[str] = "Erlang port, same worker"
    style: ClassVar[str] = "worker"
    worker: ClassVar[Path] = ECHO_WORKER


class ErlangRaw(_ErlangPort):
    name: ClassVar[str] = "erlang-raw"
    title: ClassVar[str] = "Erlang port, undecoded echo"
    style: ClassVar[str] = "raw"
    worker: ClassVar[Path] = HERE / "raw_echo.py"
