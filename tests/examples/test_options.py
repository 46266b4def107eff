"""Numbers on the command lines of the examples: what makes no sense is refused before anything is started."""

from __future__ import annotations

from argparse import ArgumentTypeError
from pathlib import Path

import pytest

from examples.options import positive, whole
from tests.examples.running import run


@pytest.mark.parametrize("text", ["0", "-1", "6", "1.5", "", "many", "nan"])
def test_whole_numbers_outside_of_the_range_are_refused(text: str) -> None:
    assert [whole(1, 5)(known) for known in ("1", "5")] == [1, 5]
    assert whole(1)("6") == 6
    with pytest.raises(ArgumentTypeError, match=r"it is from 1 to 5, and not|is no whole number"):
        whole(1, 5)(text)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "1e999", "", "many"])
def test_what_is_no_number_above_0_is_refused(text: str) -> None:
    assert positive("1e-9") == 1e-9
    with pytest.raises(ArgumentTypeError, match=r"it is a number above 0, and not|is no number"):
        positive(text)


def test_a_program_says_what_it_takes(tmp_path: Path) -> None:
    done = run("scaling", tmp_path, "--tasks", "0")
    assert done.returncode == 2
    assert "argument --tasks: it is 1 or more, and not 0" in done.stderr
