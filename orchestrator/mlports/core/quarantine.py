"""Calls that killed their worker, known again by their content so that no worker gets them a second time.

The rules
- A call is known by its method and its params, by value: as they travel, the order of a dict's keys aside. A list and a
  tuple are the same, a number and its numpy scalar too; 1, 1.0 and True are three values.
- What was added last is kept longest: past `most` calls the oldest is let go.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from typing import Any

from mlports_protocol import Codec, Request

_SHOWN = 4  # digests in a text
_PLAIN = frozenset([str, bytes, int, float, bool, type(None)])


@dataclass(frozen=True, slots=True)
class Held:
    """A call in quarantine: `digest` is in hex, `at` in seconds since the epoch, `refused` how often it came again."""

    digest: str
    method: str
    reason: str
    at: float
    refused: int = 0


class Quarantine:
    """At most `most` calls that are not to be sent again. Not safe for threads.

    `methods` are those that have something in it: calls of all others need no digest.
    """

    def __init__(self, most: int = 1000) -> None:
        if most < 1:
            raise ValueError(f"a quarantine holds at least 1 call, not {most}")
        self.methods: set[str] = set()
        self._most = most
        self._held: dict[bytes, Held] = {}
        self._counts: Counter[str] = Counter()
        self._codec = Codec()

    def __len__(self) -> int:
        return len(self._held)

    def digest(self, method: str, params: Sequence[Any]) -> bytes | None:
        """16 bytes that tell a call from others, the same in every process; None for what cannot be sent anyway."""
        try:
            content = blake2b(digest_size=16)
            for part in self._codec.encode(Request(0, method, [self._in_order(each) for each in params], {})):
                content.update(part)
            return content.digest()
        except Exception:  # params may hold anything, and their own code may raise anything
            return None

    def add(self, digest: bytes | None, method: str, reason: str, at: float) -> None:
        """Holds a call from now on; None is not held. One that is held already keeps the count of its refusals."""
        if digest is None:
            return
        known = self._take(digest)
        self._held[digest] = Held(digest.hex(), method, reason, at, known.refused if known else 0)
        self._counts[method] += 1
        self.methods.add(method)
        if len(self._held) > self._most:
            self._take(next(iter(self._held)))

    def holds(self, digest: bytes | None) -> Held | None:
        """What is known of a call; None when it is not held."""
        return None if digest is None else self._held.get(digest)

    def refuse(self, digest: bytes | None) -> Held | None:
        """Counts a refusal; None, and no count, when the call is not held."""
        held = self.holds(digest)
        if held is None or digest is None:
            return None
        held = self._held[digest] = replace(held, refused=held.refused + 1)
        return held

    def release(self, prefix: str) -> list[Held]:
        """Lets the call go whose digest in hex begins so. Raises `LookupError` unless it is exactly one."""
        start = prefix.strip().lower()
        fitting = [digest for digest, held in self._held.items() if held.digest.startswith(start)] if start else []
        if len(fitting) != 1:
            raise LookupError(self._not_one(prefix, fitting))
        return [held for digest in fitting if (held := self._take(digest))]

    def release_all(self) -> int:
        """Lets every call go; how many there were."""
        count = len(self._held)
        self._held.clear()
        self._counts.clear()
        self.methods.clear()
        return count

    def listing(self) -> list[dict[str, Any]]:
        """The calls that are held as plain values, for JSON; the oldest first."""
        return [asdict(held) for held in self._held.values()]

    def _take(self, digest: bytes) -> Held | None:
        held = self._held.pop(digest, None)
        if held is not None:
            self._counts[held.method] -= 1
            if not self._counts[held.method]:
                del self._counts[held.method]
                self.methods.discard(held.method)
        return held

    def _not_one(self, prefix: str, fitting: list[bytes]) -> str:
        if not self._held:
            return f"no call in quarantine begins with {prefix!r:.60}: there is none in it"
        if not prefix.strip():
            return "say how the digest of the call begins that is to be released, or release all"
        if not fitting:
            listed = ", ".join(held.digest for held in list(self._held.values())[-_SHOWN:])
            more = "; the newest" if len(self._held) > _SHOWN else ""
            return f"no call in quarantine begins with {prefix!r:.60}; there are {len(self._held)}{more}: {listed}"
        listed = ", ".join(digest.hex() for digest in fitting[:_SHOWN]) + (", …" if len(fitting) > _SHOWN else "")
        return f"{len(fitting)} calls in quarantine begin with {prefix!r:.60}: {listed}; give more of its digest"

    def _in_order(self, value: Any) -> Any:
        """The same value, with the keys of every dict in it in one order."""
        if isinstance(value, dict):
            pairs = [(key, self._in_order(item)) for key, item in value.items()]
            return dict(sorted(pairs, key=self._rank))
        if isinstance(value, list | tuple):
            if _PLAIN.issuperset(map(type, value)):
                return value
            return [self._in_order(item) for item in value]
        return value

    def _rank(self, pair: tuple[Any, Any]) -> bytes:
        key = pair[0]
        if isinstance(key, str):
            return b"s" + key.encode("utf-8", "surrogatepass")
        return b"".join(map(bytes, self._codec.encode(Request(0, "", [key], {}))))
