"""A warm start for Python workers: a process that has imported their modules once, and forks a worker when one is due.

It is run by an orchestrator, with one end of a socket of packets as its standard input:

    python -m mlports_worker.template FIRST MODULE...

FIRST is what a worker has as the first entry of `sys.path`. All packets but "fork" are JSON. It says at once

    {"failed": {module: why}, "refused": why or null}       what could not be imported; why it will never fork

and then answers, until the socket's other end is closed:

    fork, with a socket      forks a spare: a process with a session of its own, which says {"pid"} on that socket, and
                             waits there for what it is to be. {"refused": why} or {"short": why}, here, if it cannot
    {"collect": pid}         {"collected": pid, "status", "peak"}: the raw status and largest size, as wait4 has them,
                             of a process that has ended; status is null if there is no such

A spare becomes a worker by one packet, with three descriptors (input, output, error):

    {"command", "module" or "script", "arguments", "cwd", "env", "umask", "fd34"}

It ends when its socket is closed before that. Only a process of one thread is forked: of others, the threads would be
missing in the child, and with them whoever would give back a lock that one of them holds.
"""

from __future__ import annotations

import gc
import importlib
import io
import json
import os
import pkgutil
import re
import runpy
import signal
import socket
import sys
import threading
import types
from contextlib import suppress
from typing import Any, Callable

_LARGEST = 1024 * 1024  # bytes of a packet
_RESERVED = (3, 4)  # kept free of whatever the modules open, because a worker may have its frames there
_LIBRARY = re.compile(r"/lib(?:scipy_)?(?:openblas|gomp|iomp5|omp|mkl_rt)[^/]*\.so[^/]*$")
_SETTERS = {
    # function of a library: the variables that it goes by, the first one that is there
    **dict.fromkeys(
        [f"{prefix}openblas_set_num_threads{suffix}" for prefix in ("", "scipy_") for suffix in ("", "64_", "_64")],
        ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS"),
    ),
    "omp_set_num_threads": ("OMP_NUM_THREADS",),
    "MKL_Set_Num_Threads": ("MKL_NUM_THREADS", "OMP_NUM_THREADS"),
}

Setter = tuple[tuple[str, ...], Callable[[int], Any]]


class _Born(Exception):
    """Raised in a spare that has been told what to be, to leave all that the template was at."""

    def __init__(self, task: dict[str, Any], streams: list[int]) -> None:
        self.task = task
        self.streams = streams


class Template:
    """The process that forks. `serve` returns when the orchestrator is gone; in a child it raises `_Born`."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self.setters: list[Setter] = []

    def load(self, modules: list[str]) -> bool:
        """Imports them; says what came of it. False if there is no use in going on."""
        failed, refused = {}, None
        for module in modules:
            before = _threads()
            try:
                importlib.import_module(module)
            except BaseException as error:  # SystemExit too: it is the worker that is to end by it, not this process
                failed[module] = f"{type(error).__name__}: {error}"
            if before == 1 and _threads() > 1:
                refused = f"the import of {module} started {_started()}"
        self.setters = _find_setters()
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()  # or each child would write it once more
        gc.collect()
        gc.freeze()  # the collector would write to what parent and child share
        self._say({"failed": failed, "refused": refused})
        return refused is None

    def serve(self) -> None:
        while True:
            try:
                packet, descriptors, _, _ = socket.recv_fds(self._control, 64, 1, socket.MSG_CMSG_CLOEXEC)
            except ConnectionError:
                return
            if not packet:
                return
            if packet == b"fork":
                self._fork(descriptors[0])
            else:
                self._collect(json.loads(packet)["collect"])

    def _fork(self, descriptor: int) -> None:
        threads = _threads()
        if threads > 1:
            os.close(descriptor)
            self._say({"refused": f"one of its modules has started {_started()}"})
            return
        try:
            pid = os.fork()
        except OSError as error:
            self._say({"short": str(error)})
            pid = -1
        if pid == 0:
            self._control.close()
            _await_task(socket.socket(fileno=descriptor))
        os.close(descriptor)

    def _collect(self, pid: int) -> None:
        reply: dict[str, Any] = {"collected": pid, "status": None, "peak": None}
        try:
            found, status, usage = os.wait4(pid, os.WNOHANG)
            if found == pid:
                reply.update(status=status, peak=usage.ru_maxrss)
        except ChildProcessError:
            pass
        self._say(reply)

    def _say(self, message: dict[str, Any]) -> None:
        with suppress(ConnectionError):  # the next read tells
            self._control.send(json.dumps(message).encode())


def _await_task(orchestrator: socket.socket) -> None:
    """In a spare: waits for what it is to be. Raises `_Born`, or ends the process."""
    try:
        os.setsid()
        _reseed()
        orchestrator.send(json.dumps({"pid": os.getpid()}).encode())
        packet, streams, _, _ = socket.recv_fds(orchestrator, _LARGEST, 3, socket.MSG_CMSG_CLOEXEC)
        if packet and len(streams) == 3:
            orchestrator.close()
            raise _Born(json.loads(packet), streams)
    except ConnectionError:
        pass
    os._exit(0)


def _reseed() -> None:
    """Gives numpy's global generator a state of its own; Python does that for `random` by itself."""
    random = sys.modules.get("numpy.random")
    if random is not None:
        with suppress(Exception):  # half imported, or no such thing in this version
            random.seed()


# -- a spare becomes a worker


def _become(task: dict[str, Any], streams: list[int], setters: list[Setter]) -> None:
    """Makes this process what the orchestrator would have started, but for the imports that are done."""
    _place(streams, task["fd34"])
    os.umask(task["umask"])
    try:
        os.chdir(task["cwd"])
    except OSError as error:
        sys.stderr.write(f"{task['command'][0]}: cannot change to {task['cwd']}: {error.strerror}\n")
        sys.stderr.flush()
        os._exit(1)
    # Through its own methods, which tell the C library too.
    os.environ.clear()
    os.environ.update(task["env"])
    _set_threads(setters)
    if hasattr(sys, "orig_argv"):
        sys.orig_argv[:] = task["command"]
    sdk = sys.modules.get("mlports_worker")
    if sdk is not None:
        sdk.begin()
    sys.modules["__main__"] = main = types.ModuleType("__main__")
    if sys.version_info < (3, 14):
        main.__annotations__ = {}


def _place(streams: list[int], fd34: bool) -> None:
    """The descriptors where a worker expects them, and nothing else that is not the modules' own."""
    stdin, stdout, stderr = streams
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    places = [null, stderr, stderr, stdin, stdout] if fd34 else [stdin, stdout, stderr]
    for number, descriptor in enumerate(places):
        os.dup2(descriptor, number)
    for descriptor in {*streams, null, *(() if fd34 else _RESERVED)}:
        os.close(descriptor)


def _find_setters() -> list[Setter]:
    """The functions of the loaded libraries that say how many threads they may use."""
    paths = set()
    try:
        with open("/proc/self/maps") as maps:
            for line in maps:
                found = _LIBRARY.search(line.rstrip("\n"))
                if found:
                    paths.add(line.split(None, 5)[5].rstrip("\n"))
    except OSError:
        return []
    if not paths:
        return []
    import ctypes

    setters: list[Setter] = []
    for path in sorted(paths):
        try:
            library = ctypes.CDLL(path)
        except OSError:
            continue
        for name, variables in _SETTERS.items():
            function = getattr(library, name, None)
            if function is not None:
                function.argtypes, function.restype = [ctypes.c_int], None
                setters.append((variables, function))
    return setters


def _set_threads(setters: list[Setter]) -> None:
    """As many threads as this process's environment says: the libraries looked when they were loaded, and saw 1."""
    for variables, function in setters:
        values = [os.environ[name] for name in variables if os.environ.get(name)]
        first = values[0].split(",")[0].strip() if values else ""
        function(int(first) if first.isdecimal() and int(first) > 0 else len(os.sched_getaffinity(0)))


def _run(task: dict[str, Any]) -> None:
    """Runs the program to its end; raises SystemExit as it does, or as the interpreter ends for what it raised."""
    try:
        if task["module"] is not None:
            sys.argv = ["-m", *task["arguments"]]
            _set_first(os.getcwd())
            # What `python -m` calls.
            getattr(runpy, "_run_module_as_main")(task["module"])  # noqa: B009
        else:
            _run_script(task["script"], task["arguments"])
    except SystemExit:
        raise
    except BaseException as error:
        _tell(error)
        if isinstance(error, KeyboardInterrupt):
            _end_by_interrupt()
        raise SystemExit(1) from None


def _run_script(script: str, arguments: list[str]) -> None:
    sys.argv = [script, *arguments]
    path = os.path.join(os.getcwd(), script)
    if pkgutil.get_importer(path) is not None:  # a folder or an archive with a __main__
        _set_first(path)
        getattr(runpy, "_run_module_as_main")("__main__", False)  # noqa: B009
        return
    _set_first(os.path.dirname(os.path.realpath(path)))
    try:
        with io.open_code(path) as file:
            source = file.read()
    except OSError as error:
        sys.stderr.write(f"{sys.executable}: can't open file {path!r}: [Errno {error.errno}] {error.strerror}\n")
        raise SystemExit(2) from None
    main = sys.modules["__main__"].__dict__
    loader = importlib.import_module("importlib.machinery").SourceFileLoader("__main__", path)
    main.update(__file__=path, __cached__=None, __builtins__=sys.modules["builtins"], __loader__=loader)
    exec(compile(source, path, "exec", dont_inherit=True), main)


def _set_first(path: str) -> None:
    """`sys.path` begins with what the interpreter would have put there, if it would."""
    if _has_first():
        sys.path[0] = path


def _has_first() -> bool:
    return not (sys.flags.isolated or getattr(sys.flags, "safe_path", False))


def _tell(error: BaseException) -> None:
    """The traceback, without the calls that are this module's."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals is globals():
        trace = trace.tb_next
    sys.excepthook(type(error), error.with_traceback(trace), trace)


def _end_by_interrupt() -> None:
    """As the interpreter ends for an interrupt that nobody catches: by the signal itself, for its parent to see."""
    getattr(threading, "_shutdown")()  # noqa: B009
    getattr(importlib.import_module("atexit"), "_run_exitfuncs")()  # noqa: B009
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)


# -- threads


def _threads() -> int:
    """How many there are in this process, those of libraries among them."""
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return threading.active_count()


def _started() -> str:
    names = sorted(thread.name for thread in threading.enumerate() if thread is not threading.main_thread())
    count = _threads() - 1
    of_python = f" ({', '.join(names)})" if names else ", none of them Python's own"
    return f"{count} thread{'' if count == 1 else 's'}{of_python}"


def _take_control() -> socket.socket:
    """The socket, moved away from descriptor 0; an empty input is put there, and both reserved places are taken."""
    control = socket.socket(fileno=os.dup(0))
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    for number in _RESERVED:
        if control.fileno() == number:
            raised = socket.socket(fileno=_above(control.fileno()))
            control.close()
            control = raised
        null = os.open(os.devnull, os.O_RDONLY)
        if null != number:
            os.dup2(null, number, inheritable=False)
            os.close(null)
    return control


def _above(descriptor: int) -> int:
    import fcntl

    return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10)


def main(first: str, modules: list[str]) -> None:
    """Serves an orchestrator; in a child, runs the worker that it has become."""
    template = Template(_take_control())
    # Its own import of the SDK was no worker's: when a worker imports it, that is to take the protocol's stream.
    for name in [name for name in sys.modules if name.partition(".")[0] == "mlports_worker"]:
        del sys.modules[name]
    _set_first(first)
    born: _Born | None = None
    try:
        if template.load(modules):
            template.serve()
    except _Born as child:
        born = child
    if born is not None:
        _become(born.task, born.streams, template.setters)
        _run(born.task)


if __name__ == "__main__":
    # As a module, because a worker gets a `__main__` of its own.
    from mlports_worker.template import main as _main

    _main(sys.argv[1], sys.argv[2:])
