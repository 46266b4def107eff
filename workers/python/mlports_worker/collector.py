"""Keeps Python's garbage collector from looking through what is about to be garbage anyway."""

from __future__ import annotations

import gc


class CollectorPaused:
    """No collection inside the `with`, if there would be any outside. For code that allocates much and keeps little."""

    __slots__ = ("_was_on",)

    def __enter__(self) -> None:
        self._was_on = gc.isenabled()
        gc.disable()

    def __exit__(self, *_: object) -> None:
        if self._was_on:
            gc.enable()
