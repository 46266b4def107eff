"""Workers that are forked by a template: they start fast, and are in all else what the ordinary start makes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from mlports import Orchestrator, ServiceConfig, WorkerCrashed
from mlports.runtime import template as template_module
from mlports.runtime.guard import Guard
from mlports.runtime.process import Process
from mlports.runtime.template import Template, Templates, start_process
from mlports.telemetry import EventLog
from tests.integration.test_guard import Ends
from tests.workers import program, until

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(os, "pidfd_open"), reason="needs Linux: pidfds and sockets of packets"
)

BODY = """
import module

@worker.method(idempotent=True)
def parent(): return os.getppid()

@worker.method
def change():
    module.value += 1
    return module.value

@worker.method
def leave(status): os._exit(status)

@worker.method
def grow(): return len(bytearray(200 * 2**20))
"""
SLOW = "import time\nvalue = 0\ntime.sleep(1)\n"


def service(directory: Path, body: str = BODY, name: str = "worker", **config: Any) -> ServiceConfig:
    return ServiceConfig(**{"command": program(directory, body, name), "preload": ["module"], **config})


def module(directory: Path, text: str = "value = 0\n", name: str = "module") -> None:
    (directory / f"{name}.py").write_text(text)


def warnings(orch: Orchestrator) -> list[str]:
    return [event["text"] for event in orch.event_log.recent if event.get("level") == "warning"]


def seconds(orch: Orchestrator) -> list[float]:
    return [event["seconds"] for event in orch.event_log.recent if event["event"] == "ready"]


def ready_pid(orch: Orchestrator) -> int | None:
    (replica,) = orch.status()["services"]["a"]["replicas"]
    return replica["pid"] if replica["state"] == "ready" else None


async def test_a_start_from_a_template_is_far_faster_than_a_cold_one(tmp_path: Path) -> None:
    """Guards what it is for, at the first start and after a kill -9."""
    module(tmp_path, SLOW)
    async with Orchestrator(services={"a": service(tmp_path, preload=[])}) as cold:
        (slow,) = seconds(cold)
    async with Orchestrator(services={"a": service(tmp_path)}) as warm:
        pid = ready_pid(warm)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await until(lambda: ready_pid(warm) not in (None, pid), "it is up again")
        assert len(seconds(warm)) == 2
        assert max(seconds(warm)) < slow / 5
        assert warnings(warm) == []


async def test_workers_of_a_template_share_it_and_nothing_else(tmp_path: Path) -> None:
    """Guards against two templates for the same modules, and against one worker's state in another."""
    module(tmp_path)
    services = {"a": service(tmp_path), "b": service(tmp_path, name="other")}
    async with Orchestrator(services=services) as orch:
        assert await orch.call("a.parent") == await orch.call("b.parent") != os.getpid()
        assert [await orch.call("a.change"), await orch.call("a.change"), await orch.call("b.change")] == [1, 2, 1]


async def test_what_differs_before_the_fork_has_a_template_of_its_own(tmp_path: Path) -> None:
    """Guards imports that go by the environment."""
    module(tmp_path)
    services = {"a": service(tmp_path), "b": service(tmp_path, env={"LANGUAGE": "eo"})}
    async with Orchestrator(services=services) as orch:
        assert await orch.call("a.parent") != await orch.call("b.parent")


async def test_all_replicas_of_a_start_are_forked(tmp_path: Path) -> None:
    """Guards the starts that come before the next fork is ready."""
    module(tmp_path)
    async with Orchestrator(services={"a": service(tmp_path, replicas=6)}) as orch:
        pids = [replica["pid"] for replica in orch.status()["services"]["a"]["replicas"]]
        parents = {int(Path(f"/proc/{pid}/stat").read_text().rsplit(")")[-1].split()[1]) for pid in pids}
        missed = len([text for text in warnings(orch) if "did not fork one within" in text])
        assert os.getpid() not in parents or missed == 1  # on a machine so busy that a fork takes 50 ms
        assert len(parents - {os.getpid()}) == 1


@pytest.mark.parametrize("transport", ["stdio", "fd34"])
async def test_a_forked_workers_end_is_told_as_any_others(tmp_path: Path, transport: str) -> None:
    """Guards the exit status, the signal and the memory, which only the template can know."""
    module(tmp_path)
    async with Orchestrator(services={"a": service(tmp_path, transport=transport)}) as orch:
        with pytest.raises(WorkerCrashed) as crash:
            await orch.call("a.leave", 7)
        assert (crash.value.verdict.cause, crash.value.verdict.status) == ("exit", 7)  # type: ignore[union-attr]
        assert await orch.call("a.grow") == 200 * 2**20
        pid = ready_pid(orch)
        assert pid is not None
        os.kill(pid, signal.SIGSEGV)
        await until(lambda: ready_pid(orch) not in (None, pid), "it is up again")
        verdict = [event["verdict"] for event in orch.event_log.recent if event["event"] == "died"][-1]
        assert (verdict["cause"], verdict["status"]) == ("signal", -signal.SIGSEGV)
        assert verdict["peak_memory"] > 200 * 2**20


@pytest.mark.parametrize("preload", [["module"], ["mlports_worker", "module"]])
async def test_the_sdk_does_in_a_forked_worker_what_its_import_does(tmp_path: Path, preload: list[str]) -> None:
    """Guards the protocol's stream against prints before `run()`, and the stacks of one that hangs."""
    module(tmp_path)
    body = BODY + "\nprint('before', flush=True)\nos.system('echo shell')\n"
    async with Orchestrator(services={"a": service(tmp_path, body, preload=preload)}) as orch:
        pid = ready_pid(orch)
        assert pid is not None
        os.kill(pid, signal.SIGUSR2)

        def lines() -> list[str]:
            return [event["text"] for event in orch.event_log.recent if event.get("level") == "stderr"]

        await until(lambda: any("Current thread" in line for line in lines()), "it tells its stack")
        assert lines()[:2] == ["before", "shell"]
        assert await orch.call("a.parent") not in (os.getpid(), 1)


async def test_a_template_that_dies_takes_no_worker_along_and_is_replaced(tmp_path: Path) -> None:
    """Guards the workers that run, the honesty about what nobody knows, and the starts after it."""
    module(tmp_path)
    async with Orchestrator(services={"a": service(tmp_path)}) as orch:
        worker, template = ready_pid(orch), await orch.call("a.parent")
        os.kill(template, signal.SIGKILL)
        await until(lambda: warnings(orch), "its death is told")
        assert f"its process {template} was killed by SIGKILL" in warnings(orch)[0]
        assert ready_pid(orch) == worker
        assert await orch.call("a.change") == 1
        with pytest.raises(WorkerCrashed) as crash:
            await orch.call("a.leave", 0)
        verdict = crash.value.verdict
        assert verdict is not None
        assert (verdict.cause, verdict.status, verdict.normal) == ("exit", None, False)
        assert "nobody knows" in str(verdict)

        async def is_forked_again() -> bool:
            parent = await orch.call("a.parent")
            if parent in (template, os.getpid()):
                pid = ready_pid(orch)
                assert pid is not None
                os.kill(pid, signal.SIGKILL)
                await until(lambda: ready_pid(orch) not in (None, pid), "it is up again")
            return parent not in (template, os.getpid())

        while not await is_forked_again():
            pass


async def test_a_module_that_cannot_be_imported_is_told_and_harms_nobody(tmp_path: Path) -> None:
    """Guards a worker that does well without it, and the other modules."""
    module(tmp_path)
    module(tmp_path, "raise SystemExit(3)", "leaves")
    preload = ["there.is.none", "leaves", "module"]
    async with Orchestrator(services={"a": service(tmp_path, preload=preload)}) as orch:
        assert await orch.call("a.parent") != os.getpid()
        none, leaves = warnings(orch)
        assert "there.is.none could not be imported (ModuleNotFoundError: No module named 'there')" in none
        assert "leaves could not be imported (SystemExit: 3)" in leaves


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            "from threading import *\nvalue = 0\nThread(target=Event().wait, name='mine', daemon=True).start()",
            "the import of module started 1 thread (mine), and threads do not survive a fork",
        ),
        (
            "import os, sys\nvalue = 0\nif '-m' in sys.orig_argv: os._exit(9)",
            "exited with status 9 before it had imported",
        ),
        (
            "import sys, time\nvalue = 0\nif '-m' in sys.orig_argv: time.sleep(1000)",
            "not import its modules within 3 s",
        ),
    ],
)
async def test_where_there_can_be_no_template_workers_start_as_ever(tmp_path: Path, text: str, why: str) -> None:
    """Guards against a fork that would lose threads, and against a service that is down for want of a template."""
    module(tmp_path, text)
    async with Orchestrator(services={"a": service(tmp_path, start_timeout=3)}) as orch:
        assert await orch.call("a.parent") == os.getpid()
        (told,) = warnings(orch)
        assert why in told


async def test_a_thread_that_is_started_later_is_noticed_too(tmp_path: Path) -> None:
    """Guards the forks after the first look."""
    go = tmp_path / "go"
    module(
        tmp_path,
        "import os, signal, threading\nvalue = 0\n"
        "def start(*_):\n"
        "    threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
        f"    open({str(go)!r}, 'w').close()\n"
        "signal.signal(signal.SIGUSR1, start)\n",
    )
    async with Orchestrator(services={"a": service(tmp_path)}) as orch:
        os.kill(await orch.call("a.parent"), signal.SIGUSR1)
        await until(go.exists, "it has a thread")
        for _ in range(2):  # one was forked ahead
            pid = ready_pid(orch)
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            await until(lambda pid=pid: ready_pid(orch) not in (None, pid), "it is up again")  # type: ignore[misc]
        assert await orch.call("a.parent") == os.getpid()
        assert "has started 1 thread" in warnings(orch)[-1]


async def test_a_stop_while_modules_are_imported_does_not_wait_for_them(tmp_path: Path) -> None:
    """Guards Ctrl-C in the first seconds; that nothing is left behind is the leak check's to say."""
    module(tmp_path, "import time\ntime.sleep(1000)\n")
    orch = Orchestrator(services={"a": service(tmp_path)})
    start = asyncio.ensure_future(orch.start())
    await asyncio.sleep(0)
    await asyncio.wait_for(orch.stop(), template_module._END)
    await asyncio.wait_for(start, 5)
    assert orch.status()["state"] == "stopped"


HOST = """
import asyncio, os, sys
from mlports import Orchestrator, ServiceConfig

async def main():
    config = ServiceConfig(command=sys.argv[1:], preload=["module"])
    async with Orchestrator(services={"a": config}) as orch:
        (replica,) = orch.status()["services"]["a"]["replicas"]
        print(await orch.call("a.parent"), replica["pid"], flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_neither_a_template_nor_its_workers_survive_a_kill_9_of_the_orchestrator(tmp_path: Path) -> None:
    """Guards the machine of whoever's orchestrator died."""
    module(tmp_path)
    host = subprocess.Popen([sys.executable, "-c", HOST, *program(tmp_path, BODY)], stdout=subprocess.PIPE)
    assert host.stdout is not None
    with host.stdout, Ends() as ends:
        template, worker = map(int, host.stdout.readline().split())
        ends.of("template", template)
        ends.of("worker", worker)
        host.kill()
        host.wait()
        assert ends.wait(2.0) == []


# -- the program itself, started both ways


class Both:
    """Runs programs by the ordinary start and by a template; both have to do the same."""

    def __init__(self, directory: Path, modules: Sequence[str] = ()) -> None:
        self.directory = directory
        self.events = EventLog()
        self.guard = Guard(self.events)
        self.templates = Templates(self.events, self.guard)
        self.env = {os.fsencode(k): os.fsencode(v) for k, v in {**os.environ, "OPENBLAS_NUM_THREADS": "2"}.items()}
        self.template = self.templates.of("a", [sys.executable, "x.py"], directory, self.env, modules, 20)

    async def __aenter__(self) -> Both:
        await self.templates.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.templates.stop()

    async def run(self, template: Template | None, *command: str, transport: str = "stdio") -> tuple[Any, ...]:
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[int | None] = loop.create_future()
        lines: list[str] = []
        process: Process = start_process(
            template,
            [sys.executable, *command],
            cwd=self.directory,
            env={**self.env, b"OWN": b"\xff"},
            transport=transport,
            on_line=lines.append,
            on_exit=ended.set_result,
        )
        assert (type(process) is not Process) == (template is not None)
        with suppress(BrokenPipeError):  # it has ended already
            os.write(process.write_fd, b"input\n")
        process.close_write()
        status = await ended
        output = b""
        while data := os.read(process.read_fd, 65536):
            output += data
        process.close_read()
        return status, output.decode(), lines


TELLS = """
import os, signal, sys
from pathlib import Path
where = {transport!r} == "fd34"
stdin, stdout = (os.fdopen(3), os.fdopen(4, "w")) if where else (sys.stdin, sys.stdout)
print(sys.argv, sys.orig_argv, __name__, __file__, __package__, sys.path, os.getcwd(), file=stdout)
print(__spec__ and (__spec__.name, __spec__.origin), file=stdout)
print(os.environb[b"OWN"], stdin.read(), file=stdout)
# The shell that puts the two descriptors in their places has its own.
print([each for each in sorted(os.environ.items()) if each[0] not in ("_", "PWD", "OLDPWD", "SHLVL")], file=stdout)
print(os.umask(0), os.getsid(0) == os.getpgid(0) == os.getpid(), file=stdout)
print([(n, signal.getsignal(n)) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGUSR2)], file=stdout)
print(sorted(n for n in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd/" + n)), file=stdout)
print(os.path.realpath("/proc/self/fd/0") == "/dev/null", file=stdout)
print(sys.stdout.encoding, sys.stdout.line_buffering, sys.flags, type(__loader__), file=stdout)
print("mlports_worker" in sys.modules, sorted(vars()), file=stdout)
print("an error", file=sys.stderr)
stdout.flush()
"""
ENDS = {
    "text": "import sys\nsys.exit('some text')",
    "status": "import atexit\natexit.register(print, 'at exit')\nraise SystemExit(3)",
    "raises": "def f():\n    raise ValueError('x') from KeyError(1)\nf()",
    "syntax": "x = 1\nif x\n",
    "interrupt": "import atexit\natexit.register(print, 'at exit')\nprint(1)\nraise KeyboardInterrupt",
    "abort": "import os\nos.abort()",
    "thread": "import threading, time\nthreading.Thread(target=lambda: (time.sleep(0.05), print('late'))).start()",
    "pickles": "import pickle\nclass A: pass\nprint(type(pickle.loads(pickle.dumps(A()))) is A, A.__module__)",
    "hook": "import sys\nsys.excepthook = lambda *a: print('hook', a[0])\nraise ValueError",
}


@pytest.mark.parametrize("transport", ["stdio", "fd34"])
async def test_a_program_finds_what_the_interpreter_gives_it(tmp_path: Path, transport: str) -> None:
    """Guards arguments, files, paths, environment, streams and descriptors, of a script, a module and a folder."""
    (tmp_path / "folder").mkdir()
    for name in ("tells.py", "folder/__main__.py"):
        (tmp_path / name).write_text(TELLS.format(transport=transport))
    (tmp_path / "link.py").symlink_to("folder/__main__.py")
    async with Both(tmp_path) as both:
        for command in (["tells.py", "a", "-b"], ["link.py"], ["-m", "tells", "x"], ["folder"]):
            plain = await both.run(None, *command, transport=transport)
            forked = await both.run(both.template, *command, transport=transport)
            for ours, theirs in zip(forked[1].split("\n"), plain[1].split("\n"), strict=True):
                assert ours == theirs
            assert forked == plain
            assert plain[0] == 0, plain
            assert "an error" in plain[2]


async def test_a_program_ends_as_it_would(tmp_path: Path) -> None:
    """Guards the exit status and the traceback, in which nothing of the template's is to be seen."""
    async with Both(tmp_path) as both:
        for name, text in ENDS.items():
            (tmp_path / f"{name}.py").write_text(text)
            plain = await both.run(None, f"{name}.py")
            assert await both.run(both.template, f"{name}.py") == plain
        for command in (["missing.py"], ["-m", "raises"]):
            plain = await both.run(None, *command)
            assert await both.run(both.template, *command) == plain


@pytest.mark.skipif(find_spec("numpy") is None, reason="needs numpy")
async def test_numpy_has_its_threads_and_a_state_of_its_own(tmp_path: Path) -> None:
    """Guards libraries that were loaded with one thread, and numbers that would be the same in every replica."""
    (tmp_path / "threads.py").write_text("import numpy, os\nprint(len(os.listdir('/proc/self/task')))")
    (tmp_path / "chance.py").write_text("import numpy, random\nprint(numpy.random.random(), random.random())")
    async with Both(tmp_path, ["numpy.random"]) as both:
        assert await both.run(both.template, "threads.py") == await both.run(None, "threads.py")
        drawn = [(await both.run(both.template, "chance.py"))[1].split() for _ in range(2)]
        assert len({number for numbers in drawn for number in numbers}) == 4
