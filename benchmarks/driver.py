"""A contender, or what else is measured, in a process of its own, and the handle by which the measurement drives it.

One process for each keeps a contender's heap, threads and crashes away from the others'. The two sides speak lines of
JSON over the child's stdin and its original stdout; whatever the contender itself prints goes to its stderr.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks.contenders import CONTENDERS
from benchmarks.contenders.contender import Contender, Sample, Unavailable
from benchmarks.placement import placed
from benchmarks.processes import family_of, start_of
from benchmarks.recovery.subject import Subject
from benchmarks.subjects import SUBJECTS

ROOT = Path(__file__).resolve().parent.parent

START_TIMEOUT = 60.0
"""Seconds that a contender has to open: Ray and Dask start several processes."""

RUN_TIMEOUT = 60.0
"""Seconds that one timed run may take before the contender counts as hung."""

CLOSE_TIMEOUT = 10.0
"""Seconds between asking a contender to close and killing its process group."""


class DriverFailed(Exception):
    """The contender's process died, hung, or could not do a run; the message says which, with its last stderr."""


class Driver:
    """The parent's handle. A context manager: on leaving, the child and its process group are gone."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = False
        self._buffer = b""

    def __enter__(self) -> Driver:
        """Start the contender; raises Unavailable with its reason, or DriverFailed."""
        self._stderr = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.driver", self.name],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            start_new_session=True,
        )
        self.alive = True
        try:
            answer = self._answer(START_TIMEOUT)
            if "unavailable" in answer:
                raise Unavailable(answer["unavailable"])
            if "error" in answer:
                raise DriverFailed(answer["error"])
        except BaseException:
            self.__exit__(BaseException)
            raise
        return self

    def __exit__(self, failure: type[BaseException] | None = None, *_: object) -> None:
        self.alive = False
        assert self._process.stdin
        assert self._process.stdout
        family = self._family() if failure is not None else {}
        if failure is not None:
            # It may be in the middle of a long run, which nobody waits for now.
            self._process.terminate()
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(CLOSE_TIMEOUT)
        except subprocess.TimeoutExpired:
            family |= self._family()
        finally:
            self._kill(family)
            self._process.wait()
            self._process.stdout.close()
            self._stderr.close()

    def _family(self) -> dict[int, int]:
        """It and all its descendants, each with the time of its start."""
        return {pid: start for pid in family_of(self._process.pid) if (start := start_of(pid)) is not None}

    def _kill(self, family: Mapping[int, int]) -> None:
        """End whatever is left of it: its process group, and those that are in groups of their own, as workers are."""
        # A worker that outlived its owner is still in the group, and the group lives as long as any member.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        for pid, start in family.items():
            # Meanwhile the pid may have become somebody else's.
            if start_of(pid) == start:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def run(self, payload: str, mode: str, calls: int) -> Sample:
        """One timed run of a contender; raises Unavailable (this run cannot be done here) or DriverFailed."""
        return Sample(**self.ask(payload, mode, calls))

    def ask(self, *request: str | int) -> Any:
        """The result of one `run`; raises as that of a contender does."""
        assert self._process.stdin
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise self._died() from error
        answer = self._answer(RUN_TIMEOUT)
        if "unavailable" in answer:
            raise Unavailable(answer["unavailable"])
        if "error" in answer:
            raise DriverFailed(answer["error"])
        return answer["result"]

    def _answer(self, timeout: float) -> dict[str, Any]:
        assert self._process.stdout
        descriptor = self._process.stdout.fileno()
        end = time.monotonic() + timeout
        while b"\n" not in self._buffer:
            left = end - time.monotonic()
            if left <= 0 or not select.select([descriptor], [], [], left)[0]:
                self.alive = False
                self._kill(self._family())
                raise DriverFailed(f"{self.name} did nothing for {timeout:.0f} s; {self._last_words()}")
            data = os.read(descriptor, 65536)
            if not data:
                raise self._died()
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _died(self) -> DriverFailed:
        self.alive = False
        return DriverFailed(f"{self.name}'s process ended with status {self._process.wait()}; {self._last_words()}")

    def _last_words(self) -> str:
        self._stderr.seek(0)
        lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        return "its last stderr: " + " | ".join(lines[-3:]) if lines else "its stderr is empty"


def _stop(signum: int, frame: FrameType | None) -> None:
    sys.exit(128 + signum)


def main(name: str) -> None:
    """The child: open the contender, do each run asked for, close it at the end of stdin."""
    signal.signal(signal.SIGTERM, _stop)
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.set_inheritable(replies.fileno(), False)
    os.dup2(2, 1)

    def reply(answer: dict[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError):
            replies.write(json.dumps(answer) + "\n")

    subject, run = _subject(name)
    try:
        subject.open()
    except Unavailable as reason:
        reply({"unavailable": str(reason)})
        return
    except Exception as error:
        reply({"error": f"{name} did not start: {type(error).__name__}: {error}"})
        raise
    try:
        reply({"ready": True})
        for line in sys.stdin:
            try:
                reply({"result": run(*json.loads(line))})
            except Unavailable as reason:
                reply({"unavailable": str(reason)})
            except Exception as error:
                reply({"error": f"{type(error).__name__}: {error}"})
    finally:
        subject.close()


def _subject(name: str) -> tuple[Contender | Subject, Callable[..., Any]]:
    """What has this name, and how it is run."""
    if name in SUBJECTS:
        subject = SUBJECTS[name]()
        return subject, subject.run
    contender = CONTENDERS[name]()

    def run(payload: str, mode: str, calls: int) -> dict[str, Any]:
        with placed(mode):
            return dataclasses.asdict(contender.run(payload, mode, calls))

    return contender, run


if __name__ == "__main__":
    main(sys.argv[1])
