"""The limit: a message and its echo between two C processes."""

from __future__ import annotations

import subprocess
import tempfile
from typing import ClassVar

from benchmarks.contenders.c_program import compiled
from benchmarks.contenders.contender import ONE, PLACEMENTS, SIZES, Modes, Sample, Unavailable
from benchmarks.placement import cores_for


class CPipe:
    """pingpong.c, compiled here."""

    name: ClassVar[str] = "c"
    title: ClassVar[str] = "C pipe ping-pong"
    distribution: ClassVar[str | None] = None
    modes: ClassVar[Modes] = {"64 B": PLACEMENTS, "64 KiB": (ONE,), "8 MiB": (ONE,)}

    def open(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="mlports-bench-")
        try:
            self._program = compiled("pingpong.c", self._folder.name)
        except Unavailable:
            self._folder.cleanup()
            raise

    def close(self) -> None:
        self._folder.cleanup()

    def run(self, payload: str, mode: str, calls: int) -> Sample:
        command = [self._program, str(SIZES[payload]), str(calls), *map(str, cores_for(mode) or ())]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        count, nanos, p50, p99 = map(int, done.stdout.split())
        return Sample(count, nanos / 1e9, p50 / 1e3, p99 / 1e3)
