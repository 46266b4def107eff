"""Our supervisor against traces recorded from OTP's: the cases of OTP's own suite, and some random schedules.

They need no Erlang. Each case has the name of the one in OTP's supervisor_SUITE that it stands for; what a case there
checks in several ways is several scenarios here, and what can be said without processes is in test_suite.py.
"""

from __future__ import annotations

import pytest

from tests.otp.traces import ESCRIPT, difference, otps, ours, recorded

SUITE, SUITE_TRACES = recorded("suite")
SCHEDULES, SCHEDULES_TRACES = recorded("schedules")


@pytest.mark.parametrize("name", SUITE)
def test_suite(name: str) -> None:
    """Guards one rule each."""
    own = ours(SUITE[name])[name]
    assert own == SUITE_TRACES[name], difference(own, SUITE_TRACES[name])


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedule(name: str) -> None:
    """Guards combinations of rules where there is no Erlang."""
    own = ours(SCHEDULES[name])[name]
    assert own == SCHEDULES_TRACES[name], difference(own, SCHEDULES_TRACES[name])


@pytest.mark.skipif(ESCRIPT is None, reason="needs Erlang's escript")
def test_the_recording_of_the_suite_is_current() -> None:
    """Guards against a recording that was edited, or is of scenarios that have changed since."""
    assert otps("\n".join(SUITE.values()), 50.0) == SUITE_TRACES
