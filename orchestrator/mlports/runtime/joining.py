"""Calls that are made of several: parts of a map's batch that go separate ways, and the copies of a broadcast."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from mlports.core.routing import Gathering
from mlports.errors import CallError

if TYPE_CHECKING:
    from mlports.runtime.call import Call

Errors = dict[int, "dict[str, Any] | CallError"]  # by place


class Parts:
    """The parts of a call that stands for many items: its results are theirs, put together in order.

    `places` are each part's items in the whole; `known` the errors of those that no part has.
    """

    def __init__(self, whole: Call, parts: Sequence[Call], places: Sequence[Sequence[int]], known: Errors) -> None:
        self._whole = whole
        self._parts = parts
        self._places = places
        self._missing = len(parts)
        self._results: list[Any] = [None] * whole.weight
        self._errors: Errors = dict(known)
        for part in parts:
            part.add_done_callback(self._on_done)
        whole.add_done_callback(self._on_whole_done)
        if not parts:
            whole.set_result((self._results, self._errors))

    def _on_done(self, part: Any) -> None:
        places = self._places[self._parts.index(part)]
        if part.cancelled():
            self._whole.cancel()
            return
        error = part.exception()
        if isinstance(error, CallError):
            self._errors.update(dict.fromkeys(places, error))
        elif error is not None:
            if not self._whole.done():
                self._whole.set_exception(error)
            return
        else:
            results, errors = part.result()
            for place, result in zip(places, results, strict=True):
                self._results[place] = result
            self._errors.update((places[index], failed) for index, failed in errors.items())
        self._missing -= 1
        if not self._missing and not self._whole.done():
            self._whole.set_result((self._results, self._errors))

    def _on_whole_done(self, whole: Any) -> None:
        """It was given up, or its time is up."""
        for part in self._parts:
            if not part.done():
                part.cancel()


class Copies:
    """The copies of a broadcast: the call's result is the list of theirs, by the replicas' numbers.

    It is settled when all of them are; where any failed, with the error of the first that did.
    """

    def __init__(self, call: Call, copies: dict[int, Call]) -> None:
        self._call = call
        self._copies = copies
        self._gathering = Gathering(copies)
        for number, copy in copies.items():
            copy.add_done_callback(partial(self._on_done, number))
        call.add_done_callback(self._on_call_done)

    def _on_done(self, number: int, copy: Any) -> None:
        if copy.cancelled():
            self._call.cancel()
            return
        error = copy.exception()
        if not self._gathering.settled(number, copy.result() if error is None else error) or self._call.done():
            return
        outcomes = self._gathering.outcomes()
        failed = next((outcome for _, outcome in outcomes if isinstance(outcome, CallError)), None)
        if failed is not None:
            self._call.fail(failed)
        else:
            self._call.set_result([outcome for _, outcome in outcomes])

    def _on_call_done(self, call: Any) -> None:
        for copy in self._copies.values():
            if not copy.done():
                copy.cancel()
