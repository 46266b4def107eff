"""What tables say of services elsewhere in the file: the one that is a shadow, and the stages of a pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING

from mlports.config.family import Problem
from mlports.config.values import nearest, shown
from mlports.toml_lines import Key

if TYPE_CHECKING:
    from mlports.config.models import Config


def problems(config: Config) -> Iterator[Problem]:
    """Every one that leads nowhere, and every pipeline whose name means something else too."""
    return chain(_shadows(config), _names(config), _stages(config))


def _shadows(config: Config) -> Iterator[Problem]:
    for name, service in config.service.items():
        if service.shadow is None:
            continue
        key, other = ("service", name, "shadow", "service"), service.shadow.service
        if other == name:
            yield Problem(key, other, "a service cannot be its own shadow", "name another service, or remove shadow")
        elif other not in config.service:
            yield _no_service(key, other, other, [one for one in config.service if one != name])


def _names(config: Config) -> Iterator[Problem]:
    kinds = {
        **dict.fromkeys(config.supervisors, "supervisor"),
        **dict.fromkeys(config.program, "program"),
        **dict.fromkeys(config.service, "service"),
    }
    for name in config.pipeline:
        kind = kinds.get(name)
        if kind is not None:
            problem = f"there is a {kind} of this name, and a call could mean either"
            fix = f"call one of the two differently: [pipeline.{name}-1]"
            yield Problem(("pipeline", name), name, problem, fix)


def _stages(config: Config) -> Iterator[Problem]:
    for name, pipeline in config.pipeline.items():
        for index, stage in enumerate(pipeline.stages):
            service = stage.rpartition(".")[0]
            if service not in config.service:
                yield _stage(config, ("pipeline", name, "stages", index), stage, service)


def _stage(config: Config, key: Key, stage: str, service: str) -> Problem:
    if service in config.pipeline:
        problem = f"{shown(service)} is a pipeline, which cannot be a stage: a stage is a service's method"
        return Problem(key, stage, problem, "write that pipeline's stages here")
    return _no_service(key, stage, service, list(config.service), stage.rpartition(".")[2])


def _no_service(key: Key, value: str, name: str, known: list[str], method: str = "") -> Problem:
    near, after = nearest(name, known), f".{method}" if method else ""
    listed = f"name one of {', '.join(known)}" if known else "add a [service.NAME] for it"
    fix = f"did you mean {shown(near + after)}?" if near else listed
    return Problem(key, value, f"there is no service {shown(name)}", fix)
