"""The guard's program: it waits for the end of one orchestrator, and kills what that one has left running.

It is run as it is compiled, or by its path, with stdin the read end of the orchestrator's pipe:

    python -I -S -B guard_program.py TOKEN PID STARTED

PID is the orchestrator's and STARTED its start, in clock ticks since boot as everywhere here (0: not known). It imports
no Python code at all, and stays below 10 MiB that way. docs/guard.md says what it kills, and what it cannot.
"""

import _signal  # type: ignore[import-not-found]
import posix
import select
import sys
import time

VARIABLE = "MLPORTS_GUARD"
"""The environment variable that holds, in a worker and all its descendants, their orchestrator's token."""

OF_A_GUARD = "guard"
"""What it holds in a guard itself. Another orchestrator's guard has its own work to do, and ends when that is done."""

PATIENCE = 2.0  # seconds for a sweep
_STARTING = 0.2  # seconds in which a child that was between fork and exec when its parent died shows its environment
_POLL = 1.0  # seconds
_LINE_LIMIT = 64  # bytes; no line of ours is as long

Stat = tuple[int, int, int, int, bool]
"""A process: parent, group, session, start, and whether it is dead (and only waits for somebody to collect it)."""


class Registry:
    """The workers that the orchestrator has named: `workers` maps a pid to its start.

    `ended` is true when the orchestrator has said that it is done. Lines: "+PID STARTED" adds a worker, "-PID" takes it
    away, "=" takes all away, "." is the end. Others are ignored.
    """

    def __init__(self) -> None:
        self.workers: dict[int, int] = {}
        self.ended = False
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Takes what was read, however it was cut into pieces."""
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest[: _LINE_LIMIT + 1]  # one too many, so that what is too long is still too long at its end
        for line in lines:
            if len(line) <= _LINE_LIMIT:
                self._take(line)

    def _take(self, line: bytes) -> None:
        if line == b"=":
            self.workers.clear()
        elif line == b".":
            self.ended = True
        else:
            words = line[1:].split(b" ")
            numbers = [int(word) for word in words if word.isdigit()]
            # 0 is the group of what the kernel itself runs, 1 is init; neither is ever a worker.
            if len(numbers) != len(words) or not 1 < numbers[0] < 2**31:
                return
            if line[:1] == b"+" and len(numbers) == 2:
                self.workers[numbers[0]] = numbers[1]
            elif line[:1] == b"-" and len(numbers) == 1:
                self.workers.pop(numbers[0], None)


def parse_stat(text: bytes) -> Stat | None:
    """A /proc/PID/stat; None for one that is not whole."""
    # The name, in parentheses, may itself hold spaces and parentheses.
    fields = text[text.rfind(b")") + 1 :].split()
    if len(fields) < 20:
        return None
    # One whose first thread has ended looks like a zombie, and runs on in its other threads.
    dead = fields[0] in b"ZXx" and int(fields[17]) <= 1
    return int(fields[1]), int(fields[2]), int(fields[3]), int(fields[19]), dead


def read_stat(pid: int) -> Stat | None:
    """A process as it is now; None if there is none, or no /proc."""
    return parse_stat(_read(f"/proc/{pid}/stat"))


def descendants(table: dict[int, Stat], marked: set[int], known: dict[int, int], spared: set[int]) -> set[int]:
    """The pids in `table` that are ours: marked; known by pid and start; in the group or session of one that is ours,
    or was; or children of one that is ours. Never one that is spared, nor whatever is ours only through it.
    """

    def led(number: int, started: int) -> bool:
        # A group's number is nobody else's pid for as long as it has a member. So if another process has the number
        # now, our group has ended; and if none has, its leader is dead, and its members are younger than that one was.
        leader = known.get(number)
        return leader is not None and leader <= started and (number not in table or table[number][3] == leader)

    ours = {
        pid
        for pid, (_, group, session, started, _) in table.items()
        if pid in marked or known.get(pid) == started or led(group, started) or led(session, started)
    } - spared
    more = ours
    while more:
        more = {
            pid
            for pid, (parent, group, session, _, _) in table.items()
            if pid not in ours and pid not in spared and (parent in ours or group in ours or session in ours)
        }
        ours |= more
    return ours


def watch(pid: int, started: int, registry: Registry) -> None:
    """Returns when the orchestrator is dead, or has closed its pipe, or said that it is done."""
    handle = _open(pid)
    alive = handle is not None or posix.getppid() == pid
    if started and (stat := read_stat(pid)) is not None and stat[3] != started:
        alive = False  # it died before we looked, and its pid is another's by now
    while alive:
        # Both, because a fork()ed child of the orchestrator may hold its end of the pipe open for ever.
        inputs = [0] if handle is None else [0, handle]
        ready = _ready(inputs, _POLL if handle is None else None)
        if (0 in ready and not _take_input(registry)) or registry.ended:
            return
        alive = handle not in ready and (handle is not None or posix.getppid() == pid)
    while not registry.ended and _ready([0], 0) and _take_input(registry):
        pass


def sweep(token: str, registry: Registry, orchestrator: int, oldest: int) -> None:
    """Kills what is ours until nothing is left, or for `PATIENCE`; `oldest` is when the first of it can have started.

    A process that forks while it is looked for may be missed; so nothing has to be found twice before that is believed.
    """
    entry = f"\0{VARIABLE}={token}\0".encode()
    known = dict(registry.workers)
    begun = time.monotonic()
    settled = begun if registry.ended else begun + _STARTING
    looks = empty = 0
    pause = 0.005
    while True:
        found = {pid: start for pid, start in _find(entry, oldest, known, orchestrator).items() if _kill(pid, start)}
        # They are remembered as leaders: of what they have left behind, a group may be all that tells whose it is.
        known.update(found)
        looks, empty = looks + 1, 0 if found else empty + 1
        now = time.monotonic()
        if (empty >= 2 and now >= settled) or (looks >= 3 and now >= begun + PATIENCE):
            return
        time.sleep(pause)
        pause = min(2 * pause, 0.05)


def sweep_groups(workers: dict[int, int]) -> None:
    """What can be done where there is no /proc: kills the workers' process groups, for at most `PATIENCE`."""
    groups = set(workers)
    end = time.monotonic() + PATIENCE
    while groups and time.monotonic() < end:
        for group in list(groups):
            try:
                posix.killpg(group, _signal.SIGKILL)
            except OSError:
                groups.discard(group)
        time.sleep(0.02)


def _find(entry: bytes, oldest: int, known: dict[int, int], orchestrator: int) -> dict[int, int]:
    """Which processes are to be killed: their starts by their pids."""
    table, marked, guards = _look(entry, oldest, known)
    ours = descendants(table, marked, known, guards | {1, posix.getpid(), orchestrator})
    return {pid: table[pid][3] for pid in ours if not table[pid][4]}


def _look(entry: bytes, oldest: int, known: dict[int, int]) -> tuple[dict[int, Stat], set[int], set[int]]:
    """The processes that started since `oldest` or have a known pid; those that carry the entry; and the guards."""
    of_a_guard = f"\0{VARIABLE}={OF_A_GUARD}\0".encode()
    table: dict[int, Stat] = {}
    marked: set[int] = set()
    guards: set[int] = set()
    for name in posix.listdir("/proc"):
        if not name.isdigit():
            continue
        pid = int(name)
        stat = read_stat(pid)
        if stat is None or (stat[3] < oldest and pid not in known):
            continue
        table[pid] = stat
        environment = b"\0" + _read(f"/proc/{name}/environ") + b"\0"
        if entry in environment:
            marked.add(pid)
        elif of_a_guard in environment:
            guards.add(pid)
    return table, marked, guards


def _kill(pid: int, started: int) -> bool:
    """Kills the process that has this pid and start, if it is there, and the user's; says whether it was to be."""
    handle = _open(pid)
    try:
        # Looked at again now that the handle holds it: before, the pid might have gone to another.
        stat = read_stat(pid)
        if stat is None or stat[3] != started or stat[4] or _user(pid) != posix.getuid():
            return False
        _send_kill(pid, handle)
        return True
    except OSError:
        return False
    finally:
        if handle is not None:
            posix.close(handle)


def _send_kill(pid: int, handle: int | None) -> None:
    if handle is not None:
        try:
            _signal.pidfd_send_signal(handle, _signal.SIGKILL)
            return
        except ProcessLookupError:
            raise
        except OSError:  # a sandbox that allows pidfd_open alone
            pass
    posix.kill(pid, _signal.SIGKILL)


def _open(pid: int) -> int | None:
    """A pidfd; None where there are none, or no such process."""
    if not hasattr(posix, "pidfd_open"):
        return None
    try:
        return posix.pidfd_open(pid)
    except OSError:
        return None


def _user(pid: int) -> int | None:
    for line in _read(f"/proc/{pid}/status").split(b"\n"):
        if line.startswith(b"Uid:"):
            return int(line.split()[1])
    return None


def _read(path: str) -> bytes:
    """All of a file; what could be read of one that cannot be."""
    text = b""
    try:
        descriptor = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return text
    try:
        while more := posix.read(descriptor, 16384):
            text += more
    except OSError:
        pass
    finally:
        posix.close(descriptor)
    return text


def _ready(inputs: list[int], timeout: float | None) -> list[int]:
    try:
        return select.select(inputs, [], [], timeout)[0]
    except OSError:  # there is no stdin: reading it says so
        return [0]


def _take_input(registry: Registry) -> bool:
    """Reads what the orchestrator has sent; false when that was all."""
    try:
        data = posix.read(0, 65536)
    except OSError:
        return False
    registry.feed(data)
    return bool(data)


def _take_name() -> None:
    """Has `ps` and `top` call this process what it is."""
    try:
        descriptor = posix.open("/proc/self/comm", posix.O_WRONLY | posix.O_CLOEXEC)
        posix.write(descriptor, b"mlports-guard")
        posix.close(descriptor)
    except OSError:
        pass


def main(token: str, pid: int, started: int) -> None:
    """Waits for the orchestrator's end, kills what it left, and ends this process with status 0."""
    for number in (_signal.SIGTERM, _signal.SIGINT, _signal.SIGHUP, _signal.SIGPIPE):
        _signal.signal(number, _signal.SIG_IGN)
    _take_name()
    registry = Registry()
    watch(pid, started, registry)
    if read_stat(posix.getpid()) is None:
        sweep_groups(registry.workers)
    else:
        sweep(token, registry, pid, started)
    posix._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
