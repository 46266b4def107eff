"""One-shot programs, called: their results, their failures, and what of them is left when their time is over."""

from __future__ import annotations

import json
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from mlports import ScriptFailed, ScriptTimedOut, run_script

HERE = Path(__file__).parent
TRAIN = HERE / "train_model.py"
STUCK = HERE / "programs" / "stuck.sh"

LANGUAGES = {"py": "python", "js": "node", "rb": "ruby", "pl": "perl", "lua": "lua", "sh": "awk", "R": "Rscript"}
"""The languages of programs/centroid.*, by suffix, and the program that each needs."""

_PATIENCE = 10.0  # seconds


class Answer(NamedTuple):
    """What a program printed, and how long it took, in seconds."""

    result: dict[str, Any]
    seconds: float


def call_program(program: Path, *arguments: str, timeout: float = 120) -> Answer:
    """Runs a program that prints one JSON object. Raises `ScriptFailed` when it does anything else."""
    done = run_script(program, *arguments, timeout=timeout, env={"OPENBLAS_NUM_THREADS": "1"})
    return Answer(json.loads(done.stdout), done.seconds)


def train(data: Path) -> Answer:
    """`train_model.py --data FILE`, as one runs it in a shell."""
    return call_program(TRAIN, "--data", str(data))


def failure(data: Path) -> ScriptFailed:
    """What the caller gets when that does not work."""
    try:
        train(data)
    except ScriptFailed as error:
        return error
    raise AssertionError(f"{data} was no trouble")


def in_each_language(data: Path) -> dict[str, Answer | None]:
    """The same small job by seven programs; None where the language is not installed."""
    programs = {suffix: HERE / "programs" / f"centroid.{suffix}" for suffix in LANGUAGES}
    return {
        suffix: call_program(program, str(data)) if suffix == "py" or shutil.which(LANGUAGES[suffix]) else None
        for suffix, program in programs.items()
    }


def time_out(seconds: float) -> tuple[ScriptTimedOut, list[int]]:
    """Runs a program that never ends and starts two more; gives the error, and which of the three still run after it.

    It gets twice the time, and again, when `seconds` were over before it had started them.
    """
    try:
        run_script(STUCK, timeout=seconds)
    except ScriptTimedOut as error:
        pids = [int(pid) for pid in error.stdout.split()]
        if not pids and seconds < _PATIENCE:
            return time_out(2 * seconds)
        end = time.monotonic() + _PATIENCE
        while any(map(runs, pids)) and time.monotonic() < end:
            time.sleep(0.01)
        return error, [pid for pid in pids if runs(pid)]
    raise AssertionError("a program that never ends has ended")


def runs(pid: int) -> bool:
    """Whether there is such a process; one that is dead, and that nobody has asked about yet, is none."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
