"""Extension type 1: an n-dimensional array (SPEC.md section on ndarray).

The payload is a MessagePack array [dtype, shape] and, at once behind it, the elements: little-endian, row-major,
without padding. numpy is imported when the first array comes by; without it arrays cannot be sent or received.
A masked array goes without its mask, so only if nothing is masked; elements of 0 bytes do not go at all.
"""

from __future__ import annotations

import functools
import re
import sys
from typing import TYPE_CHECKING, Any

import msgpack

from .errors import InvalidExtension, Unencodable, shown

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

EXT_NDARRAY = 1

# Exact as to units: numpy itself divides by the 0 of <M8[s/0], which ends the process.
_DTYPE = re.compile(
    r"[<|](?:[biufcSUV][1-9]\d{0,8}|[mM]8(?:\[(?:[1-9]\d{0,8})?(?:[YMWDhms]|[munpfa]s)\])?)",
    re.ASCII,
)
_MAX_DIMENSIONS = 64  # numpy's own limit
_MAX_NESTING = 8  # structures in structures
_HEAD_WINDOW = 512  # [dtype, shape] nearly always lies in so many bytes
_NUMBERS = frozenset(["|b1", "|i1", "|u1", *(f"<{kind}{size}" for kind in "iuf" for size in (2, 4, 8))])
_SIZES = {0xCC: 2, 0xCD: 3, 0xCE: 5}  # the first byte of an unsigned integer -> its bytes in all

_MOST_HEADS = 256
# Heads that were found right: dtype, shape, and the bytes of the elements.
_KNOWN_HEADS: dict[bytes, tuple[np.dtype[Any], tuple[int, ...], int]] = {}


def is_array(value: Any) -> bool:
    """Whether `value` is a numpy array, asked without importing numpy."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray)


def encode_array(array: Array) -> tuple[bytes, memoryview]:
    """The two parts of an array's payload: [dtype, shape] as MessagePack, and the elements as bytes.

    See `take_apart`.
    """
    dtype = array.dtype
    # What most arrays are, and all of it is known by their dtype and shape.
    if dtype.str in _NUMBERS and array.flags.c_contiguous and array.nbytes and type(array).__name__ == "ndarray":
        return _head_of(dtype.str, array.shape), array.data.cast("B")
    layout, elements = take_apart(array)
    head: bytes = msgpack.packb(layout)
    return head, elements


def take_apart(array: Array) -> tuple[list[Any], memoryview]:
    """An array as [dtype, shape] and its elements' bytes.

    Any dtype but object, any shape and any layout; a contiguous little-endian array is not copied.
    Raises `Unencodable` for elements that are Python objects, of a type that numpy alone cannot name, of no bytes, or
    masked.
    """
    import numpy as np

    dtype = array.dtype
    if dtype.hasobject or dtype.isbuiltin == 2 or dtype.kind not in "biufcSUVmM":
        raise Unencodable(
            f"an array of dtype {dtype!s:.80} cannot be sent: its elements are not plain bytes; convert it first"
        )
    if dtype.itemsize == 0:
        raise Unencodable(f"an array with elements of dtype {dtype!s:.80} cannot be sent: they have no bytes")
    if isinstance(array, np.ma.MaskedArray) and _hides_anything(array):
        raise Unencodable(
            "an array with masked elements cannot be sent: send .filled(), or .data and .mask as two arrays"
        )
    plain: Any = dtype.newbyteorder("<")
    described = _describe(plain)
    if dtype.names is not None:
        plain = _without_gaps(plain)
    array = np.asarray(array)
    ordered = np.ascontiguousarray(array if plain == dtype else array.astype(plain))
    layout = [described, list(array.shape)]
    if ordered.nbytes == 0:
        return layout, memoryview(b"")
    return layout, memoryview(ordered.reshape(-1).view(np.uint8).data)


def decode_array(payload: bytes | memoryview) -> Array:
    """The array in an extension's payload: read-only, and a view of `payload`, so nothing is copied.

    Raises `InvalidExtension` when dtype, shape and the number of bytes do not agree.
    """
    end = _end_of_plain_head(payload)
    known = _KNOWN_HEADS.get(bytes(payload[:end])) if end else None
    if known is not None and known[2] == len(payload) - end:
        return _view(payload, end, *known)
    _need_numpy()
    head, start = _read_head(payload)
    if type(head) is not list or len(head) != 2:
        raise InvalidExtension(f"an ndarray begins with [dtype, shape], not {shown(head)}", bytes(payload[:64]))
    length = len(payload) - start
    dtype, shape = check_layout(head[0], head[1], length)
    if start == end and length and dtype.str in _NUMBERS and len(_KNOWN_HEADS) < _MOST_HEADS:
        _KNOWN_HEADS[bytes(payload[:end])] = (dtype, tuple(shape), length)
    return view_elements(dtype, shape, memoryview(payload)[start:] if length else b"")


def check_layout(described: Any, shape: Any, length: int) -> tuple[np.dtype[Any], list[int]]:
    """The dtype and shape that a peer says `length` bytes have. Raises `InvalidExtension` unless it can be so."""
    _need_numpy()
    dtype = _parse_dtype(described)
    if type(shape) is not list or not all(type(size) is int and size >= 0 for size in shape):
        raise InvalidExtension(f"an ndarray's shape is an array of integers from 0, not {shown(shape)}")
    if dtype.itemsize == 0:
        raise InvalidExtension(f"an ndarray of dtype {dtype!s:.80}, whose elements have no bytes")
    if len(shape) > _MAX_DIMENSIONS:
        raise InvalidExtension(f"an ndarray has at most {_MAX_DIMENSIONS} dimensions, this one {len(shape)}")
    expected = dtype.itemsize
    for size in shape:
        expected *= size
    if expected != length:
        raise InvalidExtension(
            f"an ndarray of dtype {dtype!s:.80} and shape {shown(shape)} has {shown(expected)} bytes of elements, "
            f"not {length}"
        )
    return dtype, shape


def view_elements(dtype: np.dtype[Any], shape: list[int], elements: Any) -> Array:
    """The array whose elements lie in this buffer: read-only. Raises `InvalidExtension` when numpy cannot have it."""
    import numpy as np

    try:
        # numpy.ndarray() alone lets go of the buffer's export, and its owner would take it for unused.
        array: Array = np.ndarray(shape, dtype, np.frombuffer(elements, np.uint8) if len(elements) else b"")
    except (ValueError, TypeError, OverflowError, MemoryError) as error:
        raise InvalidExtension(f"an ndarray of dtype {dtype!s:.80} and shape {shown(shape)}: {error}") from error
    array.flags.writeable = False
    return array


def _end_of_plain_head(payload: bytes | memoryview) -> int:
    """Where [dtype, shape] ends if it is what it mostly is, else 0. What it holds is for others to check."""
    if len(payload) < 4 or payload[0] != 0x92 or payload[1] & 0xE0 != 0xA0:
        return 0
    at = 2 + (payload[1] & 0x1F)
    try:
        if payload[at] & 0xF0 != 0x90:
            return 0
        sizes = payload[at] & 0x0F
        at += 1
        for _ in range(sizes):
            at += 1 if payload[at] < 0x80 else _SIZES[payload[at]]
    except (IndexError, KeyError):
        return 0
    return at


def _view(payload: bytes | memoryview, start: int, dtype: np.dtype[Any], shape: tuple[int, ...], _: int) -> Array:
    import numpy as np

    array: Array = np.frombuffer(payload, dtype, offset=start).reshape(shape)
    array.flags.writeable = False
    return array


@functools.lru_cache(maxsize=256)
def _head_of(described: str, shape: tuple[int, ...]) -> bytes:
    head: bytes = msgpack.packb([described, list(shape)])
    return head


def _need_numpy() -> None:
    try:
        import numpy  # noqa: F401
    except ImportError as error:
        raise InvalidExtension("an ndarray (extension type 1 or 2), and numpy is not installed here") from error


def _hides_anything(array: np.ma.MaskedArray[Any, Any]) -> bool:
    import numpy as np

    mask = np.ma.getmask(array)
    return mask is not np.ma.nomask and bool(np.ascontiguousarray(mask).view(np.uint8).any())


def _read_head(payload: bytes | memoryview) -> tuple[Any, int]:
    """The first MessagePack value of an extension's payload, and the number of bytes that it takes."""
    window = min(_HEAD_WINDOW, len(payload))
    while True:
        unpacker = msgpack.Unpacker(max_buffer_size=max(window, 1))
        unpacker.feed(payload[:window])
        try:
            return unpacker.unpack(), unpacker.tell()
        except Exception as error:
            if window == len(payload) or not isinstance(error, (msgpack.OutOfData, ValueError)):
                raise InvalidExtension(
                    f"an ndarray begins with [dtype, shape]: {str(error) or 'it is cut short'}", bytes(payload[:64])
                ) from error
        window = min(window * 64, len(payload))


def _describe(dtype: np.dtype[Any], depth: int = 0) -> Any:
    """A plain dtype as its string, a structured one as numpy's list of fields."""
    if dtype.names is None:
        if dtype.itemsize == 0:
            raise Unencodable(f"an array with elements of dtype {dtype!s:.80} cannot be sent: they have no bytes")
        return dtype.str
    if depth == _MAX_NESTING:
        raise Unencodable(f"an array of structures nested more than {_MAX_NESTING} deep cannot be sent")
    fields: list[list[Any]] = []
    for name in dtype.names:
        field = dtype.fields[name][0]  # type: ignore[index]  # there are fields when there are names
        base, shape = field.subdtype or (field, ())
        fields.append([name, _describe(base, depth + 1), *([list(shape)] if shape else [])])
    return fields


def _without_gaps(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The same fields, one right behind the other: alignment is this machine's affair, not the wire's."""
    import numpy as np

    if dtype.names is None:
        return dtype
    fields = []
    for name in dtype.names:
        field = dtype.fields[name][0]  # type: ignore[index]
        base, shape = field.subdtype or (field, ())
        fields.append((name, _without_gaps(base), shape))
    return np.dtype(fields)


@functools.lru_cache(maxsize=256)
def _plain_dtype(described: str) -> np.dtype[Any]:
    import numpy as np

    if not _DTYPE.fullmatch(described):
        raise ValueError("not one of numpy's little-endian type strings, such as <f4")
    return np.dtype(described)


def _parse_dtype(described: Any, depth: int = 0) -> np.dtype[Any]:
    import numpy as np

    try:
        if type(described) is str:
            return _plain_dtype(described)
        if type(described) is list and described and depth < _MAX_NESTING:
            fields: list[Any] = []
            for field in described:
                if type(field) is not list or len(field) not in (2, 3) or type(field[0]) is not str or not field[0]:
                    raise ValueError("a field is [name, dtype] or [name, dtype, shape], with a name that is not empty")
                shape = field[2] if len(field) == 3 else []
                if type(shape) is not list or not all(type(size) is int and size >= 0 for size in shape):
                    raise ValueError("a field's shape is an array of integers from 0")
                fields.append((field[0], _parse_dtype(field[1], depth + 1), tuple(shape)))
            return np.dtype(fields)
        raise ValueError("a dtype is a string or an array of fields")
    except InvalidExtension:
        raise
    except Exception as error:
        raise InvalidExtension(f"an ndarray's dtype {shown(described)}: {error}") from error
