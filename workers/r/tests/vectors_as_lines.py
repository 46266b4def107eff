"""The golden vectors as lines for a language that has no JSON: name, fault, end, max_frame, stream, messages in hex.

A message is as an encoder would write it, so that what was decoded can be encoded again and compared.
"""

import json
import pathlib
import struct
import sys

FRAMES = pathlib.Path(__file__).resolve().parents[3] / "protocol" / "vectors" / "frames.json"
sys.path.insert(0, str(FRAMES.parent))


def head(count: int, short: int, most: int, codes: tuple[int, int, int]) -> bytes:
    if count <= most:
        return bytes([short | count])
    if codes[0] and count < 256:
        return struct.pack(">BB", codes[0], count)
    return struct.pack(">BH", codes[1], count) if count < 65536 else struct.pack(">BI", codes[2], count)


def integer(number: int) -> bytes:
    if number >= 0:
        forms = ((128, "B", None), (1 << 8, "B", 0xCC), (1 << 16, ">H", 0xCD), (1 << 32, ">I", 0xCE))
        _, form, code = next((each for each in forms if number < each[0]), (0, ">Q", 0xCF))
    else:
        forms = ((-32, "b", None), (-(1 << 7), "b", 0xD0), (-(1 << 15), ">h", 0xD1), (-(1 << 31), ">i", 0xD2))
        _, form, code = next((each for each in forms if number >= each[0]), (0, ">q", 0xD3))
    return (b"" if code is None else bytes([code])) + struct.pack(form, number)


def extension(code: int, data: bytes) -> bytes:
    fixed = {1: 0xD4, 2: 0xD5, 4: 0xD6, 8: 0xD7, 16: 0xD8}.get(len(data))
    first = bytes([fixed]) if fixed else head(len(data), 0, -1, (0xC7, 0xC8, 0xC9))
    return first + struct.pack("b", code) + data


def timestamp(seconds: int, nanoseconds: int) -> bytes:
    if seconds < 0 or seconds >= 1 << 34:
        return extension(-1, struct.pack(">Iq", nanoseconds, seconds))
    if nanoseconds or seconds >= 1 << 32:
        return extension(-1, struct.pack(">Q", nanoseconds << 34 | seconds))
    return extension(-1, struct.pack(">I", seconds))


def encoded(value: object) -> bytes:
    if value is None or isinstance(value, bool):
        return {None: b"\xc0", False: b"\xc2", True: b"\xc3"}[value]
    if isinstance(value, int):
        return integer(value)
    if isinstance(value, str):
        data = value.encode()
        return head(len(data), 0xA0, 31, (0xD9, 0xDA, 0xDB)) + data
    if isinstance(value, list):
        return head(len(value), 0x90, 15, (0, 0xDC, 0xDD)) + b"".join(map(encoded, value))
    assert isinstance(value, dict)
    ((tag, content),) = value.items()
    if tag == "int":
        return integer(int(content))
    if tag == "float":
        return b"\xcb" + struct.pack(">d", float(content))
    if tag == "bin":
        data = bytes.fromhex(content)
        return head(len(data), 0, -1, (0xC4, 0xC5, 0xC6)) + data
    if tag == "map":
        items = b"".join(encoded(key) + encoded(item) for key, item in content)
        return head(len(content), 0x80, 15, (0, 0xDE, 0xDF)) + items
    if tag == "timestamp":
        return timestamp(*content)
    if tag == "ndarray":
        return extension(1, encoded([content["dtype"], content["shape"]]) + bytes.fromhex(content["hex"]))
    return extension(content[0], bytes.fromhex(content[1]))


def message_of(message: dict) -> list:
    if message["type"] == "response":
        return [1, message["id"], message["error"], message["result"]]
    parts = [message["method"], message["params"]]
    parts = [0, message["id"], *parts] if message["type"] == "request" else [2, *parts]
    return [*parts, message["meta"]] if message["meta"] else parts


for vector in json.loads(FRAMES.read_text())["vectors"]:
    if "segments" not in vector:
        messages = [encoded(message_of(message)).hex() for message in vector.get("messages", [])]
        fault = vector.get("error", "-").replace("StdoutPolluted", "FrameTooLarge")
        fields = [vector["name"], fault, "end" if vector.get("eof") else "-", str(vector.get("max_frame", 67108864))]
        print(*fields, vector["hex"] or "-", ",".join(messages) or "-", "encode" if vector.get("encode") else "-")
