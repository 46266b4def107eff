"""Our supervisor against OTP's, on random schedules: every line of every trace is the same."""

from __future__ import annotations

import os

import pytest

from tests.otp.schedules import scenario, schedule, shrunk
from tests.otp.traces import ESCRIPT, ORACLE, difference, otps, ours

pytestmark = pytest.mark.skipif(ESCRIPT is None, reason="needs Erlang's escript")

SCHEDULES, SOAKED, BATCH = 300, 10_000, 500
FIRST = int(os.environ.get("MLPORTS_OTP_SEED", "0"))
"""The first seed; another makes the same tests try other schedules."""


def _compare(schedules: dict[str, list[str]], timeout: float) -> None:
    text = "".join(scenario(name, lines) for name, lines in schedules.items())
    theirs, own = otps(text, timeout), ours(text)
    assert theirs.keys() == schedules.keys()
    for name, lines in schedules.items():
        if own[name] == theirs[name]:
            continue
        smaller = shrunk(lines, lambda shorter: _differs(scenario("smaller", shorter)))
        text = scenario("smaller", smaller)
        theirs, own = otps(text, 30.0), ours(text)
        told = difference(own["smaller"], theirs["smaller"]) or "nothing, when played again"
        pytest.fail(f"{name} differs from OTP. The smallest schedule that does:\n\n{text}\n{told}", pytrace=False)


def _differs(text: str) -> bool:
    try:
        return ours(text) != otps(text, 30.0)
    except Exception:
        return False  # what cannot be played has lost something that it needs


def test_random_schedules() -> None:
    """Guards every rule at once, in combinations that nobody would think of."""
    _compare({f"seed-{seed}": schedule(seed) for seed in range(FIRST, FIRST + SCHEDULES)}, 50.0)


@pytest.mark.soak
@pytest.mark.parametrize("first", range(FIRST, FIRST + SOAKED, BATCH))
def test_many_random_schedules(first: int) -> None:
    """The same with many more, some of which wait for restarts to be forgotten."""
    _compare({f"seed-{seed}": schedule(seed, timed=seed % 50 == 7) for seed in range(first, first + BATCH)}, 600.0)


@pytest.mark.soak
def test_a_difference_is_found_and_made_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the comparison itself, with an intensity that is off by one."""
    from mlports.core.intensity import RestartIntensity

    monkeypatch.setattr(RestartIntensity, "allow", lambda self, now: True)
    with pytest.raises(pytest.fail.Exception, match="seed-") as found:
        _compare({f"seed-{seed}": schedule(seed) for seed in range(40)}, 50.0)
    assert "reached_max_restart_intensity" in str(found.value)
    smallest = str(found.value).partition("scenario smaller")[2].partition("\nend")[0]
    assert len(smallest.splitlines()) <= 12


def test_the_oracle_is_here() -> None:
    """Guards against a comparison that is skipped because a file was moved."""
    assert ORACLE.is_file()
