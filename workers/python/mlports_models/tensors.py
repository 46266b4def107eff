"""Named arrays as models take and give them: checked against what a model declares, and put together by rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mlports_worker import Failure

from . import rows
from .rows import Array

Values = dict[str, Array]
Run = Callable[[Values], dict[str, Any]]
"""Gives a model its inputs, and gives its outputs by name; raises `Failure` for what the model cannot take."""


class Tensor(NamedTuple):
    """One input or output as a model declares it.

    `dtype` is numpy's name, or "str" for texts. `shape` has a number for an axis of fixed length, a name or None for
    one of any; it is None itself where the model does not say.
    """

    name: str
    dtype: str
    shape: tuple[int | str | None, ...] | None

    def told(self) -> dict[str, Any]:
        """The same as plain values."""
        return {"name": self.name, "dtype": self.dtype, "shape": None if self.shape is None else list(self.shape)}

    def __str__(self) -> str:
        shape = "any shape" if self.shape is None else f"shape [{', '.join(str(axis or '?') for axis in self.shape)}]"
        return f"{self.name!r} ({self.dtype}, {shape})"

    @property
    def by_rows(self) -> bool:
        """Whether the first axis may be of any length, so that rows of several callers go together."""
        return self.shape is None or (len(self.shape) > 0 and not isinstance(self.shape[0], int))

    def array(self, value: Any) -> Array:
        """A caller's value as an array of this dtype, of whatever shape. Raises `Failure` for one that loses by it."""
        if isinstance(value, np.ndarray) and value.dtype.name == self.dtype:
            return value
        if isinstance(value, np.generic | int | float | str):
            value = np.asarray(value)
        array = rows.as_array(value, f"input {self.name!r}")
        if self.dtype == "str":
            if array.dtype.kind == "U" or all(isinstance(item, str) for item in array.flat):
                return array.astype(object)
            raise _invalid(f"input {self.name!r} takes texts, not {array.dtype}")
        wanted = np.dtype(self.dtype)
        if array.dtype == wanted:
            return array
        whole = array.dtype.kind in "iu" and wanted.kind in "iu"  # the numbers themselves tell whether they fit
        if array.dtype.kind in "OU" or not (array.size == 0 or whole or np.can_cast(array.dtype, wanted, "same_kind")):
            kind = "texts" if array.dtype.kind in "OU" else str(array.dtype)
            raise _invalid(f"input {self.name!r} takes {self.dtype}, and {kind} cannot be made into that without loss")
        with np.errstate(over="ignore"):
            made = array.astype(wanted)
        if wanted.kind in "iu" and not np.array_equal(made, array):
            raise _invalid(f"input {self.name!r} takes {self.dtype}, and some of these numbers are too large for that")
        if wanted.kind == "f" and not np.array_equal(np.isfinite(made), np.isfinite(array)):
            raise _invalid(f"input {self.name!r} takes {self.dtype}, and some of these numbers are too large for that")
        return made

    def fits(self, shape: Sequence[int]) -> bool:
        """Whether an array of this shape can be taken."""
        if self.shape is None:
            return True
        return len(shape) == len(self.shape) and all(
            not isinstance(wanted, int) or wanted == there for wanted, there in zip(self.shape, shape, strict=True)
        )


class Asked(NamedTuple):
    """What one caller asks for: inputs with a first axis, how many rows, and whether it was one row without it."""

    values: Values
    rows: int
    single: bool


def checked(value: Any, inputs: Sequence[Tensor]) -> Values:
    """Inputs by name, as they are; a model's only input may come without its name. Raises `Failure`."""
    given = _by_name(value, inputs)
    made = {tensor.name: tensor.array(given[tensor.name]) for tensor in inputs}
    for tensor in inputs:
        shape = made[tensor.name].shape
        if not tensor.fits(shape):
            raise _misfit(tensor, shape)
    return made


def asked(value: Any, inputs: Sequence[Tensor]) -> Asked:
    """The argument of `predict`: one row, which lacks each input's first axis, or a table, which has it."""
    given = _by_name(value, inputs)
    made = {tensor.name: tensor.array(given[tensor.name]) for tensor in inputs}
    single = all(
        tensor.by_rows and tensor.shape is not None and tensor.fits((1, *made[tensor.name].shape)) for tensor in inputs
    )
    if single:
        return Asked({name: array[np.newaxis] for name, array in made.items()}, 1, True)
    for tensor in inputs:
        shape = made[tensor.name].shape
        if not tensor.fits(shape) or (tensor.shape is None and not shape):
            raise _misfit(tensor, shape)
    lengths = {name: array.shape[0] if array.ndim else 0 for name, array in made.items()}
    if all(tensor.by_rows for tensor in inputs) and len(set(lengths.values())) > 1:
        told = ", ".join(f"{name!r} {length}" for name, length in lengths.items())
        raise _invalid(f"the inputs differ in how many rows they have: {told}")
    return Asked(made, next(iter(lengths.values()), 0), False)


def predict(values: list[Any], inputs: Sequence[Tensor], together: bool, run: Run) -> list[Any]:
    """The outcomes of `predict`, one for each caller, in order: of a model's one output, or a map of several by name.

    Rows of several callers go through the model at once where it takes any number of them, and gives as many.
    """
    return answer(values, lambda value: asked(value, inputs), together, run)


def answer(values: list[Any], read: Callable[[Any], Asked], together: bool, run: Run) -> list[Any]:
    """`predict` for what `read` makes of each caller's value; it raises `Failure` for what cannot be asked."""
    outcomes: list[Any] = [None] * len(values)
    alike: dict[Any, list[tuple[int, Asked]]] = {}
    for index, value in enumerate(values):
        try:
            one = read(value)
        except Failure as failure:
            outcomes[index] = failure
            continue
        if not one.values:  # an empty list, which says nothing of columns
            outcomes[index] = []
            continue
        key = tuple((name, array.shape[1:]) for name, array in one.values.items()) if together else index
        alike.setdefault(key, []).append((index, one))
    for group in alike.values():
        _together(group, run, outcomes)
    return outcomes


def sendable(outputs: Mapping[str, Any]) -> Any:
    """Outputs as they are sent: the only one by itself, several by name."""
    told = {
        name: _item(rows.sendable(value) if isinstance(value, np.ndarray) else value) for name, value in outputs.items()
    }
    return next(iter(told.values())) if len(told) == 1 else told


def _together(group: list[tuple[int, Asked]], run: Run, outcomes: list[Any]) -> None:
    total = sum(one.rows for _, one in group)
    first = group[0][1].values
    stacked = (
        first if len(group) == 1 else {name: np.concatenate([one.values[name] for _, one in group]) for name in first}
    )
    try:
        outputs = run(stacked)
    except Failure as failure:
        if len(group) == 1:
            outcomes[group[0][0]] = failure
            return
        outputs = {}
    by_rows = bool(outputs) and all(_length(value) == total for value in outputs.values())
    if len(group) > 1 and not by_rows:  # one of them is at fault, or what comes out is not by rows: each for itself
        for one_alone in group:
            _together([one_alone], run, outcomes)
        return
    start = 0
    for index, one in group:
        end = start + one.rows
        if not by_rows:
            outcomes[index] = sendable(outputs)
        elif one.single:
            outcomes[index] = sendable({name: value[start] for name, value in outputs.items()})
        else:
            outcomes[index] = sendable({name: value[start:end] for name, value in outputs.items()})
        start = end


def _by_name(value: Any, inputs: Sequence[Tensor]) -> Mapping[str, Any]:
    names = [tensor.name for tensor in inputs]
    if not isinstance(value, dict):
        if len(names) == 1:
            return {names[0]: value}
        raise _invalid(f"this model has {len(names)} inputs: give a map of {', '.join(map(repr, names))} to arrays")
    problems = [f"missing: {name!r}" for name in names if name not in value]
    problems += [f"unknown: {name!r:.80}" for name in value if name not in names]
    if problems:
        takes = ", ".join(str(tensor) for tensor in inputs)
        raise _invalid(f"the inputs do not fit the model's: {'; '.join(problems)}. It takes: {takes}")
    return value


def _misfit(tensor: Tensor, shape: Sequence[int]) -> Failure:
    row = ", or a row without the first axis" if tensor.by_rows and tensor.shape is not None else ""
    return _invalid(f"the model takes {tensor}{row}; this has shape {list(shape)}")


def _length(value: Any) -> int | None:
    if isinstance(value, np.ndarray):
        return value.shape[0] if value.ndim else None
    return len(value) if isinstance(value, list) else None


def _item(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _invalid(message: str) -> Failure:
    return Failure("invalid_argument", message)
