"""The demo as `make demo` runs it: everything it claims has to be so, in a process of its own that leaves nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import sysconfig
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import pytest

from mlports.cli.demo import CONCURRENCY, Outcome

ROOT = Path(__file__).resolve().parents[2]
PYTHONPATH = os.pathsep.join(str(ROOT / folder) for folder in ("protocol", "orchestrator", "workers/python"))
MAIN = "import sys; from mlports.cli.demo import run_demo; sys.exit(run_demo(json={}))"

GOOD = Outcome(
    accuracy=0.99,
    accuracy_in_process=0.99,
    requests=10,
    answered=10,
    answered_once=True,
    same_answers=True,
    killed={"pid": 7, "in_flight": 2},
    deaths=[{"name": "SIGKILL", "pid": 7, "in_flight": [3, 4]}],
    restarted={"answered": 5, "seconds": 1.0},
    retried=2,
)


def demo(folder: Path, as_json: bool, *options: str, path: str = PYTHONPATH) -> subprocess.Popen[str]:
    """The demo, with its temporary files in `folder`."""
    return subprocess.Popen(
        [sys.executable, *options, "-c", MAIN.format(as_json)],
        env={**os.environ, "PYTHONPATH": path, "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.timeout(300)
def test_the_demo_holds(tmp_path: Path) -> None:
    with demo(tmp_path, True) as process:
        stdout, stderr = process.communicate()
    assert process.returncode == 0, stderr
    told: dict[str, Any] = json.loads(stdout)
    assert told["ok"]
    assert all(check["held"] for check in told["checks"])
    assert told["accuracy"] == told["accuracy_in_process"] >= 0.95
    assert told["answered"] == told["requests"] == told["rounds"] * told["images"] > 4000
    assert told["images"] == 540
    assert told["answered_once"]
    assert told["failed"] == 0
    assert told["concurrency"] == CONCURRENCY == 64
    assert told["replicas"] == 2
    (death,) = told["deaths"]
    assert (death["name"], death["status"], death["pid"]) == ("SIGKILL", -9, told["killed"]["pid"])
    assert len(death["in_flight"]) == told["killed"]["in_flight"] == told["retried"] > 0
    assert told["killed"]["after_requests"] < told["requests"]
    assert told["restarted"]["state"] == "ready"
    assert told["restarted"]["restarts"] == 1
    assert told["restarted"]["pid"] != told["killed"]["pid"]
    assert told["restarted"]["answered"] > 0
    assert told["calls_per_second"] > 0
    assert 0 < told["p50_ms"] <= told["p99_ms"]
    assert told["leftovers"] == []
    assert stderr == ""
    assert os.listdir(tmp_path) == []


@pytest.mark.timeout(300)
def test_ctrl_c_stops_it(tmp_path: Path) -> None:
    """Guards against workers and files that outlive a demo which was broken off."""
    with demo(tmp_path, False) as process:
        stdout: IO[str] | None = process.stdout
        assert stdout is not None
        assert stdout.readline().startswith("A worker learns the digits")
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate()
    assert process.returncode == 130
    assert stderr == "interrupted: the workers are stopped\n"
    assert os.listdir(tmp_path) == []


def test_without_the_packages_it_says_what_to_install(tmp_path: Path) -> None:
    packages = tmp_path / "packages"
    packages.mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if entry.name.partition(".")[0] not in ("sklearn", "skops"):
            (packages / entry.name).symlink_to(entry)
    with demo(tmp_path, True, "-S", path=os.pathsep.join([PYTHONPATH, str(packages)])) as process:
        stdout, stderr = process.communicate()
    assert process.returncode == 2
    assert "the demo needs sklearn, skops" in stderr
    assert "pip install 'mlports[models]'" in stderr
    assert json.loads(stdout) == {"ok": False, "error": stderr.strip()}


def test_a_good_outcome_holds() -> None:
    assert all(check.held for check in GOOD.checks())


@pytest.mark.parametrize(
    ("wrong", "count"),
    [
        ({"accuracy": 0.9, "accuracy_in_process": 0.9}, 1),
        ({"accuracy_in_process": 0.98}, 1),
        ({"same_answers": False}, 1),
        ({"answered_once": False}, 1),
        ({"failed": 1}, 1),
        ({"answered": 9}, 1),
        ({"requests": 0, "answered": 0}, 1),
        ({"killed": {}}, 2),
        ({"killed": {"pid": 7, "in_flight": 0}}, 1),
        ({"deaths": []}, 3),
        ({"deaths": GOOD.deaths * 2}, 3),
        ({"deaths": [{"name": "SIGKILL", "pid": 8, "in_flight": [3, 4]}]}, 1),
        ({"deaths": [{"name": "exit 1", "pid": 7, "in_flight": [3, 4]}]}, 1),
        ({"deaths": [{"name": "SIGKILL", "pid": 7, "in_flight": []}], "retried": 0}, 2),
        ({"retried": 1}, 1),
        ({"restarted": {}}, 1),
        ({"restarted": {"answered": 0, "seconds": 1.0}}, 1),
        ({"leftovers": ["process 7"]}, 1),
    ],
)
def test_whatever_does_not_hold_is_found(wrong: dict[str, Any], count: int) -> None:
    """Guards the demo's own judgement: it must not say that all is well whatever happens."""
    checks = replace(GOOD, **wrong).checks()
    assert sum(not check.held for check in checks) == count
