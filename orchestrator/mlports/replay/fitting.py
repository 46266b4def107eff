"""Whether a program is such as the one that was recorded."""

from __future__ import annotations

from typing import Any, NamedTuple

from mlports.replay.script import Script
from mlports_protocol import Notification, Request, Response

_META_FEATURES = {"credit": "stream", "input": "input", "batch": "batch", "columns": "columns"}
_METHOD_FEATURES = {"$/cancel": "cancel", "$/ping": "ping"}


class Misfit(NamedTuple):
    """`notes` say how two workers differ; `missing` is what the recording uses and this worker has not."""

    notes: list[str]
    missing: list[str]


def misfit(script: Script, greeting: Response) -> Misfit:
    """What is different in what a program answers to `$/hello`."""
    then, now = _said(script.greeting), _said(greeting)
    if then is None or now is None:
        if (then is None) != (now is None) and script.greeting is not None:
            kinds = ["a bare worker" if said is None else "a worker that answers $/hello" for said in (then, now)]
            return Misfit([f"recorded was {kinds[0]}, and this is {kinds[1]}"], [])
        return Misfit([], [])
    notes = [
        f"recorded was the {key} {then.get(key)!r:.60}, and this is {now.get(key)!r:.60}"
        for key in ("name", "language")
        if then.get(key) != now.get(key)
    ]
    used_methods, used_features = _used(script)
    methods, features = now.get("methods"), now.get("features")
    missing = []
    if isinstance(methods, dict | list):
        missing += [f"the method {name}" for name in sorted(used_methods - set(methods))]
    had = set(then.get("features") or ())
    missing += [f"the feature {name}" for name in sorted((used_features & had) - set(features or ()))]
    return Misfit(notes, missing)


def _said(greeting: Response | None) -> dict[str, Any] | None:
    return greeting.result if greeting is not None and isinstance(greeting.result, dict) else None


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
