"""`OneForOne` under any schedule of starts, deaths and stops."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlports.core.intensity import RestartIntensity
from mlports.core.supervision import GiveUp, Instruction, OneForOne, Restart, Start, Stop

# One thing that may happen: which, to which child, whether its exit is normal, and how many seconds later.
Happening = tuple[str, int, bool, int]

happenings = st.lists(
    st.tuples(
        st.sampled_from(["started", "start_failed", "exited", "exited", "stop"]),
        st.integers(0, 3),
        st.booleans(),
        st.integers(0, 4),
    ),
    max_size=60,
)
restarts: st.SearchStrategy[Restart] = st.sampled_from(["permanent", "transient", "temporary"])


class World:
    """The processes that a supervisor's instructions make: what really happens is told to it, and only that."""

    def __init__(self, children: int, restart: Restart, intensity: int, period: int) -> None:
        self.machine = OneForOne(children, restart, RestartIntensity(intensity, period))
        self.now = 0
        self.up: dict[int, str] = {}  # child -> "starting" or "running", of the processes that there are
        self.to_stop: list[int] = []
        self.began: set[int] = set()
        self.starts = 0
        self.ends = 0
        self.restarted: list[int] = []
        self.ended = False
        self.carry_out(self.machine.start())

    def carry_out(self, instructions: list[Instruction]) -> None:
        for place, instruction in enumerate(instructions):
            match instruction:
                case Start(child):
                    assert not self.ended, "started after the end"
                    assert child not in self.up, "started twice"
                    self.up[child] = "starting"
                    self.starts += 1
                    if child in self.began:
                        self.restarted.append(self.now)
                case Stop(child):
                    assert child in self.up, "stopped what does not run"
                    assert child not in self.to_stop, "stopped twice"
                    self.to_stop.append(child)
                case GiveUp(reason):
                    assert reason
                    assert place == len(instructions) - 1, "something after giving up"
                    assert not self.ended, "gave up after the end"
                    self.ended = True
        stopped = [instruction.child for instruction in instructions if isinstance(instruction, Stop)]
        assert stopped == sorted(stopped, reverse=True)

    def happen(self, what: str, child: int, normal: bool, later: int) -> None:
        self.now += later
        if what == "stop":
            self.carry_out(self.machine.stop())
            self.ended = True
        elif what == "started" and self.up.get(child) == "starting":
            self.up[child] = "running"
            self.began.add(child)
            self.carry_out(self.machine.started(child))
        elif what == "start_failed" and self.up.get(child) == "starting":
            self._gone(child)
            self.carry_out(self.machine.start_failed(child, "why", self.now))
        elif what == "exited" and self.up.get(child) == "running":
            self._gone(child)
            self.carry_out(self.machine.exited(child, normal, "why", self.now))

    def _gone(self, child: int) -> None:
        del self.up[child]
        self.ends += 1
        if child in self.to_stop:
            self.to_stop.remove(child)

    def stop_all(self) -> None:
        """Ends everything, and lets what is to stop end."""
        self.happen("stop", 0, True, 0)
        assert sorted(self.to_stop) == sorted(self.up), "something was forgotten"
        for child in list(self.to_stop):
            self._gone(child)
            self.carry_out(self.machine.exited(child, True, "stopped", self.now))


@given(st.integers(1, 4), restarts, st.integers(0, 4), st.integers(1, 6), happenings)
def test_any_schedule(children: int, restart: Restart, intensity: int, period: int, story: list[Happening]) -> None:
    world = World(children, restart, intensity, period)
    for what, child, normal, later in story:
        if child < children:
            world.happen(what, child, normal, later)
        running = {number for number, state in enumerate(world.machine.states) if state == "running"}
        assert running == {child for child in world.up if world.up[child] == "running" and child not in world.to_stop}
        if world.ended:
            assert sorted(world.to_stop) == sorted(world.up), "goes on after the end"
    # Never more restarts than the intensity within any period, both ends of which count.
    for at in world.restarted:
        assert sum(at - period <= other <= at for other in world.restarted) <= intensity
    if restart == "temporary":
        assert not world.restarted
    world.stop_all()
    assert world.starts == world.ends
    assert not world.up


@given(st.integers(1, 4), restarts, st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3), st.booleans())))
def test_events_that_make_no_sense(children: int, restart: Restart, story: list[tuple[int, int, bool]]) -> None:
    """Whatever is said to it, and however often: it answers with instructions that can be carried out."""
    machine = OneForOne(children, restart, RestartIntensity(2, 5))
    processes = {start.child for start in machine.start() if isinstance(start, Start)}
    ended = False
    for event, child, normal in story:
        if child >= children:
            continue
        before = machine.states[child]
        if event == 0:
            instructions = machine.started(child)
        elif event == 1:
            instructions = machine.start_failed(child, "why", 0)
        elif event == 4:
            instructions = machine.stop()
            ended = True
        else:
            instructions = machine.exited(child, normal, "why", 0)
        if event in (1, 2, 3) and machine.states[child] != before:
            processes.discard(child)
        for instruction in instructions:
            if isinstance(instruction, Start):
                assert not ended
                processes.add(instruction.child)
            elif isinstance(instruction, Stop):
                assert instruction.child in processes
        ended = ended or any(isinstance(instruction, GiveUp) for instruction in instructions)
