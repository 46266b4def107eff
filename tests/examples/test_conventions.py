"""What all examples have in common, and the command that lists and runs them."""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from mlports import load_config
from tests.examples.running import ENVIRONMENT, PYTHONPATH, ROOT, command

EXAMPLES = ROOT / "examples"
NO_EXAMPLES = {"node_modules", "__pycache__", "pictures"}
NAMES = sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir() and path.name not in NO_EXAMPLES)


def mlports(*arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mlports", *arguments],
        cwd=folder,
        env=ENVIRONMENT | environment,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


@pytest.mark.parametrize("name", NAMES)
def test_an_example_has_what_its_readers_expect(name: str) -> None:
    folder = EXAMPLES / name
    assert (folder / "__init__.py").is_file()
    program = ast.parse((folder / "__main__.py").read_text("utf-8"))
    first, _, rest = (ast.get_docstring(program) or "").partition("\n")
    assert first.endswith("."), "its first line says what it does, for `mlports demo --list`"
    assert f"python -m examples.{name}" in rest
    assert any(isinstance(each, ast.FunctionDef) and each.name == "main" for each in program.body)
    # A flow has its workers to itself, and needs no file.
    if not any("mlports.flow" in module.read_text("utf-8") for module in folder.glob("*.py")):
        assert load_config(folder / "mlports.toml").service
    assert f"python -m examples.{name}" in (folder / "README.md").read_text("utf-8")
    assert (ROOT / "tests" / "examples" / f"test_{name}.py").is_file()


def test_all_are_listed_with_what_they_do(tmp_path: Path) -> None:
    listed = mlports("demo", "--list", "--json", folder=tmp_path)
    assert sorted(json.loads(listed.stdout)) == NAMES, listed.stderr
    lines = mlports("demo", "--list", folder=tmp_path).stdout.splitlines()
    assert [line.split()[0] for line in lines] == NAMES
    assert all(len(line.split()) > 3 for line in lines)


def test_an_unknown_one_is_told_with_those_that_there_are(tmp_path: Path) -> None:
    told = mlports("demo", "frod", folder=tmp_path)
    assert told.returncode == 2
    assert f"did you mean fraud? There are {', '.join(NAMES)}" in told.stderr


def test_options_and_status_are_the_example_s_own(tmp_path: Path) -> None:
    """In a folder that has an `examples` of its own, too."""
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "__init__.py").write_text("raise SystemExit('not this one')")
    told = mlports("demo", "languages", "--only", "fortran", folder=tmp_path)
    assert told.returncode == 2
    assert told.stderr.startswith("usage: python -m examples.languages"), told.stderr
    assert "there is no worker in 'fortran'" in told.stderr


def test_it_is_run_from_a_wheel_as_from_a_clone() -> None:
    """The wheel has the package where the command looks for it."""
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert "examples" in wheel["packages"]
    assert wheel["sources"] == {"examples": "mlports/demos/examples"}


def test_a_missing_package_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['numpy'] = None\n")
    told = mlports("demo", "fraud", folder=tmp_path, PYTHONPATH=os.pathsep.join([str(tmp_path), PYTHONPATH]))
    assert told.returncode == 1
    assert told.stderr.startswith("numpy is not installed for ")
    assert "pip install 'mlports[examples]'" in told.stderr
    assert len(told.stderr.splitlines()) == 1


def test_an_interrupt_is_no_traceback(tmp_path: Path) -> None:
    """At any time: here while it imports what it needs."""
    (tmp_path / "numpy.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(50)\n")
    environment = ENVIRONMENT | {"PYTHONPATH": os.pathsep.join([str(tmp_path), PYTHONPATH])}
    with subprocess.Popen(
        command("fraud"), cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "importing\n"
        process.send_signal(signal.SIGINT)
        _, complaints = process.communicate(timeout=40)
    assert (process.returncode, complaints.strip()) == (130, "interrupted")


def test_data_that_is_missing_is_a_sentence() -> None:
    from examples.packaged_data import packaged

    with pytest.raises(SystemExit, match=r"numbers: to read this, install the package no_such_package: pip install"):
        packaged("no_such_package", "numbers.csv", what="numbers")
    with pytest.raises(SystemExit, match=r"numbers: the msgpack that is installed has no data/numbers.csv"):
        packaged("msgpack", "data", "numbers.csv", what="numbers")
    assert packaged("msgpack", "__init__.py", what="itself").is_file()
