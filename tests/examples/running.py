"""Examples as their readers run them: a program, a folder for what it writes, and what it says it has found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PYTHONPATH = os.pathsep.join(str(ROOT / folder) for folder in ("protocol", "orchestrator", "workers/python", "."))
ENVIRONMENT = {**os.environ, "PYTHONPATH": PYTHONPATH, "OPENBLAS_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def command(name: str, *arguments: str) -> list[str]:
    """`python -m examples.NAME`."""
    return [sys.executable, "-m", f"examples.{name}", *arguments]


def run(
    name: str, folder: Path, *arguments: str, timeout: float = 50, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Runs an example in a folder of the caller's, with more or other variables in its environment."""
    return subprocess.run(
        command(name, *arguments),
        env=ENVIRONMENT | environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def findings(name: str, out: Path, *arguments: str, timeout: float = 110) -> Any:
    """Runs an example; gives the findings.json it writes. Fails, with what it printed, if it fails."""
    done = run(name, out, "--out", str(out), *arguments, timeout=timeout)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((out / "findings.json").read_text())
