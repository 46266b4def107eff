"""Dumps of stacks: found among other lines, bounded, and told briefly."""

from __future__ import annotations

import pytest

from mlports.core.stacks import innermost, stacks_in

LIBRARY = "/usr/lib/python3.11"
SDK = "/srv/venv/lib/python3.11/site-packages/mlports_worker"

WATCHING = [
    "Thread 0x00007fe88ec556c0 (most recent call first):",
    f'  File "{SDK}/connection.py", line 286 in _watch',
    f'  File "{LIBRARY}/threading.py", line 982 in run',
    f'  File "{LIBRARY}/threading.py", line 1002 in _bootstrap',
]
POOL = [
    "Thread 0x00007fe88ec556c1 (most recent call first):",
    f'  File "{LIBRARY}/concurrent/futures/thread.py", line 81 in _worker',
    f'  File "{LIBRARY}/threading.py", line 1002 in _bootstrap',
]
WAITING = [
    "Current thread 0x00007fe88fcafb80 (most recent call first):",
    f'  File "{SDK}/connection.py", line 220 in next_work',
    f'  File "{SDK}/serving.py", line 111 in run',
    f'  File "{SDK}/worker.py", line 99 in run',
    '  File "/srv/digits.py", line 40 in <module>',
]
AT_WORK = [
    "Current thread 0x00007fe88fcafb80 (most recent call first):",
    '  File "/srv/venv/lib/python3.11/site-packages/numpy/linalg.py", line 7 in svd',
    '  File "/srv/digits.py", line 11 in predict',
    f'  File "{SDK}/serving.py", line 111 in run',
    f'  File "{SDK}/worker.py", line 99 in run',
    '  File "/srv/digits.py", line 40 in <module>',
]
IN_THE_LOOP = [
    "Thread 0x00007fe88ec556c2 (most recent call first):",
    '  File "/srv/digits.py", line 15 in watch',
    f'  File "{SDK}/serving.py", line 301 in _run_async',
    f'  File "{LIBRARY}/asyncio/base_events.py", line 607 in run_forever',
    f'  File "{SDK}/handler_loop.py", line 33 in _run',
    f'  File "{LIBRARY}/threading.py", line 1002 in _bootstrap',
]
IMPORTING = [
    "Current thread 0x00007fe88fcafb80 (most recent call first):",
    '  File "<frozen importlib._bootstrap_external>", line 940 in exec_module',
    '  File "<frozen importlib._bootstrap>", line 1147 in _find_and_load',
    '  File "/srv/digits.py", line 2 in <module>',
]


def dump(*stacks: list[str]) -> list[str]:
    return [line for stack in stacks for line in ["", *stack]][1:]


def test_a_dump_among_other_lines() -> None:
    whole = dump(WATCHING, AT_WORK)
    assert list(stacks_in(whole)) == whole
    noise = ["epoch 3", "Traceback (most recent call last):", '  File "/srv/digits.py", line 3, in f', "    f()", ""]
    mixed = list(noise)
    for line in whole:
        mixed += [line, *noise]
    assert list(stacks_in(mixed)) == whole


@pytest.mark.parametrize("lines", [[], ["Thread pool started"], ["", ""], ['  File "a.py", line 1 in f'], ["  ..."]])
def test_no_dump(lines: list[str]) -> None:
    assert stacks_in(lines) == ()
    assert innermost(lines) == []


@pytest.mark.parametrize(
    "line",
    [
        '  File "/srv/a b \\"c\\", line 1 in d.py", line 3 in f',
        '  File "/srv/digits.py", line 3 in <listcomp>',
        "  File ???, line ??? in ???",
        "  <no Python frame>",
        "  <invalid frame>",
        "  Garbage-collecting",
        "  ...",
    ],
)
def test_whatever_faulthandler_writes_for_a_frame_is_one(line: str) -> None:
    lines = ["Current thread 0x00007fe88fcafb80 (most recent call first):", line]
    assert list(stacks_in(lines)) == lines


@pytest.mark.parametrize(
    "line",
    [
        "Thread 0x00007fe88ec556c0 (most recent call first):",
        "Current thread 0x00007fe88fcafb80 (most recent call first):",
        "Thread 0x00007fe88ec556c0 [worker 1] (most recent call first):",
        "Current thread 0x0000000100604580 [python] (most recent call first):",
    ],
)
def test_whatever_faulthandler_writes_for_a_thread_begins_a_stack(line: str) -> None:
    """Since Python 3.14 threads are told by name."""
    assert stacks_in([line]) == (line,)


def test_a_long_dump_is_cut_in_every_thread_alike_and_no_thread_is_lost() -> None:
    threads = [
        [
            f"Thread 0x{n:016x} (most recent call first):",
            *(f'  File "a.py", line {d} in f' for d in range(100)),
            "  ...",
        ]
        for n in range(99)
    ]
    found = stacks_in(dump(*threads, AT_WORK))
    assert len(found) <= 500
    assert sum("hread 0x" in line for line in found) == 100
    assert found[-4:] == (*AT_WORK[:3], "  ...")


def test_a_single_deep_stack_keeps_its_innermost_frames() -> None:
    stack = [AT_WORK[0], *(f'  File "a.py", line {depth} in f' for depth in range(20_000))]
    assert list(stacks_in(stack)) == [*stack[:499], "  ..."]


def test_the_newest_of_many_dumps_is_kept() -> None:
    found = stacks_in(dump(*([POOL] * 10_000), AT_WORK))
    assert len(found) <= 500
    assert found[-4:] == (*AT_WORK[:3], "  ...")


def test_long_lines_are_cut() -> None:
    assert max(map(len, stacks_in([AT_WORK[0], '  File "' + "x" * 8000 + '", line 3 in f', "  ..."]))) <= 1200


@pytest.mark.parametrize(
    ("stacks", "told"),
    [
        ([WATCHING, POOL, AT_WORK], [AT_WORK]),
        ([IN_THE_LOOP, WAITING], [IN_THE_LOOP]),
        ([WATCHING, IN_THE_LOOP, AT_WORK], [AT_WORK, IN_THE_LOOP]),
        ([POOL, IMPORTING], [IMPORTING]),
        ([WATCHING, WAITING], [WAITING, WATCHING]),
    ],
)
def test_told_is_what_is_at_work_and_the_main_thread_first(stacks: list[list[str]], told: list[list[str]]) -> None:
    assert innermost(dump(*stacks)) == [line for stack in told for line in stack]


def test_what_is_told_is_bounded() -> None:
    deep = [AT_WORK[0], *(f'  File "a.py", line {depth} in f' for depth in range(100))]
    assert innermost(deep) == [*deep[:15], "  ..."]
    assert innermost(dump(deep, deep)) == [*deep[:7], "  ..."] * 2
    assert innermost(dump(*([deep] * 100))) == [*deep[:3], "  ..."] * 4
    assert innermost(dump(deep, deep), most=5) == [*deep[:3], "  ..."]
