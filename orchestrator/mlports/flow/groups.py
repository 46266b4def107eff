"""The steps that make something of groups of items, from what `partition()`, `window()`, `reduce()`, `join()` say."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from mlports.core.flow import CountWindows, SessionWindows, TimeWindows
from mlports.flow.grouping import LateFile, Reduce, ReduceByKey, Windowed, maker
from mlports.flow.joins import HashJoin
from mlports.flow.places import name_of
from mlports.flow.plan import Assembly, Grouping, Plan, Step
from mlports.flow.stages import Stage

Late = str | os.PathLike[str] | Callable[[Any], object] | None


def windowed(
    grouping: Grouping | None,
    count: int | None,
    time: float | None,
    every: float | None,
    session: float | None,
    at: Callable[[Any], float] | None,
    lateness: float,
    late: Late,
) -> Grouping:
    """The groups, with this window. Raises `ValueError` for one that means nothing."""
    if sum(each is not None for each in (count, time, session)) != 1:
        raise ValueError("a window is by count=, by time= or by session=: say one of them")
    if every is not None and time is None:
        raise ValueError("every= belongs to a window by time=")
    for name, number in (("time", time), ("every", every), ("session", session)):
        if number is not None and not isinstance(number, int | float):
            raise ValueError(f"{name} must be a number, not {number!r}")
    if count is not None:
        make: partial[Any] = partial(CountWindows, count)
        said = f"count={count}"
    elif time is not None:
        make = partial(TimeWindows, time, every=every, lateness=lateness)
        said = f"time={time:g}"
        said += "" if every is None else f", every={every:g}"
    else:
        assert session is not None
        make = partial(SessionWindows, session, lateness=lateness)
        said = f"session={session:g}"
    make(make=list, step=_added)  # its own check of the numbers
    said += f", at={name_of(at)}" if at is not None else ""
    said += f", lateness={lateness:g}" if lateness else ""
    return replace(grouping or Grouping(), window=make, at=at, late=late, said=f"window({said})")


def reduced(
    grouping: Grouping | None,
    initial: Any,
    step: Callable[[Any, Any], Any],
    join: Callable[[Any, Any], Any] | None,
) -> Step:
    """The step that reduces what was grouped, or all."""
    make = maker(initial)
    label = f"reduce({name_of(step)})"
    if grouping is None:
        return Step(label, lambda parts, name: Reduce(name, make, step, parts.setting.failures))
    if grouping.window is not None:
        return _window_step(grouping, label, make, step, join)
    key, most = grouping.key, grouping.max_keys
    assert key is not None
    where = f"by {grouping.key_name}"
    return Step(label, lambda parts, name: ReduceByKey(name, key, make, step, parts.setting.failures, most), where)


def collected(grouping: Grouping) -> Step:
    """The step that gives windows as lists of items."""
    return _window_step(grouping, "", list, _added, lambda earlier, later: earlier + later)


def _window_step(
    grouping: Grouping,
    label: str,
    make: Callable[[], Any],
    step: Callable[[Any, Any], Any],
    join: Callable[[Any, Any], Any] | None,
) -> Step:
    assert grouping.window is not None
    window = grouping.window

    def build(parts: Assembly, name: str) -> Stage:
        more = {"join": join} if window.func is SessionWindows else {}
        windows = window(make=make, step=step, **more)
        return Windowed(
            name,
            windows,
            parts.setting.failures,
            key=grouping.key,
            at=grouping.at,
            late=_late(parts, grouping.late),
            most=grouping.max_keys,
        )

    where = f"by {grouping.key_name}" if grouping.key is not None else ""
    return Step(f"{grouping.said}{f'.{label}' if label else ''}", build, where)


def _added(items: list[Any], item: Any) -> list[Any]:
    items.append(item)
    return items


def _late(parts: Assembly, late: Late) -> Callable[[Any], object] | None:
    if late is None or callable(late):
        return late
    file = LateFile(Path(late))
    parts.setting.exits.callback(file.close)
    return file


def hash_joined(right: Plan, key: Callable[[Any], Any], right_key: Callable[[Any], Any], left: bool, most: int) -> Step:
    """The step that joins with a finite flow."""

    def build(parts: Assembly, name: str) -> Stage:
        return HashJoin(name, right.build(parts.aside()), key, right_key, left, parts.setting.failures, most)

    kind = "left join" if left else "join"
    return Step(f"{kind}(by {name_of(key)} with {right.head.lines()[-1]})", build)
