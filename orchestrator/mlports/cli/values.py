"""Values as JSON, both ways.

What JSON lacks is written as a map with one key that begins with $, and read again from it:

    bytes                  {"$bytes": "aGk="}          base64
    NaN and the infinities {"$float": "nan"}           or "inf", "-inf"

Arrays are written as nested lists, dates and times in ISO 8601, complex numbers as [real, imaginary].
"""

from __future__ import annotations

import base64
import json
import math
import sys
from datetime import date
from pathlib import Path
from typing import Any

from mlports.cli.command import WrongUsage

_WIDTH = 100  # characters up to which a result stays on one line


def read_argument(text: str, number: int) -> Any:
    """The value of a command-line argument: JSON, or the file of JSON that @FILE names. Raises `WrongUsage`."""
    if text.startswith("@"):
        try:
            content = Path(text[1:]).read_text("utf-8")
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise WrongUsage(f"cannot read {text[1:]}, which argument {number} names: {why}") from None
        return read(content, f"the file {text[1:]}")
    if text.startswith("--"):
        raise WrongUsage(f"there is no option {text}; `mlports call --help` lists those that there are")
    return read(text, f"argument {number}", shell=True)


def read(text: str, what: str, shell: bool = False) -> Any:
    """The value of a JSON text; `what` says where it stands. Raises `WrongUsage`."""
    try:
        return json.loads(text, object_hook=_from_map, parse_constant=_refuse)
    except RecursionError:
        raise WrongUsage(f"{what} is nested too deep") from None
    except ValueError as error:
        shown = text if len(text) <= 60 else f"{text[:57]}…"
        why = f"{error.msg} at character {error.pos + 1}" if isinstance(error, json.JSONDecodeError) else str(error)
        hint = ""
        if shell and not text.startswith(("{", "[", '"')):
            hint = f". If it is meant as text, quote it twice: '{json.dumps(text, ensure_ascii=False)}'"
        elif shell:
            hint = ". Has the shell taken quotes away? Put single quotes around the whole argument"
        raise WrongUsage(f"{what} is not JSON: {shown} ({why}){hint}") from None


def write(value: Any, pretty: bool = False) -> str:
    """A value as JSON; on one line unless `pretty`, and then too if it is short."""
    ascii_only = (getattr(sys.stdout, "encoding", None) or "").lower().replace("-", "") != "utf8"
    try:
        text = json.dumps(value, ensure_ascii=ascii_only, allow_nan=False, default=_plain)
    except (ValueError, TypeError):
        value = _expressible(value)
        text = json.dumps(value, ensure_ascii=ascii_only)
    if pretty and len(text) > _WIDTH:
        text = json.dumps(value, ensure_ascii=ascii_only, default=_plain, indent=2)
    # A lone half of a surrogate pair, which JSON can escape, is no letter that could be written.
    return text.encode("utf-8", "backslashreplace").decode() if not ascii_only else text


def _refuse(constant: str) -> Any:
    number = {"NaN": "nan", "Infinity": "inf", "-Infinity": "-inf"}[constant]
    raise ValueError(f'JSON has no {constant}; write {{"$float": "{number}"}}')


def _from_map(value: dict[str, Any]) -> Any:
    if len(value) == 1:
        if isinstance(encoded := value.get("$bytes"), str):
            try:
                return base64.b64decode(encoded, validate=True)
            except ValueError:
                raise ValueError("the text of $bytes is not base64") from None
        if value.get("$float") in ("nan", "inf", "-inf"):
            return float(value["$float"])
    return value


def _plain(value: Any) -> Any:
    """What stands for a value that JSON does not know."""
    if isinstance(value, bytes | bytearray | memoryview):
        return {"$bytes": base64.b64encode(value).decode()}
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, complex):
        return [value.real, value.imag]
    if hasattr(value, "tolist"):
        return value.tolist()
    return repr(value)


def _expressible(value: Any) -> Any:
    """The value with everything in it replaced that JSON cannot express."""
    if isinstance(value, float):
        return value if math.isfinite(value) else {"$float": str(value)}
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, dict):
        return {_key(key): _expressible(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_expressible(item) for item in value]
    return _expressible(_plain(value))


def _key(key: Any) -> str:
    if isinstance(key, str):
        return key
    return key.decode(errors="backslashreplace") if isinstance(key, bytes) else write(key)
