"""Writes protocol/vectors/frames.json and sessions.json as Erlang terms, for file:consult/1: OTP 25 reads no JSON.

python3 vectors.py VECTORS_FOLDER OUTPUT_FOLDER
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any


def binary(data: bytes) -> str:
    return "<<" + ",".join(map(str, data)) + ">>"


def text(value: str) -> str:
    return binary(value.encode())


def number(value: float) -> str:
    if math.isnan(value):
        return "nan"
    if math.isinf(value):
        return "infinity" if value > 0 else "neg_infinity"
    shown = repr(value)
    return shown if "." in shown else shown.replace("e", ".0e")


def tagged(tag: str, content: Any) -> str:
    """A value that JSON cannot hold, in the words of vectors/README.md."""
    if tag == "int":
        return str(content)
    if tag == "float":
        return number(float(content))
    if tag == "bin":
        return f"{{bin,{binary(bytes.fromhex(content))}}}"
    if tag == "map":
        return "{map,[" + ",".join(f"{{{term(k)},{term(v)}}}" for k, v in content) + "]}"
    if tag == "timestamp":
        seconds, nanoseconds = content
        return f"{{timestamp,{seconds},{nanoseconds}}}"
    if tag == "ext":
        return f"{{ext,{content[0]},{binary(bytes.fromhex(content[1]))}}}"
    assert tag == "ndarray", tag
    elements = binary(bytes.fromhex(content["hex"]))
    return f"{{ndarray,{term(content['dtype'])},{term(content['shape'])},{elements}}}"


def term(value: Any) -> str:
    if value is None:
        return "nil"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return text(value)
    if isinstance(value, list):
        return "[" + ",".join(map(term, value)) + "]"
    if isinstance(value, dict):
        ((tag, content),) = value.items()
        return tagged(tag, content)
    return str(value)


def message(fields: dict[str, Any]) -> str:
    kind = fields["type"]
    order = {
        "request": ["id", "method", "params", "meta"],
        "response": ["id", "error", "result", "meta"],
        "notification": ["method", "params", "meta"],
    }[kind]
    return "{" + ",".join([kind, *(term(fields[name]) for name in order)]) + "}"


def vector(fields: dict[str, Any]) -> str:
    return (
        f"#{{name => {text(fields['name'])}, bytes => {binary(bytes.fromhex(fields['hex']))},"
        f" max_frame => {fields.get('max_frame', 67108864)}, eof => {term(fields.get('eof', False))},"
        f" messages => [{','.join(map(message, fields.get('messages', [])))}],"
        f" error => '{fields.get('error', 'none')}', encode => {term(fields.get('encode', False))}}}.\n"
    )


def step(fields: dict[str, Any]) -> str:
    return f"{{{fields['from']},{message(fields['message'])}}}"


def conversation(fields: dict[str, Any]) -> str:
    steps = ",".join(map(step, fields["steps"]))
    name, side, outcome = text(fields["name"]), fields["side"], fields["outcome"]
    return f"#{{name => {name}, side => {side}, outcome => '{outcome}', steps => [{steps}]}}.\n"


def main(source: str, target: str) -> None:
    frames = json.loads((Path(source) / "frames.json").read_text())["vectors"]
    sessions = json.loads((Path(source) / "sessions.json").read_text())["conversations"]
    Path(target, "frames.terms").write_text("".join(vector(each) for each in frames if "segments" not in each))
    Path(target, "sessions.terms").write_text("".join(map(conversation, sessions)))


if __name__ == "__main__":
    main(*sys.argv[1:])
