"""One-shot programs: seven languages give one answer, failures and endless ones are told, starts are what costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mlports import ScriptFailed
from tests.examples.running import ROOT
from tests.extras import need
from tests.integration.command_line import environment

need("numpy", "sklearn", how="pip install 'mlports[models]'")

from examples.python_interop.calling import LANGUAGES, failure, in_each_language, time_out  # noqa: E402
from examples.python_interop.costs import compare  # noqa: E402
from examples.python_interop.dataset import write_dataset  # noqa: E402


@pytest.fixture(autouse=True)
def compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing may be written beside scikit-learn, each program would compile all of it."""
    if sys.dont_write_bytecode:
        monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        monkeypatch.setenv("PYTHONPYCACHEPREFIX", environment()["PYTHONPYCACHEPREFIX"])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    assert write_dataset(tmp_path / "dataset.csv") == 569
    return tmp_path / "dataset.csv"


def test_every_language_gives_the_same_answer(data: Path) -> None:
    answers = in_each_language(data)
    assert list(answers) == list(LANGUAGES)
    assert {str(answer.result) for answer in answers.values() if answer} == {"{'right': 246, 'of': 284}"}


def test_a_program_that_fails_is_told_with_its_status_and_its_words(data: Path) -> None:
    refused = failure(data.with_name("missing.csv"))
    assert refused.status == 2
    assert "the table cannot be used" in refused.stderr


def test_a_program_that_hangs_takes_all_it_started_with_it() -> None:
    late, left = time_out(0.5)
    assert len(late.stdout.split()) == 3
    assert isinstance(late, ScriptFailed)
    assert left == []


@pytest.mark.timeout(120)  # scikit-learn is loaded twice, and may have to be compiled first
def test_the_worker_and_the_program_agree_and_the_worker_starts_once(data: Path) -> None:
    costs = compare(data, 1)
    assert len(costs.results) == 12
    assert all(result == costs.results[0] for result in costs.results)
    assert costs.results[0]["accuracy"] > 0.9
    assert costs.worker < costs.program


@pytest.mark.soak
def test_the_program_says_that_all_is_as_it_should_be() -> None:
    command = [sys.executable, "-m", "examples.python_interop"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 of the three left" in done.stdout
