"""The values of single keys: durations, sizes, paths, command lines and names, checked and brought into one form."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic_core import PydanticCustomError

from mlports.core.routing.weights import Weights, check_count
from mlports.toml_lines import Key
from mlports_protocol import MAX_FRAME_LIMIT, Codec, LocalProtocolError, Notification

_T = TypeVar("_T")

_SECONDS = {"ms": Fraction(1, 1000), "s": Fraction(1), "m": Fraction(60), "h": Fraction(3600)}
_BYTES = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "KB": 10**3, "MB": 10**6, "GB": 10**9}
_NUMBER = r"(-?[0-9]{1,15}(?:\.[0-9]{1,15})?)"
_DURATION = re.compile(f"{_NUMBER}({'|'.join(_SECONDS)})")
_SIZE = re.compile(f"{_NUMBER}({'|'.join(_BYTES)})")
_WRITE_DURATION = 'write "500ms", "5s", "2m", "1h" or a number of seconds'
_WRITE_SIZE = 'write "64KiB", "10MB", "2GiB" or a number of bytes'
_LONGEST = 8760 * 3600.0
_LEAST_MEMORY = 2**20
_MOST_MEMORY = 2**60
_PERCENTILE = re.compile(r"p([0-9]{2}(?:\.[0-9])?)")
_NAME = re.compile(r"[a-z][a-z0-9_-]*")

ROOT = "mlports"
"""What the root supervisor is called."""
EXAMPLES = {"service": "digits", "program": "indexer", "supervisor": "ml", "pipeline": "search"}
"""By kind, what one may be called."""


def wrong(problem: str, fix: str, *inside: str | int) -> PydanticCustomError:
    """What a validator raises; `inside` leads from the field to the part of it that is wrong."""
    return PydanticCustomError(
        "mlports_config", "{problem}. Fix: {fix}", {"problem": problem, "fix": fix, "inside": inside}
    )


def shown(value: object) -> str:
    """A value as it may be quoted in a message: as in TOML if it is short, else what it is."""
    if isinstance(value, str):
        quoted = json.dumps(value, ensure_ascii=False)
        return quoted if len(quoted) <= 60 else f'{quoted[:56]}…"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        # Python refuses to write out a number of thousands of digits, which TOML can hold in base 16.
        return str(value) if isinstance(value, float) or abs(value) < 10**20 else "a number of more than 20 digits"
    names = {"list": "an array", "dict": "a table", "NoneType": "nothing", "datetime": "a date with a time"}
    name = type(value).__name__
    return names.get(name, f"a {name}")


def nearest(name: str, among: Iterable[str]) -> str | None:
    """What was probably meant; None if nothing is like it."""
    import difflib

    return next(iter(difflib.get_close_matches(name, list(among), n=1)), None)


# --- Durations, in seconds


def _number(value: object, units: Mapping[str, Fraction | int], pattern: re.Pattern[str], what: str, fix: str) -> Any:
    """A number as it is, or that of a text with its unit."""
    if isinstance(value, str):
        match = pattern.fullmatch(value)
        if match:
            return Fraction(match[1]) * units[match[2]]
        unit = "s" if what == "a duration" else "B"
        raise wrong(f"{shown(value)} is not {what}", f'write "{value}{unit}"' if value.isdecimal() else fix)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong(f"must be {what}, not {shown(value)}", fix)
    return value


def _seconds(value: object) -> float:
    number = _number(value, _SECONDS, _DURATION, "a duration", _WRITE_DURATION)
    if not 0 <= number <= _LONGEST:
        raise wrong(f"must be from 0 to 8760h, a year, not {shown(value)}", _WRITE_DURATION)
    return float(number)


def duration(value: object) -> float:
    """One longer than 0."""
    seconds = _seconds(value)
    if not seconds:
        raise wrong("must be longer than 0", _WRITE_DURATION)
    return seconds


def limit(value: object) -> float | None:
    """One longer than 0, or None for "infinity"."""
    if value is None or value == "infinity":
        return None
    seconds = _or(_seconds, value, '"infinity"')
    if not seconds:
        raise wrong("must be longer than 0", '"infinity" is for no limit')
    return seconds


def shutdown(value: object) -> float | Literal["brutal_kill", "infinity"]:
    """One of 0 or more, or one of OTP's two words."""
    if value == "brutal_kill" or value == "infinity":
        return "brutal_kill" if value == "brutal_kill" else "infinity"
    return _or(_seconds, value, '"brutal_kill" or "infinity"')


def age(value: object) -> float:
    """One longer than 0, that of what may also be left out."""
    return _or(duration, value, "leave it out for no limit")


def _or(read: Callable[[object], _T], value: object, fix: str) -> _T:
    """The value, or what is wrong with it and one fix more."""
    try:
        return read(value)
    except PydanticCustomError as error:
        told = dict(error.context or {})
        raise wrong(told["problem"], f"{told['fix']}, or {fix}") from None


def period(value: object) -> int:
    """A whole number of them, at least 1."""
    seconds = _seconds(value)
    if seconds < 1 or seconds != int(seconds):
        raise wrong(f"must be a whole number of seconds, at least 1, not {shown(value)}", 'write 10 or "10s"')
    return int(seconds)


# --- Sizes, in bytes


def frame_size(value: object) -> int:
    """One that the protocol can carry."""
    number = _number(value, _BYTES, _SIZE, "a size", _WRITE_SIZE)
    if not 1 <= number <= MAX_FRAME_LIMIT:
        raise wrong(
            f"must be from 1 to {MAX_FRAME_LIMIT} bytes (2GiB less one), not {shown(value)}",
            'write "64MiB", or leave it out' if not number >= 1 else f"write {MAX_FRAME_LIMIT} or less",
        )
    return _whole(number, value)


def memory_size(value: object) -> int:
    """One that a process can have."""
    return _or(_memory_size, value, "leave it out for no limit")


def _memory_size(value: object) -> int:
    try:
        number = _number(value, _BYTES, _SIZE, "a size", _WRITE_SIZE)
    except PydanticCustomError as error:
        # "2" is hardly two bytes.
        raise wrong(dict(error.context or {})["problem"], 'write "512MiB", "2GiB" or a number of bytes') from None
    if not number >= _LEAST_MEMORY:
        problem = f"must be at least 1MiB, not {shown(value)}: no worker gets by with less"
        raise wrong(problem, f'write "{value}GiB"' if value in range(1, 1024) else 'write "512MiB" or "2GiB"')
    if not number <= _MOST_MEMORY:
        raise wrong(f"must be at most {_MOST_MEMORY} bytes, not {shown(value)}", 'write "512MiB" or "2GiB"')
    return _whole(number, value)


def recording_size(value: object) -> int:
    """One that a recording may have."""
    number = _number(value, _BYTES, _SIZE, "a size", _WRITE_SIZE)
    if not 2**10 <= number <= 2**30:
        raise wrong(f"must be from 1KiB to 1GiB, not {shown(value)}", 'write "16MiB"')
    return _whole(number, value)


def _whole(number: Any, value: object) -> int:
    if number != int(number):
        raise wrong(f"must be a whole number of bytes, not {shown(value)}", _WRITE_SIZE)
    return int(number)


# --- Commands, files and the environment


def words(value: object) -> object:
    """A command line's words; what is neither text nor words is left for the next check."""
    if isinstance(value, str):
        import shlex

        try:
            return shlex.split(value)
        except ValueError as error:
            raise wrong(
                f"cannot be split into words: {str(error).lower()}", "close it, or write an array of strings"
            ) from None
    return array(value)


def array(value: object) -> object:
    """A list for a tuple, as which it may be given in Python."""
    return list(value) if isinstance(value, tuple) else value


def command(words: list[str]) -> list[str]:
    """The words of a command that can be run."""
    if not words or not words[0]:
        raise wrong("is empty", 'write the program and its arguments: ["python", "worker.py"]')
    for index, word in enumerate(words):
        _without_nul(word, index)
    return words


_NOT_INLINE = {
    "python": ("cannot be another interpreter's: its handlers run in the orchestrator's own", "remove it"),
    "memory_limit": ("cannot be that of a thread: its memory is the orchestrator's", "remove it"),
    "heartbeat": ("says nothing of a thread: it is the orchestrator who answers for it", "remove it; see grace"),
    "preload": ("gains nothing: its modules are imported once as it is", "remove it"),
    "max_frame": ("limits nothing where there are no frames", "remove it"),
    "cwd": ("cannot be a thread's own: it is the orchestrator's", "remove it, and name the script from this folder"),
    "env": ("cannot be a thread's own: it is the orchestrator's", "hand it over in config"),
    "record": ("would keep nothing: there are no frames, and a crash ends the orchestrator too", "remove it"),
}
"""Keys that mean nothing with the transport "inline"."""


def inline(command: list[str], keys: Mapping[str, object]) -> None:
    """Raises what is wrong with a service's keys if its handlers are to run within the orchestrator."""
    another = 'or write transport = "stdio"'
    for key, (problem, fix) in _NOT_INLINE.items():
        if keys.get(key) not in (None, {}, [], Path(".")):
            raise wrong(f'with transport = "inline", this {problem}', f"{fix}, {another}", key)
    program = command[1:]
    if command[0] not in ("python", "python3", sys.executable) or not program:
        problem = f"{shown(command[0])} cannot run within the orchestrator, which is a Python program"
    elif program[0] == "-m" and len(program) == 2:
        return
    elif program[0].startswith("-"):
        problem = f"the option {shown(program[0])} cannot be had within the orchestrator"
    elif len(program) > 1:
        problem = f"{shown(program[-1])} cannot be handed over: a thread has no arguments of its own"
    else:
        return
    fix = f'with transport = "inline" write ["python", "worker.py"] or ["python", "-m", "module"], {another}'
    raise wrong(problem, fix, "command")


def modules(names: list[str]) -> list[str]:
    """The full names of modules that Python can import."""
    for index, name in enumerate(names):
        if not all(part.isidentifier() for part in name.split(".")):
            raise wrong(
                f"{shown(name)} is no module's name", 'write it as after "import": "sklearn.linear_model"', index
            )
    return names


def _without_nul(text: str, *inside: str | int) -> str:
    if "\0" in text:
        raise wrong("holds a NUL character, which no program can be given", "remove it", *inside)
    return text


def file_name(value: object) -> object:
    """A path with ~ expanded; what is no text is left for the next check."""
    if isinstance(value, str):
        if not value:
            raise wrong("is empty", 'write a path, or "." for the folder of the file')
        return os.path.expanduser(_without_nul(value))
    return value


def path(value: object) -> Path:
    """A path, which may be given as text."""
    if not isinstance(value, str | Path):
        raise wrong(f"must be a path, not {shown(value)}", "write one in quotes")
    return Path(str(file_name(str(value))))


def environment(variables: dict[str, str]) -> dict[str, str]:
    """Variables that a process can be given."""
    for name, value in variables.items():
        _without_nul(name + value, name)
        if not name or "=" in name:
            raise wrong(f"{shown(name)} cannot be a variable's name", 'write NAME = "value"', name)
    return variables


# --- What a worker is sent


def sendable(value: Any) -> Any:
    """What MessagePack can carry."""
    found = _unsendable(value, ())
    if found:
        raise wrong(found[1], found[2], *found[0])
    return value


def _unsendable(value: object, at: Key) -> tuple[Key, str, str] | None:
    """Where, inside a value, stands what MessagePack cannot carry; the problem with it, and the fix."""
    try:
        Codec().encode(Notification("config", [value], None))
        return None
    except LocalProtocolError as error:
        parts: Iterable[tuple[Any, object]] = ()
        if isinstance(value, dict):
            parts = value.items()
        elif isinstance(value, list | tuple):
            parts = enumerate(value)
        # One that is nested too deep is told of as a whole.
        for key, part in parts if "nested" not in str(error) else ():
            found = _unsendable(part, (*at, key))
            if found:
                return found
        if type(value).__name__ in ("date", "time", "datetime"):
            problem = "a date or time without an offset from UTC cannot be sent to a worker"
            return at, problem, "write it in full, as 2030-01-31T08:00:00Z, or in quotes as text"
        return at, str(error), "it is sent to the worker as MessagePack: keep to what that can carry"


def method(name: str) -> str:
    """The name of a service's own method."""
    if not name:
        raise wrong("is empty", 'write a method of the worker: "predict"')
    if name.startswith("$/"):
        raise wrong(f"{shown(name)} is the protocol's own", 'write a method of the worker: "predict"')
    return name


def record(value: object) -> object:
    """A table, for which a word may stand."""
    if value in ("on-crash", "always"):
        return {"when": value}
    if isinstance(value, str | bool | int | float | list):
        raise wrong(f'must be "on-crash", "always" or a table, not {shown(value)}', 'write "on-crash"')
    return value


def redactions(rules: object) -> bool | list[str]:
    """Everything, nothing, or methods and keys of what they take and give."""
    fix = 'write a method, "login", or a method and a key, "login.password"; "*" is any method'
    if isinstance(rules, bool):
        return rules
    if not isinstance(rules, list | tuple):
        raise wrong(f"must be true, false or an array of strings, not {shown(rules)}", 'write true, or ["login"]')
    for index, rule in enumerate(rules):
        name, dot, key = rule.partition(".") if isinstance(rule, str) else ("", "", "")
        if not name or (dot and not key) or name.startswith("$/"):
            raise wrong(f"{shown(rule)} names nothing that could be redacted", fix, index)
    return list(rules)


# --- Names


def name(name: str, kind: str) -> str:
    """The name of a service, program, supervisor or pipeline, as `kind` says."""
    if not _NAME.fullmatch(name):
        better = re.sub(r"[^a-z0-9_-]+", "-", name.lower()).lstrip("0123456789_-").rstrip("-")
        raise wrong(
            f"{shown(name)} cannot be a {kind}'s name: a lower-case letter, then letters, digits, _ and -",
            f"call it [{kind}.{better or EXAMPLES[kind]}]",
        )
    if name == ROOT:
        raise wrong(f"\"{name}\" cannot be a {kind}'s name: it is the root supervisor's", f"call it [{kind}.{name}-1]")
    return name


# --- How calls travel


def concurrency(value: object) -> int | Literal["auto"]:
    """A number of calls."""
    fix = 'write a number such as 8, or "auto"; leave it out for no limit'
    return _count_or_auto(value, 2**53, fix)


def batch_size(value: object) -> int | Literal["auto"]:
    """A number of calls in a batch."""
    return _count_or_auto(value, 4096, 'write a number such as 64, or "auto"')


def _count_or_auto(value: object, most: int, fix: str) -> int | Literal["auto"]:
    if value == "auto":
        return "auto"
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong(f'must be a whole number or "auto", not {shown(value)}', fix)
    if not 1 <= value <= most:
        raise wrong(f'must be from 1 to {most}, or "auto", not {shown(value)}', fix)
    return value


def batch_wait(value: object) -> float:
    """A duration of 10 seconds at most; 0 is one too."""
    seconds = _seconds(value)
    if seconds > 10:
        raise wrong(f"must be from 0 to 10 s, not {shown(value)}", 'write one such as "2ms"')
    return seconds


def budget(value: object) -> float | None:
    """A share of the calls, which may be more than 1; None for "infinity"."""
    if value is None or value == "infinity":
        return None
    fix = 'write 0.5 for one retry to two calls, or "infinity" for no limit'
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong(f"must be a number, not {shown(value)}", fix)
    if not 0 <= value <= 1_000_000:
        raise wrong(f"must be from 0 to 1000000, not {shown(value)}", fix)
    return float(value)


def hedge_after(value: object) -> float | str:
    """A duration longer than 0, or a percentile."""
    if isinstance(value, str) and value.startswith("p"):
        match = _PERCENTILE.fullmatch(value)
        if match and 50 <= float(match[1]) <= 99.9:
            return value
        raise wrong(f'must be from "p50" to "p99.9", not {shown(value)}', 'write "p95"')
    return _or(duration, value, '"p95"')


def weights(numbers: list[float]) -> list[float]:
    """Those that calls can be shared out by."""
    try:
        Weights(numbers)
    except ValueError as error:
        raise _of_weights(error) from None
    return numbers


def weights_count(numbers: list[float], replicas: int, standby: int) -> None:
    """Raises if it is not one for each replica."""
    try:
        check_count(numbers, replicas, standby)
    except ValueError as error:
        raise _of_weights(error, "weights") from None


def _of_weights(error: ValueError, *inside: str) -> PydanticCustomError:
    problem, _, fix = str(error).removeprefix("weights ").partition(": ")
    return wrong(problem, fix or "write one number for each replica: [3, 1]", *inside)


def stages(targets: list[str]) -> list[str]:
    """The methods that a pipeline calls."""
    fix = 'name a service and its method: "embed.run"'
    if not targets:
        raise wrong("is empty", 'name at least one: ["embed.run", "score.predict"]')
    for index, target in enumerate(targets):
        service, _, own = target.rpartition(".")
        if not service or not own:
            raise wrong(f"{shown(target)} is no stage: a stage is a service's method", fix, index)
        if own.startswith("$/"):
            raise wrong(f"{shown(own)} is the protocol's own", fix, index)
    return targets
