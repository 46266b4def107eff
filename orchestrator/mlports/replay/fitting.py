"""Whether a program is such as the one that was recorded."""

from __future__ import annotations

from typing import NamedTuple

from mlports.replay.script import Script
from mlports_protocol import Notification, Peer, RemoteProtocolError, Request, Response
from mlports_protocol.control import parse_hello_answer

_META_FEATURES = {"credit": "stream", "input": "input", "batch": "batch", "columns": "columns"}
_METHOD_FEATURES = {"$/cancel": "cancel", "$/ping": "ping"}


class Misfit(NamedTuple):
    """`notes` say how two workers differ; `missing` is what the recording uses and this worker has not."""

    notes: list[str]
    missing: list[str]


def misfit(script: Script, greeting: Response) -> Misfit:
    """What is different in what a program answers to `$/hello`."""
    then, now = _peer(script.greeting), _peer(greeting)
    if then is None or now is None:
        if (then is None) != (now is None) and script.greeting is not None:
            kinds = ["a bare worker" if peer is None else "a worker that answers $/hello" for peer in (then, now)]
            return Misfit([f"recorded was {kinds[0]}, and this is {kinds[1]}"], [])
        return Misfit([], [])
    notes = [
        f"recorded was the {key} {getattr(then, key)!r:.60}, and this is {getattr(now, key)!r:.60}"
        for key in ("name", "language")
        if getattr(then, key) != getattr(now, key)
    ]
    methods, features = _used(script)
    missing = []
    if now.methods is not None:
        missing += [f"the method {name}" for name in sorted(methods - set(now.methods))]
    missing += [f"the feature {name}" for name in sorted((features & then.features) - now.features)]
    return Misfit(notes, missing)


def _peer(greeting: Response | None) -> Peer | None:
    """What a worker says of itself; None for a bare one."""
    if greeting is None or greeting.error is not None:
        return None
    try:
        return parse_hello_answer(greeting.result)
    except RemoteProtocolError:
        return None


def _used(script: Script) -> tuple[set[str], set[str]]:
    methods, features = set(), set()
    for message in script.said():
        if isinstance(message, Request | Notification):
            if not message.method.startswith("$/"):
                methods.add(message.method)
            elif message.method in _METHOD_FEATURES:
                features.add(_METHOD_FEATURES[message.method])
            features |= {name for key, name in _META_FEATURES.items() if key in (message.meta or {})}
    return methods, features
