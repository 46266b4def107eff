"""A TOML file's values, the line on which each key stands, and what is wrong where it is not TOML."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .errors import ConfigError

Key = tuple[str | int, ...]
"""The way to a value from the top: keys of tables, indices of arrays."""

_TOKEN = re.compile(
    r"""
      (?P<newline>\n)
    | (?P<nothing>[ \t\r]+ | \#[^\n]*)
    | (?P<string>\"{3}(?:\\.|[^\\])*?\"{3,5} | '{3}.*?'{3,5} | "(?:\\.|[^"\\\n])*" | '[^'\n]*')
    | (?P<mark>[][{}=,.])
    | (?P<bare>[^\s\#"'\[\]{}=,.]+)
    | (?P<rest>.)
    """,
    re.DOTALL | re.VERBOSE,
)


class TomlLines:
    """The lines, counted from 1, of the keys in a TOML text.

    `first` has for each key, table and array element the line where it is first named; `statements` every key set and
    every table header in the text's order. Text that is not TOML gives what can be made out of it, and no error.
    """

    def __init__(self, text: str) -> None:
        self.first: dict[Key, int] = {}
        self.statements: list[tuple[Key, int]] = []
        self.inline: list[tuple[Key, int]] = []
        """What `statements` is, for the keys inside inline tables."""
        self._scan(text)

    def line(self, key: Key) -> int | None:
        """The line of a key or else of the nearest table around it; None if the text names neither."""
        while key and key not in self.first:
            key = key[:-1]
        return self.first.get(key)

    def _scan(self, text: str) -> None:
        table: Key = ()
        elements: dict[Key, int] = {}  # of each array of tables, how many headers there have been
        around: list[tuple[bool, Key]] = []  # the open arrays (True) and inline tables, each with its key
        words: list[str] = []  # of the key that is being read
        brackets = 0  # of the header that is being read
        in_value = False
        value: Key = ()  # what the next value belongs to
        started = 1
        for kind, token, line in _tokens(text):
            if not words and not brackets:
                started = line
            if brackets or (token == "[" and not (words or around or in_value)):
                if kind == "newline":
                    table = self._header(words, brackets, elements, started)
                    brackets, words = 0, []
                elif kind in ("string", "bare"):
                    words.append(_word(kind, token))
                elif token == "[":
                    brackets += 1
            elif not in_value:
                if kind in ("string", "bare"):
                    words.append(_word(kind, token))
                elif token == "=":
                    base = around[-1][1] if around else table
                    value = (*base, *words)
                    self._name(value, started)
                    (self.inline if around else self.statements).append((value, started))
                    words, in_value = [], True
                elif token == "}" and around:
                    around.pop()
                    words, in_value = [], True
                elif kind == "newline" and not around:
                    words = []
            elif token == "," and around:
                is_array, key = around[-1]
                in_value = is_array
                if is_array and value[: len(key)] == key and len(value) > len(key):
                    last = value[len(key)]
                    value = (*key, last + 1 if isinstance(last, int) else last)
            elif token in ("]", "}") and around:
                value = around.pop()[1]
            elif kind == "newline":
                in_value = bool(around)
            else:
                self.first.setdefault(value, line)
                if token in ("[", "{"):
                    around.append((token == "[", value))
                    in_value = token == "["
                    value = (*value, 0) if in_value else value

    def _header(self, words: list[str], brackets: int, elements: dict[Key, int], line: int) -> Key:
        key: Key = ()
        for count, word in enumerate(words, 1):
            key = (*key, word)
            self.first.setdefault(key, line)
            if key in elements and count < len(words):
                key = (*key, elements[key] - 1)
        if brackets > 1:
            elements[key] = elements.get(key, 0) + 1
            key = (*key, elements[key] - 1)
            self.first.setdefault(key, line)
        self.statements.append((key, line))
        return key

    def _name(self, key: Key, line: int) -> None:
        for length in range(1, len(key) + 1):
            self.first.setdefault(key[:length], line)


def _tokens(text: str) -> Iterator[tuple[str, str, int]]:
    """Kind, text and line of everything but blanks and comments; a newline ends the last line in any case."""
    line = 1
    for match in _TOKEN.finditer(text):
        kind, token = match.lastgroup or "rest", match[0]
        if kind != "nothing":
            yield kind, token, line
        line += token.count("\n")
    yield "newline", "\n", line


def _word(kind: str, token: str) -> str:
    """The part of a key that is written as `token`."""
    if kind == "string":
        try:
            word = tomllib.loads(f"word = {token}")["word"]
        except ValueError:
            return token
        return str(word)
    return token


def dotted(key: Key) -> str:
    """A key as TOML writes it, with the index of an array's element in brackets; "" for the top."""
    text = ""
    for part in key:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += "." * bool(text) + (part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else json.dumps(part))
    return text


def read_toml(file: str) -> tuple[dict[str, Any], str]:
    """A file's tables, and its text. Raises `ConfigError`."""
    text = _read(file)
    try:
        return tomllib.loads(text), text
    except RecursionError:
        raise ConfigError("is nested too deep", file=file, fix="take some of the brackets away") from None
    except ValueError as error:
        raise _not_toml(str(error), text.replace("\r\n", "\n"), file) from None


def _read(file: str) -> str:
    try:
        content = Path(file).read_bytes()
    except FileNotFoundError:
        raise ConfigError("there is no such file", file=file, fix='"mlports init" makes one') from None
    except IsADirectoryError:
        inside = os.path.join(file, "mlports.toml")
        raise ConfigError("is a directory", file=file, fix=f"name the file in it, such as {inside}") from None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(f"cannot be read: {why}", file=file, fix="make it readable, or name another file") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        problem = f"is not UTF-8: byte {content[error.start]:#04x} cannot stand here"
        raise ConfigError(problem, file=file, line=line, fix="save the file as UTF-8") from None


_IN_QUOTES = "close the text with a quote on the same line"
_LONG_QUOTES = "close the text with the three quotes that it began with"
_BACKSLASH = "write \\\\ for a backslash, or put the text in 'single quotes'"
_SYNTAX = {
    "Expected newline": "one key = value a line; text stands in quotes",
    "Invalid value": 'text stands in quotes, "like this"; true and false are in lower case; arrays in [ ]',
    "Unclosed array": "close it with ] here or on a line above",
    "Unclosed inline table": "an inline table, { a = 1, b = 2 }, stands on one line",
    "Illegal character '\\n'": _IN_QUOTES,
    "invalid character '\\n'": _IN_QUOTES,
    "Expected '=' after a key": "write key = value, or [table]",
    "at the end of": "close the table's name with ]",
    "Unescaped": _BACKSLASH,
    "hex value": _BACKSLASH,
    "Invalid statement": "write key = value, or [table]; a comment begins with #",
    "initial character": "a key is letters, digits, _ and -, or stands in quotes",
}
"""What to do, by words in tomllib's message."""


def _not_toml(problem: str, text: str, file: str) -> ConfigError:
    rows = text.split("\n")
    last = text.rstrip().count("\n") + 1
    match = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)", problem)
    if not match:
        # All that tomllib leaves to int() are numbers of more digits than Python reads.
        line = next((number for number, row in enumerate(rows, 1) if re.search("[0-9_]{4000}", row)), last)
        return ConfigError("a number of thousands of digits", file=file, line=line, fix="write a shorter one")
    line, problem = int(match[1] or last), problem[: match.start()]
    if problem.startswith(("Cannot", "Duplicate")):
        return _twice(TomlLines(text), line, file, inline="Duplicate" in problem)
    # A quote without its other one is no token; tomllib has looked for that up to the end.
    quote = next((at for kind, _, at in _tokens(text) if kind == "rest"), None)
    if quote and not match[1]:
        fix = _LONG_QUOTES if re.search("\"{3}|'{3}", rows[quote - 1]) else _IN_QUOTES
        return ConfigError("is not TOML: the text that begins here does not end", file=file, line=quote, fix=fix)
    row = rows[line - 1].strip()
    where = f"in column {match[2]} of {row if len(row) <= 60 else row[:59] + '…'}" if match[2] else "at the file's end"
    fix = next((fix for word, fix in _SYNTAX.items() if word in problem), "see toml.io for how to write it")
    return ConfigError(f"is not TOML, {where}: {problem[:1].lower()}{problem[1:]}", file=file, line=line, fix=fix)


def _twice(lines: TomlLines, line: int, file: str, inline: bool) -> ConfigError:
    """For a key or table that is there already, which tomllib noticed at the end of its line."""
    statements = lines.inline if inline else lines.statements
    key, line = next(((key, at) for key, at in reversed(statements) if at <= line), ((), line))
    first = lines.line(key)
    before = f"line {first} has it already" if first and first < line else "it is there already"
    fix = "remove one of the two, or put what they say under one name"
    return ConfigError(f"is given twice: {before}", file=file, line=line, key=dotted(key) or None, fix=fix)
