"""examples/languages: one pipeline through workers in many languages, one of which is killed meanwhile."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from examples.languages import __main__ as run
from mlports import load_config
from tests.examples.running import ENVIRONMENT, command
from tests.examples.running import run as run_example
from tests.languages import made

pytest.importorskip("sklearn", reason="the digits come with scikit-learn, of the extra models")

# Those whose workers start and learn within a second or two.
QUICK = ["c", "cpp", "go", "perl", "r", "ruby", "rust"]


def example(folder: Path, *options: str, timeout: float = 50, path: str = "") -> subprocess.CompletedProcess[str]:
    """The example, run from another folder than its own."""
    return run_example("languages", folder, *options, timeout=timeout, **({"PATH": path} if path else {}))


def is_ready(language: str) -> bool:
    """Whether this machine has what the language needs, and its worker is built."""
    folder = run.WORKERS / language
    if (folder / "Makefile").exists() and made(folder, "missing").split():
        return False
    program = load_config(run.HERE / "mlports.toml").service[language].command[0]
    return os.sep not in program or (folder / program).is_file()


def share(label: str, printed: str) -> float:
    """The figure behind this label, in %."""
    found = re.search(rf"^{re.escape(label)} .*?([\d.]+)%$", printed, re.MULTILINE)
    assert found is not None, f"no figure of {label} in:\n{printed}"
    return float(found[1])


def check_findings(ran: subprocess.CompletedProcess[str], languages: list[str]) -> None:
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert f"60 of 60 records came back whole, with the votes of all {len(languages)} languages." in ran.stdout
    assert "was killed by SIGKILL" in ran.stdout
    again = re.search(r"Sent again after the kill: (\d+) records?\. Lost: 0\.", ran.stdout)
    assert again is not None, ran.stdout
    assert int(again[1]) >= 1
    for language in languages:
        assert share(language, ran.stdout) > 80
    assert share("the majority of their votes", ran.stdout) > share("the median of them", ran.stdout)


@pytest.mark.timeout(120)
def test_a_killed_worker_costs_no_record_and_together_they_know_more(tmp_path: Path) -> None:
    languages = [language for language in QUICK if is_ready(language)]
    if len(languages) < 3:
        pytest.skip(f"a majority wants three voters, and there are {', '.join(languages)}: make workers")
    check_findings(example(tmp_path, "--only", ",".join(languages), "--kill", languages[0], timeout=110), languages)


@pytest.mark.soak
@pytest.mark.timeout(1500)
def test_all_languages_of_this_machine(tmp_path: Path) -> None:
    ran = example(tmp_path, timeout=1400)
    left_out = re.findall(r"^  (\w+) is left out: not installed here", ran.stdout, re.MULTILINE)
    check_findings(ran, [language for language in run.VOTERS if language not in left_out])


def test_the_pipeline_goes_through_every_language_that_there_is() -> None:
    config = load_config(run.HERE / "mlports.toml")
    sdks = sorted(path.parent.name for path in run.WORKERS.glob("*/mlports.toml"))
    assert sorted(config.service) == sorted(run.VOTERS) == sdks
    assert config.pipeline["panel"].stages == [f"{language}.vote" for language in config.service]
    for language, service in config.service.items():
        folder = run.HERE / service.cwd
        assert folder.resolve() == run.WORKERS / language
        assert (folder / service.config["data"]).resolve() == run.TRAIN


def test_a_language_without_its_tools_is_left_out_and_named(tmp_path: Path) -> None:
    for tool in ("make", "sh"):
        (tmp_path / tool).symlink_to(f"/usr/bin/{tool}")
    ran = example(tmp_path, "--only", "lua,perl", path=str(tmp_path))
    assert ran.returncode == 1
    assert "  lua is left out: not installed here: lua5.4" in ran.stdout
    assert "  perl is left out: not installed here: perl" in ran.stdout
    assert ran.stderr.startswith("no language is left")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("--only fortran", "'fortran'; there are c, cpp, "),
        ("--rows 0", "1 to 597"),
        ("--only python --kill ruby", "not among --only"),
    ],
)
def test_wrong_options_are_told_what_is_possible(options: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run.arguments(options.split())
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


def test_an_interrupt_leaves_nothing_behind(tmp_path: Path) -> None:
    process = subprocess.Popen(
        command("languages", "--only", "python"),
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("Each worker learns"):
                process.send_signal(signal.SIGINT)
                break
        printed, complaints = process.communicate(timeout=40)
    assert (process.returncode, complaints.strip()) == (130, "interrupted: nothing is left running"), printed


def test_a_record_is_whole_only_with_every_vote_and_unchanged() -> None:
    sent = {"first": 10, "x": [[0, 16], [1, 2]], "votes": {}}
    back = {**sent, "votes": {"c": [1, 2], "r": [1, 3]}}
    assert run.is_whole(sent, back, ["r", "c"])
    assert not run.is_whole(sent, {**back, "votes": {"c": [1, 2]}}, ["r", "c"])
    assert not run.is_whole(sent, {**back, "votes": {"c": [1, 2], "r": [1]}}, ["r", "c"])
    assert not run.is_whole(sent, {**back, "x": [[0, 16], [1, 3]]}, ["r", "c"])
    assert not run.is_whole(sent, {**back, "first": 0}, ["r", "c"])
