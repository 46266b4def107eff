"""Formulas as matrices: in training formulaic says what the columns are; from then on this says what is in them.

formulaic runs whatever Python stands in a formula, so what reaches it has been read as an expression of columns,
numbers and `FUNCTIONS` first. What it makes of the terms (which there are, in which order, which categories each leaves
out) is kept as plain values, a `Plan`, that a model file can hold. A plan's matrix is compared with formulaic's own
before it is used. So predicting needs neither formulaic nor pandas, and runs no code that a file could bring.
"""

from __future__ import annotations

import ast
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from mlports_worker import Failure

from .rows import Array
from .tables import Columns, rows_told

FUNCTIONS: Mapping[str, Callable[[Any], Any]] = {
    "log": np.log,
    "log2": np.log2,
    "log10": np.log10,
    "log1p": np.log1p,
    "exp": np.exp,
    "expm1": np.expm1,
    "sqrt": np.sqrt,
    "abs": np.abs,
    "I": lambda x: x,
}
"""Of one argument. Beside them, `center` and `scale` take away the mean of training, and divide by its deviation."""

_LEARN = ("center", "scale")
_OPERATORS: Mapping[type[ast.AST], Callable[..., Any]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
    ast.Pow: np.power,
    ast.UAdd: np.positive,
    ast.USub: np.negative,
}
State = dict[str, Any]


class Expression:
    """A column, `C(column)`, or an expression of numbers. Raises `Failure` for a text that is anything else.

    `learned` holds what `center` and `scale` know from training, by their text; an empty one is filled at the first
    evaluation.
    """

    def __init__(self, text: str, learned: State | None = None) -> None:
        self.text = text
        self.learned: State = {} if learned is None else learned
        source, self._quoted = _unquote(text)
        try:
            self._tree = ast.parse(source.strip(), mode="eval").body
            self.columns = self._names(self._tree)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise _invalid(f"formula: {text!r:.200} is no expression of columns and numbers: {error}") from None
        self.category: str | None = self._category()

    @classmethod
    def of_column(cls, name: str) -> Expression:
        """The expression that is just this column, whatever its name."""
        return cls(f"`{name}`")

    def evaluate(self, columns: Columns) -> Array:
        """The numbers, one for each row. Raises `Failure` where they are infinite or none at all, as log(0)."""
        with np.errstate(all="ignore"):
            value = np.broadcast_to(self._value(self._tree, columns), _rows(columns)).astype(float)
        wrong = np.flatnonzero(~np.isfinite(value))
        if wrong.size:
            row = int(wrong[0])
            told = ", ".join(f"{name} = {columns[name][row]:g}" for name in self.columns)
            raise _invalid(f"{self.text} is not a finite number in {rows_told(wrong)}: in row {row}, {told}")
        return value

    def _names(self, node: ast.AST) -> tuple[str, ...]:
        """The columns below a node, each once; so every node is looked at, and refused if it is none that is known."""
        if isinstance(node, ast.Name):
            return (self._quoted.get(node.id, node.id),)
        if isinstance(node, ast.Constant) and type(node.value) in (int, float):
            return ()
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            names = tuple(dict.fromkeys((*self._names(node.left), *self._names(node.right))))
            # As Python's whole numbers, in formulaic's hands, 9**9**9 would take for ever.
            if names or not isinstance(node.op, ast.Pow):
                return names
        if isinstance(node, ast.UnaryOp) and type(node.op) in _OPERATORS:
            return self._names(node.operand)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) == 1 and not node.keywords:
            known = node.func.id in FUNCTIONS or node.func.id in _LEARN
            if known or (node.func.id == "C" and node is self._tree and isinstance(node.args[0], ast.Name)):
                return self._names(node.args[0])
        raise ValueError(f"{ast.unparse(node):.80} has no place in it")

    def _category(self) -> str | None:
        """The column that this stands for as it is, or as C(column)."""
        return self.columns[0] if isinstance(self._tree, ast.Name) or self._calls("C") else None

    def _calls(self, name: str) -> bool:
        return isinstance(self._tree, ast.Call) and isinstance(self._tree.func, ast.Name) and self._tree.func.id == name

    def _value(self, node: ast.AST, columns: Columns) -> Any:
        if isinstance(node, ast.Name):
            name = self._quoted.get(node.id, node.id)
            if columns[name].dtype.kind != "f":
                raise _invalid(f"column {name!r} holds categories, and {self.text} takes numbers")
            return columns[name]
        if isinstance(node, ast.Constant):
            return np.float64(node.value)  # type: ignore[arg-type]
        if isinstance(node, ast.BinOp):
            return _OPERATORS[type(node.op)](self._value(node.left, columns), self._value(node.right, columns))
        if isinstance(node, ast.UnaryOp):
            return _OPERATORS[type(node.op)](self._value(node.operand, columns))
        assert isinstance(node, ast.Call)
        assert isinstance(node.func, ast.Name)
        value = self._value(node.args[0], columns)
        if node.func.id in FUNCTIONS:
            return FUNCTIONS[node.func.id](value)
        return self._learning(node, np.broadcast_to(value, _rows(columns)))

    def _learning(self, call: ast.Call, value: Array) -> Array:
        assert isinstance(call.func, ast.Name)
        key = ast.unparse(call)
        if key not in self.learned:
            mean = float(value.mean())
            # As formulaic's scale: the sample's deviation, with n - 1. Of a constant, 1.
            deviation = float(value.std(ddof=1)) if call.func.id == "scale" and len(value) > 1 else 1.0
            self.learned[key] = [mean, deviation or 1.0]
        mean, deviation = self.learned[key]
        scaled: Array = (value - mean) / deviation
        return scaled


class Plan:
    """The columns of a formula's right side: a matrix of features for a table, always of the same width.

    `terms` are products: of a number, and of factors that are [expression, whether its first category is left out].
    """

    def __init__(self, state: Any) -> None:
        try:
            self.state: State = state
            self.intercept: bool = state["intercept"]
            self.features: list[str] = list(state["features"])
            self._levels: dict[str, list[str]] = state["levels"]
            self._expressions = {text: Expression(text, learned) for text, learned in state["expressions"].items()}
            self._terms = [
                (float(number), [(self._expressions[text], bool(less)) for text, less in factors])
                for number, factors in state["terms"]
            ]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _invalid(f"this is no saved formula: {type(error).__name__}: {error}") from error

    def matrix(self, columns: Columns) -> Array:
        """The features, float64, rows × len(features). Raises `Failure` for what no number can be made of."""
        values: dict[str, Array] = {}
        parts = [self._term(number, factors, columns, values) for number, factors in self._terms]
        return np.hstack(parts) if parts else np.empty((_rows(columns), 0))

    def _term(
        self, number: float, factors: list[tuple[Expression, bool]], columns: Columns, values: dict[str, Array]
    ) -> Array:
        product = np.full((_rows(columns), 1), number)
        for expression, less in factors:
            if expression.text not in values:
                values[expression.text] = self._factor(expression, columns)
            factor = values[expression.text][:, 1:] if less else values[expression.text]
            # The first factor's categories vary fastest, as in formulaic.
            product = np.einsum("ri,rj->rji", product, factor).reshape(len(product), -1)
        return product

    def _factor(self, expression: Expression, columns: Columns) -> Array:
        name = expression.category
        if name is None or columns[name].dtype.kind == "f":
            return expression.evaluate(columns).reshape(-1, 1)
        levels = np.asarray(self._levels[name], object)
        found: Array = (columns[name][:, None] == levels[None, :]).astype(float)
        return found


class Terms:
    """A formula as formulaic reads it, with `columns` to choose from: `target`, and as `inputs` the columns it names.

    `numbers` are the columns that stand in an expression, and in which; `categories` those in C().

    Raises `Failure` for a formula that cannot be read or that is more than terms of expressions, and without formulaic.
    """

    def __init__(self, formula: str, columns: Iterable[str]) -> None:
        self.formula = formula
        self._formulaic, self._pandas = _formulaic()
        try:
            context = {"__formulaic_variables_available__": list(columns)}
            parsed = self._formulaic.Formula.from_spec(formula, context=context)
            target, self._terms = parsed.lhs, parsed.rhs
            left = [factor for term in target for factor in term.factors]
        except AttributeError:
            raise _invalid(f"formula {formula!r:.200} is not of the form target ~ inputs") from None
        except Exception as error:
            raise _invalid(f"formula {formula!r:.200}: {_plain_text(error)}") from error
        if len(left) != 1:
            raise _invalid(f"formula {formula!r:.200}: the target is one term")
        self.target = _expression_of(left[0])
        factors = [factor for term in self._terms for factor in term.factors if factor.eval_method.value != "literal"]
        read = [_expression_of(factor) for factor in factors]
        self.inputs = list(dict.fromkeys(name for expression in read for name in expression.columns))
        both = sorted(set(self.inputs) & set(self.target.columns))
        if both:
            raise _invalid(f"formula {formula!r:.200}: {both[0]!r} is the target, so it cannot be an input too")
        both_sides = (*read, self.target)
        self.numbers = {name: e.text for e in both_sides if e.category is None for name in e.columns}
        self.categories = {e.category for e in both_sides if e.category and e.text.startswith("C(")}

    def plan(self, columns: Columns, levels: Mapping[str, list[str]]) -> Plan:
        """The plan of the right side for these rows; `levels` are the categories of each column that has such."""
        table = self._pandas.DataFrame(
            {
                name: self._pandas.Categorical(column, categories=levels[name]) if name in levels else column
                for name, column in columns.items()
            }
        )
        functions = {**FUNCTIONS, "center": _center, "scale": _scale}
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                made = self._terms.get_model_matrix(table, context=functions, na_action="ignore", output="numpy")
        except Exception as error:
            raise _invalid(f"formula {self.formula!r:.200}: {_plain_text(error)}") from error
        plan = Plan(_state(made.model_spec, levels))
        _compare(plan, np.asarray(made, float), columns, self.formula)
        return plan


def _state(spec: Any, levels: Mapping[str, list[str]]) -> State:
    """formulaic's structure as plain values."""
    terms: list[Any] = []
    features: list[str] = []
    expressions: dict[str, State] = {}
    intercept = False
    for row in spec.structure:
        features.extend(str(column) for column in row.columns)
        for term in row.scoped_terms:
            factors = [(_expression_of(each.factor.factor), bool(each.reduced)) for each in term.factors]
            if not factors:
                intercept = True
                features.remove("Intercept")
                continue
            terms.append([float(term.scale), [[factor.text, less] for factor, less in factors]])
            expressions.update({factor.text: {} for factor, _ in factors})
    return {
        "intercept": intercept,
        "features": features,
        "terms": terms,
        "expressions": expressions,
        "levels": {name: list(known) for name, known in levels.items()},
    }


def _expression_of(factor: Any) -> Expression:
    expr = str(factor.expr)
    return Expression.of_column(expr) if factor.eval_method.value == "lookup" else Expression(expr)


def _compare(made: Plan, theirs: Array, columns: Columns, formula: str) -> None:
    """Fills in what the plan learns, and raises `Failure` if it does not make what formulaic made."""
    ours = made.matrix(columns)
    if made.intercept:
        ours = np.hstack([np.ones((len(ours), 1)), ours])
    if ours.shape != theirs.shape or not np.allclose(ours, theirs, rtol=1e-9, atol=1e-12):
        raise Failure("unimplemented", f"formula {formula!r:.200}: formulaic's matrix is another. Write it more simply")


def _center(x: Any) -> Any:
    return x - np.mean(x)


def _scale(x: Any) -> Any:
    return (x - np.mean(x)) / ((np.std(x, ddof=1) if len(x) > 1 else 0.0) or 1.0)


def _formulaic() -> tuple[Any, Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import formulaic
            import pandas
    except ImportError as error:
        raise Failure(
            "failed_precondition",
            f"training a model by a formula needs formulaic, which {sys.executable} lacks ({error}): "
            "pip install 'mlports[ml]'",
        ) from error
    return formulaic, pandas


def _unquote(text: str) -> tuple[str, dict[str, str]]:
    """An expression with identifiers in place of the columns in backticks, and whose they are."""
    names: dict[str, str] = {}

    def stand_in(match: re.Match[str]) -> str:
        name = f"_quoted_{len(names)}"
        names[name] = match[0][1:-1]
        return name

    return re.sub(r"`[^`]+`", stand_in, text), names


def _plain_text(error: Exception) -> str:
    """An error's text without the colours of a terminal, on one line."""
    text = re.sub(r"\x1b\[[0-9;]*m|[⧛⧚]", "", str(error))
    return " ".join(text.split()) or type(error).__name__


def _rows(columns: Columns) -> int:
    return len(next(iter(columns.values())))


def _invalid(message: str) -> Failure:
    return Failure("invalid_argument", message)
