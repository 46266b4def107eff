"""Extension 1, the ndarray: every dtype and layout there and back, and every way in which one can contradict itself."""

from __future__ import annotations

import subprocess
import sys
import warnings
from typing import Any

import msgpack
import numpy as np
import pytest

from mlports_protocol import Codec, InvalidExtension, Request, Unencodable
from mlports_protocol.ndarray import decode_array, encode_array

Array = np.ndarray[Any, Any]


def payload(array: Array) -> bytes:
    head, elements = encode_array(array)
    return head + elements


def there_and_back(array: Array) -> Array:
    return decode_array(payload(array))


def assert_same(got: Array, sent: Array) -> None:
    assert got.shape == sent.shape
    assert got.dtype == sent.dtype.newbyteorder("<") or got.dtype.names is not None
    assert got.astype(sent.dtype).tobytes() == np.ascontiguousarray(sent).tobytes()


def plainly(array: Array) -> Any:
    """The values as lists, also those of structures; numpy leaves a field that has a shape an array."""
    if array.dtype.names is None:
        return array.tolist()
    return [plainly(array[name]) for name in array.dtype.names]


PLAIN = [
    *("|b1", "|i1", "<i2", "<i4", "<i8", "|u1", "<u2", "<u4", "<u8", "<f2", "<f4", "<f8", "<c8", "<c16"),
    *(">i2", ">u4", ">i8", ">f2", ">f4", ">f8", ">c8", ">c16", "=f8"),
    *("|S1", "|S7", "<U1", "<U5", ">U3", "|V1", "|V16"),
    *("<M8[ns]", "<M8[D]", "<M8[25s]", "<M8[Y]", "<m8[us]", "<m8[h]", ">M8[ms]", ">m8[as]", "<M8", "<m8"),
]


@pytest.mark.parametrize("dtype", PLAIN)
def test_every_dtype_there_and_back_in_every_shape(dtype: str) -> None:
    for shape in [(), (1,), (7,), (0,), (3, 4), (2, 0, 3), (2, 3, 2, 2), (1,) * 32]:
        there_and_back_in_shape(np.dtype(dtype), shape)


def there_and_back_in_shape(kind: np.dtype[Any], shape: tuple[int, ...]) -> None:
    count = int(np.prod(shape))
    raw = np.random.default_rng(5).integers(0, 2 if kind.kind in "bU" else 100, count * kind.itemsize, np.uint8)
    if kind.kind == "U":
        raw.reshape(-1, 4)[:, 1 if kind.byteorder == "<" else 0] = 0
        raw.reshape(-1, 4)[:, 2:3] = 0
    array = np.frombuffer(raw.tobytes(), kind, count).reshape(shape) if count else np.zeros(shape, kind)
    got = there_and_back(array)
    assert_same(got, array)
    assert got.dtype.byteorder in "|=<"
    assert not got.flags.writeable


def test_platform_long_double_there_and_back() -> None:
    array = np.array([1, 2.5, np.inf], np.longdouble)
    assert_same(there_and_back(array), array)
    assert_same(there_and_back(array.astype(np.clongdouble)), array.astype(np.clongdouble))


def test_special_floats_keep_their_bits() -> None:
    array = np.array([0.0, -0.0, np.nan, -np.nan, np.inf, -np.inf, 5e-324])
    assert there_and_back(array).tobytes() == array.tobytes()
    times = np.array(["NaT", "2024-02-29"], "M8[D]")
    assert there_and_back(times).tobytes() == times.tobytes()


BASE = np.arange(2 * 3 * 4, dtype=np.int32).reshape(2, 3, 4)


@pytest.mark.parametrize(
    "array",
    [
        pytest.param(np.asfortranarray(BASE), id="column-major"),
        pytest.param(BASE.T, id="transposed"),
        pytest.param(BASE[:, ::2], id="every-second"),
        pytest.param(BASE[::-1, :, ::-1], id="backwards"),
        pytest.param(np.broadcast_to(np.int32(7), (3, 3)), id="broadcast"),
        pytest.param(BASE[1:, 1:2, 1:2], id="part"),
        pytest.param(np.array(5.5), id="0-d"),
        pytest.param(BASE[0, 0, 0:1].reshape(()), id="0-d-view"),
        pytest.param(BASE[:, :0, ::2], id="empty-and-strided"),
        pytest.param(np.arange(9, dtype=">u2")[::2], id="big-endian-and-strided"),
        pytest.param(np.frombuffer(bytes(range(17)), np.uint8)[1:].view("<f8"), id="unaligned"),
        pytest.param(np.rec.array([(1, 2.5)], "i4,f8"), id="record-array"),
        pytest.param(np.ma.MaskedArray([1.0, 2.0]), id="masked-nothing"),
        pytest.param(np.ma.MaskedArray([1.0, 2.0], [False, False]), id="masked-none-of-them"),
    ],
)
def test_every_layout_there_and_back(array: Array) -> None:
    got = there_and_back(array)
    assert type(got) is np.ndarray
    assert_same(got, np.asarray(array))


NESTED = np.dtype([("id", "<i4"), ("box", "<f4", (2, 2)), ("tag", [("a", "u1"), ("b", ">u2")])])


@pytest.mark.parametrize(
    ("dtype", "described"),
    [
        ([("x", "<f4"), ("y", "|S2")], [["x", "<f4"], ["y", "|S2"]]),
        ([("x", ">f4")], [["x", "<f4"]]),
        (np.dtype([("a", "u1"), ("b", "<i4")], align=True), [["a", "|u1"], ["b", "<i4"]]),
        (
            np.dtype({"names": ["b", "a"], "formats": ["<i2", "u1"], "offsets": [4, 1], "itemsize": 9}),
            [["b", "<i2"], ["a", "|u1"]],
        ),
        (NESTED, [["id", "<i4"], ["box", "<f4", [2, 2]], ["tag", [["a", "|u1"], ["b", "<u2"]]]]),
        ([("many", [("u", "<u2"), ("v", "S1")], (3,))], [["many", [["u", "<u2"], ["v", "|S1"]], [3]]]),
        ([("none", "<f4", (0,)), ("one", "u1")], [["none", "<f4", [0]], ["one", "|u1"]]),
        (np.dtype((np.record, [("x", "<f4")])), [["x", "<f4"]]),
    ],
)
def test_structures_are_sent_without_padding_and_little_endian(dtype: Any, described: Any) -> None:
    array = np.zeros(3, dtype)
    for number, name in enumerate(array.dtype.names or ()):
        if array.dtype[name].names is None and array.dtype[name].base.names is None:
            array[name] = np.full(array[name].shape, number + 1).astype(array.dtype[name].base)
    sent = payload(array)
    assert sent.startswith(msgpack.packb([described, [3]]))
    got = decode_array(sent)
    assert plainly(got) == plainly(array)
    assert got.dtype.names == array.dtype.names
    assert there_and_back(got).dtype == got.dtype


def test_a_nested_structure_keeps_its_values() -> None:
    array = np.array([(1, [[1, 2], [3, 4]], (5, 600)), (2, [[5, 6], [7, 8]], (9, 700))], NESTED)
    got = there_and_back(array)
    assert plainly(got) == plainly(array)
    assert got["tag"]["b"].tolist() == [600, 700]


def test_a_structure_of_thousands_of_fields_there_and_back() -> None:
    array = np.zeros(2, [(f"a column with quite a long name {number}", "<f8") for number in range(3000)])
    array["a column with quite a long name 2999"] = [1, 2]
    assert len(encode_array(array)[0]) > 100_000
    got = there_and_back(array)
    assert got.dtype == array.dtype
    assert got.tolist() == array.tolist()


def nested_structure(levels: int) -> np.dtype[Any]:
    dtype: np.dtype[Any] = np.dtype("<f4")
    for _ in range(levels):
        dtype = np.dtype([("in", dtype)])
    return dtype


def test_structures_nest_as_deep_for_the_sender_as_for_the_receiver() -> None:
    array = np.ones(2, nested_structure(8))
    assert there_and_back(array).dtype == array.dtype
    with pytest.raises(Unencodable, match="nested more than 8"):
        encode_array(np.ones(2, nested_structure(9)))
    described: Any = "<f4"
    for _ in range(9):
        described = [["in", described]]
    with pytest.raises(InvalidExtension):
        decode_array(msgpack.packb([described, [1]]) + bytes(4))


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.array([object()]), "object"),
        (np.zeros(2, [("x", "<f4"), ("y", "O")]), "cannot be sent"),
        (np.zeros(2, "V0"), "no bytes"),
        (np.ndarray(2, "S0", b""), "no bytes"),
        (np.ndarray(2, "U0", b""), "no bytes"),
        (np.zeros(2, np.dtype([])), "no bytes"),
        (np.zeros(2, [("x", "<f4", (0,))]), "no bytes"),
        (np.zeros(2, [("x", "S0"), ("y", "u1")]), "no bytes"),
        (np.ma.MaskedArray([1, 2], [False, True]), "masked"),
        (np.ma.masked, "masked"),
        (np.ma.MaskedArray(np.zeros(2, "f4,i4"), [(False, False), (True, False)]), "masked"),
    ],
)
def test_what_cannot_be_sent_is_said(array: Array, said: str) -> None:
    with pytest.raises(Unencodable, match=said):
        encode_array(array)


def test_variable_length_strings_cannot_be_sent() -> None:
    dtypes = getattr(np, "dtypes", None)
    if not hasattr(dtypes, "StringDType"):
        pytest.skip("this numpy has none")
    with pytest.raises(Unencodable, match="convert it first"):
        encode_array(np.array(["a"], np.dtypes.StringDType()))


def test_a_contiguous_little_endian_array_is_not_copied() -> None:
    array = np.arange(100, dtype="<f8")
    _, elements = encode_array(array)
    assert np.shares_memory(np.frombuffer(elements, "<f8"), array)


def test_the_elements_of_a_copy_outlive_the_array() -> None:
    _, elements = encode_array(np.arange(1000, dtype=">f8")[::2])
    assert np.frombuffer(elements, "<f8").tolist() == list(range(0, 1000, 2))


def test_a_decoded_array_views_its_payload_and_is_read_only() -> None:
    data = payload(np.arange(50, dtype="<i4"))
    got = decode_array(memoryview(data))
    assert np.shares_memory(got, np.frombuffer(data, np.uint8))
    with pytest.raises(ValueError, match="read-only"):
        got[0] = 1
    writable = decode_array(memoryview(bytearray(data)))
    with pytest.raises(ValueError, match="read-only"):
        writable[0] = 1


ONES = bytes(8)


def head(dtype: Any, shape: Any) -> bytes:
    packed: bytes = msgpack.packb([dtype, shape])
    return packed


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\xc1", id="no-value"),
        pytest.param(b"\x92", id="cut"),
        pytest.param(b"\x92\xa3<f", id="cut-dtype"),
        pytest.param(b"\xdd\xff\xff\xff\xff", id="huge-array"),
        pytest.param(b"\xdb\xff\xff\xff\xff", id="huge-str"),
        pytest.param(b"\x91" * 5000, id="deep"),
        pytest.param(b"\x92\xa2\xff\xfe\x91\x01", id="dtype-not-utf8"),
        pytest.param(b"\x80", id="map"),
        pytest.param(b"\x81\x90\x01", id="unhashable-key"),
        pytest.param(b"\xc0" + ONES, id="nil"),
        pytest.param(msgpack.packb([]), id="no-elements"),
        pytest.param(msgpack.packb(["<f4"]) + ONES, id="one-element"),
        pytest.param(msgpack.packb(["<f4", [2], 1]) + ONES, id="three-elements"),
        pytest.param(head("<f4", [2]) + ONES[:-1], id="too-short"),
        pytest.param(head("<f4", [2]) + ONES + b"\0", id="too-long"),
        pytest.param(head("<f4", [0]) + b"\0", id="empty-with-bytes"),
        pytest.param(head("<f4", []), id="0-d-without-bytes"),
        pytest.param(head("<f4", None) + ONES, id="shape-nil"),
        pytest.param(head("<f4", 2) + ONES, id="shape-int"),
        pytest.param(head("<f4", "2") + ONES, id="shape-str"),
        pytest.param(head("<f4", {2: 2}) + ONES, id="shape-map"),
        pytest.param(head("<f4", [-2]) + ONES, id="shape-negative"),
        pytest.param(head("<f4", [-1, -2]) + ONES, id="shape-twice-negative"),
        pytest.param(head("<f4", [2.0]) + ONES, id="shape-float"),
        pytest.param(head("|u1", [True]) + b"\0", id="shape-true"),
        pytest.param(head("|u1", [[8]]) + ONES, id="shape-nested"),
        pytest.param(head("|u1", [1] * 65) + b"\0", id="shape-65"),
        pytest.param(head("|u1", [1] * 60_000) + b"\0", id="shape-60000"),
        pytest.param(head("<f4", [2**62, 4]), id="shape-overflows-to-0"),
        pytest.param(head("<f4", [2**64 - 1, 2**64 - 1]) + ONES, id="shape-huge"),
        pytest.param(head("<f4", [2**64 - 1] * 64) + ONES, id="shape-hugest"),
        pytest.param(head("<f4", [2**64 - 1, 0]), id="shape-huge-and-0"),
        pytest.param(head("<f4", [2**62, 0, 2**62]), id="shape-huge-around-0"),
        pytest.param(head("|V0", [3]), id="void-0"),
        pytest.param(head("|S0", [2**40]), id="bytes-0"),
        pytest.param(head("<U0", [2**62]), id="str-0"),
        pytest.param(head([["a", "<f4", [0]]], [2**40]), id="structure-0"),
        pytest.param(head([["a", "<f4", [2**62, 2**62, 4]]], [1]), id="field-shape-huge"),
        pytest.param(head([["a", "<f4", [-1]]], [1]), id="field-shape-negative"),
        pytest.param(head([["a", "<f4", [True]]], [1]) + bytes(4), id="field-shape-true"),
        pytest.param(head([["a", "<f4", 2]], [1]) + ONES, id="field-shape-int"),
        pytest.param(head([["a", "<f4", [1] * 65]], [1]) + bytes(4), id="field-shape-65"),
        pytest.param(head([["a", "<f4"], ["a", "<f4"]], [1]) + ONES, id="field-twice"),
        pytest.param(head([["", "<f4"], ["b", "<f4"]], [1]) + ONES, id="field-without-a-name"),
        pytest.param(head([[1, "<f4"]], [1]) + bytes(4), id="field-name-int"),
        pytest.param(head([[["t", "a"], "<f4"]], [1]) + bytes(4), id="field-with-a-title"),
        pytest.param(head([["a"]], [1]) + ONES, id="field-of-1"),
        pytest.param(head([["a", "<f4", [1], 1]], [1]) + bytes(4), id="field-of-4"),
        pytest.param(head([["a", "|O"]], [1]) + ONES, id="field-object"),
        pytest.param(head(["a", "<f4"], [1]) + bytes(4), id="field-not-in-an-array"),
        pytest.param(head([], [1]), id="no-fields"),
        pytest.param(head({"names": ["a"], "formats": ["<f4"]}, [1]) + bytes(4), id="dtype-map"),
        pytest.param(head(b"<f4", [2]) + ONES, id="dtype-bin"),
        pytest.param(head(4, [2]) + ONES, id="dtype-int"),
        pytest.param(head(None, [1]) + ONES, id="dtype-nil"),
        *(
            pytest.param(head(name, [1]) + bytes(8), id=f"dtype-{name}")
            for name in (
                *("", "<", "f4", ">f8", "=f8", "float64", "<d", "<f3", "<i3", "<b8", "<c4", "<z8", "|O", "|O8", "<O8"),
                *("<f8,<f8", "(2,)<f4", "<f8 ", " <f8", "<f8\n", "<f08", "<f٨", "<i8[ns]", "<T8", "<V-8", "<U", "<S"),
                *("<U999999999", "<M8[]", "<M8[foo]", "<M8[0s]", "<M8[-1s]", "<M8[s/2]", "<M8[99999999999s]", "<m8[B]"),
                *("<M8[ns", "<M8[generic]", "<M4[s]", "<m16", "<M8[1000000000000000000000000s]"),
            )
        ),
    ],
)
def test_what_contradicts_itself_is_refused(data: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for form in (data, memoryview(data), memoryview(bytearray(data))):
            with pytest.raises(InvalidExtension) as caught:
                decode_array(form)
            assert len(str(caught.value)) < 2000


def test_an_array_without_elements_may_be_long_in_its_other_dimensions() -> None:
    got = decode_array(head("<f4", [0, 2**40]))
    assert got.shape == (0, 2**40)
    assert got.nbytes == 0


def test_a_divisor_of_0_in_a_unit_of_time_does_not_end_the_process() -> None:
    script = (
        "import msgpack; from mlports_protocol import InvalidExtension\n"
        "from mlports_protocol.ndarray import decode_array\n"
        "try: decode_array(msgpack.packb(['<M8[s/0]', [1]]) + bytes(8))\n"
        "except InvalidExtension: print('refused')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "refused\n"), done.stderr


def test_without_numpy_an_array_is_refused_by_name() -> None:
    script = (
        "import sys; sys.modules['numpy'] = None\n"
        "from mlports_protocol import Codec, InvalidExtension\n"
        "try: Codec().decode(bytes.fromhex('93 02 a1 67 91 c7 09 01 92 a3 7c 75 31 91 02 01 02'))\n"
        "except InvalidExtension as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "numpy is not installed" in done.stdout


def test_an_array_that_is_not_an_array_does_not_import_numpy() -> None:
    script = (
        "import sys; from mlports_protocol import Codec, Request\n"
        "codec = Codec(); frame = codec.encode(Request(1, 'f', [1, 'x', b'y', {'z': [1.5, None]}]))\n"
        "codec.decode(b''.join(frame)[4:]); print('numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_frame_of_arrays_in_every_place() -> None:
    arrays = [np.arange(3), np.zeros((2, 2), "f4"), np.array("text"), np.zeros(0, "M8[s]")]
    codec = Codec()
    sent = Request(1, "f", [arrays[0], {"a": arrays[1], "b": [arrays[2], {"c": arrays[3]}]}])
    got = codec.decode(b"".join(codec.encode(sent))[4:])
    assert isinstance(got, Request)
    first, rest = got.params
    for back, array in zip([first, rest["a"], rest["b"][0], rest["b"][1]["c"]], arrays, strict=True):
        assert_same(back, array)


def test_an_array_keeps_the_buffer_that_it_lies_in_from_being_used_again() -> None:
    buffer = bytearray(codec_payload := b"".join(map(bytes, encode_array(np.arange(1000)))))
    array = decode_array(memoryview(buffer))
    with pytest.raises(BufferError):
        buffer.append(0)
    del array
    buffer.append(0)
    assert len(buffer) == len(codec_payload) + 1
