"""The params of the protocol's own messages, those that begin with `$/`: put together, checked and taken apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Callable

from .errors import InvalidHello, InvalidMessage, UnsupportedVersion, shown
from .events import VERSION, Event, Hello, Logged, MethodInfo, Peer, Probe, Progressed, Released, StopAsked
from .framing import DEFAULT_MAX_FRAME, MAX_FRAME_LIMIT
from .messages import MAX_ID, as_text
from .shared_memory import check_segment

_LEVELS = frozenset(["debug", "info", "warning", "error"])  # any other is taken for info


def hello_params(
    service: str, replica: int, config: dict[str, Any], features: frozenset[str], max_frame: int, probe: Probe | None
) -> list[Any]:
    said: dict[str, Any] = {
        "protocol": {"min": VERSION, "max": VERSION},
        "max_frame": max_frame,
        "features": sorted(features),
        "service": service,
        "replica": replica,
        "config": config,
    }
    if probe is not None:
        said["shm"] = probe._asdict()
    return [said]


def parse_hello(params: list[Any]) -> Hello:
    if not params or type(params[0]) is not dict:
        raise InvalidHello(f"$/hello takes one map, not {shown(params)}")
    said = _with_text_keys(params[0])
    versions = said.get("protocol")
    if type(versions) is dict:
        versions = _with_text_keys(versions)
    if type(versions) is not dict or type(versions.get("min")) is not int or type(versions.get("max")) is not int:
        raise InvalidHello(f"$/hello says the versions it speaks as protocol: {{min, max}}, not {shown(versions)}")
    if not versions["min"] <= VERSION <= versions["max"]:
        raise UnsupportedVersion(
            f"the orchestrator speaks versions {versions['min']} to {versions['max']}, this worker version {VERSION}"
        )
    config = said.get("config")
    if config is not None and type(config) is not dict:
        raise InvalidHello(f"$/hello's config is a map, not {shown(config)}")
    replica = said.get("replica", 0)
    return Hello(
        service=_text("service", said.get("service", "")),
        replica=check_count("$/hello's replica", replica, 0, InvalidHello),
        config=config or {},
        features=_names("features", said.get("features")),
        max_frame=_max_frame(said),
        probe=_parse_probe(said.get("shm")),
    )


def _parse_probe(said: Any) -> Probe | None:
    if said is None:
        return None
    if type(said) is dict:
        said = _with_text_keys(said)
        token = said.get("token")
        if type(token) is bytes and token:
            return Probe(check_segment(said.get("segment"), InvalidHello), token)
    raise InvalidHello(f"$/hello's shm is {{segment, token}}, a path and bytes, not {shown(said)}")


def methods_said(methods: Mapping[str, MethodInfo] | None) -> dict[str, dict[str, bool]] | None:
    """The `methods` of an answer to `$/hello`; None, which is not to tell them, stays None."""
    return None if methods is None else {method: _flags(info) for method, info in methods.items()}


def _flags(info: MethodInfo) -> dict[str, bool]:
    flags = info._asdict()
    if not info.input:  # said only where it is so: it came later than the others
        del flags["input"]
    return flags


def parse_hello_answer(said: Any) -> Peer:
    if type(said) is not dict:
        raise InvalidHello(f"$/hello is answered by a map, not {shown(said)}")
    said = _with_text_keys(said)
    version = said.get("protocol")
    if type(version) is not int:
        raise InvalidHello(f"the answer to $/hello names its protocol by a number, not {shown(version)}")
    if version != VERSION:
        raise UnsupportedVersion(f"the worker chose version {version} of the protocol, this side speaks {VERSION}")
    return Peer(
        name=_text("name", said.get("name", "")),
        language=_text("language", said.get("language", "")),
        sdk=_text("sdk", said.get("sdk", "")),
        protocol=version,
        max_frame=_max_frame(said),
        features=_names("features", said.get("features")),
        methods=_parse_methods(said.get("methods")),
        concurrency=check_count("concurrency", said.get("concurrency", 1), 1, InvalidHello),
    )


def _parse_methods(said: Any) -> dict[str, MethodInfo] | None:
    if said is None:
        return None
    if type(said) is list:
        return {name: MethodInfo() for name in sorted(_names("methods", said))}
    methods: dict[str, MethodInfo] = {}
    for name, info in said.items() if type(said) is dict else [(None, said)]:
        if type(as_text(name)) is not str or type(info) is not dict:
            raise InvalidHello(
                f"methods are a list of names, or a map of name to {{batch, stream, idempotent, input}}: {shown(said)}"
            )
        flags = _with_text_keys(info)
        methods[as_text(name)] = MethodInfo(*(flags.get(key, False) is True for key in MethodInfo._fields))
    return methods


def _max_frame(said: dict[str, Any]) -> int:
    value = said.get("max_frame")
    if value is None:
        return DEFAULT_MAX_FRAME
    if type(value) is not int or not 1 <= value <= MAX_FRAME_LIMIT:
        raise InvalidHello(f"max_frame is an integer from 1 to 2^31-1, not {shown(value)}")
    return value


def _names(key: str, value: Any) -> frozenset[str]:
    if value is None:
        return frozenset()
    if type(value) is not list or not all(type(as_text(name)) is str for name in value):
        raise InvalidHello(f"{key} is a list of strings, not {shown(value)}")
    return frozenset(map(as_text, value))


def _text(key: str, value: Any) -> str:
    text = as_text(value)
    if type(text) is not str:
        raise InvalidHello(f"{key} is a string, not {shown(value)}")
    return text


def _with_text_keys(said: dict[Any, Any]) -> dict[Any, Any]:
    return {as_text(key): value for key, value in said.items()}


def parse_log(params: list[Any]) -> Logged:
    level, text = map(as_text, take_params("$/log", params, 2))
    fields = params[2] if len(params) > 2 else None
    if type(level) is not str or type(text) is not str or type(fields) not in (dict, type(None)):
        raise InvalidMessage(f"$/log is [level, text, fields], two strings and a map, not {shown(params)}")
    return Logged(level if level in _LEVELS else "info", text, {} if fields is None else _with_text_keys(fields))


def parse_progress(params: list[Any]) -> Progressed:
    number, done = take_params("$/progress", params, 2)
    total = params[2] if len(params) > 2 else None
    text = as_text(params[3]) if len(params) > 3 else None
    check_count("the id in $/progress", number, 0)
    if type(done) not in (int, float) or type(total) not in (int, float, type(None)):
        raise InvalidMessage(f"$/progress is [id, done, total or nil, text], not {shown(params)}")
    if type(text) not in (str, type(None)):
        raise InvalidMessage(f"the text in $/progress is a string, not {shown(text)}")
    return Progressed(number, done, total, text or "")


def parse_release(params: list[Any]) -> Released:
    (segment,) = take_params("$/release", params, 1)
    return Released(check_segment(segment, InvalidMessage))


def parse_stop(params: list[Any]) -> StopAsked:
    reason = as_text(params[0]) if params else None
    if type(reason) not in (str, type(None)):
        raise InvalidMessage(f"the reason in $/stop is a string, not {shown(reason)}")
    return StopAsked(reason or "")


# What is wrong in these is told to the program that sends it: the peer would end the connection.
PARSED: dict[str, Callable[[list[Any]], Event]] = {
    "$/log": parse_log,
    "$/progress": parse_progress,
    "$/release": parse_release,
    "$/stop": parse_stop,
}


def take_params(method: str, params: list[Any], count: int) -> list[Any]:
    if len(params) < count:
        raise InvalidMessage(f"{method} has at least {count} params, not {shown(params)}")
    return params[:count]


def check_count(what: str, value: Any, least: int, error: type = InvalidMessage) -> int:
    if type(value) is not int or not least <= value <= MAX_ID:
        raise error(f"{what} is an integer from {least}, not {shown(value)}")
    return value


def take_id(method: str, params: list[Any]) -> int:
    """The params of `$/cancel` and `$/input_end`."""
    (number,) = take_params(method, params, 1)
    return check_count(f"the id in {method}", number, 0)


def take_item(method: str, params: list[Any]) -> tuple[int, Any]:
    """The params of `$/item` and `$/input`: an id, and the item."""
    number, value = take_params(method, params, 2)
    if type(number) is not int or not 0 <= number <= MAX_ID:  # there are many: the words only where they are wanted
        check_count(f"the id in {method}", number, 0)
    return number, value


def take_grant(method: str, params: list[Any]) -> tuple[int, int]:
    """The params of `$/credit` and `$/input_credit`: an id, and how many more items."""
    number, count = take_params(method, params, 2)
    check_count(f"the id in {method}", number, 0)
    return number, check_count(f"the count in {method}", count, 1)
