"""`mlports simulate`, as a process: what it reads, prints and exits with."""

from __future__ import annotations

import json
from pathlib import Path

from tests.integration.command_line import mlports

GOLDEN = Path(__file__).resolve().parents[1] / "otp" / "golden"
SERVICES = """
[service.digits]
command = ["python", "digits.py"]
replicas = 2
"""
TREE = """
[supervisor.search]
strategy = "rest_for_one"
children = ["store", "indexer", "digits"]
[service.store]
command = ["python", "store.py"]
[service.digits]
command = ["python", "digits.py"]
[program.indexer]
command = "indexer --watch"
"""


def test_a_scenario_gives_otps_trace(tmp_path: Path) -> None:
    """Guards the format, to the byte: the trace is the one that OTP's own supervisors gave."""
    trace = (GOLDEN / "suite.trace").read_text("utf-8")
    assert mlports("simulate", str(GOLDEN / "suite.txt"), cwd=tmp_path).stdout == trace
    text = (GOLDEN / "suite.txt").read_text("utf-8")
    for arguments in (["simulate"], ["simulate", "-"]):
        assert mlports(*arguments, cwd=tmp_path, input=text).stdout == trace


def test_a_scenario_as_json(tmp_path: Path) -> None:
    text = "scenario one\nsup root - one_for_one 1 5 never\ngo\nend\nscenario two\nend\n"
    done = mlports("simulate", "--json", cwd=tmp_path, input=text)
    first, second = map(json.loads, done.stdout.splitlines())
    assert first["scenario"] == "one"
    assert first["trace"][0] == "sup_init root#1"
    assert second == {"scenario": "two", "trace": ["--- end"]}


def test_the_crashes_of_a_configuration(tmp_path: Path) -> None:
    (tmp_path / "mlports.toml").write_text(SERVICES)
    (tmp_path / "crashes.txt").write_text("250ms digits/1 kill\n")
    done = mlports("simulate", "mlports.toml", "--crashes", "crashes.txt", cwd=tmp_path)
    assert done.returncode == 0
    assert "     0.250  start digits/1#2\n" in done.stdout
    folder = mlports("simulate", ".", "--crashes", "-", "--json", cwd=tmp_path, input="250ms digits/1 kill\n")
    assert json.loads(folder.stdout.splitlines()[-1]) == {
        "at": 0.25,
        "what": "state mlports#1[digits#1[digits/0#1 digits/1#2]]",
    }


def test_the_supervisors_and_programs_of_a_configuration(tmp_path: Path) -> None:
    """Guards that it is the user's own tree that is played."""
    (tmp_path / "mlports.toml").write_text(TREE)
    done = mlports("simulate", ".", "--crashes", "-", cwd=tmp_path, input="1.5s indexer kill\n")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[-3:] == [
        "     1.500  start indexer#2",
        "     1.500  start digits/0#2",
        "     1.500  state mlports#1[search#1[store/0#1 indexer#2 digits/0#2]]",
    ]
    wrong = mlports("simulate", ".", "--crashes", "-", cwd=tmp_path, input="1.5s search kill\n")
    assert wrong.returncode == 2
    assert "line 1: there is no service or program search. Fix: name one of store, digits, indexer" in wrong.stderr


def test_what_cannot_be_read_or_played(tmp_path: Path) -> None:
    """Guards the exit status, and that what was played before is shown."""
    missing = mlports("simulate", "nowhere.txt", cwd=tmp_path)
    assert (missing.returncode, missing.stderr) == (2, "error: cannot read nowhere.txt: No such file or directory\n")
    wrong = mlports("simulate", cwd=tmp_path, input="sup root - one_for_one 1 5 never\ngo\njump\n")
    assert wrong.returncode == 2
    assert wrong.stdout.endswith("state root#1[]\n")
    assert "line 3: jump: there is no command jump" in wrong.stderr
    mixed = mlports("simulate", "tree.txt", "--crashes", "crashes.txt", cwd=tmp_path)
    assert mixed.returncode == 2
