"""Values to frames and back: what may be sent, what arrives, and the name of everything that is wrong with the rest."""

from __future__ import annotations

import datetime
import enum
import math
import os
import struct
import subprocess
import sys
import time
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgpack
import numpy as np
import pytest

from mlports_protocol import (
    Codec,
    InvalidExtension,
    InvalidMessage,
    MalformedValue,
    Message,
    Notification,
    OversizedMessage,
    RemoteProtocolError,
    Request,
    Response,
    TrailingBytes,
    Unencodable,
    frame_header,
    parse_message,
)
from mlports_protocol.codec import LARGE
from mlports_protocol.ndarray import encode_array

UTC = datetime.UTC
ECHO = bytes.fromhex("940001a46563686f91")  # [0, 1, "echo", [ … one value to come


def joined(codec: Codec, message: Message) -> bytes:
    return b"".join(codec.encode(message))


def there_and_back(value: Any, codec: Codec | None = None) -> Any:
    codec = codec or Codec()
    frame = joined(codec, Request(1, "echo", [value]))
    assert frame[:4] == frame_header(len(frame) - 4)
    got = codec.decode(frame[4:])
    assert isinstance(got, Request)
    assert (got.id, got.method, got.meta) == (1, "echo", None)
    return got.params[0]


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


# -- what may be sent


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, False, 0, 127, 128, -1, -32, -33, -128, -129),
        *(2**53 - 1, 2**53, 2**53 + 1, -(2**53), 2**63 - 1, 2**63, 2**64 - 1, -(2**63)),
        *(0.0, 1.5, -1e308, 5e-324, math.inf, -math.inf),
        *("", "x" * 31, "x" * 32, "é🎲", "a\0b", b"", b"\xff\0", bytes(255), bytes(256)),
        *([], [[]], [1, [2, [3]]], list(range(70_000)), {}, {"a": {"b": [None]}}),
        {5: "int", b"\xff": "bin", None: "nil", True: "bool"},
        datetime.datetime(2024, 2, 29, 12, 30, 1, 250_000, UTC),
        datetime.datetime(1, 1, 1, tzinfo=UTC),
        datetime.datetime(9999, 12, 31, 23, 59, 59, 999_999, UTC),
        datetime.datetime(1969, 12, 31, 23, 59, 59, 1, UTC),
        msgpack.ExtType(64, b"mine"),
        msgpack.ExtType(127, b""),
    ],
    ids=lambda value: repr(value).partition(" at 0x")[0][:30],
)
def test_a_value_there_and_back(value: Any) -> None:
    got = there_and_back(value)
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize("value", [math.nan, -0.0])
def test_floats_keep_their_bits(value: float) -> None:
    assert struct.pack(">d", there_and_back(value)) == struct.pack(">d", value)


class Colour(enum.IntEnum):
    RED = 3


Pair = namedtuple("Pair", "one two")


@pytest.mark.parametrize(
    ("value", "arrives"),
    [
        ((1, 2), [1, 2]),
        (Pair(1, 2), [1, 2]),
        (OrderedDict(a=1), {"a": 1}),
        (Colour.RED, 3),
        (bytearray(b"ab"), b"ab"),
        (memoryview(b"abcd")[1:3], b"bc"),
        (memoryview(b"a" * LARGE), b"a" * LARGE),
        (memoryview(np.arange(3, dtype=">u2").data), bytes([0, 0, 0, 1, 0, 2])),
        (np.int8(-5), -5),
        (np.uint64(2**64 - 1), 2**64 - 1),
        (np.float16(0.5), 0.5),
        (np.float32(0.25), 0.25),
        (np.float64(1e300), 1e300),
        (np.bool_(True), True),
        (np.str_("text"), "text"),
        (np.bytes_(b"raw"), b"raw"),
        (np.array([(1, 2.5)], "i4,f8")[0], [1, 2.5]),
        ({np.int64(3): np.float32(0.5)}, {3: 0.5}),
        (datetime.datetime(2024, 1, 1, 2, tzinfo=datetime.timezone(datetime.timedelta(hours=2))),
         datetime.datetime(2024, 1, 1, tzinfo=UTC)),
    ],
    ids=lambda value: repr(value).partition(" at 0x")[0][:30],
)  # fmt: skip
def test_what_arrives_as_something_plainer(value: Any, arrives: Any) -> None:
    got = there_and_back(value)
    assert got == arrives
    assert type(got) is type(arrives)


@pytest.mark.parametrize(
    ("message", "payload"),
    [
        (Request(1, "f", [2]), "940001a16691 02"),
        (Request(1, "f", [2], {}), "940001a16691 02"),
        (Request(1, "f", [], {"credit": 5}), "950001a16690 81a6637265646974 05"),
        (Response(1, None, 7), "940101c0 07"),
        (Response(1, {"code": "a", "message": "b"}), "94010182a4636f6465a161a76d657373616765a162 c0"),
        (Notification("g", []), "9302a16790"),
    ],
)
def test_the_bytes_of_a_message(message: Message, payload: str) -> None:
    data = bytes.fromhex(payload)
    assert Codec().encode(message) == [frame_header(len(data)) + data]
    decoded = Codec().decode(data)
    assert decoded.as_list() == message.as_list()


# -- what may not be sent


class Unfriendly:
    pass


def holding_itself() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


UNENCODABLE = [
    pytest.param(Unfriendly(), "test_codec.Unfriendly cannot be sent", id="object"),
    pytest.param({1, 2}, "builtins.set", id="set"),
    pytest.param(1j, "complex", id="complex"),
    pytest.param(Decimal(1), "decimal.Decimal", id="decimal"),
    pytest.param(len, "builtin_function", id="function"),
    pytest.param(2**64, "64 bits", id="int-too-large"),
    pytest.param(-(2**63) - 1, "64 bits", id="int-too-small"),
    pytest.param("\ud800", "surrogates not allowed", id="surrogate"),
    pytest.param({"\udfff": 1}, "surrogates not allowed", id="surrogate-key"),
    pytest.param(datetime.datetime(2024, 1, 1), "aware datetimes", id="naive"),
    pytest.param(datetime.date(2024, 1, 1), "datetime.date", id="date"),
    pytest.param(nested(1100), "nested too deep", id="deep"),
    pytest.param(nested(100_000), "nested too deep", id="very-deep"),
    pytest.param({"a": {"b": nested(1100)}}, "nested too deep", id="deep-in-maps"),
    pytest.param(holding_itself(), "holds itself", id="cycle"),
    pytest.param(memoryview(b"abcdef")[::2], "memoryview", id="strided-memoryview"),
    pytest.param(np.array([object()]), "plain bytes", id="object-array"),
    pytest.param(np.ma.masked, "masked", id="masked"),
    pytest.param(np.complex128(1j), "complex", id="numpy-complex"),
    pytest.param(np.longdouble(1) / 3, "numpy.longdouble", id="longdouble"),
    pytest.param(np.datetime64("2024-01-01", "ns"), "numpy.datetime64", id="datetime64"),
    pytest.param(np.datetime64("NaT"), "numpy.datetime64", id="not-a-time"),
    pytest.param(np.timedelta64(5, "s"), "numpy.timedelta64", id="timedelta64"),
]


@pytest.mark.parametrize("company", [[], [np.zeros(LARGE)], [bytes(LARGE)]], ids=["alone", "by-array", "by-bytes"])
@pytest.mark.parametrize(("value", "said"), UNENCODABLE)
def test_what_cannot_be_sent_is_named_and_the_next_message_can(value: Any, said: str, company: list[Any]) -> None:
    codec = Codec()
    before = joined(codec, Request(1, "f", [5, *company]))
    for place in (Request(1, "f", [*company, value, *company]), Response(1, None, [*company, {"deep": [value]}])):
        with pytest.raises(Unencodable, match=said):
            codec.encode(place)
        assert joined(codec, Request(1, "f", [5, *company])) == before


def test_an_interrupt_while_encoding_leaves_nothing_behind() -> None:
    class Interrupting(np.ndarray[Any, Any]):
        @property
        def dtype(self) -> Any:
            raise KeyboardInterrupt

    codec = Codec()
    before = joined(codec, Request(1, "f", [5]))
    with pytest.raises(KeyboardInterrupt):
        codec.encode(Request(1, "f", [np.zeros(LARGE), np.zeros(2).view(Interrupting)]))
    assert joined(codec, Request(1, "f", [5])) == before


def test_as_deep_as_the_protocol_asks_can_be_sent() -> None:
    assert there_and_back(nested(480)) == nested(480)


def test_no_frame_is_longer_than_any_peer_accepts() -> None:
    codec = Codec()
    before = joined(codec, Request(1, "f", [1]))
    pages = np.zeros(2**28, np.uint8)  # never touched, so no memory
    with pytest.raises(OversizedMessage, match="no frame may be longer"):
        codec.encode(Request(1, "f", [pages] * 8))
    with pytest.raises(OversizedMessage):
        codec.encode(Request(1, "f", [np.broadcast_to(np.uint8(0), (1,)), *[pages] * 20]))
    assert joined(codec, Request(1, "f", [1])) == before


# -- large values, which are not copied


def plain_frame(message: Message) -> bytes:
    def pack(value: Any) -> Any:
        head, elements = encode_array(value)
        return msgpack.ExtType(1, head + bytes(elements))

    payload = msgpack.packb(message.as_list(), default=pack, datetime=True)
    return frame_header(len(payload)) + bytes(payload)


BIG = np.arange(LARGE // 8 + 5, dtype="<f8")
PADDED = np.zeros(LARGE // 16 + 1, np.dtype([("a", "u1"), ("b", "<f8")], align=True))
RAW = os.urandom(LARGE + 3)

LARGE_MESSAGES = [
    pytest.param(Request(1, "f", [BIG]), id="array"),
    pytest.param(Request(1, "f", [BIG, BIG[1:]], {"credit": 1}), id="two"),
    pytest.param(Request(1, "f", [BIG[::2], BIG.astype(">f8"), BIG.reshape(1, -1).T]), id="copied"),
    pytest.param(Request(1, "f", [{"a": [1, BIG, "x"], "b": {"c": (BIG, b"y")}}, BIG, 5]), id="nested"),
    pytest.param(Request(1, "f", [PADDED, PADDED[:-1], PADDED[:8000], PADDED[: LARGE // 9], BIG]), id="padded"),
    pytest.param(Request(1, "f", [np.zeros(size, "u1") for size in range(LARGE - 12, LARGE + 3)]), id="edge"),
    pytest.param(Request(1, "f", [BIG[:3], BIG, 1.5, BIG[:0], np.array(1)]), id="small-and-large"),
    pytest.param(Request(1, "f", [RAW]), id="bytes"),
    pytest.param(Request(1, "f", [RAW[:LARGE], RAW[: LARGE - 1], 1, RAW]), id="bytes-edge"),
    pytest.param(Request(1, "f", [1] * 20 + [RAW]), id="bytes-far-behind"),
    pytest.param(Request(1, "f", [[RAW], {"k": RAW, RAW: 1}, bytearray(RAW), memoryview(RAW), RAW]), id="bytes-nested"),
    pytest.param(Request(1, "f", [RAW, BIG, RAW, {"x": BIG}]), id="both"),
    pytest.param(Request(1, "f", ["x" * LARGE]), id="str"),
    pytest.param(Request(1, "f", [list(range(LARGE))]), id="list"),
    pytest.param(Response(1, None, BIG), id="result-array"),
    pytest.param(Response(1, None, RAW), id="result-bytes"),
    pytest.param(Response(1, None, [[None, BIG], [None, RAW]]), id="result-batch"),
    pytest.param(Response(1, {"code": "a", "message": "b", "data": BIG}), id="error-data"),
    pytest.param(Notification("$/item", [3, RAW]), id="item-bytes"),
    pytest.param(Notification("$/item", [3, {"frame": BIG}]), id="item-array"),
]


@pytest.mark.parametrize("message", LARGE_MESSAGES)
def test_a_scattered_frame_has_the_bytes_of_a_plain_one(message: Message) -> None:
    codec = Codec()
    frame = joined(codec, message)
    assert frame == plain_frame(message)
    assert joined(codec, message) == frame


@pytest.mark.parametrize("message", LARGE_MESSAGES)
def test_a_large_frame_decodes_as_the_library_does_it(message: Message) -> None:
    frame = memoryview(plain_frame(message))[4:]
    codec = Codec()
    value = msgpack.unpackb(frame, ext_hook=codec._decode_extension, strict_map_key=False, timestamp=3)
    assert_same(codec.decode(frame).as_list(), parse_message(value).as_list())


def assert_same(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    if isinstance(one, np.ndarray):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert one.tobytes() == other.tobytes()
    elif isinstance(one, dict):
        assert_same(list(one.items()), list(other.items()))
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        for first, second in zip(one, other, strict=True):
            assert_same(first, second)
    else:
        assert one == other


def test_large_arrays_and_byte_strings_are_sent_from_where_they_lie() -> None:
    buffers = Codec().encode(Request(1, "f", [BIG, {"in": [BIG]}, RAW]))
    views = [buffer for buffer in buffers if isinstance(buffer, memoryview)]
    assert len(buffers) == 7
    assert len(views) == 3
    assert np.shares_memory(np.frombuffer(views[0], "<f8"), BIG)
    assert np.shares_memory(np.frombuffer(views[1], "<f8"), BIG)
    assert views[2].obj is RAW
    result = Codec().encode(Response(1, None, RAW))
    assert isinstance(result[2], memoryview)
    assert result[2].obj is RAW


def test_many_small_values_beside_a_large_one_are_not_many_buffers() -> None:
    assert len(Codec().encode(Request(1, "f", [list(range(10_000)), BIG, list(range(10_000))]))) == 4


def test_every_buffer_is_bytes_of_the_length_it_says() -> None:
    for buffer in Codec().encode(Request(1, "f", [BIG[:8190].reshape(3, -1)[:2], BIG, RAW, 1])):
        assert len(buffer) == memoryview(buffer).nbytes
        assert memoryview(buffer).format == "B"


def test_a_large_array_arrives_as_a_read_only_view_of_the_frame() -> None:
    codec = Codec()
    frame = bytearray(joined(codec, Response(1, None, {"x": [BIG]})))
    got = codec.decode(memoryview(frame)[4:])
    assert isinstance(got, Response)
    array = got.result["x"][0]
    assert array.tolist() == BIG.tolist()
    assert not array.flags.writeable
    assert np.shares_memory(array, np.frombuffer(frame, np.uint8))


def test_a_small_array_arrives_read_only() -> None:
    assert not there_and_back(np.arange(3)).flags.writeable


def test_an_array_to_a_peer_without_the_feature_is_sent_as_lists() -> None:
    codec = Codec(ndarray=False)
    assert there_and_back([BIG, np.array([[1, 2]]), np.array(3)], codec) == [BIG.tolist(), [[1, 2]], 3]
    structured = np.array([(1, "a")], [("x", "i4"), ("y", "U1")])
    assert there_and_back(structured, codec) == [[1, "a"]]


# -- what may not be received


def of_size(data: bytes, size: int) -> bytes:
    """The request echo(filling, value) whose last bytes are `data`, at least `size` bytes long."""
    filling = bytes(size)
    return bytes.fromhex("940001a46563686f92") + b"\xc6" + struct.pack(">I", len(filling)) + filling + data


MALFORMED = [
    pytest.param(b"", id="nothing"),
    pytest.param(b"\xc1", id="never-used"),
    pytest.param(b"\xa5ab", id="cut-str"),
    pytest.param(b"\xcd\1", id="cut-int"),
    pytest.param(b"\xcb\1\2", id="cut-float"),
    pytest.param(b"\xc7", id="cut-ext-header"),
    pytest.param(b"\xc8\0\0", id="cut-ext-code"),
    pytest.param(b"\xc9\0\0\0\1", id="cut-ext32"),
    pytest.param(b"\xc9\xff\xff\xff\xff\1", id="huge-ndarray"),
    pytest.param(b"\xc9\x7f\xff\xff\xff\2", id="huge-ext"),
    pytest.param(b"\xd6\x40\1", id="cut-fixext"),
    pytest.param(b"\x92\1", id="cut-array"),
    pytest.param(b"\x81\1", id="cut-map"),
    pytest.param(b"\xdc", id="cut-array16"),
    pytest.param(b"\xdf\0\0", id="cut-map32"),
    pytest.param(b"\xdd\xff\xff\xff\xff", id="huge-array"),
    pytest.param(b"\xdd\0\0\2\0", id="array-of-512"),
    pytest.param(b"\xdf\x7f\xff\xff\xff", id="huge-map"),
    pytest.param(b"\xdb\xff\xff\xff\xffa", id="huge-str"),
    pytest.param(b"\xc6\x7f\xff\xff\xffa", id="huge-bin"),
    pytest.param(b"\xdd\xff\xff\xff\xff" * 100, id="huge-arrays"),
    pytest.param(b"\xa2\xc3\x28", id="not-utf8"),
    pytest.param(b"\xd9\x02\xff\xfe", id="not-utf8-str8"),
    pytest.param(b"\xa3\xed\xa0\x80", id="surrogate"),
    pytest.param(b"\x81\x90\1", id="array-as-key"),
    pytest.param(b"\x81\x80\1", id="map-as-key"),
    pytest.param(b"\x81\xc7\x07\1\x92\xa3|u1\x91\0\1", id="ndarray-as-key"),
    pytest.param(b"\x91" * 1100 + b"\1", id="deep"),
    pytest.param(b"\x91" * 200_000 + b"\1", id="very-deep"),
    pytest.param(b"\x81\1" * 100_000 + b"\1", id="very-deep-maps"),
    pytest.param(b"\x91" * 65_000, id="deep-and-cut"),
    pytest.param(b"\xd5\xff\0\1", id="timestamp-of-2"),
    pytest.param(b"\xc7\0\xff", id="timestamp-of-0"),
    pytest.param(b"\xc7\x05\xff12345", id="timestamp-of-5"),
    pytest.param(b"\xd7\xff" + b"\xff" * 8, id="timestamp-nanoseconds"),
    pytest.param(b"\xc7\x0c\xff" + b"\xff" * 4 + bytes(8), id="timestamp-96-nanoseconds"),
    pytest.param(b"\xc7\x0c\xff" + bytes(4) + b"\x7f" + b"\xff" * 7, id="timestamp-far-future"),
    pytest.param(b"\xc7\x0c\xff" + bytes(4) + b"\x80" + bytes(7), id="timestamp-far-past"),
    pytest.param(b"\xc7\x0c\xff" + bytes(4) + struct.pack(">q", 253_402_300_800), id="timestamp-year-10000"),
    pytest.param(b"\xc7\x0c\xff" + bytes(4) + struct.pack(">q", -62_135_596_801), id="timestamp-year-0"),
]


@pytest.mark.parametrize("size", [0, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("data", MALFORMED)
def test_what_is_no_value_is_named(data: bytes, size: int) -> None:
    began = time.perf_counter()
    payload = of_size(data, size)
    for form in (payload, memoryview(payload), memoryview(bytearray(payload))):
        with pytest.raises(MalformedValue) as caught:
            Codec().decode(form)
        assert len(caught.value.offending) == min(256, len(of_size(data, size)))
    assert time.perf_counter() - began < 2


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\xff" * 70_000, b"\x91" * 70_000])
def test_what_is_no_value_from_its_first_byte(data: bytes) -> None:
    with pytest.raises((MalformedValue, TrailingBytes)):
        Codec().decode(data)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (ECHO + b"\x91" * 1100 + b"\1", "nested too deep"),
        (ECHO + b"\x81\x90\1", "map key"),
        (b"ab\xc1\xc1WARNING: no GPU\n" * 3, "WARNING: no GPU.*standard output"),
    ],
)
def test_what_is_said_of_it(data: bytes, said: str) -> None:
    with pytest.raises(RemoteProtocolError, match=said):
        Codec().decode(data if data[:2] != b"ab" else b"\x92\x01\xc1" + data)


def test_the_deepest_value_that_is_accepted() -> None:
    got = Codec().decode(ECHO + b"\x91" * 1000 + b"\x90")
    assert isinstance(got, Request)
    depth, value = 0, got.params[0]
    while value:
        depth, value = depth + 1, value[0]
    assert depth == 1000


@pytest.mark.parametrize("size", [0, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("trailing", [b"\0", b"\xc1", b"\x94\0\1\xa1f\x90", bytes(1000)])
def test_bytes_behind_the_value_are_named(trailing: bytes, size: int) -> None:
    with pytest.raises(TrailingBytes, match=f"^{len(trailing)} bytes") as caught:
        Codec().decode(of_size(b"\1", size) + trailing)
    assert caught.value.offending == trailing[:256]


@pytest.mark.parametrize("size", [0, LARGE], ids=["small", "large"])
def test_a_value_that_is_no_message_is_named(size: int) -> None:
    with pytest.raises(InvalidMessage):
        Codec().decode(b"\x93\5\1\xc6" + struct.pack(">I", size) + bytes(size))


def ext(code: int, data: bytes) -> bytes:
    return b"\xc9" + struct.pack(">Ib", len(data), code) + data


GOOD = msgpack.packb(["|u1", [2]]) + b"\1\2"


@pytest.mark.parametrize("size", [0, LARGE], ids=["small", "large"])
@pytest.mark.parametrize(
    ("data", "ndarray", "said"),
    [
        (ext(1, GOOD + b"\0"), True, "2 bytes of elements, not 3"),
        (ext(1, b""), True, "begins with"),
        (b"\xd4\1\xc0", True, "begins with"),
        (ext(1, msgpack.packb(["|u1", [LARGE]]) + bytes(LARGE - 1)), True, "bytes of elements"),
        (ext(1, GOOD), False, "not negotiated"),
        (ext(2, b"\x90"), True, "without the feature shm"),
        (ext(3, b"x" * LARGE), True, "without the feature arrow"),
        (b"\xd4\2\xc0", True, "shm"),
    ],
)
def test_an_extension_that_is_wrong_is_named(data: bytes, ndarray: bool, said: str, size: int) -> None:
    with pytest.raises(InvalidExtension, match=said):
        Codec(ndarray=ndarray).decode(of_size(data, size))


def test_what_is_wrong_first_is_reported_first() -> None:
    bad_array = ext(1, GOOD + b"\0")
    for size in (0, LARGE):
        for data in (bad_array + b"\0", bad_array[:-1] + b"\0\xc1", b"\x92" + bad_array):
            with pytest.raises(InvalidExtension):
                Codec().decode(of_size(data, size))
        with pytest.raises(MalformedValue):
            Codec().decode(of_size(b"\x92\xc1" + bad_array, size))


@pytest.mark.parametrize("size", [0, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("code", [-128, -2, 0, 4, 63, 64, 127])
@pytest.mark.parametrize("content", [b"", b"a", bytes(3), bytes(16), bytes(300), bytes(70_000)])
def test_an_unknown_extension_is_handed_on_and_can_be_sent_on(code: int, content: bytes, size: int) -> None:
    codec = Codec()
    got = codec.decode(of_size(ext(code, content), size))
    assert isinstance(got, Request)
    assert got.params[1] == (code, content)
    assert isinstance(got.params[1], msgpack.ExtType)
    again = codec.decode(joined(codec, got)[4:])
    assert again == got


@pytest.mark.parametrize("form", [bytes, bytearray, memoryview])
@pytest.mark.parametrize("size", [0, LARGE])
def test_a_payload_may_be_any_kind_of_bytes(form: Callable[[bytes], Any], size: int) -> None:
    got = Codec().decode(form(of_size(b"\xc4\2ab", size)))
    assert isinstance(got, Request)
    assert got.params == [bytes(size), b"ab"]
    assert type(got.params[1]) is bytes


def test_every_prefix_of_a_frame_is_malformed() -> None:
    message = Request(300, "f", [1, "text", {"a": [1.5, None, b"\1"]}, np.arange(3)], {"deadline_ms": 70_000})
    payload = joined(Codec(), message)[4:]
    for end in range(len(payload)):
        with pytest.raises((MalformedValue, InvalidExtension)):
            Codec().decode(payload[:end])


def test_large_frames_are_read_in_linear_time() -> None:
    arrays = [np.zeros(1000, "<f8")] * 4000
    frame = memoryview(joined(Codec(), Request(1, "f", arrays)))[4:]
    began = time.perf_counter()
    got = Codec().decode(frame)
    assert time.perf_counter() - began < 3
    assert isinstance(got, Request)
    assert len(got.params) == 4000


def test_the_library_without_its_c_extension_does_the_same() -> None:
    script = """if True:
        import msgpack, numpy as np
        from mlports_protocol import Codec, MalformedValue, Request, Unencodable, frame_header
        assert msgpack.Packer.__module__ == "msgpack.fallback"
        codec = Codec()
        sent = Request(1, "f", [np.arange(20_000), b"x" * 70_000, [{"a": np.arange(9000)}, np.arange(3)], "end"])
        frame = b"".join(codec.encode(sent))
        got = codec.decode(frame[4:])
        assert got.params[0].tolist() == list(range(20_000)) and got.params[1] == sent.params[1]
        assert got.params[2][0]["a"].tolist() == list(range(9000)) and got.params[3] == "end"
        for bad in (object(), 2**64, "\\ud800", [np.arange(20_000), {1}]):
            try: codec.encode(Request(1, "f", [bad])); raise SystemExit(f"{bad} was sent")
            except Unencodable: pass
            assert b"".join(codec.encode(sent)) == frame
        for bad in (b"", b"\\xc1", b"\\x81\\x90\\1", b"\\x91" * 5000, b"\\xdd\\xff\\xff\\xff\\xff", b"\\xa1\\xff"):
            try: codec.decode(bytes.fromhex("940001a46563686f91") + bad); raise SystemExit(f"{bad} was read")
            except MalformedValue: pass
        print("same", hash(frame) != 0, frame[:20].hex())
    """
    environment = {**os.environ, "MSGPACK_PUREPYTHON": "1"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("same True ")
