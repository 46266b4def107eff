"""Pydantic's complaints in words: what is wrong with a key, and what to write instead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, get_args, get_origin

from mlports.config.calls import PipelineConfig
from mlports.config.family import OF_A_CHILD, for_the_root
from mlports.config.models import (
    Config,
    OrchestratorConfig,
    ProgramConfig,
    ServiceConfig,
    SupervisorConfig,
)
from mlports.config.table import Table
from mlports.config.values import nearest, shown
from mlports.toml_lines import Key, dotted

_TABLES: Mapping[str, type[Table]] = {
    "orchestrator": OrchestratorConfig,
    "supervisor": SupervisorConfig,
    "service": ServiceConfig,
    "program": ProgramConfig,
    "pipeline": PipelineConfig,
}
"""The tables of the file, by the first part of their names."""
_HEADERS: Mapping[type[Table], str] = {
    OrchestratorConfig: "[orchestrator]",
    ServiceConfig: "[service.NAME]",
    SupervisorConfig: "[supervisor]",
    ProgramConfig: "[program.NAME]",
    PipelineConfig: "[pipeline.NAME]",
}
_LATER: Mapping[type[Table], set[str]] = {
    OrchestratorConfig: {"http", "grpc", "auth_token_file"},
}
"""Keys that are planned: who finds them in the documentation of a later version is told so."""
_NOT_YET = "is known, but this version of mlports does not have it yet"
_NO_SERVICES = ("there are no services", "add [service.NAME] with a command")
_OTPS = {
    "id": "remove it; a child's id is its name, in [service.NAME] or [program.NAME]",
    "start": 'what is started is the command: command = ["python", "worker.py"]',
    "type": "remove it; [service.NAME] and [program.NAME] are workers, [supervisor.NAME] are supervisors",
    "modules": "remove it; modules are for Erlang's code upgrades",
    "max_restarts": "the number of restarts is intensity, a key of [supervisor]",
    "max_seconds": "the time in which restarts are counted is period, a key of [supervisor]",
}
"""What child specifications and flags have in Erlang and Elixir, and is said otherwise here."""
_EXAMPLES = {
    "command": '["python", "worker.py"]',
    "children": '["digits"]',
    "preload": '["sklearn.linear_model"]',
    "warm_up": '[{ method = "predict", params = [[0.0]] }]',
    "params": "[[0.0]]",
    "method": '"predict"',
    "backoff": '{ initial = "100ms", max = "30s" }',
    "heartbeat": '{ interval = "5s", timeout = "15s" }',
    "record": '{ when = "on-crash", redact = true }',
    "weights": "[3, 1]",
    "shadow": '{ service = "candidate", share = 0.1 }',
    "service": '"candidate"',
    "batch": '{ max_size = 64, max_wait = "2ms" }',
    "breaker": '{ failures = 0.5, of = 20, pause = "5s" }',
    "hedge": '{ after = "p95" }',
    "after": '"p95"',
    "stages": '["embed.run", "score.predict"]',
}


class Fault(NamedTuple):
    """One complaint of pydantic's: what kind, about which field, the value found there, and what the check adds."""

    kind: str
    field: Key
    value: object
    context: Mapping[str, Any]

    @property
    def key(self) -> Key:
        """The field as the file has it."""
        key = (*self.field, *self.context.get("inside", ()))
        if key[-1:] == ("[key]",):
            key = key[:-1]
        return ("supervisor", *key[1:]) if key[:1] == ("supervisors",) and key[1:] else key


def told(fault: Fault) -> tuple[str, str]:
    """The problem and the fix."""
    kind, context, name = fault.kind, fault.context, str(fault.field[-1])
    found = shown(fault.value)
    if fault.field[:1] == ("supervisor",) and name in OF_A_CHILD:
        return for_the_root(name)
    if kind == "mlports_config":
        return context["problem"], context["fix"]
    if kind == "extra_forbidden":
        return _unknown(fault)
    if kind == "missing":
        return _NO_SERVICES if fault.field == ("service",) else ("is missing", f"add {name} = {_EXAMPLES[name]}")
    if kind == "literal_error":
        return _not_a_choice(fault)
    if kind == "greater_than_equal":
        return f"must be at least {context['ge']:g}, not {found}", f"write {context['ge']:g} or more"
    if kind == "greater_than":
        return f"must be more than {context['gt']:g}, not {found}", "write 0.5, or leave it out"
    if kind == "less_than_equal":
        return f"must be at most {context['le']:g}, not {found}", f"write {context['le']:g} or less"
    return _not_its_type(fault)


def _not_a_choice(fault: Fault) -> tuple[str, str]:
    name, found = str(fault.field[-1]), shown(fault.value)
    choices = get_args(_table_of(fault.field).model_fields[name].annotation)
    listed = " or ".join(shown(choice) for choice in choices[-2:])
    listed = "".join(f"{shown(choice)}, " for choice in choices[:-2]) + listed
    near = nearest(str(fault.value), choices)
    return f"must be {listed}, not {found}", f'did you mean "{near}"?' if near else f'write "{choices[0]}"'


def _not_its_type(fault: Fault) -> tuple[str, str]:
    kind, name, found = fault.kind, str(fault.field[-1]), shown(fault.value)
    example = f"write {name} = {_EXAMPLES[name]}" if name in _EXAMPLES else ""
    a_table = f"write [{dotted(fault.key)}] and its keys below it"
    if isinstance(fault.field[-1], int):
        example = a_table = 'write { method = "predict" }'
    wanted, fix = {
        "int_type": ("a whole number", "write digits alone, without quotes or a point"),
        "float_type": ("a number", "write it without quotes: 1.5"),
        "finite_number": ("a number", "write one such as 1.5"),
        "bool_type": ("true or false", "write true or false, without quotes"),
        "string_type": ("a string", f'write it in quotes: "{found.strip(chr(34))}"'),
        "list_type": ("an array of strings, or one string" if name == "command" else "an array", example),
        "dict_type": ("a table", a_table),
        "model_type": ("a table", example or a_table),
    }.get(kind, (f"another value ({kind})", "see the documentation of this key"))
    if kind == "string_type" and isinstance(fault.value, list | dict):
        fix = "write one text in quotes"
    return f"must be {wanted}, not {found}", fix


def _unknown(fault: Fault) -> tuple[str, str]:
    """For a key that the table does not have: planned, another's word, misspelt, or at home in another table."""
    *above, last = fault.key
    name, is_table = str(last), isinstance(fault.value, dict)
    model = _table_of(fault.field)
    fields = [key for key in model.model_fields if key not in OF_A_CHILD or fault.field[0] != "supervisor"]
    if not above:
        fields = list(_TABLES)
    if name in _LATER.get(model, ()):
        return f"{name} {_NOT_YET}", "remove it"
    no_such_key = "there is no such key"
    if name in _OTPS and model in (ServiceConfig, ProgramConfig, SupervisorConfig):
        return no_such_key, _OTPS[name]
    misplaced = _misplaced(name, model)
    if misplaced and name not in fields:
        return misplaced
    near = nearest(name, fields)
    if near and name not in fields:
        return no_such_key, f'did you mean "{near}"?'
    if is_table and model is SupervisorConfig:
        nested = f"supervisors are not nested in the file: write [supervisor.{name}]"
        return no_such_key, f"{nested}, and name it in the children of {above[-1]}"
    if is_table and model in (ServiceConfig, ProgramConfig):
        one = f"a {above[0]}'s name has no dot; if this is a {above[0]}"
        return no_such_key, f"{one}: [{above[0]}.{above[1]}-{name}]"
    if not above and is_table and "command" in fault.value:  # type: ignore[operator]
        return "there is no such table", f"services are tables below service: [service.{name}]"
    return no_such_key, f"remove it; there are {', '.join(fields)}"


def _misplaced(name: str, model: type[Table]) -> tuple[str, str] | None:
    """For a key of another table."""
    problem = "there is no such key here"
    for field, annotation in ((field, info.annotation) for field, info in model.model_fields.items()):
        part, _ = _table_in(annotation)
        if part is not None and part not in _HEADERS and name in part.model_fields:
            return problem, f"it belongs inside {field}: {field} = {_EXAMPLES[field]}"
    for home, header in _HEADERS.items():
        if home is not model and (name in home.model_fields or name in _LATER.get(home, ())):
            return problem, f"it belongs to {header}"
    return None


def _table_of(field: Key) -> type[Table]:
    """The table that a field is, or would be, a key of."""
    table: type[Table] = Config
    is_name = False  # what comes next: one of several tables of a kind
    for part in field[:-1]:
        if is_name:
            is_name = False
            continue
        info = table.model_fields.get(str(part))
        inner, is_name = _table_in(info.annotation if info is not None else None)
        if inner is None:
            break
        table = inner
    return table


def _table_in(annotation: Any) -> tuple[type[Table] | None, bool]:
    """The table that a field holds, if it does, and whether it holds any number of them."""
    for one in (annotation, *get_args(annotation)):
        if isinstance(one, type) and issubclass(one, Table):
            return one, get_origin(annotation) in (dict, list)
    return None, False
