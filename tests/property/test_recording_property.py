"""What holds of every recording: what a ring keeps, what a file cut off gives, what stands in, what is shrunk to."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mlports.core.recording import RecordedFrame, decode_recording, encode_recording
from mlports.core.redaction import Redaction, stand_in
from mlports.core.ring import Ring
from mlports.core.shrinking import shrink
from mlports.errors import RecordingError
from mlports.replay import Recording, Script, as_line, as_map
from mlports.replay.accounts import Accounts
from mlports.replay.batches import items_in, with_items
from mlports.replay.messages import parse
from mlports.replay.script import Write
from mlports_protocol import RemoteProtocolError

HEADER = {"verdict": {"cause": "exit"}, "command": ["worker"], "worker": {}}

sizes = st.lists(st.integers(0, 40), max_size=60)
payloads = st.binary(max_size=30)
frames = st.lists(
    st.builds(
        lambda at, direction, payload, lost: RecordedFrame(round(at, 6), direction, payload, len(payload) + lost),
        st.floats(0, 1e6),
        st.integers(0, 1),
        payloads,
        st.sampled_from([0, 0, 7]),
    ),
    max_size=12,
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.builds(msgpack.ExtType, st.integers(64, 127), st.binary())
    | st.builds(msgpack.Timestamp, st.integers(0, 2**33))
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(0, 9), inner), max_leaves=20
)


def shape(value: Any) -> Any:
    """What must stay: types, lengths and keys."""
    if isinstance(value, list):
        return [shape(item) for item in value]
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, msgpack.ExtType):
        return (value.code, len(value.data))
    if isinstance(value, str):
        return (str, len(value.encode("utf-8", "surrogatepass")))
    return (type(value), len(value)) if isinstance(value, bytes) else type(value)


def scalars_in(value: Any) -> list[Any]:
    if isinstance(value, list):
        return [scalar for item in value for scalar in scalars_in(item)]
    if isinstance(value, dict):
        return [scalar for item in value.values() for scalar in scalars_in(item)]
    return [value]


@given(sizes, st.integers(1, 10), st.integers(1, 100), st.integers(0, 3))
def test_a_ring_keeps_the_longest_end_that_fits(sizes: list[int], most: int, most_bytes: int, pins: int) -> None:
    ring: Ring[int] = Ring(most, most_bytes)
    for number in range(pins):
        ring.pin(-1 - number)
    for number, size in enumerate(sizes):
        ring.add(number, size)
        assert ring.bytes <= most_bytes
    last = ring.entries()[pins:]
    assert ring.entries()[:pins] == [-1 - number for number in range(pins)]
    assert last == list(range(len(sizes)))[len(sizes) - len(last) :]
    assert ring.forgotten == len(sizes) - len(last)
    assert len(last) <= most
    assert sum(sizes[number] for number in last) == ring.bytes
    one_more = sizes[len(sizes) - len(last) - 1 :] if len(last) < len(sizes) else []
    # A large one in between has pushed out all before it.
    assert not one_more or len(one_more) > most or sum(one_more) > most_bytes or max(sizes) > most_bytes


@given(frames, st.data())
def test_a_file_cut_off_anywhere_gives_the_frames_before(frames: list[RecordedFrame], data: st.DataObject) -> None:
    whole = b"".join(encode_recording({**HEADER, "frames": len(frames)}, frames))
    assert decode_recording(whole, "it").frames == frames
    header = len(b"".join(encode_recording({**HEADER, "frames": len(frames)}, [])))
    end = data.draw(st.integers(0, len(whole)))
    if end < header:
        with pytest.raises(RecordingError, match="no recording of mlports, or was cut off"):
            decode_recording(whole[:end], "it")
        return
    cut = decode_recording(whole[:end], "it")
    assert cut.frames == frames[: len(cut.frames)]
    assert cut.missing == len(frames) - len(cut.frames)
    assert end < len(whole) or not cut.missing


@given(st.binary(max_size=200))
@example(b"")
@example((2**32 - 1).to_bytes(4, "big") + b"mlports-recording")
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(RecordingError):
        decode_recording(data, "it")


ids = st.integers(-1, 3) | st.none() | st.lists(st.integers(0, 9), max_size=1)
methods = st.sampled_from(["f", "$/hello", "$/item", "$/credit", "$/input_credit", "$/cancel", "$/input_end", "$/stop"])
keys = st.sampled_from(["credit", "input", "batch", "columns", "parent"])
metas = st.none() | st.dictionaries(keys, scalars, max_size=2)
messages = (
    st.tuples(st.just(0), ids, methods, st.lists(scalars, max_size=2), metas)
    | st.tuples(st.just(1), ids, st.none() | st.just({"code": "unknown", "message": "m"}), scalars)
    | st.tuples(st.just(2), methods, st.lists(ids | scalars, max_size=3))
    | values
)


@given(st.lists(st.tuples(st.integers(0, 1), messages), max_size=10))
def test_any_frames_can_be_shown_scripted_and_cut(said: list[tuple[int, Any]]) -> None:
    """Also those that no orchestrator would send, and no worker may."""
    hello = (0, [0, 0, "$/hello", [{"protocol": {"min": 1, "max": 1}}]])
    packed = [(direction, msgpack.packb(message)) for direction, message in [hello, *said]]
    made = Recording(HEADER, [RecordedFrame(0.0, direction, data, len(data)) for direction, data in packed])
    for frame in made.frames:
        assert as_line(frame)
        assert as_map(frame)["type"] in ("request", "response", "notification", "none")
    script = Script(made)
    for unit in script.units:
        assert len(Script(script.cut([unit])).units) == 1
    accounts = Accounts()
    for step in script.steps():
        if isinstance(step, Write):
            accounts.wrote(step.message)
    for direction, data in packed[1:]:
        with suppress(RemoteProtocolError):
            if direction == 1:
                accounts.take(parse(data))
    assert set(accounts.awaited) <= set(script.requests)
    Script(with_items(made, items_in(made)[:1]))


@given(values)
def test_a_stand_in_has_the_types_and_sizes_of_what_it_stands_for_and_none_of_its_values(value: Any) -> None:
    redacted = stand_in(value)
    assert shape(redacted) == shape(value)
    for scalar in scalars_in(redacted):
        assert not scalar or scalar == msgpack.Timestamp(0) or set(_letters(scalar)) <= {0, ord("x")}


def _letters(scalar: Any) -> bytes:
    if isinstance(scalar, msgpack.ExtType):
        return bytes(scalar.data)
    return scalar.encode() if isinstance(scalar, str) else bytes(scalar)


@given(values, values)
def test_only_what_stands_under_a_key_is_redacted(secret: Any, other: Any) -> None:
    redacted = stand_in({"password": secret, "rest": [{"password": secret}]}, frozenset(["password"]))
    assert redacted == {"password": stand_in(secret), "rest": [{"password": stand_in(secret)}]}
    request = msgpack.packb([0, 1, "login", [{"password": secret, "user": [1, "x"]}]])
    redaction = Redaction(["login.password"])
    kept = msgpack.unpackb(redaction.redact(0, request), strict_map_key=False)[3][0]
    assert kept["user"] == [1, "x"]
    plain = msgpack.packb([0, 1, "logout", [other]])
    assert redaction.redact(0, plain) == msgpack.packb(msgpack.unpackb(plain, strict_map_key=False, timestamp=0))


def reduced(count: int, fails: Callable[[frozenset[int]], bool]) -> tuple[int, ...]:
    """What shrinking comes to, the questions answered by `fails`."""
    questions = shrink(range(count))
    candidates = next(questions)
    while True:
        found = next((number for number, units in enumerate(candidates) if fails(frozenset(units))), None)
        try:
            candidates = questions.send(found)
        except StopIteration as end:
            return tuple(end.value)


@given(st.integers(1, 60), st.data())
def test_what_is_shrunk_is_what_fails_together(count: int, data: st.DataObject) -> None:
    needed = data.draw(st.frozensets(st.integers(0, count - 1), max_size=5))
    assert reduced(count, needed.issubset) == tuple(sorted(needed))


@given(st.integers(1, 40), st.data())
def test_none_of_what_is_left_can_be_left_out(count: int, data: st.DataObject) -> None:
    """Also where failing is not monotone: more units may fail less."""
    units = st.integers(0, count - 1)
    groups = data.draw(st.lists(st.frozensets(units, min_size=1, max_size=4), max_size=4))
    spoilers = data.draw(st.frozensets(units, max_size=3))

    def fails(kept: frozenset[int]) -> bool:
        if len(kept) == count:
            return True
        return any(group <= kept for group in groups) and not (spoilers <= kept and spoilers)

    left = reduced(count, fails)
    assert len(left) == count or fails(frozenset(left))
    if len(left) > 1:
        assert not any(fails(frozenset(left) - {unit}) for unit in left)


@given(st.integers(1, 30), st.integers(1, 30))
def test_any_so_many_are_shrunk_to_so_many(count: int, needed: int) -> None:
    """State: the last kills after so many others, whichever."""
    left = reduced(count, lambda kept: count - 1 in kept and len(kept) >= min(needed, count))
    assert len(left) == min(needed, count)
