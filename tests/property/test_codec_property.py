"""Whatever may be sent arrives as it was, and whatever else arrives is given a name."""

from __future__ import annotations

import datetime
import os
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_np

from mlports_protocol import (
    Codec,
    InvalidExtension,
    LocalProtocolError,
    MalformedValue,
    Message,
    Notification,
    RemoteProtocolError,
    Request,
    Response,
    TrailingBytes,
    codec,
    frame_header,
)
from mlports_protocol.ndarray import decode_array, encode_array

UTC = datetime.UTC


# -- what may be sent


def structures(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    field = st.tuples(st.just("field"), inner) | st.tuples(
        st.just("field"), inner, st.lists(st.integers(0, 3), max_size=2).map(tuple)
    )
    fields = st.lists(field, min_size=1, max_size=4)
    return st.tuples(fields, st.booleans()).map(
        lambda made: np.dtype([(f"f{index}", *one[1:]) for index, one in enumerate(made[0])], align=made[1])
    )


scalar_dtypes = st.one_of(
    st_np.boolean_dtypes(),
    st_np.integer_dtypes(endianness="?"),
    st_np.unsigned_integer_dtypes(endianness="?"),
    st_np.floating_dtypes(endianness="?"),
    st_np.complex_number_dtypes(endianness="?"),
    st_np.byte_string_dtypes(min_len=1, max_len=5),
    st_np.unicode_string_dtypes(endianness="?", min_len=1, max_len=5),
    st_np.datetime64_dtypes(endianness="?"),
    st_np.timedelta64_dtypes(endianness="?"),
    st.integers(1, 9).map(lambda size: np.dtype(f"V{size}")),
)
dtypes = st.recursive(scalar_dtypes, structures, max_leaves=4)


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray[Any, Any]:
    """Arrays of any dtype, shape and strides; the elements are any bytes, so any value, for those that have such."""
    dtype = draw(dtypes)
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=4)))
    array = np.zeros(shape, dtype)
    if array.nbytes and dtype.kind in "iufcmMSV" and dtype.names is None:
        raw = draw(st.binary(min_size=array.nbytes, max_size=array.nbytes))
        array = np.frombuffer(raw, dtype).reshape(shape)
    if draw(st.booleans()):
        array = array.T
    steps = tuple(slice(None, None, draw(st.sampled_from([1, 2, -1]))) for _ in shape)
    return np.asarray(array[steps]) if draw(st.booleans()) else array


def same_elements(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> bool:
    if one.dtype.names is None:
        return one.astype(other.dtype).tobytes() == other.tobytes()
    return one.dtype.names == other.dtype.names and all(
        same_elements(one[name], other[name]) for name in one.dtype.names
    )


@given(arrays())
def test_any_array_there_and_back(array: np.ndarray[Any, Any]) -> None:
    assume(array.dtype.itemsize > 0)
    head, elements = encode_array(array)
    got = decode_array(head + elements)
    assert got.shape == array.shape
    assert same_elements(got, array)
    assert not got.flags.writeable
    again_head, again = encode_array(got)
    assert (again_head, bytes(again)) == (head, bytes(elements))


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False),
    st.text(max_size=40),
    st.binary(max_size=40),
    st.datetimes(timezones=st.just(UTC)),
    st.builds(msgpack.ExtType, st.integers(4, 127), st.binary(max_size=20)),
)
keys = st.one_of(st.text(max_size=5), st.integers(-(2**63), 2**64 - 1), st.booleans(), st.none(), st.binary(max_size=5))


def nest(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner, max_size=6) | st.dictionaries(keys, inner, max_size=6)


values = st.recursive(scalars, nest, max_leaves=25)
ids = st.integers(0, 2**53 - 1)
names = st.text(min_size=1, max_size=10)
metas = st.none() | st.dictionaries(st.text(max_size=8), values, min_size=1, max_size=3)
errors = st.fixed_dictionaries(
    {"code": st.text(max_size=8), "message": st.text(max_size=8)}, optional={"data": values, "retryable": st.booleans()}
)


def messages(of: st.SearchStrategy[Any]) -> st.SearchStrategy[Message]:
    return st.one_of(
        st.builds(Request, ids, names, st.lists(of, max_size=5), metas),
        st.builds(Response, ids, st.none(), of, metas),
        st.builds(Response, ids, errors, st.none(), metas),
        st.builds(Notification, names, st.lists(of, max_size=5), metas),
    )


def same(one: Any, other: Any) -> bool:
    """Equal, and of the same types: True is not 1, and 1 is not 1.0."""
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.shape == other.shape and one.dtype == other.dtype and one.tobytes() == other.tobytes()
    if type(one) is not type(other):
        return False
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return same(list(one.items()), list(other.items()))
    return bool(one == other) or (one != one and other != other)


@given(messages(values))
def test_any_message_there_and_back(message: Message) -> None:
    frame = b"".join(Codec().encode(message))
    assert frame[:4] == frame_header(len(frame) - 4)
    assert same(Codec().decode(frame[4:]), message)


anything = st.recursive(
    st.one_of(
        scalars,
        st.integers(),
        st.floats(),
        st.text(st.characters(), max_size=3),
        st.datetimes(),
        st.dates(),
        st.decimals(),
        st.complex_numbers(),
        st.just(object()),
        st.sampled_from([np.float32(1), np.int64(-1), np.datetime64("NaT"), np.zeros(3), np.array([None])]),
    ),
    lambda inner: nest(inner) | st.sets(st.integers(), max_size=2) | st.tuples(inner, inner),
    max_leaves=8,
)
ENCODER = Codec()


@given(messages(anything), messages(values))
def test_what_cannot_be_sent_is_named_and_the_next_message_can(bad: Message, good: Message) -> None:
    try:
        frame = b"".join(ENCODER.encode(bad))
    except LocalProtocolError:
        pass
    else:
        assert type(Codec().decode(frame[4:])) is type(bad)
    assert ENCODER.encode(good) == Codec().encode(good)


# -- large values


LARGE_ARRAYS = [
    np.arange(codec.LARGE, dtype="u1"),
    np.arange(codec.LARGE // 4 + 1, dtype="<f4"),
    np.zeros((codec.LARGE // 8, 3), ">i2")[:, :2],
    np.zeros(codec.LARGE // 12, np.dtype([("a", "u1"), ("b", "<f8")], align=True)),
    np.zeros(codec.LARGE - 1, "u1"),
    np.zeros(3),
]
LARGE_BYTES = [os.urandom(codec.LARGE), os.urandom(codec.LARGE - 1), os.urandom(codec.LARGE * 2)]
large = st.one_of(
    st.sampled_from(LARGE_ARRAYS), st.sampled_from(LARGE_BYTES), st.sampled_from(LARGE_BYTES).map(bytearray), scalars
)
large_messages = messages(st.recursive(large, nest, max_leaves=6))


def plain_frame(message: Message) -> bytes:
    def pack(value: Any) -> Any:
        head, elements = encode_array(value)
        return msgpack.ExtType(1, head + bytes(elements))

    payload = bytes(msgpack.packb(message.as_list(), default=pack, datetime=True))
    return frame_header(len(payload)) + payload


@given(large_messages)
def test_a_scattered_frame_has_the_bytes_of_a_plain_one(message: Message) -> None:
    buffers = ENCODER.encode(message)
    assert b"".join(buffers) == plain_frame(message)
    decoded = Codec().decode(memoryview(b"".join(buffers))[4:])
    assert plain_frame(decoded) == plain_frame(message)


# -- what may not be received


def hook(code: int, data: Any) -> Any:
    return Codec()._decode_extension(code, data)


def by_library(payload: bytes) -> Any:
    return msgpack.unpackb(payload, ext_hook=hook, strict_map_key=False, timestamp=3)


array_extensions = st.builds(
    lambda dtype, shape, data: msgpack.ExtType(1, bytes(msgpack.packb([dtype, shape])) + data),
    st.sampled_from(["|u1", "<f4", "<M8[s]", "|S3", "|V0", ">f4", [["a", "|u1"]], "x"]),
    st.lists(st.integers(0, 3), max_size=2),
    st.binary(max_size=9),
)
packed = st.recursive(
    scalars | array_extensions | st.floats(), lambda inner: nest(inner) | st.lists(inner, max_size=20), max_leaves=20
).map(lambda value: bytes(msgpack.packb(value, datetime=True)))


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A MessagePack value with some bytes changed, left out or added."""
    payload = bytearray(draw(packed))
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, len(payload)))
        payload[place : place + draw(st.integers(0, 2))] = draw(st.binary(max_size=3))
    return bytes(payload)


@given(st.one_of(packed, damaged(), st.binary(max_size=60)))
@example(b"\xc7\x0c\xff" + bytes(4) + b"\x7f" + b"\xff" * 7)
@example(b"\x82\x90\x01\xd4\x01\xc0")
@example(b"\x92\xd4\x01\xc0\xc1")
@example(b"\x81\xd4\xfe\x00\xd4\x80\x00")
def test_reading_in_place_is_reading_with_the_library_or_leaving_it_to_it(payload: bytes) -> None:
    try:
        value = codec._InPlaceReader(memoryview(payload), hook).read_all()
    except codec._LeaveToLibrary:
        return
    except InvalidExtension:
        with pytest.raises(InvalidExtension):
            by_library(payload)
        return
    assert same(value, by_library(payload))


@given(packed)
def test_reading_in_place_reads_every_plain_value(payload: bytes) -> None:
    try:
        expected = by_library(payload)
    except InvalidExtension:
        return
    assert same(codec._InPlaceReader(memoryview(payload), hook).read_all(), expected)


def outcome(payload: bytes) -> Message | type[RemoteProtocolError]:
    try:
        return Codec().decode(payload)
    except RemoteProtocolError as fault:
        return type(fault) if 1 <= len(str(fault)) < 1000 else RemoteProtocolError


requests = st.sampled_from(
    [b"\x94\x00\x01\xa1f", b"\x94\x01\x01\xc0", b"\x93\x02\xa1g\x91", b"\x94\x00\x01\xa1f\x91", b""]
)


@given(requests, st.one_of(packed, damaged(), st.binary(max_size=60)))
def test_any_bytes_are_a_message_or_get_a_name_and_size_makes_no_difference(start: bytes, rest: bytes) -> None:
    plainly = outcome(start + rest)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec, "LARGE", 0)
        assert same(outcome(start + rest), plainly)
    assert plainly is not RemoteProtocolError


@given(messages(values), st.data())
def test_a_frame_cut_short_is_malformed_and_one_with_more_has_trailing_bytes(
    message: Message, data: st.DataObject
) -> None:
    payload = b"".join(Codec().encode(message))[4:]
    end = data.draw(st.integers(0, len(payload) - 1))
    assert outcome(payload[:end]) is MalformedValue
    assert outcome(payload + data.draw(st.binary(min_size=1, max_size=9))) is TrailingBytes


@given(st.binary(max_size=200) | st.builds(lambda head, data: bytes(msgpack.packb(head)) + data, anything.filter(
    lambda value: _packs(value)), st.binary(max_size=20)))  # fmt: skip
def test_any_content_is_an_array_or_an_invalid_extension(content: bytes) -> None:
    try:
        array = decode_array(content)
    except InvalidExtension:
        return
    assert array.nbytes <= len(content)


def _packs(value: Any) -> bool:
    try:
        msgpack.packb(value)
    except Exception:
        return False
    return True
