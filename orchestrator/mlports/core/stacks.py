"""The stacks of a Python program's threads, as the standard library's `faulthandler` writes them on stderr.

    Thread 0x00007fe88ec556c0 (most recent call first):
      File "/usr/lib/python3.11/threading.py", line 327 in wait
      …

    Current thread 0x00007fe88fcafb80 (most recent call first):
      File "/srv/digits.py", line 11 in predict
      …

One stack for each thread, the newest thread first, so that the main thread comes last; it is the current one, as long
as it does not block the signal. Nothing marks the end of such a dump, and no line of it can be only the last one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_MOST_LINES = 500
_LEAST = 4  # lines of a stack, with the empty one behind it, that it makes sense to tell
_LONGEST_LINE = 1200  # characters; faulthandler cuts each of the two names in a line to 500
_THREAD = re.compile(r"(Current thread|Thread) 0x[0-9a-f]+\b.*:$")
_FRAME = re.compile(r'  (File (".*"|\?\?\?), line (\d+|\?\?\?) in |\.\.\.$|<[\w ]+>$|Garbage-collecting$)')
_PLACE = re.compile(r'  File "(.*)", line ')
_LIBRARY = re.compile(r"<frozen |.*/lib(64)?/(python|pypy)3\.\d+t?/(?!(site|dist)-packages/)")

_Stack = list[str]  # the line of its thread, and those of its frames, innermost first


def stacks_in(lines: Sequence[str]) -> tuple[str, ...]:
    """The dump that is somewhere in these lines of stderr, without what else was written there; () if there is none.

    At most 500 lines, with an empty one between two threads. Of a longer dump the outermost frames are left out, of
    every thread alike.
    """
    # There are at most 100 threads in a dump, the newest first: what this leaves out are earlier dumps.
    stacks = _stacks(lines)[-_MOST_LINES // _LEAST :]
    deepest = min(_MOST_LINES, max((len(stack) for stack in stacks), default=0))
    while deepest >= _LEAST and _length(stacks, deepest) > _MOST_LINES:
        deepest -= 1
    result: list[str] = []
    for stack in stacks:
        result += ["", *_cut(stack, deepest)] if result else _cut(stack, deepest)
    return tuple(result)


def innermost(stacks: Sequence[str], most: int = 16) -> list[str]:
    """Where a program was, in at most `most` lines: its threads that were at work first, the innermost frames of each.

    A thread that runs nothing but the standard library, or waits for work in the worker's own machinery, is idle.
    """
    found = sorted(_stacks(stacks), key=lambda stack: (_is_idle(stack), stack[0].startswith("Thread")))
    shown = [stack for stack in found if not _is_idle(stack)] or found
    share = max(_LEAST, most // max(1, len(shown)))
    return [line for stack in shown[: most // share] for line in _cut(stack, share)]


def _stacks(lines: Iterable[str]) -> list[_Stack]:
    stacks: list[_Stack] = []
    for line in (line[:_LONGEST_LINE] for line in lines):
        if _THREAD.match(line):
            stacks.append([line])
        elif stacks and _FRAME.match(line):
            stacks[-1].append(line)
    return stacks


def _cut(stack: _Stack, length: int) -> _Stack:
    """The first lines of a stack, at most `length`, at least 3; the last of them says so if there are more."""
    return stack if len(stack) <= length else [*stack[: max(2, length - 1)], "  ..."]


def _length(stacks: list[_Stack], deepest: int) -> int:
    return sum(len(_cut(stack, deepest)) + 1 for stack in stacks) - 1


def _is_idle(stack: _Stack) -> bool:
    places = [found[1] for line in stack if (found := _PLACE.match(line)) and not _LIBRARY.match(found[1])]
    ours = [index for index, place in enumerate(places) if "/mlports_worker/" in place]
    # What is further out than the machinery is the program that started it.
    return all("/mlports_worker/" in place for place in (places[: ours[-1]] if ours else places))
