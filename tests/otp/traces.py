"""Traces of scenarios: OTP's, recorded or played now, and ours. `python -m tests.otp.traces` records OTP's anew."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable
from difflib import unified_diff
from itertools import islice
from pathlib import Path

from mlports.testing.simulation import play
from tests.otp.schedules import scenario, schedule

FOLDER = Path(__file__).parent
GOLDEN = FOLDER / "golden"
ORACLE = FOLDER / "oracle.escript"
ESCRIPT = shutil.which("escript")
RECORDED = 80
"""How many random schedules are recorded, besides the cases of OTP's suite; every twentieth of them is a timed one."""

Traces = dict[str, list[str]]


def by_name(lines: Iterable[str]) -> Traces:
    """The traces in a text, by the names of their scenarios."""
    found: Traces = {}
    trace: list[str] = []
    for line in lines:
        if line.startswith("=== "):
            trace = found.setdefault(line.removeprefix("=== "), [])
        trace.append(line)
    return found


def scenarios(text: str) -> dict[str, str]:
    """The scenarios in a text, by name."""
    parts = text.split("scenario ")[1:]
    return {part.partition("\n")[0]: f"scenario {part}" for part in parts}


def ours(text: str) -> Traces:
    """What our machine does."""
    return by_name(play(text.splitlines()))


def otps(text: str, timeout: float) -> Traces:
    """What OTP does, played by one virtual machine in at most so many seconds."""
    assert ESCRIPT is not None
    done = subprocess.run([ESCRIPT, ORACLE], input=text, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    return by_name(done.stdout.splitlines())


def recorded(name: str) -> tuple[dict[str, str], Traces]:
    """The scenarios of a recording, and what OTP did."""
    text = (GOLDEN / f"{name}.txt").read_text("utf-8")
    return scenarios(text), by_name((GOLDEN / f"{name}.trace").read_text("utf-8").splitlines())


def difference(ours: list[str], otps: list[str]) -> str:
    """The places where two traces part, with what led there."""
    lines = unified_diff(otps, ours, "otp", "ours", n=8, lineterm="")
    return "\n".join(islice(lines, 80))


def record() -> None:
    """Writes the recordings. Their scenarios are written too, since a seed may come to stand for another schedule."""
    schedules = "\n".join(scenario(f"seed-{seed}", schedule(seed, timed=seed % 20 == 7)) for seed in range(RECORDED))
    (GOLDEN / "schedules.txt").write_text(schedules, "utf-8")
    for name in ("suite", "schedules"):
        text = (GOLDEN / f"{name}.txt").read_text("utf-8")
        traces = otps(text, 600.0)
        (GOLDEN / f"{name}.trace").write_text(
            "".join(f"{line}\n" for trace in traces.values() for line in trace), "utf-8"
        )


if __name__ == "__main__":
    record()
