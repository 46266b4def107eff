"""What the exit status of every command means; `mlports --help` shows it."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """The statuses. `mlports script` has its program's own instead, and 124 when that took too long."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NO_ORCHESTRATOR = 3
    TIMED_OUT = 4
    UNAVAILABLE = 5
    NO_CRASH = 6
    DIFFERS = 7
    SCRIPT_TIMED_OUT = 124
    INTERRUPTED = 130


EXPLAINED = """\
\b
Exit status:
  0    it worked
  1    the call or program failed; a worker did not pass its check
  2    wrong usage, or a wrong configuration
  3    no orchestrator is running there, or it cannot be reached
  4    timed out
  5    unavailable: overloaded, down or crashed
  6    `replay`: the worker did not crash
  7    `replay`: it ended in another way than recorded, or in order but with other answers
  130  interrupted
`script` has the program's own status; 128 + n when signal n ended it, 124 when it took too long.
"""

_BY_CODE = {
    "deadline_exceeded": ExitCode.TIMED_OUT,
    "unavailable": ExitCode.UNAVAILABLE,
    "resource_exhausted": ExitCode.UNAVAILABLE,
    "data_loss": ExitCode.UNAVAILABLE,
}


def exit_code(error: Exception) -> ExitCode:
    """The status for an error of mlports."""
    from mlports import errors

    if isinstance(error, errors.CallError):
        return _BY_CODE.get(error.code, ExitCode.FAILED)
    if isinstance(error, errors.ConfigError | errors.RecordingError):
        return ExitCode.USAGE
    if isinstance(error, errors.ControlError | errors.NotRunning):
        return ExitCode.NO_ORCHESTRATOR
    if isinstance(error, errors.StartFailed):
        return ExitCode.UNAVAILABLE
    return ExitCode.FAILED
