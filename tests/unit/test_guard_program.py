"""What the guard makes of its orchestrator's lines, and which processes it holds for the orchestrator's own."""

from __future__ import annotations

import os

import pytest

from mlports.runtime.guard_program import Registry, Stat, descendants, parse_stat, read_stat

LINES = b"+101 7\n+102 8\n+103 9\n-102\n"


def process(parent: int = 1, group: int = 50, session: int = 50, started: int = 100) -> Stat:
    """One that is nobody's of ours, but for what is said."""
    return parent, group, session, started, False


# -- the orchestrator's lines


@pytest.mark.parametrize("size", [1, 2, 5, len(LINES)])
def test_lines_are_understood_however_they_are_cut(size: int) -> None:
    registry = Registry()
    for at in range(0, len(LINES), size):
        registry.feed(LINES[at : at + size])
    assert registry.workers == {101: 7, 103: 9}
    assert not registry.ended


@pytest.mark.parametrize(
    "line",
    [
        *(
            b"",
            b"+",
            b"-",
            b"+ ",
            b"+101",
            b"+101 x",
            b"+101 1 2",
            b"-101 7",
            b"+-101 7",
            b"*101 7",
            b"..",
            b"==",
            b"\xff\0",
        ),
        *(b"+0 0", b"+1 7", b"+2147483648 7", b"+" + b"1" * 5000 + b" 7", b"+102 8" + b" " * 100, b"-0101 7"),
    ],
)
def test_a_line_that_makes_no_sense_is_ignored(line: bytes) -> None:
    registry = Registry()
    registry.feed(b"+101 7\n" + line + b"\n+103 9\n")
    assert registry.workers == {101: 7, 103: 9}
    assert not registry.ended


def test_what_never_ends_takes_no_memory_and_is_no_line_at_its_end() -> None:
    registry = Registry()
    for _ in range(100):
        registry.feed(b"+1" * 1000)
    registry.feed(b"\n+103 9\n")
    assert registry.workers == {103: 9}


def test_a_line_without_its_end_is_none() -> None:
    registry = Registry()
    registry.feed(b"+101 7\n+102 8")
    assert registry.workers == {101: 7}


def test_all_may_be_forgotten_and_named_anew() -> None:
    registry = Registry()
    registry.feed(LINES + b"=\n+104 1\n")
    assert registry.workers == {104: 1}


def test_the_end_is_said() -> None:
    registry = Registry()
    registry.feed(LINES + b".\n")
    assert registry.ended


# -- one process, as /proc shows it


def stat_line(name: str, state: str = "S", threads: int = 1) -> bytes:
    rest = f"{state} 11 12 13 0 -1 4194304 0 0 0 0 1 2 3 4 20 0 {threads} 0 777 1000 200 18446744073709551615"
    return f"4242 ({name}) {rest}\n".encode()


@pytest.mark.parametrize("name", ["sleep", "a b", ") S 1 1 1 (", "(((", ")\n) Z 9", ""])
def test_a_name_may_hold_anything(name: str) -> None:
    assert parse_stat(stat_line(name)) == (11, 12, 13, 777, False)


def test_a_zombie_is_dead_but_not_one_whose_other_threads_run_on() -> None:
    assert parse_stat(stat_line("x", "Z")) == (11, 12, 13, 777, True)
    assert parse_stat(stat_line("x", "X", 0)) == (11, 12, 13, 777, True)
    assert parse_stat(stat_line("x", "Z", 3)) == (11, 12, 13, 777, False)
    assert parse_stat(stat_line("x", "T")) == (11, 12, 13, 777, False)


def test_what_is_not_whole_is_none() -> None:
    line = stat_line("a b")
    for end in (0, 1, 8, 20, 40):
        assert parse_stat(line[:end]) is None


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="there is no /proc here to read")
def test_this_process_is_read() -> None:
    stat = read_stat(os.getpid())
    assert stat is not None
    assert stat[:3] == (os.getppid(), os.getpgrp(), os.getsid(0))
    assert not stat[4]


# -- whose processes are they


def test_strangers_are_nobodys() -> None:
    table = {101: process(), 102: process(parent=101), 50: process()}
    assert descendants(table, set(), {}, set()) == set()


def test_what_carries_the_token_is_ours_and_what_descends_from_it() -> None:
    table = {101: process(), 102: process(parent=101), 103: process(parent=102), 104: process()}
    assert descendants(table, {101}, {}, set()) == {101, 102, 103}


def test_a_descendant_may_have_a_smaller_pid() -> None:
    table = {101: process(parent=102), 102: process(parent=103), 103: process()}
    assert descendants(table, {103}, {}, set()) == {101, 102, 103}


def test_a_registered_worker_is_ours_if_it_started_when_it_was_registered() -> None:
    table = {101: process(started=100), 102: process(started=100)}
    assert descendants(table, set(), {101: 100, 102: 99}, set()) == {101}


def test_its_group_and_its_session_are_ours() -> None:
    table = {101: process(group=101, session=101), 102: process(group=101), 103: process(session=101)}
    assert descendants(table, set(), {101: 100}, set()) == {101, 102, 103}


def test_a_dead_workers_group_and_session_are_ours() -> None:
    table = {102: process(group=101, started=100), 103: process(session=101, started=200)}
    assert descendants(table, set(), {101: 100}, set()) == {102, 103}


def test_nobody_in_a_group_is_older_than_its_leader() -> None:
    table = {102: process(group=101, started=99), 103: process(session=101, started=99)}
    assert descendants(table, set(), {101: 100}, set()) == set()


def test_a_pid_that_was_given_anew_leads_a_strangers_group() -> None:
    stranger = process(group=101, session=101, started=150)
    table = {101: stranger, 102: process(parent=101, group=101, session=101, started=160)}
    assert descendants(table, set(), {101: 100}, set()) == set()


def test_the_session_of_one_that_carries_the_token_is_ours() -> None:
    table = {101: process(group=101, session=101), 102: process(group=102, session=101)}
    assert descendants(table, {101}, {}, set()) == {101, 102}


def test_who_is_spared_is_spared_with_all_that_is_ours_only_through_it() -> None:
    table = {
        1: process(parent=0),
        101: process(group=101),
        102: process(parent=101, group=101),
        103: process(parent=102),
    }
    assert descendants(table, {1, 101}, {101: 100}, {1, 101}) == {102, 103}  # a dead leader's group would be ours too
    assert descendants(table, {101}, {}, {1, 101}) == set()
    assert descendants(table, {101, 103}, {}, {102}) == {101, 103}
