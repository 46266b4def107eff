"""One child specification in TOML, in Python and in Erlang: one tree, and the same end when its worker keeps dying."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from examples.supervision.__main__ import CONFIG, problems, run
from examples.supervision.in_python import config
from examples.supervision.otp import escript
from examples.supervision.simulating import every, gives_up_at
from mlports import load_config
from mlports.tree import ROOT, plan

ROOT_FOLDER = Path(__file__).resolve().parents[2]


def test_the_file_and_python_make_the_article_s_tree() -> None:
    tree = plan(load_config(CONFIG))
    assert tree == plan(config())
    assert [*tree] == [ROOT]
    flags, (child,) = tree[ROOT].flags, tree[ROOT].specs
    assert (flags.strategy, flags.intensity, flags.period) == ("one_for_one", 5, 10)
    assert (child.restart, child.shutdown, child.type) == ("permanent", 5000, "worker")


def test_five_in_ten_seconds_are_allowed_and_the_sixth_is_not() -> None:
    assert gives_up_at(config(), [0, 1, 2, 3, 4]) is None
    assert gives_up_at(config(), [0, 1, 2, 3, 4, 10]) == 6
    assert gives_up_at(config(), [0, 1, 2, 3, 4, 11]) is None
    assert gives_up_at(config(), every(2.0)) == 6
    assert gives_up_at(config(), every(2.2)) is None


async def test_a_worker_that_is_killed_again_and_again_is_given_up_as_otp_does() -> None:
    story, otp = await run(config(), gently=1)
    assert problems(config(), story, otp) == []
    assert len(story.deaths) == story.lives >= 6
    assert story.answers == [1]
    assert "reached_max_restart_intensity" in story.gave_up
    assert "ServiceDown" in story.refused
    assert (otp is None) == (escript() is None)
    if otp is not None:
        assert otp.did[:5] == ["life 2", "life 3", "life 4", "life 5", "life 6"]
        assert otp.did[-1] == "ended shutdown" or not otp.ended


@pytest.mark.soak
def test_the_program_tells_what_it_found() -> None:
    command = [sys.executable, "-m", "examples.supervision"]
    done = subprocess.run(command, cwd=ROOT_FOLDER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "gives up at death 6" in done.stdout
