"""Snapshot files without a worker: what is written is read, damage is seen, and what fails leaves the old one."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlports_worker import Failure, Worker
from mlports_worker.snapshots import Damaged, Every, Hooks, Snapshots, from_config, parse_every, read


class Kept:
    """A state, its snapshots in a file, and what was logged."""

    def __init__(self, path: Path, every: Every = 1) -> None:
        self.state: Any = None
        self.lines: list[tuple[str, str]] = []
        self.path = path
        hooks = Hooks(lambda: self.state, self._restore)
        self.snapshots = Snapshots(str(path), every, hooks, lambda level, text: self.lines.append((level, text)))

    def _restore(self, state: Any) -> None:
        self.state = state

    def keep(self, state: Any) -> None:
        """Takes a snapshot of this state."""
        self.state = state
        self.snapshots.take()


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path / "a.snapshot")


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=30)
@given(PLAIN)
def test_what_is_kept_comes_back(tmp_path_factory: pytest.TempPathFactory, state: Any) -> None:
    path = tmp_path_factory.mktemp("kept") / "a.snapshot"
    Kept(path).keep(state)
    later = Kept(path)
    assert later.snapshots.restore() is None
    assert later.state == state


def test_arrays_come_back(kept: Kept) -> None:
    small, large = np.arange(3.0), np.arange(100_000, dtype="float32").reshape(10, -1)
    kept.keep({"small": small, "large": large})
    later = Kept(kept.path)
    later.snapshots.restore()
    for name, array in (("small", small), ("large", large)):
        np.testing.assert_array_equal(later.state[name], array)
        assert later.state[name].dtype == array.dtype


def test_without_a_file_nothing_is_restored(kept: Kept) -> None:
    kept.state = "of its set-up"
    assert kept.snapshots.restore() is None
    assert kept.state == "of its set-up"


@given(st.data())
def test_damage_anywhere_is_seen(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Cut short, made longer, or any one bit turned: never another state, and never an error of another kind."""
    path = tmp_path_factory.mktemp("kept") / "a.snapshot"
    Kept(path).keep({"weights": list(range(20)), "name": "w"})
    content = bytearray(path.read_bytes())
    damage = data.draw(st.sampled_from(["cut", "longer", "turned"]))
    if damage == "cut":
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    elif damage == "longer":
        content += data.draw(st.binary(min_size=1, max_size=8))
    else:
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    with pytest.raises(Damaged):
        read(str(path))


def test_a_damaged_file_is_put_aside_and_told(kept: Kept) -> None:
    kept.keep([1, 2, 3])
    kept.path.write_bytes(kept.path.read_bytes()[:-1])
    later = Kept(kept.path)
    trouble = later.snapshots.restore()
    assert trouble is not None
    assert str(kept.path) in trouble
    assert "not whole" in trouble
    assert later.state is None
    assert not kept.path.exists()
    assert Path(f"{kept.path}.damaged").exists()


def test_every_so_many_calls(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "a.snapshot", every=3)
    for calls in range(1, 8):
        kept.state = calls
        kept.snapshots.after_call()
        if calls >= 3:
            assert read(str(kept.path)) == calls - calls % 3
    kept.snapshots.finish()
    assert read(str(kept.path)) == 7


def test_every_so_many_seconds_and_only_when_something_was_called(tmp_path: Path) -> None:
    soon, late = Kept(tmp_path / "soon", every=1e-9), Kept(tmp_path / "late", every=3600.0)
    assert (soon.snapshots.pause, late.snapshots.pause) == (1e-9, 3600.0)
    soon.snapshots.after_pause()
    assert not soon.path.exists()
    for kept in (soon, late):
        kept.snapshots.after_call()
    soon.snapshots.finish()
    assert soon.path.exists()
    assert not late.path.exists()
    late.snapshots.finish()
    assert late.path.exists()


def test_where_time_counts_no_call_waits_for_the_disk(tmp_path: Path) -> None:
    kept, slow = Kept(tmp_path / "a", every=1e-9), tmp_path / ".a.unfinished"
    os.mkfifo(slow)  # whoever opens it to write waits until somebody reads
    kept.state = np.zeros(1000)
    kept.snapshots.after_call()
    kept.state[:] = 1.0  # what is under way has the old ones
    kept.snapshots.after_call()  # nor is there a second one meanwhile
    assert not kept.lines
    with slow.open("rb") as file:
        assert len(file.read()) > 8000
    kept.snapshots.finish()  # a pipe cannot be synced, and a failure is told at the next step
    assert [level for level, _ in kept.lines] == ["error", "info"]
    assert read(str(kept.path)).tolist() == [1.0] * 1000


def test_what_handlers_change_while_it_is_written_is_not_in_it(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "a", every=1e-9)
    kept.state = np.zeros(1_000_000)
    kept.snapshots.after_call()
    kept.state[:] = 1.0
    kept.state = None
    kept.snapshots.finish()
    assert not read(str(kept.path)).any()


def test_a_life_that_ends_within_a_process_leaves_nothing_half_written(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "a", every=1e-9)
    kept.snapshots.wait()
    kept.state = bytes(5_000_000)
    kept.snapshots.after_call()
    kept.snapshots.wait()
    assert os.listdir(tmp_path) == ["a"]
    assert read(str(kept.path)) == kept.state


def test_a_state_that_has_not_changed_is_not_written_again(kept: Kept) -> None:
    kept.keep("a")
    first = os.stat(kept.path).st_ino
    kept.keep("a")
    assert os.stat(kept.path).st_ino == first
    kept.keep("b")
    assert os.stat(kept.path).st_ino != first
    kept.path.unlink()
    kept.keep("b")
    assert read(str(kept.path)) == "b"


# -- what goes wrong


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file may grow past 64 KiB, as if the disk were full then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("small_files")
def test_a_full_disk_leaves_the_old_one_and_is_told_once(kept: Kept, tmp_path: Path) -> None:
    kept.keep("old")
    for _ in range(3):
        kept.keep(b"x" * 100_000)
    assert read(str(kept.path)) == "old"
    assert os.listdir(tmp_path) == ["a.snapshot"]
    ((level, text),) = kept.lines
    assert level == "error"
    assert str(kept.path) in text
    assert "the one before it stays" in text
    kept.keep("there is room again")
    assert kept.lines[1] == ("info", "snapshots are taken again: 3 had failed")
    assert read(str(kept.path)) == "there is room again"


def test_what_could_not_be_written_is_kept_later_though_nothing_more_is_called(tmp_path: Path) -> None:
    for name, every in (("calls", 1), ("time", 1e-9)):
        kept = Kept(tmp_path / name, every)
        kept.state = "of the last call"
        obstacle = tmp_path / f".{name}.unfinished"
        obstacle.mkdir()
        kept.snapshots.after_call()
        while not kept.lines:
            kept.snapshots.after_pause()
        obstacle.rmdir()
        kept.snapshots.finish()
        assert read(str(kept.path)) == "of the last call"
        assert [level for level, _ in kept.lines] == ["error", "info"]


def test_without_room_for_a_thread_a_snapshot_has_failed_and_the_worker_goes_on(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "a", every=1e-9)
    kept.state = "of the last call"
    # More than any address space has: as where there is no memory for one.
    before = threading.stack_size(2**60)
    try:
        kept.snapshots.after_call()
    finally:
        threading.stack_size(before)
    ((level, text),) = kept.lines
    assert level == "error"
    assert "thread" in text
    kept.snapshots.finish()
    assert read(str(kept.path)) == "of the last call"


@pytest.mark.parametrize("state", [object(), {"a": {1, 2}}, 2**70])
def test_a_state_that_cannot_be_kept_is_told_and_nothing_else_happens(kept: Kept, state: Any) -> None:
    kept.keep("old")
    kept.keep(state)
    assert read(str(kept.path)) == "old"
    assert kept.lines[0][0] == "error"


def test_a_hook_that_raises_is_told_and_nothing_else_happens(tmp_path: Path) -> None:
    lines: list[str] = []

    def take() -> Any:
        raise ValueError("not now")

    Snapshots(str(tmp_path / "a"), 1, Hooks(take, print), lambda _, text: lines.append(text)).take()
    assert "ValueError: not now" in lines[0]
    assert "there is none yet" in lines[0]


KILLED = """
import os, signal, sys
from mlports_worker.snapshots import Hooks, Snapshots
state = "old"
def die(*_): os.kill(os.getpid(), signal.SIGKILL)
kept = Snapshots(sys.argv[1], 1, Hooks(lambda: state, print), print)
kept.take()
state = "new" * 1000
sys.addaudithook(lambda event, _: event == sys.argv[2] and die())
kept.take()
"""


@pytest.mark.parametrize("moment", ["open", "os.rename"])
def test_a_process_killed_while_it_writes_leaves_the_old_one(tmp_path: Path, moment: str) -> None:
    """Killed as the new file is opened, and when it is whole and about to take the old one's place."""
    path = tmp_path / "a.snapshot"
    done = subprocess.run([sys.executable, "-c", KILLED, str(path), moment], check=False, env=os.environ)
    assert done.returncode == -9
    assert read(str(path)) == "old"
    later = Kept(path)
    later.keep("later")
    assert os.listdir(tmp_path) == ["a.snapshot"]


# -- config


@pytest.mark.parametrize(
    ("given", "every"), [(1, 1), (500, 500), ("5s", 5.0), ("500ms", 0.5), ("1.5m", 90.0), ("1h", 3600.0)]
)
def test_how_often_is_calls_or_a_time(given: Any, every: Every) -> None:
    assert parse_every(given) == every
    assert type(parse_every(given)) is type(every)


@pytest.mark.parametrize("given", [0, -1, True, 1.5, "5", "0s", "s", "-1s", "5 s", None, []])
def test_how_often_is_nothing_else(given: Any) -> None:
    with pytest.raises(Failure, match=r"snapshot\.every"):
        parse_every(given)


HOOKS = Hooks(lambda: None, print)


def test_a_file_for_each_replica_in_a_folder_that_is_made(tmp_path: Path) -> None:
    config = {"snapshot": {"dir": str(tmp_path / "of" / "mine")}}
    paths = {
        made.path
        for owner, replica in (("a", 0), ("a", 1), ("a/b", 0), ("..", 0))
        if (made := from_config(config, owner, replica, HOOKS, print))
    }
    assert {os.path.dirname(path) for path in paths} == {str(tmp_path / "of" / "mine")}
    assert len(paths) == 4


@pytest.mark.parametrize("given", ["here", {}, {"dir": 5}, {"dir": "x", "evry": 1}, {"dir": "x", "every": 0}])
def test_a_wrong_config_is_refused(given: Any) -> None:
    with pytest.raises(Failure, match=r"config: snapshot"):
        from_config({"snapshot": given}, "a", 0, HOOKS, print)


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Failure, match="cannot be made"):
        from_config({"snapshot": {"dir": str(tmp_path / "file" / "in")}}, "a", 0, HOOKS, print)


def test_without_the_key_nothing_is_kept() -> None:
    assert from_config({}, "a", 0, HOOKS, print) is None


def test_hooks_are_never_async() -> None:
    async def later() -> None: ...

    worker = Worker("a")
    for decorate in (worker.snapshot, worker.restore):
        with pytest.raises(TypeError, match="later cannot be async"):
            decorate(later)
