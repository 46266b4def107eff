"""Formulas are read without any package, and what is wrong with one is pointed at."""

from __future__ import annotations

from contextlib import suppress
from importlib.util import find_spec

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlports.ml.errors import FormulaError, LeakageError
from mlports.ml.formula import FUNCTIONS, read


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("y ~ x1 + x2", ["y", "x1", "x2"]),
        ("log(gross) ~ log(budget) + C(genre)", ["gross", "budget", "genre"]),
        ("y ~ 0 + a*b + c:d - 1", ["y", "a", "b", "c", "d"]),
        ("y ~ (a + b + c)**2 - a:b", ["y", "a", "b", "c"]),
        ("{y / 2} ~ I(x**2) + {a * b + 1}", ["y", "x", "a", "b"]),
        ("y ~ `my column` + log(`US Gross` + 1)", ["y", "my column", "US Gross"]),
        ("höhe ~\n  größe + log(größe)", ["höhe", "größe"]),
        ("y ~ scale(log(x)) + center(z)", ["y", "x", "z"]),
        ("y ~ .", ["y"]),
    ],
)
def test_a_formula_names_its_columns(text: str, columns: list[str]) -> None:
    """Guards what is sent to a worker: a column that is overlooked would be missing there."""
    formula = read(text)
    assert list(formula.columns) == columns
    assert formula.rest == (text == "y ~ .")


@pytest.mark.parametrize(
    ("text", "position", "told"),
    [
        ("", 0, "empty"),
        ("y", 1, "'~'"),
        ("y = x", 2, "not '='"),
        ("~ x", 0, "no target"),
        ("y ~", 3, "ends where a term"),
        ("y ~ x +", 7, "ends where a term"),
        ("y ~ x z", 6, "operator such as + is missing before 'z'"),
        ("y ~ x ~ z", 6, "second '~'"),
        ("y ~ log(x", 7, "never closed"),
        ("y ~ (a + b", 4, "never closed"),
        ("y ~ log(x]}", 10, "does not fit"),
        ("y ~ x)", 5, "not ')'"),
        ("y ~ lgo(x)", 4, "did you mean 'log'?"),
        ("y ~ a + log(lg(x))", 12, "did you mean 'log'?"),
        ("y ~ np.log(x)", 6, "not '.'"),
        ("y ~ I(np.log(x))", 6, "log(x), not np.log(x)"),
        ("y ~ log(x + * 2)", 12, "cannot be read"),
        ("y ~ log( )", 7, "nothing in these brackets"),
        ("y ~ log(x, 2)", 8, "functions and"),
        ("y ~ log(é + 'a')", 12, "numbers and columns"),
        ("y ~ 2*x", 4, "0 or 1"),
        ("y ~ x**y", 7, "from 1 to 9"),
        ("y ~ C(a + b)", 4, "one column and nothing else"),
        ("y ~ `a", 4, "backticks"),
        ("log(y) + 1 ~ x", 7, "the target is one term"),
        ("I(2) ~ x", 0, "names no column"),
        ("y ~ 1", 2, "no input"),
        ("y ~ {__import__('os').system('true')}", 5, "functions and"),
        ("y ~ I(x if x else 1)", 6, "functions and"),
        ("y ~ I(x == 1)", 6, "functions and"),
        ("y ~ I(x + 9**9**9)", 13, "a power has a column in it"),
    ],
)
def test_what_is_wrong_is_pointed_at(text: str, position: int, told: str) -> None:
    """Guards whoever mistypes: the message has the place, and says what belongs there."""
    with pytest.raises(FormulaError, match=r"^formula, position") as caught:
        read(text)
    assert told in str(caught.value)
    assert caught.value.position == position
    assert str(caught.value).splitlines()[-1] == " " * (position + 2) + "^"


@pytest.mark.parametrize("text", ["y ~ x + y", "y ~ log(1 + y)", "log(y) ~ C(y)", "y ~ x + (x:`y`)", "{y/z} ~ x + z"])
def test_a_target_among_the_inputs_is_leakage(text: str) -> None:
    """Guards against a model that is told the answer, also inside of a term."""
    with pytest.raises(LeakageError, match="cannot be an input too"):
        read(text)


def test_deep_and_long_formulas_are_refused_not_stumbled_over() -> None:
    """Guards the reader's own stack."""
    for text in (
        f"y ~ {'(' * 500}x",
        f"y ~ I({'-' * 3000}x)",
        f"y ~ {'+'.join('x' * 20_000)}",
        "y ~ I(" + "(" * 400 + "x",
    ):
        with pytest.raises(FormulaError):
            read(text)


@given(st.text(alphabet="yxab ~+-*/:().,`{}01 logC\n'\"é", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Guards the position: it is always one in the text, or just behind it."""
    with suppress(FormulaError):
        assert read(text).columns
        return
    with pytest.raises(FormulaError) as caught:
        read(text)
    assert 0 <= caught.value.position <= len(text)


_COLUMNS = ["a", "b", "c", "long name"]
_column = st.sampled_from(["a", "b", "c", "`long name`"])
_expression = st.recursive(
    st.one_of(_column, st.sampled_from(["2", "0.5"])),
    lambda inner: st.one_of(
        st.builds("({} {} {})".format, inner, st.sampled_from("+-*"), inner),
        st.builds("{}({})".format, st.sampled_from([name for name in FUNCTIONS if name != "I"]), inner),
    ),
    max_leaves=3,
)
_factor = st.one_of(_column, st.builds("C({})".format, _column), st.builds("I({} + {})".format, _column, _expression))
_term = st.recursive(
    _factor,
    lambda inner: st.one_of(
        st.builds("{}{}{}".format, inner, st.sampled_from("*:/"), inner), st.builds("({} + {})**2".format, inner, inner)
    ),
    max_leaves=3,
)
_formula = st.builds(
    "y ~ {}{}".format, st.sampled_from(["", "0 + ", "1 + "]), st.lists(_term, min_size=1, max_size=3).map(" + ".join)
)


@pytest.mark.skipif(find_spec("formulaic") is None, reason="formulaic is not installed: it is in the extra `ml`")
@settings(max_examples=50)
@given(_formula)
def test_formulaic_reads_what_this_reads(text: str) -> None:
    """Guards the two readers against each other: what is let through here is a formula there too."""
    from formulaic import Formula

    theirs = Formula.from_spec(text)
    # Of columns inside of `center` and `scale`, formulaic does not tell.
    assert {str(name) for name in theirs.required_variables} - {*FUNCTIONS} <= set(read(text).columns)
