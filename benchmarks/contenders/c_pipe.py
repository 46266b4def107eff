"""The limit: a message and its echo between two C processes."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import ClassVar

from benchmarks.contenders.contender import HERE, ONE, PLACEMENTS, SIZES, Modes, Sample, Unavailable
from benchmarks.placement import cores_for


class CPipe:
    """pingpong.c, compiled here."""

    name: ClassVar[str] = "c"
    title: ClassVar[str] = "C pipe ping-pong"
    distribution: ClassVar[str | None] = None
    modes: ClassVar[Modes] = {"64 B": PLACEMENTS, "64 KiB": (ONE,), "8 MiB": (ONE,)}

    def open(self) -> None:
        compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
        if compiler is None:
            raise Unavailable("no C compiler (cc, gcc or clang) on the PATH")
        self._folder = tempfile.TemporaryDirectory(prefix="mlports-bench-")
        self._program = str(Path(self._folder.name) / "pingpong")
        built = subprocess.run(
            [compiler, "-O2", "-o", self._program, str(HERE / "pingpong.c")], capture_output=True, text=True
        )
        if built.returncode != 0:
            self._folder.cleanup()
            raise Unavailable(f"pingpong.c does not compile here: {built.stderr.strip()[-300:]}")

    def close(self) -> None:
        self._folder.cleanup()

    def run(self, payload: str, mode: str, calls: int) -> Sample:
        command = [self._program, str(SIZES[payload]), str(calls), *map(str, cores_for(mode) or ())]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        count, nanos, p50, p99 = map(int, done.stdout.split())
        return Sample(count, nanos / 1e9, p50 / 1e3, p99 / 1e3)
