"""What the system says of the memory and the time that processes take, and control groups that limit it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from mlports.runtime.cgroup import MemoryGroup, own_group
from mlports.runtime.memory import cpu_seconds, is_stopped, oom_kills, resident_by_group
from tests.workers import until_blocking

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only Linux has /proc")

MIB = 1024 * 1024
BEGINNING = """
import hashlib, os, sys, threading, time
def up():
    print("up", flush=True)
    sys.stdin.read()
"""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a Python program in a session of its own; gives it when it has called `up()`, where it then stays."""
    started = []

    def start(code: str, wait: bool = True) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", BEGINNING + code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        if wait:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
        return process

    yield start
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with process:
            pass


def resident(pid: int) -> int:
    """What the kernel tells people."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


def test_the_memory_of_a_process(start: Start) -> None:
    small, large = start("up()"), start("x = bytearray(os.urandom(1)) * (64 * 2**20); up()")
    sizes = resident_by_group()
    for process in (small, large):
        assert abs(sizes[process.pid] - resident(process.pid)) < 2 * MIB
    assert 62 * MIB < sizes[large.pid] - sizes[small.pid] < 70 * MIB


def test_the_memory_of_a_group_is_that_of_all_in_it(start: Start) -> None:
    leader = start("if not os.fork():\n    x = b'x' * (64 * 2**20)\nup()\n")
    assert leader.stdout is not None
    assert leader.stdout.readline() == "up\n"  # the other one
    assert resident_by_group()[leader.pid] >= resident(leader.pid) + 62 * MIB


def test_no_name_of_a_process_can_confuse_the_numbers_behind_it(start: Start) -> None:
    odd = start("open('/proc/self/comm', 'w').write('a) R 1 (\\n) 2 3'); x = b'x' * (64 * 2**20); up()")
    assert ")" in Path(f"/proc/{odd.pid}/comm").read_text()
    assert abs(resident_by_group()[odd.pid] - resident(odd.pid)) < 2 * MIB
    assert not is_stopped(odd.pid)
    assert cpu_seconds(odd.pid) is not None


def test_processes_that_come_and_go_meanwhile_do_no_harm(start: Start) -> None:
    busy = start("import subprocess\nprint('up', flush=True)\nwhile True: subprocess.run(['true'])")
    own = os.getpgid(0)
    for _ in range(100):
        assert resident_by_group()[own] > MIB
    assert busy.poll() is None


def test_what_has_ended_takes_no_memory_and_no_time(start: Start) -> None:
    process = start("", wait=False)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert resident_by_group().get(process.pid, 0) == 0, "not yet collected"
    assert cpu_seconds(process.pid) is not None
    process.wait()
    assert process.pid not in resident_by_group()
    assert cpu_seconds(process.pid) is None
    assert not is_stopped(process.pid)


def test_the_time_on_the_processors(start: Start) -> None:
    idle = start("up()")
    busy = start("while time.process_time() < 0.5: pass\nup()")
    work = "[hashlib.sha256(bytes(2**20)) for _ in range(99)]"
    threads = start(f"t = threading.Thread(target=lambda: {work}); t.start(); t.join(); up()")
    times = [cpu_seconds(process.pid) or 0.0 for process in (idle, busy, threads)]
    assert times[0] < 0.4 < 0.5 - 0.02 <= times[1] < 5
    assert times[2] > 0.02, "of threads other than the main one too"
    before = cpu_seconds(idle.pid)
    assert before == cpu_seconds(idle.pid)


def test_a_stopped_process_is_told_from_a_running_one(start: Start) -> None:
    process = start("up()")
    assert not is_stopped(process.pid)
    process.send_signal(signal.SIGSTOP)
    until_blocking(lambda: is_stopped(process.pid), "it is stopped")
    process.send_signal(signal.SIGCONT)
    until_blocking(lambda: not is_stopped(process.pid), "it goes on")


@pytest.fixture
def tight(tmp_path: Path) -> Iterator[Path]:
    """A control group of version 1 whose processes may have 48 MiB."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    places = [line.split(":", 2)[2] for line in lines if line.split(":", 2)[1] == "memory"]
    parents = [parent for place in places if (parent := Path(f"/sys/fs/cgroup/memory{place}")).is_dir()]
    if not parents:
        pytest.skip("there is no memory controller of version 1 here")
    path = parents[0] / f"mlports-test-{os.getpid()}"
    try:
        path.mkdir()
    except OSError as error:
        pytest.skip(f"cannot make a control group: {error}")
    (path / "memory.limit_in_bytes").write_text(str(48 * MIB))
    yield path
    until_blocking(lambda: not (path / "cgroup.procs").read_text(), "the group is empty")
    path.rmdir()


def test_the_kernel_counts_whom_it_kills_for_want_of_memory(start: Start, tight: Path) -> None:
    before = oom_kills()
    assert before is not None
    process = start("up(); x = b'x' * (200 * 2**20)")
    (tight / "cgroup.procs").write_text(str(process.pid))
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(20) == -signal.SIGKILL
    after = oom_kills()
    assert after is not None
    assert after > before


# -- control groups

SYSTEMD = """\
24 30 0:22 / /proc rw,nosuid shared:12 - proc proc rw
30 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
"""
HYBRID = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""
CONTAINER = "51 40 0:26 /docker/abc /sys/fs/cgroup rw,nosuid - cgroup2 cgroup rw\n"
SERVICE = "0::/system.slice/mlports.service/main\n"


@pytest.mark.parametrize(
    ("mountinfo", "membership", "path"),
    [
        (SYSTEMD, SERVICE, "/sys/fs/cgroup/system.slice/mlports.service/main"),
        (SYSTEMD, "0::/\n", "/sys/fs/cgroup"),
        (HYBRID, "4:memory:/a\n1:name=systemd:/b\n0::/\n", "/sys/fs/cgroup/unified"),
        (HYBRID, "4:memory:/a\n0::/c:d\n", "/sys/fs/cgroup/unified/c:d"),
        (CONTAINER, "0::/docker/abc/w\n", "/sys/fs/cgroup/w"),
        (CONTAINER, "0::/docker/abc\n", "/sys/fs/cgroup"),
        ("51 40 0:26 / /a\\040b\\134040 rw shared:1 master:2 - cgroup2 x rw\n", "0::/w\n", "/a b\\040/w"),
        (CONTAINER + SYSTEMD, "0::/w\n", "/sys/fs/cgroup/w"),
    ],
)
def test_where_the_own_group_is(mountinfo: str, membership: str, path: str) -> None:
    assert own_group(mountinfo, membership) == (Path(path), "")


@pytest.mark.parametrize(
    ("mountinfo", "membership", "why"),
    [
        ("", "0::/\n", "no cgroup v2 is mounted"),
        (HYBRID.replace("cgroup2 cgroup2", "cgroup cgroup"), "0::/\n", "no cgroup v2 is mounted"),
        (SYSTEMD, "", "this process is in no group of cgroup v2"),
        (SYSTEMD, "4:memory:/\n", "this process is in no group of cgroup v2"),
        (
            SYSTEMD.replace(" / /sys/fs/cgroup rw", " / /sys/fs/cgroup ro"),
            "0::/\n",
            "/sys/fs/cgroup is mounted read-only",
        ),
        (CONTAINER, "0::/docker/other\n", "the group of this process is not below /sys/fs/cgroup"),
        (CONTAINER, "0::/docker/abcd\n", "the group of this process is not below /sys/fs/cgroup"),
        (SYSTEMD, "0::/../outside\n", "the group of this process is not below /sys/fs/cgroup"),
        (SYSTEMD.replace(" / /sys", " /../up /sys"), "0::/\n", "the group of this process is not below /sys/fs/cgroup"),
    ],
)
def test_why_there_is_no_group(mountinfo: str, membership: str, why: str) -> None:
    assert own_group(mountinfo, membership) == (None, why)


def make(name: str, *controllers: str) -> MemoryGroup:
    reasons: list[str] = []
    group = MemoryGroup.create(name, 48 * MIB, controllers=controllers, refused=reasons.append)
    if group is None:
        pytest.skip(reasons[0])
    return group


@pytest.fixture
def group() -> Iterator[MemoryGroup]:
    group = make(f"mlports-test-{os.getpid()}")
    yield group
    group.kill()
    until_blocking(group.remove, "the group is empty and removed")


def test_a_group_takes_processes_and_kills_them_all(group: MemoryGroup, start: Start) -> None:
    """Also one that was started in it and has left the session."""
    process = start("print('up', flush=True); sys.stdin.readline()\nif not os.fork():\n    os.setsid()\nup()\n")
    other = start("up()")
    assert group.add(process.pid)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    # Each of the two writes a line, in as many pieces as it likes.
    assert sorted(process.stdout.read(6)) == sorted("up\n" * 2)
    pids = [int(pid) for pid in (group.path / "cgroup.procs").read_text().split()]
    assert len(pids) == 2
    assert process.pid in pids
    assert not group.remove(), "it is not empty"
    assert group.kill()
    assert process.wait(20) == -signal.SIGKILL
    until_blocking(group.remove, "the group is empty")
    assert group.remove(), "once is enough"
    assert other.poll() is None


def test_what_is_not_there_is_told_and_raises_nothing(group: MemoryGroup, start: Start) -> None:
    process = start("", wait=False)
    process.wait()
    assert not group.add(process.pid)
    assert group.kill()
    assert group.remove()
    assert not group.add(os.getpid())
    assert group.kill(), "nothing is left"
    assert (group.oom_kills(), group.peak()) == (None, None)


def test_a_kernel_that_cannot_kill_a_group_is_made_up_for(tmp_path: Path, start: Start) -> None:
    """As far as that goes: it is not known here when the group is empty."""
    process = start("up()")
    (tmp_path / "cgroup.procs").write_text(f"{process.pid}\n")
    assert not MemoryGroup(tmp_path).kill()
    assert process.wait(20) == -signal.SIGKILL


def test_a_name_that_a_dead_one_left_is_taken_over_unless_somebody_is_in_it(group: MemoryGroup, start: Start) -> None:
    name = group.path.name
    again = make(name)
    assert again.path == group.path
    assert again.add(start("up()").pid)
    reasons: list[str] = []
    assert MemoryGroup.create(name, MIB, controllers=(), refused=reasons.append) is None
    assert reasons == [f"cannot make the group {group.path}: File exists"]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a"])
def test_a_name_that_leads_elsewhere_is_refused(group: MemoryGroup, name: str) -> None:
    reasons: list[str] = []
    assert MemoryGroup.create(name, MIB, controllers=(), refused=reasons.append) is None
    assert reasons == [f"{name!r} cannot be a group's name"]


def test_without_the_controller_there_is_none_and_the_reason_is_told() -> None:
    reasons: list[str] = []
    group = MemoryGroup.create("mlports-test-none", MIB, controllers=("no-such",), refused=reasons.append)
    assert group is None
    if "no-such" not in reasons[0]:
        pytest.skip(reasons[0])
    assert reasons[0].endswith(" has no no-such controller")


def test_a_limit_is_kept_by_the_kernel(start: Start) -> None:
    group = make(f"mlports-test-limit-{os.getpid()}", "memory")
    try:
        process = start("up(); x = b'x' * (200 * 2**20)")
        assert group.add(process.pid)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(20) == -signal.SIGKILL
        assert group.oom_kills() == 1
        assert (group.peak() or 48 * MIB) >= 40 * MIB
    finally:
        group.kill()
        until_blocking(group.remove, "the group is empty and removed")


WITHIN = """
import sys
from mlports.runtime.cgroup import MemoryGroup
print("up", flush=True)
sys.stdin.readline()
reasons = []
group = MemoryGroup.create("made", 1, controllers=sys.argv[1:], refused=reasons.append)
print(group.path if group else reasons[0], flush=True)
if group:
    group.remove()
"""


@pytest.mark.parametrize("delegated", [True, False])
def test_a_delegated_group_hands_on_what_a_group_with_processes_cannot(group: MemoryGroup, delegated: bool) -> None:
    """The orchestrator is in `main`, below a group that somebody has prepared for it, or has not."""
    control = group.path.parent / "cgroup.subtree_control"
    there = (group.path.parent / "cgroup.controllers").read_text().split()
    # Any controller will do that a group with processes cannot hand on.
    names = [name for name in there if name in ("memory", "io", "hugetlb")]
    if not names:
        pytest.skip(f"{group.path.parent} has no controller to hand on")
    name, before = names[0], control.read_text().split()
    try:
        control.write_text(f"+{name}")
        if delegated:
            os.setxattr(group.path, "user.delegate", b"1")
        else:
            (group.path / "cgroup.subtree_control").write_text(f"+{name}")
        main = group.path / "main"
        main.mkdir()
    except OSError as error:
        pytest.skip(f"{group.path} cannot be prepared: {error}")
    try:
        with subprocess.Popen(
            [sys.executable, "-c", WITHIN, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            (main / "cgroup.procs").write_text(str(process.pid))
            told, _ = process.communicate("\n")
        if delegated:
            assert told.strip() == str(group.path / "made")
        else:
            assert told.strip() == f"the group {main} cannot hand on its {name} controller: it holds processes itself"
    finally:
        until_blocking(MemoryGroup(main).remove, "its group is empty")
        assert group.remove()
        if name not in before:
            control.write_text(f"-{name}")
