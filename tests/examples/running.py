"""Examples as their readers run them: a program, a folder for what it writes, and what it says it has found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PYTHONPATH = os.pathsep.join(str(ROOT / folder) for folder in ("protocol", "orchestrator", "workers/python"))


def findings(name: str, out: Path, *arguments: str, timeout: float = 110) -> Any:
    """Runs examples/NAME/main.py; gives its findings.json. Fails, with what it printed, if it fails."""
    command = [sys.executable, str(ROOT / "examples" / name / "main.py"), "--out", str(out), *arguments]
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH, "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        command, env=environment, cwd=out, capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((out / "findings.json").read_text())
