"""The leak check catches what it is there to catch, names it, and lets everything else pass."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from tests import leaks

needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="there is no /proc here to read")

BRIEF = 0.1
"""Seconds of patience in a test that knows that the leak will stay."""


@pytest.fixture
def before() -> leaks.Snapshot:
    return leaks.snapshot()


@needs_proc
def test_a_running_child_is_a_leak(before: leaks.Snapshot) -> None:
    """Guards the reason for all this: a worker that outlives its test."""
    child = subprocess.Popen(["sleep", "61"])
    try:
        (found,) = leaks.leaks(before, BRIEF)
        assert found == f"process {child.pid} (child of {os.getpid()}): sleep 61"
    finally:
        child.kill()
        child.wait()
    assert leaks.leaks(before, leaks.PATIENCE) == []


@needs_proc
def test_an_unreaped_child_is_a_leak(before: leaks.Snapshot) -> None:
    """Guards "always reap": a child that has exited and was not waited for is a zombie, and is called one."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    try:
        (found,) = leaks.leaks(before, BRIEF)
        assert str(child.pid) in found
        assert "zombie" in found
    finally:
        child.wait()
    assert leaks.leaks(before, leaks.PATIENCE) == []


@needs_proc
def test_an_orphan_in_a_session_of_its_own_is_a_leak_and_can_be_ended(before: leaks.Snapshot) -> None:
    """Guards against the grandchild that called setsid and whose parent has died: no tree of processes leads to it."""
    parent = """if True:
        import subprocess
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        print(subprocess.Popen(["sleep", "62"], start_new_session=True, **silent).pid)
    """
    orphan = int(subprocess.run([sys.executable, "-c", parent], check=True, capture_output=True, text=True).stdout)
    try:
        (found,) = leaks.leaks(before, BRIEF)
        assert f"process {orphan} " in found
        assert found.endswith("sleep 62")
    finally:
        leaks.end_processes(before)
    assert leaks.leaks(before, leaks.PATIENCE) == []


@needs_proc
def test_ending_leaked_processes_reaps_our_own_children(before: leaks.Snapshot) -> None:
    """Guards the next test: what one leaked is gone, not merely killed."""
    child = subprocess.Popen(["sleep", "65"])
    leaks.end_processes(before)
    assert leaks.leaks(before, leaks.PATIENCE) == []
    child.wait()


@needs_proc
def test_an_open_file_is_a_leak(before: leaks.Snapshot, tmp_path: Path) -> None:
    """Guards against descriptors left open; the line says on what."""
    path = tmp_path / "left open"
    fd = os.open(path, os.O_CREAT | os.O_WRONLY)
    try:
        assert leaks.leaks(before, BRIEF) == [f"file descriptor {fd}: {path}"]
    finally:
        os.close(fd)
    assert leaks.leaks(before, leaks.PATIENCE) == []


@needs_proc
def test_a_descriptor_that_took_the_number_of_a_closed_one_is_a_leak() -> None:
    """Guards against counting: one closed and one opened leave as many as there were."""
    old = socket.socket()
    number = old.fileno()
    before = leaks.snapshot()
    old.close()
    with socket.socket() as new:
        assert new.fileno() == number
        (found,) = leaks.leaks(before, BRIEF)
        assert found.startswith(f"file descriptor {number}: socket:")
    assert leaks.leaks(before, leaks.PATIENCE) == []


def test_a_running_thread_is_a_leak(before: leaks.Snapshot) -> None:
    """Guards the blocking facade and every executor: daemons count too, for they keep a test's objects alive."""
    release = threading.Event()
    thread = threading.Thread(target=release.wait, name="left running", daemon=True)
    thread.start()
    try:
        assert leaks.leaks(before, BRIEF) == ["thread 'left running' (daemon)"]
    finally:
        release.set()
        thread.join()
    assert leaks.leaks(before, leaks.PATIENCE) == []


@needs_proc
def test_a_segment_is_a_leak(before: leaks.Snapshot) -> None:
    """Guards shared memory, which outlives every process that used it."""
    segment = Path("/dev/shm") / f"mlports-test-{os.getpid()}"
    segment.touch()
    try:
        assert leaks.leaks(before, BRIEF) == [f"shared-memory segment {segment}"]
    finally:
        segment.unlink()
    assert leaks.leaks(before, leaks.PATIENCE) == []


def test_what_is_on_its_way_out_is_waited_for(before: leaks.Snapshot) -> None:
    """Guards against false alarms: a thread that ends a moment after its test is no leak."""
    release = threading.Event()
    seen = threading.Event()

    def linger() -> None:
        seen.set()
        release.wait()

    thread = threading.Thread(target=linger)
    thread.start()
    assert seen.wait(10)
    threading.Timer(0.05, release.set).start()
    assert leaks.leaks(before, leaks.PATIENCE) == []
    assert not thread.is_alive()


def test_what_is_unreachable_is_collected_first(before: leaks.Snapshot, tmp_path: Path) -> None:
    """Guards against false alarms: an exception's traceback can keep a finished test's objects in a cycle."""

    class Holder:
        def __init__(self) -> None:
            self.itself = self
            self.fd = os.open(tmp_path / "held", os.O_CREAT | os.O_WRONLY)

        def __del__(self) -> None:
            os.close(self.fd)

    Holder()
    assert leaks.leaks(before, BRIEF) == []


@needs_proc
async def test_an_open_socket_is_a_leak_in_an_async_test_too() -> None:
    """Guards async tests: the loop's own descriptors are no leak, those opened on it are."""
    before = leaks.snapshot()
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    try:
        (found,) = leaks.leaks(before, BRIEF)
        assert "socket:" in found
    finally:
        server.close()
        await server.wait_closed()
    assert leaks.leaks(before, leaks.PATIENCE) == []


def test_the_check_fails_the_test_that_leaks_and_no_other(tmp_path: Path) -> None:
    """Guards the fixture itself: a whole run of pytest over leaking and clean tests, async ones among them."""
    (tmp_path / "test_sample.py").write_text(
        textwrap.dedent(
            """
            import asyncio, os, subprocess, threading

            kept = []

            def test_leaks_a_process():
                kept.append(subprocess.Popen(["sleep", "63"]))

            def test_leaks_a_descriptor():
                kept.append(os.open(os.devnull, os.O_RDONLY))

            async def test_leaks_a_child_of_the_loop():
                kept.append(await asyncio.create_subprocess_exec("sleep", "64"))

            async def test_leaks_a_socket():
                kept.append((await asyncio.get_running_loop().run_in_executor(None, __import__("socket").socket)))

            def test_leaks_a_thread():
                threading.Thread(target=threading.Event().wait, name="for ever", daemon=True).start()

            def test_is_clean():
                subprocess.run(["true"], check=True)

            async def test_is_clean_and_async():
                child = await asyncio.create_subprocess_exec("cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                assert (await child.communicate(b"x"))[0] == b"x"
                await asyncio.to_thread(len, "")

            def test_is_clean_with_a_loop_of_its_own():
                asyncio.run(asyncio.to_thread(len, ""))
            """
        )
    )
    (tmp_path / "conftest.py").write_text(
        "from tests.conftest import no_leaks\nfrom tests import leaks\nleaks.PATIENCE = 0.3\n"
    )
    root = Path(__file__).parents[2]
    options = f"-q -p no:cacheprovider -c {os.devnull} -o asyncio_mode=auto --import-mode=importlib".split()
    command = [sys.executable, "-m", "pytest", *options, "--rootdir", str(tmp_path), "-o", f"pythonpath={root}"]
    done = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, check=False)
    failed = {line.split()[1].partition("::")[2] for line in done.stdout.splitlines() if line.startswith("ERROR ")}
    assert failed == {
        "test_leaks_a_process",
        "test_leaks_a_descriptor",
        "test_leaks_a_child_of_the_loop",
        "test_leaks_a_socket",
        "test_leaks_a_thread",
    }, done.stdout + done.stderr
    assert "8 passed, 5 errors" in done.stdout
