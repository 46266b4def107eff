"""Values that may not be kept, replaced by stand-ins of the same type and size, so that a message keeps its shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgpack

from mlports_protocol.messages import NOTIFICATION, REQUEST, RESPONSE, as_text
from mlports_protocol.ndarray import EXT_NDARRAY

Keys = frozenset[str] | None
"""The keys of maps whose values are replaced, at any depth; None for everything."""

_NUMBERS = {bool, int, float}


class Redaction:
    """Redacts the frames of one connection, in their order.

    `rules` is True for all methods, or names some: "METHOD" for all that it takes and gives, "METHOD.KEY" for what
    stands under a key in it; METHOD may be "*". What workers write to the log is replaced as well; methods, ids,
    keys, error codes, and `$/hello` with its answer are not. An answer whose request is not known is replaced.
    """

    def __init__(self, rules: bool | Sequence[str]) -> None:
        self._all = rules is True
        self._rules: dict[str, set[str] | None] = {}
        for rule in () if isinstance(rules, bool) else rules:
            method, dot, key = rule.partition(".")
            keys = self._rules.setdefault(method, set())
            if not dot:
                self._rules[method] = None
            elif keys is not None:
                keys.add(key)
        self._asked: tuple[dict[int, str], dict[int, str]] = ({}, {})  # by direction: request -> method

    def redact(self, direction: int, payload: bytes) -> bytes:
        """The frame's payload as it may be kept; an empty one for what cannot be taken apart."""
        try:
            message = msgpack.unpackb(
                payload, strict_map_key=False, unicode_errors="surrogateescape", ext_hook=msgpack.ExtType
            )
            kind = message[0]
            if kind == REQUEST:
                self._request(direction, message)
            elif kind == RESPONSE:
                self._response(direction, message)
            elif kind == NOTIFICATION:
                self._notification(direction, message)
            else:
                return b""
            packed: bytes = msgpack.packb(message, unicode_errors="surrogateescape")
        except Exception:  # rather nothing than what was not to be kept
            return b""
        return packed

    def covers(self, method: str) -> bool:
        """Whether anything in this method's values may be a stand-in."""
        return self._keys(method) != frozenset()

    def _request(self, direction: int, message: list[Any]) -> None:
        method = str(as_text(message[2]))
        self._asked[direction][message[1]] = method
        self._put(message, 3, self._keys(method))

    def _response(self, direction: int, message: list[Any]) -> None:
        keys = self._keys(self._asked[1 - direction].pop(message[1], None))
        self._put(message, 3, keys)
        error = message[2]
        if type(error) is dict and keys != frozenset():
            for key, value in error.items():
                if as_text(key) not in ("code", "retryable"):
                    error[key] = stand_in(value)  # a text may hold anything

    def _notification(self, direction: int, message: list[Any]) -> None:
        method, params = str(as_text(message[1])), message[2]
        if method in ("$/item", "$/input"):
            asker = direction if method == "$/input" else 1 - direction
            self._put(params, 1, self._keys(self._asked[asker].get(params[0])))
        elif method in ("$/log", "$/progress"):
            if self._all or self._rules:
                message[2] = [params[0], *map(stand_in, params[1:])]
        else:
            self._put(message, 2, self._keys(method))

    def _keys(self, method: str | None) -> Keys:
        """What is replaced in a method's values; an empty set for nothing."""
        if method is None or (self._all and not method.startswith("$/")):
            return None
        if method.startswith("$/"):
            return frozenset()
        found: set[str] = set()
        for name in (method, method.rpartition(".")[2], "*"):
            keys = self._rules.get(name, set())
            if keys is None:
                return None
            found |= keys
        return frozenset(found)

    @staticmethod
    def _put(parts: list[Any], place: int, keys: Keys) -> None:
        if keys != frozenset():
            parts[place] = stand_in(parts[place], keys)


def stand_in(value: Any, keys: Keys = None) -> Any:
    """The value with everything in it replaced: 0, False, "xxx", zeros. With `keys`, only what stands under those."""
    if type(value) is list:
        kinds = set(map(type, value))
        if len(kinds) == 1 and kinds <= _NUMBERS:  # as rows mostly are: without a step in Python for each
            return value if keys is not None else [kinds.pop()(0)] * len(value)
        return [stand_in(item, keys) for item in value]
    if type(value) is dict:
        return {key: stand_in(item, _below(key, keys)) for key, item in value.items()}
    return value if keys is not None else _plain_stand_in(value)


def _below(key: Any, keys: Keys) -> Keys:
    return None if keys is None or as_text(key) in keys else keys


def _plain_stand_in(value: Any) -> Any:
    if isinstance(value, bool | int | float):
        return type(value)(0)
    if isinstance(value, str):
        return "x" * len(value.encode("utf-8", "surrogateescape"))
    if isinstance(value, msgpack.ExtType):
        kept = _layout(value.data) if value.code == EXT_NDARRAY else 0
        return msgpack.ExtType(value.code, value.data[:kept] + bytes(len(value.data) - kept))
    if isinstance(value, msgpack.Timestamp):
        return msgpack.Timestamp(0)
    return bytes(len(value)) if isinstance(value, bytes) else value


def _layout(data: bytes) -> int:
    """The length of the dtype and shape with which an array begins."""
    unpacker = msgpack.Unpacker(max_buffer_size=max(1, len(data)))
    unpacker.feed(data)
    unpacker.skip()
    return int(unpacker.tell())
