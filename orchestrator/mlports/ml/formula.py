"""Reads a model's formula without any package: which columns it names, where, and what is wrong with it.

A formula is `target ~ terms`. Terms are joined by `+` and taken out by `-`; `a:b` is an interaction, `a*b` is
`a + b + a:b`, `a/b` is `a + a:b`, `(a + b)**2` all interactions of two; `0` or `- 1` leaves the intercept out, `.` is
every other column. A term is a column, `C(column)` for categories, or an expression of numbers in one of `FUNCTIONS` or
in `{…}`. A column whose name is no identifier is written in backticks. What the terms mean is formulaic's to say, in
the worker; this is the part of its language that models may use, because formulaic would run any Python in a formula.
"""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from mlports.ml.errors import FormulaError, LeakageError

FUNCTIONS = ("log", "log2", "log10", "log1p", "exp", "expm1", "sqrt", "abs", "I", "center", "scale")
"""Of one expression of numbers. `I` is the expression itself; `center` and `scale` learn what they subtract."""

_OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Pow, ast.UAdd, ast.USub)
_TOKEN = re.compile(r"\s*(?:(?P<name>[^\W\d]\w*)|(?P<quoted>`[^`]*`?)|(?P<number>\d+\.?\d*|\.\d+)|(?P<sign>\*\*|\S))")
_CLOSING = {"(": ")", "{": "}"}
_MOST_CHARACTERS = 20_000

Use = Literal["number", "category", "any"]


class Mention(NamedTuple):
    """A column where it stands in a formula, and what it has to be there."""

    column: str
    position: int
    use: Use


@dataclass(frozen=True)
class Formula:
    """A formula that was read: its text, and the columns on either side of `~`. `rest` is whether `.` stands in it."""

    text: str
    target: tuple[Mention, ...]
    inputs: tuple[Mention, ...]
    rest: bool

    @property
    def target_text(self) -> str:
        """The left side, such as "log(gross)"."""
        return self.text.partition("~")[0].strip()

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that it names, the target's first, each once."""
        return tuple(dict.fromkeys(mention.column for mention in (*self.target, *self.inputs)))

    @property
    def categories(self) -> tuple[str, ...]:
        """The columns that stand in `C(…)`."""
        return tuple(dict.fromkeys(m.column for m in (*self.target, *self.inputs) if m.use == "category"))

    def check_columns(self, known: Iterable[str], owner: str) -> None:
        """Raises `FormulaError` for the first column that is not among those `known` to `owner`."""
        names = list(known)
        for mention in (*self.target, *self.inputs):
            if mention.column not in names:
                problem = f"{owner} no column {mention.column!r}; {suggestion(mention.column, names)}"
                raise FormulaError(problem, self.text, mention.position)


def suggestion(name: str, among: Iterable[str]) -> str:
    """ "did you mean …?", or all that there are, for a name that is none of them."""
    names = [str(each) for each in among]
    by_lower = {each.lower(): each for each in reversed(names)}
    # Of two letters, one that is in the other's place leaves a likeness of a half.
    near = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    if near:
        return f"did you mean {by_lower[near[0]]!r}?"
    shown = ", ".join(map(repr, names[:20])) + (", …" if len(names) > 20 else "")
    return f"there are: {shown}" if names else "there are none"


def read(text: str) -> Formula:
    """A formula's text, read and checked. Raises `FormulaError`, and `LeakageError` for a target among the inputs."""
    if not isinstance(text, str):
        raise TypeError(f"a formula is a text such as 'y ~ x1 + x2', not {text!r:.80}")
    if len(text) > _MOST_CHARACTERS:
        raise FormulaError(f"a formula has at most {_MOST_CHARACTERS:,} characters", text[:60], 0)
    target, inputs, rest = _Reader(text).read()
    formula = Formula(text, tuple(target), tuple(inputs), rest)
    wanted = {mention.column for mention in target}
    for mention in inputs:
        if mention.column in wanted:
            raise LeakageError(
                f"{mention.column!r} is the target, so it cannot be an input too: the model would be told the answer. "
                "Take this term out",
                text,
                mention.position,
            )
    return formula


class _Token(NamedTuple):
    kind: str  # "name", "quoted", "number", "sign", "end"
    text: str
    start: int
    end: int


class _Reader:
    """One pass over a formula, a function for each kind of phrase."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._mentions: list[Mention] = []
        self._rest = False
        self._depth = 0
        self._next = self._scan(0)

    def read(self) -> tuple[list[Mention], list[Mention], bool]:
        if not self._text.strip():
            raise self._wrong("it is empty: write something like 'y ~ x1 + x2'", 0)
        self._target()
        target, self._mentions = self._mentions, []
        if self._next.text == "=":
            raise self._unexpected()
        if self._next.text != "~":
            what = "ends without" if self._next.kind == "end" else "needs"
            raise self._wrong(f"the formula {what} a '~' between target and inputs, as in 'y ~ x1 + x2'")
        self._take()
        self._terms()
        if self._next.kind != "end":
            raise self._unexpected()
        if not self._mentions and not self._rest:
            raise self._wrong("there is no input right of '~'", self._text.index("~"))
        return target, self._mentions, self._rest

    # -- phrases

    def _target(self) -> None:
        if self._next.text == "~":
            raise self._wrong("there is no target left of '~': say what the model predicts")
        if self._next.kind not in ("name", "quoted") and self._next.text != "{":
            raise self._unexpected()
        start = self._next.start
        self._atom()
        if self._next.kind == "sign" and self._next.text not in "~=":
            raise self._wrong("the target is one term; put arithmetic in braces, as in '{a / b} ~ x'")
        if not self._mentions:
            raise self._wrong("the target names no column", start)

    def _terms(self) -> None:
        if self._next.text in ("+", "-"):
            self._take()
        self._product()
        while self._next.text in ("+", "-"):
            self._take()
            self._product()

    def _product(self) -> None:
        self._power()
        while self._next.text in ("*", "/", ":"):
            self._take()
            self._power()

    def _power(self) -> None:
        self._atom()
        if self._next.text in ("**", "^"):
            self._take()
            if self._next.kind != "number" or not self._next.text.isdigit() or not 1 <= int(self._next.text) <= 9:
                raise self._wrong("after ** stands a whole number from 1 to 9; a column's own power is written I(x**2)")
            self._take()

    def _atom(self) -> None:
        token = self._next
        if token.kind == "name":
            self._take()
            if self._next.text == "(":
                self._call(token)
            else:
                self._mention(token.text, token.start, "any")
        elif token.kind == "quoted":
            self._take()
            self._mention(self._unquoted(token), token.start, "any")
        elif token.kind == "number":
            if token.text not in ("0", "1"):
                raise self._wrong("a number here is 0 or 1, for the intercept; for arithmetic write I(2 * x)")
            self._take()
        elif token.text == ".":
            self._take()
            self._rest = True
        elif token.text == "{":
            self._python(*self._enclosed(token))
        elif token.text == "(":
            self._group(token)
        else:
            raise self._unexpected()

    def _group(self, opening: _Token) -> None:
        self._depth += 1
        if self._depth > 50:
            raise self._wrong("the brackets are nested more than 50 deep")
        self._take()
        self._terms()
        if self._next.text != ")":
            if self._next.kind == "end":
                raise self._wrong("this bracket is never closed", opening.start)
            raise self._unexpected()
        self._take()
        self._depth -= 1

    def _call(self, name: _Token) -> None:
        if name.text == "C":
            self._categories(name)
            return
        if name.text not in FUNCTIONS:
            known = (*FUNCTIONS, "C")
            raise self._wrong(f"there is no function {name.text!r}; {suggestion(name.text, known)}", name.start)
        begin, end = self._enclosed(self._next)
        self._python(begin, end)

    def _categories(self, name: _Token) -> None:
        self._take()
        column = self._next
        if column.kind not in ("name", "quoted"):
            raise self._wrong("C() takes one column, as in C(genre)")
        self._take()
        if self._next.text != ")":
            raise self._wrong("C() takes one column and nothing else, as in C(genre)", name.start)
        self._take()
        text = column.text if column.kind == "name" else self._unquoted(column)
        self._mention(text, column.start, "category")

    def _python(self, begin: int, end: int) -> None:
        """Checks an expression of numbers that stands in brackets, and notes its columns."""
        source, quoted = unquote(re.sub(r"\s", " ", self._text[begin:end]))
        opening = begin - 1
        begin += len(source) - len(source.lstrip())
        source = source.strip()
        try:
            self._walk(ast.parse(source, mode="eval").body, quoted, source, begin)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            if not source:
                raise self._wrong("there is nothing in these brackets", opening) from None
            if isinstance(error, RecursionError | MemoryError):
                raise self._wrong("this expression is nested too deeply", begin) from None
            offset = (getattr(error, "offset", None) or 1) - 1
            problem = "this cannot be read: columns, numbers and + - * / ** make an expression"
            raise self._wrong(problem, min(begin + offset, end)) from None

    def _walk(self, node: ast.AST, quoted: dict[str, str], source: str, begin: int) -> None:
        position = begin + len(source.encode()[: getattr(node, "col_offset", 0)].decode())
        if isinstance(node, ast.Name):
            self._mention(quoted.get(node.id, node.id), position, "number")
        elif isinstance(node, ast.Constant):
            if type(node.value) not in (int, float):
                raise self._wrong("numbers and columns stand in an expression, nothing else", position)
        elif isinstance(node, ast.BinOp | ast.UnaryOp):
            if not isinstance(node.op, _OPERATORS):
                raise self._wrong("an expression has + - * / ** only", position)
            mentioned = len(self._mentions)
            for child in (node.left, node.right) if isinstance(node, ast.BinOp) else (node.operand,):
                self._walk(child, quoted, source, begin)
            if isinstance(node.op, ast.Pow) and len(self._mentions) == mentioned:
                raise self._wrong("a power has a column in it: write this number as it is", position)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id not in FUNCTIONS:
                raise self._wrong(
                    f"there is no function {node.func.id!r} here; {suggestion(node.func.id, FUNCTIONS)}", position
                )
            if len(node.args) != 1 or node.keywords:
                raise self._wrong(f"{node.func.id}() takes one argument", position)
            self._walk(node.args[0], quoted, source, begin)
        else:
            hint = "; write log(x), not np.log(x)" if isinstance(node, ast.Call | ast.Attribute) else ""
            raise self._wrong(f"an expression has columns, numbers, functions and + - * / ** only{hint}", position)

    # -- tokens

    def _scan(self, start: int) -> _Token:
        match = _TOKEN.match(self._text, start)
        if match is None:
            return _Token("end", "", len(self._text.rstrip()), len(self._text))
        kind = match.lastgroup or "sign"
        return _Token(kind, match[kind], match.start(kind), match.end(kind))

    def _take(self) -> None:
        self._next = self._scan(self._next.end)

    def _enclosed(self, opening: _Token) -> tuple[int, int]:
        """Where the text inside of a bracket begins and ends; the next token is the one after it."""
        waiting, place = [_CLOSING[opening.text]], opening.end
        while waiting:
            token = self._scan(place)
            if token.kind == "end":
                raise self._wrong("this bracket is never closed", opening.start)
            if token.text in _CLOSING:
                waiting.append(_CLOSING[token.text])
            elif token.text in ")}" and token.text != waiting.pop():
                raise self._wrong("this bracket does not fit the one that was opened", token.start)
            place = token.end
        self._next = self._scan(place)
        return opening.end, place - 1

    def _unquoted(self, token: _Token) -> str:
        if len(token.text) < 3 or not token.text.endswith("`"):
            raise self._wrong("a column in backticks begins here, and has no name or no end", token.start)
        return token.text[1:-1]

    def _mention(self, column: str, position: int, use: Use) -> None:
        self._mentions.append(Mention(column, position, use))

    def _unexpected(self) -> FormulaError:
        token = self._next
        if token.kind == "end":
            return self._wrong("the formula ends where a term should follow")
        if token.kind in ("name", "quoted", "number"):
            return self._wrong(f"an operator such as + is missing before {token.text!r}")
        if token.text == "~":
            return self._wrong("a second '~': a formula has one target and one row of inputs")
        if token.text == "=":
            return self._wrong("target and inputs are separated by '~', not '='")
        return self._wrong(f"a term should stand here, not {token.text!r}")

    def _wrong(self, problem: str, position: int | None = None) -> FormulaError:
        return FormulaError(problem, self._text, self._next.start if position is None else position)


def unquote(source: str) -> tuple[str, dict[str, str]]:
    """An expression with identifiers, just as long, for the columns in backticks, and whose they are."""
    names: dict[str, str] = {}

    def stand_in(match: re.Match[str]) -> str:
        name = f"_{len(names)}".ljust(len(match[0]), "_")
        names[name] = match[0][1:-1]
        return name

    return re.sub(r"`[^`]+`", stand_in, source), names
