"""Writes frames.json and sessions.json, the golden vectors of SPEC.md, from what this file says.

It encodes by hand and imports nothing of the project, so that the vectors check the implementations and not
themselves. `python generate.py` rewrites both files; `python generate.py --check` exits 1 when they are out of date.
"""

# fmt: off
from __future__ import annotations

import json
import struct
import sys
from pathlib import Path
from typing import Any

from conversations import CONVERSATIONS

HERE = Path(__file__).parent
Json = Any  # a value in the tagged notation that README.md describes


def head(count: int, fix: tuple[int, int] | None, codes: tuple[int | None, int, int]) -> bytes:
    """The shortest header of a length: `fix` is (base, limit), `codes` the markers for 8, 16 and 32 bits."""
    if fix is not None and count < fix[1]:
        return bytes([fix[0] | count])
    if codes[0] is not None and count < 1 << 8:
        return bytes([codes[0], count])
    if count < 1 << 16:
        return bytes([codes[1]]) + struct.pack(">H", count)
    return bytes([codes[2]]) + struct.pack(">I", count)


def pack_int(n: int) -> bytes:
    if -32 <= n < 128:
        return struct.pack("b", n)
    unsigned = [(0xCC, ">B", 1 << 8), (0xCD, ">H", 1 << 16), (0xCE, ">I", 1 << 32), (0xCF, ">Q", 1 << 64)]
    signed = [(0xD0, ">b", 1 << 7), (0xD1, ">h", 1 << 15), (0xD2, ">i", 1 << 31), (0xD3, ">q", 1 << 63)]
    if n >= 0:
        code, form = next((code, form) for code, form, limit in unsigned if n < limit)
    else:
        code, form = next((code, form) for code, form, limit in signed if -n <= limit)
    return bytes([code]) + struct.pack(form, n)


def pack_ext(code: int, data: bytes) -> bytes:
    fixed = {1: 0xD4, 2: 0xD5, 4: 0xD6, 8: 0xD7, 16: 0xD8}.get(len(data))
    start = bytes([fixed]) if fixed else head(len(data), None, (0xC7, 0xC8, 0xC9))
    return start + struct.pack("b", code) + data


def pack_timestamp(seconds: int, nanoseconds: int) -> bytes:
    if nanoseconds == 0 and 0 <= seconds < 1 << 32:
        return pack_ext(-1, struct.pack(">I", seconds))
    if 0 <= seconds < 1 << 34:
        return pack_ext(-1, struct.pack(">Q", nanoseconds << 34 | seconds))
    return pack_ext(-1, struct.pack(">Iq", nanoseconds, seconds))


def pack(value: Json) -> bytes:
    """The canonical encoding (SPEC.md 3.9) of a value in tagged notation."""
    if value is None:
        return b"\xc0"
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return pack_int(value)
    if isinstance(value, str):
        data = value.encode()
        return head(len(data), (0xA0, 32), (0xD9, 0xDA, 0xDB)) + data
    if isinstance(value, list):
        return head(len(value), (0x90, 16), (None, 0xDC, 0xDD)) + b"".join(map(pack, value))
    ((tag, content),) = value.items()
    if tag == "int":
        return pack_int(int(content))
    if tag == "float":
        return b"\xcb" + struct.pack(">d", float(content))
    if tag == "bin":
        data = bytes.fromhex(content)
        return head(len(data), None, (0xC4, 0xC5, 0xC6)) + data
    if tag == "map":
        pairs = b"".join(pack(key) + pack(item) for key, item in content)
        return head(len(content), (0x80, 16), (None, 0xDE, 0xDF)) + pairs
    if tag == "timestamp":
        return pack_timestamp(content[0], content[1])
    if tag == "ext":
        return pack_ext(content[0], bytes.fromhex(content[1]))
    if tag == "ndarray":
        return pack_ext(1, pack([content["dtype"], content["shape"]]) + bytes.fromhex(content["hex"]))
    raise ValueError(f"no such tag: {tag}")


def frame(payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + payload


def text_map(**items: Json) -> Json:
    return {"map": [[key, item] for key, item in items.items()]}


def request(id: Json, method: str, params: list[Json], meta: Json = None) -> Json:
    return {"type": "request", "id": id, "method": method, "params": params, "meta": meta}


def response(id: Json, error: Json, result: Json, meta: Json = None) -> Json:
    return {"type": "response", "id": id, "error": error, "result": result, "meta": meta}


def notification(method: str, params: list[Json], meta: Json = None) -> Json:
    return {"type": "notification", "method": method, "params": params, "meta": meta}


def pack_message(message: Json) -> bytes:
    kind = message["type"]
    if kind == "request":
        items = [0, message["id"], message["method"], message["params"]]
    elif kind == "response":
        items = [1, message["id"], message["error"], message["result"]]
    else:
        items = [2, message["method"], message["params"]]
    return pack(items if message["meta"] is None else [*items, message["meta"]])


VECTORS: list[dict[str, Json]] = []


def add(name: str, section: str, stream: bytes, **rest: Json) -> None:
    VECTORS.append({"name": name, "section": section, "hex": stream.hex(), **rest})


def canonical(name: str, section: str, *messages: Json, **rest: Json) -> None:
    """Frames that an encoder must produce byte for byte."""
    stream = b"".join(frame(pack_message(message)) for message in messages)
    add(name, section, stream, encode=True, messages=list(messages), **rest)


def tolerated(name: str, section: str, payload: bytes, message: Json, **rest: Json) -> None:
    """One frame that a decoder accepts and an encoder would write otherwise."""
    add(name, section, frame(payload), messages=[message], **rest)


def wrong(name: str, section: str, payload: bytes, error: str, **rest: Json) -> None:
    """One whole frame whose payload breaks a rule."""
    add(name, section, frame(payload), error=error, **rest)


def echo(value: Json) -> Json:
    return request(1, "echo", [value])


ECHO = bytes.fromhex("940001a46563686f91")  # [0, 1, "echo", [ … one value to come
PING = frame(bytes.fromhex("940000a6242f70696e6790"))


def frames() -> None:
    canonical("request-smallest", "2.1", request(0, "f", []))
    canonical("two-frames-back-to-back", "2.1", request(1, "f", []), response(1, None, None))
    canonical("three-kinds", "4", request(7, "f", [1]), response(3, None, 2), notification("g", [3]))
    add("no-bytes-at-all", "2.4", b"", eof=True, messages=[])
    add("clean-end", "2.4", PING, eof=True, messages=[request(0, "$/ping", [])])
    add("length-exactly-max-frame", "2.2", PING, max_frame=11, messages=[request(0, "$/ping", [])])
    add("length-one-past-max-frame", "2.2", PING, max_frame=10, error="FrameTooLarge")
    add("length-one-past-default", "2.2", bytes.fromhex("04000001"), error="FrameTooLarge")
    add("length-2-to-31", "2.2", bytes.fromhex("80000000940000"), error="FrameTooLarge")
    add("length-all-ones", "2.2", bytes.fromhex("ffffffff"), error="FrameTooLarge")
    add("little-endian-length", "2.1", bytes.fromhex("0b000000") + PING[4:], error="FrameTooLarge")
    add("empty-frame", "2.1", bytes(4), error="EmptyFrame")
    add("empty-frame-after-a-good-one", "2.3", PING + bytes(4), messages=[request(0, "$/ping", [])], error="EmptyFrame")
    add("too-large-after-a-good-one", "2.3", PING + PING + b"\xfe\0\0\0",
        messages=[request(0, "$/ping", [])] * 2, error="FrameTooLarge")
    add("end-in-header-1", "2.4", PING[:1], eof=True, error="TruncatedFrame")
    add("end-in-header-3", "2.4", PING[:3], eof=True, error="TruncatedFrame")
    add("end-after-header", "2.4", PING[:4], eof=True, error="TruncatedFrame")
    add("end-in-payload", "2.4", PING[:-1], eof=True, error="TruncatedFrame")
    add("end-in-second-frame", "2.4", PING + PING[:9], eof=True,
        messages=[request(0, "$/ping", [])], error="TruncatedFrame")
    add("waiting-is-not-an-end", "2.4", PING + PING[:9], messages=[request(0, "$/ping", [])])
    for name, text in [
        ("hello", "hello\n"), ("newlines", "\n\n\n\n"), ("carriage-return", "\r 10% done"), ("tab", "\tindented\n"),
        ("colour", "\x1b[31mred\x1b[0m\n"), ("log-line", "WARNING: no GPU, using CPU\n"), ("tilde", "~/model\n"),
    ]:
        add(f"printed-{name}", "2.5", text.encode(), error="StdoutPolluted")
    add("printed-between-frames", "2.5", PING + b"epoch 1/3\n" + PING,
        messages=[request(0, "$/ping", [])], error="StdoutPolluted")
    add("printed-less-than-a-header", "2.5", b"ok\n", eof=True, error="TruncatedFrame")
    add("printed-not-ascii", "2.5", "é: text that begins past ASCII".encode(), error="FrameTooLarge")


def values() -> None:
    for name, value in [
        ("nil", None), ("false", False), ("true", True),
        ("int-0", 0), ("int-127", 127), ("int-128", 128), ("int-255", 255), ("int-256", 256), ("int-65535", 65535),
        ("int-65536", 65536), ("int-4294967295", 4294967295), ("int-4294967296", 4294967296),
        ("int-max-safe", 2**53 - 1), ("int-minus-1", -1), ("int-minus-32", -32), ("int-minus-33", -33),
        ("int-minus-128", -128), ("int-minus-129", -129), ("int-minus-32768", -32768),
        ("int-minus-32769", -32769), ("int-minus-2147483648", -(2**31)), ("int-minus-2147483649", -(2**31) - 1),
        ("int-min-safe", -(2**53) + 1),
    ]:
        canonical(f"value-{name}", "3.2" if name.startswith("int") else "3.1", echo(value))
    for name, number in [("uint64-max", 2**64 - 1), ("int64-max", 2**63 - 1), ("int64-min", -(2**63))]:
        canonical(f"value-{name}", "3.2", echo({"int": str(number)}), optional=True)
    for name, text in [
        ("1.0", "1.0"), ("zero", "0.0"), ("minus-zero", "-0.0"), ("pi", "3.141592653589793"), ("tiny", "5e-324"),
        ("huge", "1.7976931348623157e308"), ("inf", "inf"), ("minus-inf", "-inf"), ("nan", "nan"),
    ]:
        canonical(f"float-{name}", "3.3", echo({"float": text}))
    canonical("str-empty", "3.4", echo(""))
    canonical("str-31-bytes", "3.4", echo("x" * 31))
    canonical("str-32-bytes", "3.4", echo("x" * 32))
    canonical("str-256-bytes", "3.4", echo("x" * 256))
    canonical("str-utf8", "3.4", echo("naïve Ω 漢字 🎲"))
    canonical("str-with-nul", "3.4", echo("a\0b"))
    canonical("bin-empty", "3.4", echo({"bin": ""}))
    canonical("bin-not-utf8", "3.4", echo({"bin": "ff00fe"}))
    canonical("bin-256-bytes", "3.4", echo({"bin": bytes(range(256)).hex()}))
    canonical("array-empty", "3.5", echo([]))
    canonical("array-16", "3.5", echo(list(range(16))))
    canonical("array-mixed", "3.5", echo([None, True, 1, {"float": "1.5"}, "s", {"bin": "00"}, [[]], {"map": []}]))
    canonical("map-empty", "3.6", echo({"map": []}))
    canonical("map-order-kept", "3.6", echo(text_map(b=1, a=2)))
    canonical("map-16", "3.6", echo({"map": [[f"k{n}", n] for n in range(16)]}))
    canonical("map-int-keys", "3.6", echo({"map": [[1, "one"], [-1, "minus one"]]}))
    canonical("map-bin-key", "3.6", echo({"map": [[{"bin": "00ff"}, 1]]}))
    canonical("map-bool-and-nil-keys", "3.6", echo({"map": [[True, 1], [None, 2]]}))
    canonical("timestamp-32", "3.8", echo({"timestamp": [1700000000, 0]}))
    canonical("timestamp-64", "3.8", echo({"timestamp": [1700000000, 123456000]}))
    canonical("timestamp-64-nanoseconds", "3.8", echo({"timestamp": [1700000000, 123456789]}), optional=True)
    canonical("timestamp-96-before-1970", "3.8", echo({"timestamp": [-1, 500000000]}))
    canonical("ext-application", "3.7", echo({"ext": [64, "0102030405"]}))
    canonical("ext-application-fix-4", "3.7", echo({"ext": [127, "01020304"]}))
    canonical("ext-application-empty", "3.7", echo({"ext": [100, ""]}))
    tolerated("ext-reserved-is-opaque", "3.7", ECHO + bytes.fromhex("d405aa"), echo({"ext": [5, "aa"]}))
    tolerated("int-in-8-bytes", "3.2", ECHO + bytes.fromhex("cf0000000000000001"), echo(1))
    tolerated("int-signed-form-of-positive", "3.2", ECHO + bytes.fromhex("d100ff"), echo(255))
    tolerated("int-1-in-int64", "3.2", ECHO + bytes.fromhex("d30000000000000001"), echo(1))
    tolerated("float-32", "3.3", ECHO + bytes.fromhex("ca3fc00000"), echo({"float": "1.5"}))
    tolerated("str-long-header", "3.4", ECHO + bytes.fromhex("db0000000161"), echo("a"))
    tolerated("bin-long-header", "3.4", ECHO + bytes.fromhex("c60000000161"), echo({"bin": "61"}))
    tolerated("array-long-header", "3.5", ECHO + bytes.fromhex("dd0000000101"), echo([1]))
    tolerated("map-long-header", "3.6", ECHO + bytes.fromhex("df00000001a16101"), echo(text_map(a=1)))
    tolerated("ext-long-header", "3.7", ECHO + bytes.fromhex("c9000000014061"), echo({"ext": [64, "61"]}))
    nested: Json = 1
    for _ in range(30):
        nested = [nested]
    canonical("nesting-32", "3.5", echo(nested))  # the message and its params are the other two levels
    for _ in range(96):
        nested = [nested]
    canonical("nesting-128", "3.5", echo(nested), optional=True)
    wrong("nesting-1100", "3.5", ECHO + b"\x91" * 1098 + b"\x01", "MalformedValue")
    wrong("value-never-used-byte", "3.1", ECHO + b"\xc1", "MalformedValue")
    wrong("value-only-c1", "3.1", b"\xc1", "MalformedValue")
    wrong("value-cut-array", "3.1", ECHO, "MalformedValue")
    wrong("value-cut-str", "3.1", ECHO + bytes.fromhex("a56162"), "MalformedValue")
    wrong("value-cut-int", "3.1", ECHO + bytes.fromhex("cd01"), "MalformedValue")
    wrong("value-cut-float", "3.1", ECHO + bytes.fromhex("cb3ff0"), "MalformedValue")
    wrong("value-cut-ext", "3.1", ECHO + bytes.fromhex("d64001"), "MalformedValue")
    wrong("count-past-frame-array", "3.5", ECHO + bytes.fromhex("ddffffffff"), "MalformedValue")
    wrong("count-past-frame-map", "3.6", ECHO + bytes.fromhex("df7fffffff"), "MalformedValue")
    wrong("count-past-frame-str", "3.4", ECHO + bytes.fromhex("dbffffffff61"), "MalformedValue")
    wrong("count-past-frame-bin", "3.4", ECHO + bytes.fromhex("c67fffffff61"), "MalformedValue")
    wrong("str-not-utf8", "3.4", ECHO + bytes.fromhex("a2c328"), "MalformedValue")
    wrong("str-lone-surrogate", "3.4", ECHO + bytes.fromhex("a3eda080"), "MalformedValue")
    wrong("map-key-array", "3.6", ECHO + bytes.fromhex("819001"), "MalformedValue")
    wrong("map-key-map", "3.6", ECHO + bytes.fromhex("818001"), "MalformedValue")
    wrong("timestamp-wrong-length", "3.8", ECHO + bytes.fromhex("d5ff0001"), "MalformedValue")
    wrong("timestamp-nanoseconds-too-many", "3.8", ECHO + bytes.fromhex("d7ffee6b280000000000"), "MalformedValue")
    wrong("trailing-byte", "2.1", pack_message(echo(1)) + b"\0", "TrailingBytes")
    wrong("two-values-in-a-frame", "2.1", pack_message(echo(1)) * 2, "TrailingBytes")


def messages() -> None:
    error = text_map(code="unknown", message="ValueError: negative")
    traced = text_map(code="unknown", message="ValueError: negative",
                      data=text_map(type="ValueError", traceback="…"))
    canonical("request-id-max", "4.1", request(2**53 - 1, "f", []))
    canonical("request-with-meta", "4.1", request(5, "predict", [[1, 2]], text_map(deadline_ms=250)))
    canonical("request-stream", "8.1", request(6, "watch", ["AAPL"], text_map(credit=2)))
    canonical("request-batch", "9", request(8, "predict", [[1], [2], [3]], text_map(batch=3)))
    canonical("response-result", "4.2", response(5, None, {"float": "0.5"}))
    canonical("response-nil-result", "4.2", response(5, None, None))
    canonical("response-error", "4.2", response(5, error, None))
    canonical("response-error-with-data", "4.4", response(5, traced, None))
    canonical("response-error-retryable", "4.4", response(
        5, text_map(code="unavailable", message="the model is loading", retryable=True), None))
    canonical("response-batch", "9", response(8, None, [[None, 1], [error, None], [None, 3]]))
    canonical("response-meta", "4.2", response(5, None, 1, text_map(x=1)))
    canonical("cast", "6.5", notification("note", ["seen"]))
    canonical("cast-with-meta", "6.5", notification("note", [], text_map(idempotency_key="k")))
    canonical("cancel", "7.1", notification("$/cancel", [5]))
    canonical("item", "8.1", notification("$/item", [6, {"float": "1.25"}]))
    canonical("credit", "8.1", notification("$/credit", [6, 16]))
    canonical("input", "8.2", notification("$/input", [6, "chunk"]))
    canonical("input-end", "8.2", notification("$/input_end", [6]))
    canonical("input-credit", "8.2", notification("$/input_credit", [6, 4]))
    canonical("log", "10.2", notification("$/log", ["info", "loaded", text_map(seconds={"float": "1.5"})]))
    canonical("progress", "10.3", notification("$/progress", [6, 3, 10, "epoch 3"]))
    canonical("stop", "11.1", notification("$/stop", ["shutdown"]))
    canonical("ping", "10.1", request(9, "$/ping", []))
    canonical("segment", "12.2", request(2, "$/segment", [1048576]))
    canonical("call-between-services", "6.6", request(0, "digits.predict", [[1, 2]]))
    canonical("hello", "5.1", request(0, "$/hello", [text_map(
        protocol=text_map(min=1, max=1), max_frame=67108864, features=["ping", "cancel", "stream"],
        service="digits", replica=0, config=text_map(model="m.skops"))]))
    canonical("hello-answer", "5.2", response(0, None, text_map(
        protocol=1, max_frame=67108864, name="digits", language="python", sdk="mlports 1",
        methods=text_map(predict=text_map(batch=True, stream=False, idempotent=True)),
        features=["ping", "cancel"], concurrency=1)))
    canonical("hello-answer-bare", "5.5", response(
        0, text_map(code="unimplemented", message="no method $/hello"), None))
    tolerated("request-more-elements", "4.5", bytes.fromhex("960001a16690c0a3666f6f"), request(1, "f", []))
    tolerated("response-more-elements", "4.5", bytes.fromhex("960101c00780c3"), response(1, None, 7))
    tolerated("notification-more-elements", "4.5", bytes.fromhex("9502a167908001"), notification("g", []))
    tolerated("meta-empty", "4.5", bytes.fromhex("950001a1669080"), request(1, "f", []))
    tolerated("meta-nil", "4.5", bytes.fromhex("950001a16690c0"), request(1, "f", []))
    tolerated("id-in-8-bytes", "4.1", bytes.fromhex("9400cf0000000000000001a16690"), request(1, "f", []))
    tolerated("type-in-2-bytes", "4", bytes.fromhex("94cc0001a16690"), request(1, "f", []))
    tolerated("message-long-array-header", "4", bytes.fromhex("dc00040001a16690"), request(1, "f", []))
    tolerated("method-in-bin", "3.4", bytes.fromhex("940001c4016690"), request(1, "f", []))
    error_in_bin = "94010182c404636f6465c408696e7465726e616cc4076d657373616765c4016dc0"
    tolerated("error-in-bin", "3.4", bytes.fromhex(error_in_bin),
              response(1, text_map(code="internal", message="m"), None))
    canonical("meta-unknown-key", "4.5", request(1, "f", [], text_map(colour="red")))
    canonical("error-unknown-code", "4.4", response(1, text_map(code="teapot", message="short and stout"), None))
    canonical("error-unknown-key", "4.4", response(1, text_map(code="internal", message="m", x=1), None))
    for name, section, payload in [
        ("message-nil", "4", "c0"), ("message-int", "4", "05"), ("message-str", "4", "a5hello"),
        ("message-map", "4", "80"), ("message-ext", "4", "d44000"), ("message-empty-array", "4", "90"),
        ("type-3", "4", "940301a16690"), ("type-negative", "4", "94ff01a16690"), ("type-true", "4", "94c301a16690"),
        ("type-str", "4", "94a13001a16690"), ("type-float", "4", "94cb000000000000000001a16690"),
        ("request-3-elements", "4.1", "930001a166"), ("response-3-elements", "4.2", "930101c0"),
        ("notification-2-elements", "4.3", "9202a167"), ("id-negative", "4.1", "9400ffa16690"),
        ("id-2-to-53", "4.1", "9400cf0020000000000000a16690"), ("id-float", "4.1", "9400cb3ff0000000000000a16690"),
        ("id-true", "4.1", "9400c3a16690"), ("id-str", "4.1", "9400a131a16690"), ("id-nil", "4.1", "9400c0a16690"),
        ("response-id-nil", "4.2", "9401c0c001"), ("method-nil", "4.1", "940001c090"),
        ("method-bin-not-utf8", "4.1", "940001c401ff90"), ("method-empty", "4.1", "940001a090"),
        ("method-int", "4.1", "9400010190"), ("params-map", "4.1", "940001a16680"),
        ("params-nil", "4.1", "940001a166c0"), ("params-str", "4.1", "940001a166a178"),
        ("notification-params-nil", "4.3", "9302a167c0"), ("notification-method-int", "4.3", "93020190"),
        ("meta-array", "4.5", "950001a1669090"), ("meta-int", "4.5", "950001a1669005"),
        ("notification-meta-str", "4.5", "9402a16790a178"), ("response-meta-array", "4.5", "950101c00190"),
        ("error-str", "4.4", "940101a3626164c0"), ("error-false", "4.4", "940101c2c0"),
        ("error-array", "4.4", "94010190c0"), ("error-empty-map", "4.4", "94010180c0"),
        ("error-without-message", "4.4", "94010181a4636f6465a8696e7465726e616cc0"),
        ("error-code-int", "4.4", "94010182a4636f646505a76d657373616765a16dc0"),
        ("error-retryable-int", "4.4",
         "94010183a4636f6465a8696e7465726e616ca76d657373616765a16da9726574727961626c6501c0"),
        ("error-and-result", "4.2", "94010182a4636f6465a8696e7465726e616ca76d657373616765a16d01"),
    ]:
        data = b"\xa5hello" if payload == "a5hello" else bytes.fromhex(payload)
        wrong(name, section, data, "InvalidMessage")


def arrays() -> None:
    def array(dtype: Json, shape: list[int], data: bytes) -> Json:
        return {"ndarray": {"dtype": dtype, "shape": shape, "hex": data.hex()}}

    point = [["x", "<f4"], ["y", "<f4"], ["label", "|S2"]]
    nested = [["id", "<i4"], ["box", "<f4", [2, 2]], ["tag", [["a", "|u1"], ["b", "<u2"]]]]
    for name, dtype, shape, data in [
        ("f4", "<f4", [3], struct.pack("<3f", 1, 2, 3)),
        ("f4-matrix", "<f4", [2, 3], struct.pack("<6f", *range(6))),
        ("f8-special", "<f8", [4], struct.pack("<4d", float("inf"), float("-inf"), -0.0, float("nan"))),
        ("f2", "<f2", [2], struct.pack("<2e", 0.5, -2)),
        ("i8", "<i8", [2], struct.pack("<2q", -(2**63), 2**63 - 1)),
        ("u8", "<u8", [1], struct.pack("<Q", 2**64 - 1)),
        ("i1", "|i1", [3], b"\xff\x00\x7f"),
        ("u1-fixext-16", "|u1", [9], bytes(range(9))),
        ("u1-ext-16-bit-length", "|u1", [256], bytes(range(256))),
        ("b1", "|b1", [4], b"\1\0\0\1"),
        ("c8", "<c8", [1], struct.pack("<2f", 1, -1)),
        ("c16", "<c16", [1], struct.pack("<2d", 1, -1)),
        ("str-u5", "<U5", [2], "hello".encode("utf-32-le") + "hé".encode("utf-32-le") + bytes(12)),
        ("bytes-s3", "|S3", [2], b"abcx\0\0"),
        ("datetime-ns", "<M8[ns]", [2], struct.pack("<2q", 1700000000000000000, -(2**63))),
        ("datetime-day", "<M8[D]", [1], struct.pack("<q", 19675)),
        ("timedelta-ms", "<m8[ms]", [1], struct.pack("<q", 1500)),
        ("void-4", "|V4", [1], b"\1\2\3\4"),
        ("0-d", "<f8", [], struct.pack("<d", 2.5)),
        ("empty", "<f4", [0], b""),
        ("empty-with-columns", "<i4", [0, 5], b""),
        ("structured", point, [2], struct.pack("<ff2sff2s", 1, 2, b"ab", 3, 4, b"c")),
        ("structured-nested", nested, [1], struct.pack("<i4fBH", 7, 1, 2, 3, 4, 5, 6)),
        ("structured-mixed-sizes", [["a", "|u1"], ["b", "<i4"]], [2], struct.pack("<BiBi", 9, -1, 8, -2)),
    ]:
        canonical(f"ndarray-{name}", "12.1", echo(array(dtype, shape, data)))
    canonical("ndarray-two-in-a-message", "12.1", request(1, "echo", [
        array("|u1", [2], b"\1\2"), text_map(y=array("<f8", [1], struct.pack("<d", 1)))]))
    ones = struct.pack("<2f", 1, 1)
    for name, content in [
        ("nothing", b""),
        ("header-cut", b"\x92\xa3<f"),
        ("header-not-an-array", b"\x81\xa3<f4\x91\x02" + ones),
        ("header-of-1", b"\x91\xa3<f4" + ones),
        ("header-of-3", b"\x93\xa3<f4\x91\x02\x01" + ones),
        ("too-short", b"\x92\xa3<f4\x91\x02" + ones[:-1]),
        ("too-long", b"\x92\xa3<f4\x91\x02" + ones + b"\0"),
        ("no-data", b"\x92\xa3<f4\x91\x02"),
        ("0-d-no-data", b"\x92\xa3<f4\x90"),
        ("big-endian", b"\x92\xa3>f4\x91\x02" + ones),
        ("native-endian", b"\x92\xa3=f4\x91\x02" + ones),
        ("object", b"\x92\xa2|O\x91\x01" + bytes(8)),
        ("object-in-structure", pack([[["a", "|O"]], [1]]) + bytes(8)),
        ("dtype-unknown", b"\x92\xa3<z4\x91\x02" + ones),
        ("dtype-nonsense", b"\x92\xa5hello\x91\x02" + ones),
        ("dtype-empty", b"\x92\xa0\x91\x02" + ones),
        ("dtype-int", b"\x92\x04\x91\x02" + ones),
        ("dtype-nil", b"\x92\xc0\x91\x02" + ones),
        ("dtype-field-of-1", pack([[["a"]], [1]]) + bytes(8)),
        ("dtype-without-byte-order", b"\x92\xa2f4\x91\x02" + ones),
        ("dtype-as-a-name", b"\x92\xa7float32\x91\x02" + ones),
        ("shape-negative", b"\x92\xa3<f4\x91\xff"),
        ("shape-int", b"\x92\xa3<f4\x02" + ones),
        ("shape-float", b"\x92\xa3<f4\x91" + pack({"float": "2.0"}) + ones),
        ("shape-true", b"\x92\xa3|u1\x91\xc3\x01"),
        ("shape-65-dimensions", pack(["|u1", [1] * 65]) + b"\1"),
        ("shape-product-overflows", pack(["<f4", [2**62, 4]])),
    ]:
        wrong(f"ndarray-{name}", "12.1", ECHO + pack_ext(1, content), "InvalidExtension")
    add_shared(array)


def add_shared(array: Any) -> None:
    path, content = "/proc/4711/fd/12", struct.pack("<48f", *range(48))
    handed = {path: content.hex()}
    whole = [path, 0, 192, "<f4", [6, 8]]
    for name, said, dtype, shape, data in [
        ("whole", whole, "<f4", [6, 8], content),
        ("part", [path, 64, 128, "<f4", [32]], "<f4", [32], content[64:]),
        ("other-dtype", [path, 128, 24, "|S3", [2, 4]], "|S3", [2, 4], content[128:152]),
        ("0-d", [path, 64, 4, "<f4", []], "<f4", [], content[64:68]),
        ("path-in-bin", [{"bin": path.encode().hex()}, *whole[1:]], "<f4", [6, 8], content),
    ]:
        tolerated(f"shared-{name}", "12.2", ECHO + pack_ext(2, pack(said)), echo(array(dtype, shape, data)),
                  segments=handed)
    for name, payload in [
        ("nothing", b""),
        ("of-4", pack(whole[:4])),
        ("of-6", pack([*whole, 1])),
        ("trailing-byte", pack(whole) + b"\0"),
        ("cut", pack(whole)[:-1]),
        ("a-map", pack({"map": [["segment", path]]})),
        ("not-handed", pack(["/proc/4711/fd/13", *whole[1:]])),
        ("path-elsewhere", pack(["/etc/passwd", *whole[1:]])),
        ("path-self", pack(["/proc/self/fd/12", *whole[1:]])),
        ("path-climbs", pack(["/proc/4711/fd/../../1/fd/12", *whole[1:]])),
        ("path-line-feed", pack([path + "\n", *whole[1:]])),
        ("path-of-pid-0", pack(["/proc/0/fd/12", *whole[1:]])),
        ("path-int", pack([12, *whole[1:]])),
        ("offset-beyond", pack([path, 192, 4, "<f4", [1]])),
        ("offset-odd", pack([path, 32, 4, "<f4", [1]])),
        ("offset-negative", pack([path, -64, 4, "<f4", [1]])),
        ("offset-float", pack([path, {"float": "0.0"}, 4, "<f4", [1]])),
        ("too-long", pack([path, 0, 196, "<f4", [49]])),
        ("length-0", pack([path, 0, 0, "<f4", [0]])),
        ("length-true", pack([path, 0, True, "|u1", [1]])),
        ("length-overflows", pack([path, 64, 2**63 - 64, "|u1", [2**63 - 64]])),
        ("shape-longer", pack([path, 0, 64, "<f4", [17]])),
        ("object", pack([path, 0, 64, "|O", [8]])),
    ]:
        wrong(f"shared-{name}", "12.2", ECHO + pack_ext(2, payload), "InvalidExtension", segments=handed)


def shown(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False)


def document(about: str, key: str, items: list[dict[str, Json]]) -> str:
    """JSON with each key of each vector on a line of its own, and lists of steps one step a line."""
    blocks = []
    for item in items:
        lines = []
        for name, value in item.items():
            text = shown(value)
            if name == "steps":
                text = "[\n      " + ",\n      ".join(map(shown, value)) + "\n    ]"
            lines.append(f"    {shown(name)}: {text}")
        blocks.append("  {\n" + ",\n".join(lines) + "\n  }")
    return f'{{"protocol": 1, "about": {shown(about)}, "{key}": [\n' + ",\n".join(blocks) + "\n]}\n"


def documents() -> dict[str, str]:
    """The file names and what they hold."""
    VECTORS.clear()
    frames()
    values()
    messages()
    arrays()
    return {
        "frames.json": document("byte streams and what they hold: see README.md", "vectors", VECTORS),
        "sessions.json": document("conversations and how they end: see README.md", "conversations", CONVERSATIONS),
    }


def main(arguments: list[str]) -> int:
    stale = 0
    for name, text in documents().items():
        path = HERE / name
        if arguments == ["--check"]:
            if not path.exists() or path.read_text("utf-8") != text:
                print(f"{name} is out of date: run generate.py")
                stale = 1
        else:
            path.write_text(text, "utf-8")
    return stale


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
