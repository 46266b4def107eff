"""What a supervisor and its children are, and the check that they can be: OTP's flags and child specifications.

Both are checked when they are made from a mapping, as TOML or Python gives it, by `flags_from` and `spec_from`. What is
wrong is an `InvalidSpec`, whose `fault` is OTP's own term for it: a word, or a word and the value that was found.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias, TypeGuard, cast, get_args

Strategy = Literal["one_for_one", "one_for_all", "rest_for_one", "simple_one_for_one"]
AutoShutdown = Literal["never", "any_significant", "all_significant"]
RestartType = Literal["permanent", "transient", "temporary"]
ChildType = Literal["worker", "supervisor"]
Shutdown = int | Literal["brutal_kill", "infinity"]
ChildId: TypeAlias = Hashable

Fault = str | tuple[object, ...]
"""OTP's term: `missing_id`, `("invalid_shutdown", -1)`, `("bad_combination", (("restart", "permanent"), …))`."""

WORKER_SHUTDOWN = 5000
"""Milliseconds that a worker has to stop, unless its specification says otherwise; a supervisor has `infinity`."""


class InvalidSpec(ValueError):
    """A supervisor's flags or a child's specification that cannot be. `fault` is OTP's term for what is wrong."""

    def __init__(self, fault: Fault, story: str) -> None:
        super().__init__(story)
        self.fault = fault


class StartCall(NamedTuple):
    """What starts a child: the name of something that the driver knows how to start, and its arguments."""

    target: str
    args: tuple[object, ...] = ()


@dataclass(frozen=True, slots=True)
class SupervisorFlags:
    """How a supervisor treats its children: it gives up at more than `intensity` restarts within `period` seconds."""

    strategy: Strategy = "one_for_one"
    intensity: int = 1
    period: int = 5
    auto_shutdown: AutoShutdown = "never"


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """A child as its supervisor knows it.

    restart: after any end (`permanent`), an abnormal one (`transient`), or none (`temporary`). shutdown: the
    milliseconds that it has to stop when it is asked to, before it is killed. significant: its end by itself may end
    the supervisor, see `SupervisorFlags.auto_shutdown`. modules: told by `which_children`, and otherwise unused.
    """

    id: ChildId
    start: StartCall
    restart: RestartType = "permanent"
    shutdown: Shutdown = WORKER_SHUTDOWN
    significant: bool = False
    type: ChildType = "worker"
    modules: tuple[str, ...] | Literal["dynamic"] = ()


def flags_from(given: object) -> SupervisorFlags:
    """A supervisor's flags out of a mapping; what it lacks is OTP's default. Raises `InvalidSpec`."""
    if not isinstance(given, Mapping):
        raise InvalidSpec(("invalid_type", given), f"a supervisor's flags are a mapping, not {given!r}")
    flags = {**_DEFAULT_FLAGS, **given}
    strategy, intensity, period, auto = (flags[key] for key in _DEFAULT_FLAGS)
    _one_of("strategy", strategy, Strategy, "invalid_strategy")
    if not _is_integer(intensity) or intensity < 0:
        raise _invalid("invalid_intensity", intensity, "intensity", "a whole number of restarts, 0 or more")
    if not _is_integer(period) or period < 1:
        raise _invalid("invalid_period", period, "period", "a whole number of seconds, 1 or more")
    _one_of("auto_shutdown", auto, AutoShutdown, "invalid_auto_shutdown")
    return SupervisorFlags(cast("Strategy", strategy), intensity, period, cast("AutoShutdown", auto))


def spec_from(given: object, auto_shutdown: AutoShutdown | None = None) -> ChildSpec:
    """A child's specification out of a mapping; only `id` and `start` have no default. Raises `InvalidSpec`.

    With `auto_shutdown` it is also checked that a significant child is any use to such a supervisor; None leaves that.
    """
    if isinstance(given, ChildSpec):
        given = {name: getattr(given, name) for name in ChildSpec.__slots__}
    if not isinstance(given, Mapping):
        raise InvalidSpec(("invalid_child_spec", given), f"a child's specification is a mapping, not {given!r}")
    for key in ("id", "start"):
        if key not in given:
            raise InvalidSpec(f"missing_{key}", f"a child's specification lacks {key!r}: {dict(given)!r}")
    start = _start_call(given["start"])
    restart = given.get("restart", "permanent")
    _one_of("restart", restart, RestartType, "invalid_restart_type")
    significant = given.get("significant", False)
    _check_significant(significant, restart, auto_shutdown)
    kind = given.get("type", "worker")
    _one_of("type", kind, ChildType, "invalid_child_type")
    shutdown = given.get("shutdown", WORKER_SHUTDOWN if kind == "worker" else "infinity")
    if shutdown not in ("brutal_kill", "infinity") and not (_is_integer(shutdown) and shutdown >= 0):
        wanted = "milliseconds, 0 or more, or 'brutal_kill' or 'infinity'"
        raise _invalid("invalid_shutdown", shutdown, "shutdown", wanted)
    modules = _modules(given.get("modules", [start.target]))
    return ChildSpec(given["id"], start, restart, shutdown, significant, kind, modules)


def specs_from(given: Iterable[object], auto_shutdown: AutoShutdown | None = None) -> list[ChildSpec]:
    """Several specifications, whose ids differ. Raises `InvalidSpec` for the first that is wrong."""
    specs: dict[ChildId, ChildSpec] = {}
    for one in given:
        spec = spec_from(one, auto_shutdown)
        if spec.id in specs:
            raise InvalidSpec(("duplicate_child_name", spec.id), f"two children have the id {spec.id!r}")
        specs[spec.id] = spec
    return list(specs.values())


_DEFAULT_FLAGS: Mapping[str, Any] = {
    "strategy": "one_for_one",
    "intensity": 1,
    "period": 5,
    "auto_shutdown": "never",
}


def _start_call(given: object) -> StartCall:
    if isinstance(given, Sequence) and not isinstance(given, str) and len(given) == 2:
        target, args = given
        if isinstance(target, str) and isinstance(args, list | tuple):
            return StartCall(target, tuple(args))
    raise _invalid("invalid_mfa", given, "start", "the name of what to start, and a list of its arguments")


def _check_significant(significant: object, restart: object, auto_shutdown: AutoShutdown | None) -> None:
    if significant is True and auto_shutdown == "never":
        raise InvalidSpec(
            ("bad_combination", [("auto_shutdown", "never"), ("significant", True)]),
            "a significant child is of no use to a supervisor whose auto_shutdown is 'never'",
        )
    if significant is True and restart == "permanent":
        raise InvalidSpec(
            ("bad_combination", [("restart", "permanent"), ("significant", True)]),
            "a permanent child is always restarted, so it cannot be significant",
        )
    if not isinstance(significant, bool):
        raise _invalid("invalid_significant", significant, "significant", "true or false")


def _modules(given: object) -> tuple[str, ...] | Literal["dynamic"]:
    if given == "dynamic":
        return "dynamic"
    if not isinstance(given, list | tuple):
        raise _invalid("invalid_modules", given, "modules", "a list of names, or 'dynamic'")
    for name in given:
        if not isinstance(name, str):
            raise _invalid("invalid_module", name, "a module", "a name")
    return tuple(given)


def _one_of(key: str, value: object, choices: Any, fault: str) -> None:
    # A list in TOML is no choice, and cannot be looked up among them either.
    if not isinstance(value, str) or value not in get_args(choices):
        raise _invalid(fault, value, key, " or ".join(map(repr, get_args(choices))))


def _invalid(fault: str, value: object, key: str, wanted: str) -> InvalidSpec:
    return InvalidSpec((fault, value), f"{key} must be {wanted}, not {value!r}")


def _is_integer(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
