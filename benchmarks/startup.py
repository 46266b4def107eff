"""What mlports costs before its first call: the import, the command line, and the memory of an orchestrator."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.driver import ROOT
from benchmarks.measure import Board

IMPORT_MS = "import mlports, ms"
HELP_MS = "mlports --help, ms"
RSS_MIB = "orchestrator with 20 workers, MiB"

TIMED_IMPORT = "import time; t = time.perf_counter(); import mlports; print((time.perf_counter() - t) * 1e3)"


def measure_startup(board: Board, rounds: int, say: Callable[[str], None] = print) -> None:
    """Fill `board.figures`; a figure that cannot be had goes to `board.skipped` with its reason.

    The import is timed inside a fresh interpreter; `--help` is the whole process, as its user waits for it; the
    memory is VmRSS of the orchestrator's own process once 20 workers have answered.
    """
    probes: dict[str, Callable[[], float]] = {IMPORT_MS: _import_ms, HELP_MS: _help_ms}
    for round_number in range(-1, rounds):
        for name, probe in list(probes.items()):
            try:
                value = probe()
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                board.skipped[name] = str(error)
                del probes[name]
            else:
                # The first round reads the files into the page cache and writes the .pyc.
                if round_number >= 0:
                    board.figures.setdefault(name, []).append(value)
    try:
        answer = json.loads(output_of([sys.executable, "-m", "benchmarks.twenty_workers"], timeout=120))
        board.figures[RSS_MIB] = [answer["rss_mib"]]
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        board.skipped[RSS_MIB] = str(error)
    say(f"  start-up: {', '.join(board.figures) or 'nothing could be measured'}")


def output_of(command: list[str], timeout: float = 30) -> str:
    """What a command prints that is run in the project's folder. Raises RuntimeError, or `TimeoutExpired`."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["nothing on its stderr"])[-1]
        raise RuntimeError(f"{' '.join(command[1:3])} ended with status {done.returncode}: {last}")
    return done.stdout


def _import_ms() -> float:
    return float(output_of([sys.executable, "-c", TIMED_IMPORT]))


def _help_ms() -> float:
    script = shutil.which("mlports", path=str(Path(sys.executable).parent))
    command = [script] if script else [sys.executable, "-m", "mlports"]
    start = time.perf_counter()
    output_of([*command, "--help"])
    return (time.perf_counter() - start) * 1e3
