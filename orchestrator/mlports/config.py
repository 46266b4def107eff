"""What mlports.toml says: read, checked, and explained where it is wrong, with file, line, key and fix."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, ValidationError
from pydantic_core import PydanticCustomError

from mlports_protocol import DEFAULT_MAX_FRAME, MAX_FRAME_LIMIT, Codec, LocalProtocolError, Notification

from .errors import ConfigError
from .toml_lines import Key, TomlLines, dotted, read_toml

_SECONDS = {"ms": Fraction(1, 1000), "s": Fraction(1), "m": Fraction(60), "h": Fraction(3600)}
_BYTES = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "KB": 10**3, "MB": 10**6, "GB": 10**9}
_NUMBER = r"(-?[0-9]{1,15}(?:\.[0-9]{1,15})?)"
_DURATION = re.compile(f"{_NUMBER}({'|'.join(_SECONDS)})")
_SIZE = re.compile(f"{_NUMBER}({'|'.join(_BYTES)})")
_WRITE_DURATION = 'write "500ms", "5s", "2m", "1h" or a number of seconds'
_WRITE_SIZE = 'write "64KiB", "10MB", "2GiB" or a number of bytes'
_LONGEST = 8760 * 3600.0
_SERVICE_NAME = re.compile(r"[a-z][a-z0-9_-]*")


def _wrong(problem: str, fix: str, *inside: str | int) -> PydanticCustomError:
    """What a validator raises; `inside` leads from the field to the part of it that is wrong."""
    return PydanticCustomError(
        "mlports_config", "{problem}. Fix: {fix}", {"problem": problem, "fix": fix, "inside": inside}
    )


def _shown(value: object) -> str:
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


def _number(value: object, units: Mapping[str, Fraction | int], pattern: re.Pattern[str], what: str, fix: str) -> Any:
    """A number as it is, or that of a text with its unit."""
    if isinstance(value, str):
        match = pattern.fullmatch(value)
        if match:
            return Fraction(match[1]) * units[match[2]]
        unit = "s" if what == "a duration" else "B"
        raise _wrong(f"{_shown(value)} is not {what}", f'write "{value}{unit}"' if value.isdecimal() else fix)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong(f"must be {what}, not {_shown(value)}", fix)
    return value


def _seconds(value: object) -> float:
    number = _number(value, _SECONDS, _DURATION, "a duration", _WRITE_DURATION)
    if not 0 <= number <= _LONGEST:
        raise _wrong(f"must be from 0 to 8760h, a year, not {_shown(value)}", _WRITE_DURATION)
    return float(number)


def _start_timeout(value: object) -> float:
    seconds = _seconds(value)
    if not seconds:
        raise _wrong("must be longer than 0", _WRITE_DURATION)
    return seconds


def _timeout(value: object) -> float | None:
    if value is None or value == "infinity":
        return None
    seconds = _seconds(value)
    if not seconds:
        raise _wrong("must be longer than 0", '"infinity" is for calls without a limit')
    return seconds


def _shutdown(value: object) -> float | Literal["brutal_kill", "infinity"]:
    if value == "brutal_kill" or value == "infinity":
        return "brutal_kill" if value == "brutal_kill" else "infinity"
    try:
        return _seconds(value)
    except PydanticCustomError as error:
        told = dict(error.context or {})
        raise _wrong(told["problem"], f'{told["fix"]}, or "brutal_kill" or "infinity"') from None


def _period(value: object) -> int:
    seconds = _seconds(value)
    if seconds < 1 or seconds != int(seconds):
        raise _wrong(f"must be a whole number of seconds, at least 1, not {_shown(value)}", 'write 10 or "10s"')
    return int(seconds)


def _frame_size(value: object) -> int:
    number = _number(value, _BYTES, _SIZE, "a size", _WRITE_SIZE)
    if not 1 <= number <= MAX_FRAME_LIMIT:
        raise _wrong(
            f"must be from 1 to {MAX_FRAME_LIMIT} bytes (2GiB less one), not {_shown(value)}",
            'write "64MiB", or leave it out' if not number >= 1 else f"write {MAX_FRAME_LIMIT} or less",
        )
    if number != int(number):
        raise _wrong(f"must be a whole number of bytes, not {_shown(value)}", _WRITE_SIZE)
    return int(number)


def _words(value: object) -> object:
    """A command line's words; what is neither text nor words is left for the next check."""
    if isinstance(value, tuple):
        value = list(value)
    if isinstance(value, str):
        import shlex

        try:
            value = shlex.split(value)
        except ValueError as error:
            raise _wrong(
                f"cannot be split into words: {str(error).lower()}", "close it, or write an array of strings"
            ) from None
    return value


def _command(words: list[str]) -> list[str]:
    if not words or not words[0]:
        raise _wrong("is empty", 'write the program and its arguments: ["python", "worker.py"]')
    for index, word in enumerate(words):
        _without_nul(word, index)
    return words


def _without_nul(text: str, *inside: str | int) -> str:
    if "\0" in text:
        raise _wrong("holds a NUL character, which no program can be given", "remove it", *inside)
    return text


def _file_name(value: object) -> object:
    if isinstance(value, str):
        if not value:
            raise _wrong("is empty", 'write a path, or "." for the folder of the file')
        return os.path.expanduser(_without_nul(value))
    return value


def _as_path(value: object) -> Path:
    if not isinstance(value, str | Path):
        raise _wrong(f"must be a path, not {_shown(value)}", "write one in quotes")
    return Path(str(_file_name(str(value))))


def _environment(variables: dict[str, str]) -> dict[str, str]:
    for name, value in variables.items():
        _without_nul(name + value, name)
        if not name or "=" in name:
            raise _wrong(f"{_shown(name)} cannot be a variable's name", 'write NAME = "value"', name)
    return variables


def _sendable(config: dict[str, Any]) -> dict[str, Any]:
    found = _unsendable(config, ())
    if found:
        raise _wrong(found[1], found[2], *found[0])
    return config


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
        return at, str(error), "the config is sent to the worker as MessagePack: keep to what that can carry"


def _service_name(name: str) -> str:
    if _SERVICE_NAME.fullmatch(name):
        return name
    better = re.sub(r"[^a-z0-9_-]+", "-", name.lower()).lstrip("0123456789_-").rstrip("-")
    raise _wrong(
        f"{_shown(name)} cannot be a service's name: a lower-case letter, then letters, digits, _ and -",
        f"call it [service.{better or 'digits'}]",
    )


_Path = Annotated[Path, BeforeValidator(_as_path)]
_Service = Annotated[str, AfterValidator(_service_name)]
Level = Literal["debug", "info", "warning", "error"]
Restart = Literal["permanent", "transient", "temporary"]
Transport = Literal["stdio", "fd34"]


class _Table(BaseModel):
    """Frozen; unknown keys are refused, and values are not converted from one type to another."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


# What the models take is wider than what they hold ("5s" becomes 5.0), which the constructors' types say.
class OrchestratorConfig(_Table):
    """The table [orchestrator].

    state_dir: where the control socket lives; relative to `Config.directory`; None for the default place.
    log: the least level that is logged.
    """

    state_dir: _Path | None = None
    log: Level = "info"

    if TYPE_CHECKING:

        def __init__(self, *, state_dir: str | Path | None = None, log: Level = "info") -> None: ...


class SupervisorConfig(_Table):
    """The table [supervisor], the root: it gives up at more than `intensity` restarts within `period` seconds."""

    strategy: Literal["one_for_one"] = "one_for_one"
    intensity: Annotated[int, Field(ge=0)] = 5
    period: Annotated[int, PlainValidator(_period)] = 10

    if TYPE_CHECKING:

        def __init__(
            self, *, strategy: Literal["one_for_one"] = "one_for_one", intensity: int = 5, period: float | str = 10
        ) -> None: ...


class ServiceConfig(_Table):
    """A table [service.NAME]: a program, how many of it, and how it is treated.

    Durations are held in seconds and may be given as "500ms", "5s", "2m", "1h" or as numbers of seconds; sizes are held
    in bytes and may be given as "64KiB", "10MB", "2GiB" or as numbers of bytes.

    command: the program and its arguments; one text is split as a shell would. python: the environment or interpreter
    that "python" in it means; None for the orchestrator's own. replicas: 1 to 1000. restart, shutdown: OTP's.
    start_timeout: the longest that a worker may take to be ready. queue: calls that may wait. timeout: that of a call
    which has none of its own; None, or "infinity", for no limit. retries: how often an idempotent call is sent again.
    max_frame: 1 to 2**31-1. cwd: relative to `Config.directory`. env: added to the orchestrator's own environment.
    config: handed to the worker; anything that MessagePack can carry, so no dates or times without an offset.

    Raises pydantic's `ValidationError`, a ValueError.
    """

    command: Annotated[list[str], BeforeValidator(_words), AfterValidator(_command)]
    python: Annotated[str, BeforeValidator(_file_name)] | None = None
    replicas: Annotated[int, Field(ge=1, le=1000)] = 1
    restart: Restart = "permanent"
    shutdown: Annotated[float | Literal["brutal_kill", "infinity"], PlainValidator(_shutdown)] = 5.0
    start_timeout: Annotated[float, PlainValidator(_start_timeout)] = 30.0
    transport: Transport = "stdio"
    route: Literal["least_loaded"] = "least_loaded"
    queue: Annotated[int, Field(ge=0)] = 1024
    timeout: Annotated[float | None, PlainValidator(_timeout)] = 30.0
    retries: Annotated[int, Field(ge=0)] = 2
    max_frame: Annotated[int, PlainValidator(_frame_size)] = DEFAULT_MAX_FRAME
    cwd: _Path = Path(".")
    env: Annotated[dict[str, str], AfterValidator(_environment)] = Field(default_factory=dict)
    config: Annotated[dict[str, Any], AfterValidator(_sendable)] = Field(default_factory=dict)

    if TYPE_CHECKING:

        def __init__(
            self,
            *,
            command: str | list[str] | tuple[str, ...],
            python: str | None = None,
            replicas: int = 1,
            restart: Restart = "permanent",
            shutdown: float | str = 5.0,
            start_timeout: float | str = 30.0,
            transport: Transport = "stdio",
            route: Literal["least_loaded"] = "least_loaded",
            queue: int = 1024,
            timeout: float | str | None = 30.0,
            retries: int = 2,
            max_frame: int | str = DEFAULT_MAX_FRAME,
            cwd: str | Path = ".",
            env: dict[str, str] = ...,
            config: dict[str, Any] = ...,
        ) -> None: ...


class Config(_Table):
    """A whole file.

    path: the file, in full; None if made in Python. directory: what relative paths in it are meant from: the file's
    folder, or the current directory if made in Python.
    """

    orchestrator: OrchestratorConfig = Field(default_factory=OrchestratorConfig)
    supervisor: SupervisorConfig = Field(default_factory=SupervisorConfig)
    service: dict[_Service, ServiceConfig]
    path: _Path | None = None
    directory: _Path = Field(default_factory=Path.cwd)

    if TYPE_CHECKING:

        def __init__(
            self,
            *,
            orchestrator: OrchestratorConfig = ...,
            supervisor: SupervisorConfig = ...,
            service: dict[str, ServiceConfig],
            path: str | Path | None = None,
            directory: str | Path = ...,
        ) -> None: ...


_TABLES: Mapping[str, type[_Table]] = {
    "orchestrator": OrchestratorConfig,
    "supervisor": SupervisorConfig,
    "service": ServiceConfig,
}
_LATER = {
    "orchestrator": {"http", "grpc", "auth_token_file"},
    "supervisor": {"children"},
    "service": {"standby", "batch", "heartbeat", "memory_limit"},
}
"""Keys that are planned: who finds them in the documentation of a later version is told so."""
_LATER_CHOICES = {
    "route": ["round_robin", "hash", "broadcast"],
    "transport": ["inline"],
    "strategy": ["one_for_all", "rest_for_one", "simple_one_for_one"],
}
_NO_SERVICES = ("there are no services", "add [service.NAME] with a command")
_NOT_YET = "is known, but this version of mlports does not have it yet"


class ConfigErrors(ConfigError):
    """Several things wrong with one file.

    `errors` has them in the file's order, and the text says one a line; the fields are the first one's.
    """

    def __init__(self, errors: Sequence[ConfigError]) -> None:
        first = errors[0]
        super().__init__(first.message, file=first.file, line=first.line, key=first.key, fix=first.fix)
        self.errors = tuple(errors)

    def __str__(self) -> str:
        return "\n".join(map(str, self.errors))


class _Fault(NamedTuple):
    """One complaint of pydantic's: what kind, about which key, the value found there, and what the check adds."""

    kind: str
    key: Key
    value: object
    context: Mapping[str, Any]


def load_config(path: str | os.PathLike[str]) -> Config:
    """Reads and checks a configuration file. Raises `ConfigError`; if several things are wrong, its `ConfigErrors`."""
    file = os.fspath(path)
    tables, text = read_toml(file)
    place = {"path": Path(os.path.abspath(file)), "directory": Path(os.path.abspath(file)).parent}
    # These two are fields in Python, and no keys of the file.
    faults = [_Fault("extra_forbidden", (key,), tables.pop(key), {}) for key in place if key in tables]
    if tables.get("service") == {}:
        faults.append(_Fault("missing", ("service",), {}, {}))
    try:
        config = Config.model_validate({**tables, **place})
    except ValidationError as error:
        faults += [_Fault(e["type"], e["loc"], e["input"], e.get("ctx", {})) for e in error.errors(include_url=False)]
    if not faults:
        return config
    lines = TomlLines(text)
    errors = sorted((_as_error(fault, lines, file) for fault in faults), key=lambda error: error.line or 0)
    raise errors[0] if len(errors) == 1 else ConfigErrors(errors)


def _as_error(fault: _Fault, lines: TomlLines, file: str) -> ConfigError:
    key = (*fault.key, *fault.context.get("inside", ()))
    if key[-1:] == ("[key]",):
        key = key[:-1]
    problem, fix = _told(fault)
    return ConfigError(problem, file=file, line=lines.line(key), key=dotted(key) or None, fix=fix)


def _told(fault: _Fault) -> tuple[str, str]:
    """The problem and the fix."""
    kind, context, name = fault.kind, fault.context, str(fault.key[-1])
    found = _shown(fault.value)
    if kind == "mlports_config":
        return context["problem"], context["fix"]
    if kind == "extra_forbidden":
        return _unknown(fault)
    if kind == "missing":
        return _NO_SERVICES if name == "service" else ("is missing", f'add {name} = ["python", "worker.py"]')
    if kind == "literal_error":
        model = _TABLES[str(fault.key[0])]
        choices = get_args(model.model_fields[name].annotation)
        listed = " or ".join(_shown(choice) for choice in choices[-2:])
        listed = "".join(f"{_shown(choice)}, " for choice in choices[:-2]) + listed
        if fault.value in _LATER_CHOICES.get(name, ()):
            return f"{found} {_NOT_YET}", f"write {listed}, or remove the key"
        near = _nearest(str(fault.value), choices)
        return f"must be {listed}, not {found}", f'did you mean "{near}"?' if near else f'write "{choices[0]}"'
    if kind == "greater_than_equal":
        return f"must be at least {context['ge']}, not {found}", f"write {context['ge']} or more"
    if kind == "less_than_equal":
        return f"must be at most {context['le']}, not {found}", f"write {context['le']} or less"
    wanted, fix = {
        "int_type": ("a whole number", "write digits alone, without quotes or a point"),
        "string_type": ("a string", f'write it in quotes: "{str(found).strip(chr(34))}"'),
        "list_type": ("an array of strings, or one string", 'write ["python", "worker.py"]'),
        "dict_type": ("a table", f"write [{dotted(fault.key)}] and its keys below it"),
        "model_type": ("a table", f"write [{dotted(fault.key)}] and its keys below it"),
    }.get(kind, (f"another value ({kind})", "see the documentation of this key"))
    if kind == "string_type" and isinstance(fault.value, list | dict):
        fix = "write one text in quotes"
    return f"must be {wanted}, not {found}", fix


def _unknown(fault: _Fault) -> tuple[str, str]:
    """For a key that the table does not have: planned, misspelt, or at home in another table."""
    *above, last = fault.key
    name, is_table = str(last), isinstance(fault.value, dict)
    table = str(above[0]) if above else ""
    fields = list(_TABLES[table].model_fields if above else _TABLES)
    if name in _LATER.get(table, ()):
        return f"{name} {_NOT_YET}", "remove it"
    near = _nearest(name, fields)
    if table == "supervisor" and is_table:
        return (
            f"a supervisor below the root {_NOT_YET}",
            f"remove [supervisor.{name}]: the root supervises all services",
        )
    if near and name not in fields:
        return "there is no such key", f'did you mean "{near}"?'
    if table == "service" and is_table:
        return "there is no such key", f"a service's name has no dot; if this is a service: [service.{above[1]}-{name}]"
    if not table and is_table and "command" in fault.value:  # type: ignore[operator]
        return "there is no such table", f"services are tables below service: [service.{name}]"
    homes = [other for other, model in _TABLES.items() if name in model.model_fields or name in _LATER[other]]
    if homes:
        return "there is no such key here", f"it belongs to [{'service.NAME' if homes[0] == 'service' else homes[0]}]"
    return "there is no such key", f"remove it; there are {', '.join(fields)}"


def _nearest(name: str, among: Iterable[str]) -> str | None:
    import difflib

    return next(iter(difflib.get_close_matches(name, list(among), n=1)), None)
