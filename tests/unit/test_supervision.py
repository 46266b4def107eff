"""`Supervisor`, where traces cannot see it: its table, its specifications, and what its driver does out of turn."""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path

import pytest

from mlports.core import supervision
from mlports.core.supervision import (
    TRANSITIONS,
    Ask,
    BadSpec,
    ChildSpec,
    ChildStarted,
    Counts,
    Done,
    End,
    InvalidSpec,
    Launch,
    NotFound,
    Reply,
    SetTimer,
    SimpleOneForOne,
    StartCall,
    Supervisor,
    SupervisorEnded,
    SupervisorFlags,
    Up,
    flags_from,
    spec_from,
    specs_from,
)

DOCS = Path(__file__).resolve().parents[2] / "docs"
START = ("serve", ["digits"])


def child(id: str, **changes: object) -> ChildSpec:
    return spec_from({"id": id, "start": START, **changes})


def up(flags: SupervisorFlags, *specs: ChildSpec) -> Supervisor:
    """A supervisor whose children are up; a child's id is the pid of its first life too."""
    supervisor = Supervisor(flags, specs)
    out = supervisor.start(0)
    for spec in specs:
        assert isinstance(out[0], Launch)
        out = supervisor.started(spec.id, 0)
    assert out == [Up()]
    return supervisor


FAULTS: list[tuple[dict[str, object], object]] = [
    ({"start": START}, "missing_id"),
    ({"id": "a"}, "missing_start"),
    ({"id": "a", "start": "serve"}, ("invalid_mfa", "serve")),
    ({"id": "a", "start": ("serve", "digits")}, ("invalid_mfa", ("serve", "digits"))),
    ({"id": "a", "start": ("serve",)}, ("invalid_mfa", ("serve",))),
    ({"id": "a", "start": START, "restart": "forever"}, ("invalid_restart_type", "forever")),
    ({"id": "a", "start": START, "restart": ["permanent"]}, ("invalid_restart_type", ["permanent"])),
    ({"id": "a", "start": START, "type": "nurse"}, ("invalid_child_type", "nurse")),
    ({"id": "a", "start": START, "shutdown": -1}, ("invalid_shutdown", -1)),
    ({"id": "a", "start": START, "shutdown": 1.5}, ("invalid_shutdown", 1.5)),
    ({"id": "a", "start": START, "shutdown": True}, ("invalid_shutdown", True)),
    ({"id": "a", "start": START, "shutdown": "soon"}, ("invalid_shutdown", "soon")),
    ({"id": "a", "start": START, "significant": "yes"}, ("invalid_significant", "yes")),
    ({"id": "a", "start": START, "modules": "digits"}, ("invalid_modules", "digits")),
    ({"id": "a", "start": START, "modules": ["digits", 1]}, ("invalid_module", 1)),
    (
        {"id": "a", "start": START, "significant": True},
        ("bad_combination", [("restart", "permanent"), ("significant", True)]),
    ),
]


@pytest.mark.parametrize(("given", "fault"), FAULTS, ids=lambda value: str(value)[:40])
def test_sup_start_map_faulty_specs(given: dict[str, object], fault: object) -> None:
    """Guards against a tree that starts and then surprises: each fault is found, and named as OTP names it."""
    with pytest.raises(InvalidSpec) as found:
        spec_from(given)
    assert found.value.fault == fault
    supervisor = up(SupervisorFlags(auto_shutdown="any_significant"))
    assert supervisor.start_child("call", given, 0) == [Reply("call", BadSpec(found.value.fault))]


def test_faults_of_several_and_of_supervisors() -> None:
    with pytest.raises(InvalidSpec) as found:
        specs_from([child("a"), child("b"), child("a")])
    assert found.value.fault == ("duplicate_child_name", "a")
    with pytest.raises(InvalidSpec) as found:
        Supervisor(SupervisorFlags(), [child("a", restart="transient", significant=True)])
    assert found.value.fault == ("bad_combination", [("auto_shutdown", "never"), ("significant", True)])
    with pytest.raises(InvalidSpec) as found:
        Supervisor(SupervisorFlags("simple_one_for_one"), [])
    assert found.value.fault == ("bad_start_spec", [])
    for flags, fault in (
        (7, "invalid_type"),
        ({"strategy": "all"}, "invalid_strategy"),
        ({"intensity": -1}, "invalid_intensity"),
        ({"period": 0}, "invalid_period"),
        ({"auto_shutdown": "some"}, "invalid_auto_shutdown"),
    ):
        with pytest.raises(InvalidSpec) as found:
            flags_from(flags)
        assert found.value.fault[0] == fault


def test_defaults_are_otps() -> None:
    assert flags_from({}) == SupervisorFlags("one_for_one", 1, 5, "never")
    assert child("a") == ChildSpec("a", StartCall("serve", ("digits",)), "permanent", 5000, False, "worker", ("serve",))
    assert child("a", type="supervisor").shutdown == "infinity"
    assert spec_from(child("a")) == child("a")


def test_extra_return() -> None:
    """What a start says besides its pid reaches whoever asked for the start."""
    supervisor = up(SupervisorFlags())
    assert isinstance(supervisor.start_child("call", child("a"), 0)[0], Launch)
    assert supervisor.started("pid", 0, info="extra") == [Reply("call", ChildStarted("pid", "extra"))]
    supervisor.terminate_child("call", "a", 0)
    assert supervisor.exited("pid", "shutdown", 0) == [Reply("call", Done())]
    supervisor.restart_child("call", "a", 0)
    assert supervisor.started("pid2", 0, "more") == [Reply("call", ChildStarted("pid2", "more"))]


def test_child_unlink() -> None:
    """A child whose end was told in no other way is waited for all the same, and only its own end counts."""
    supervisor = up(SupervisorFlags(), child("a"), child("b"))
    assert supervisor.terminate_child("call", "a", 0) == [Ask("a"), SetTimer(5000, 1)]
    assert supervisor.exited("stranger", "shutdown", 0) == []
    assert supervisor.exited("a", "shutdown", 0) == [Reply("call", Done())]


def test_scale_start_stop_many_children() -> None:
    """Starting and stopping takes the same time for each of many children."""
    count = 10_000
    supervisor = up(SupervisorFlags(), *(child(f"c{n}") for n in range(count)))
    (reply,) = supervisor.count_children("call", 0)
    assert reply == Reply("call", Counts(count, count, 0, count))
    out = supervisor.stop("shutdown", 0)
    for n in reversed(range(count)):
        assert out[-2] == Ask(f"c{n}")
        out = supervisor.exited(f"c{n}", "shutdown", 0)
    assert out == [End("shutdown")]


def test_calls_that_the_end_overtakes_are_answered() -> None:
    supervisor = up(SupervisorFlags(), child("a"))
    supervisor.stop("shutdown", 0)
    assert supervisor.which_children("early", 0) == []
    assert supervisor.exited("a", "shutdown", 0) == [End("shutdown"), Reply("early", SupervisorEnded())]
    assert supervisor.which_children("late", 0) == [Reply("late", SupervisorEnded())]
    assert supervisor.exited("a", "shutdown", 0) == []
    assert supervisor.stop("shutdown", 0) == []


def test_get_childspec() -> None:
    supervisor = up(SupervisorFlags(), child("a"))
    assert supervisor.get_childspec("call", "a", 0) == [Reply("call", supervision.FoundSpec(child("a")))]
    assert supervisor.get_childspec("call", "b", 0) == [Reply("call", NotFound())]


def test_a_simple_one_for_one_knows_its_children_by_pid() -> None:
    supervisor = Supervisor(SupervisorFlags("simple_one_for_one"), [child("template")])
    assert supervisor.start(0) == [Up()]
    (launch,) = supervisor.start_child("call", ["more"], 0)
    assert isinstance(launch, Launch)
    assert launch.start == StartCall("serve", ("digits", "more"))
    supervisor.started("pid", 0)
    assert supervisor.terminate_child("call", "template", 0) == [Reply("call", SimpleOneForOne())]
    assert supervisor.terminate_child("call", "gone", 0, alive=False) == [Reply("call", Done())]
    assert supervisor.terminate_child("call", "other", 0, alive=True) == [Reply("call", NotFound())]


def test_answers_to_questions_that_nobody_asked_are_refused() -> None:
    """Guards against a driver that loses a process by naming it to a supervisor that starts none."""
    supervisor = up(SupervisorFlags(), child("a"))
    with pytest.raises(ValueError, match="ready"):
        supervisor.started("b", 0)
    with pytest.raises(ValueError, match="ready"):
        supervisor.start_failed("late", 0)
    with pytest.raises(ValueError, match="ready"):
        supervisor.start(0)


def test_the_table_has_every_phase() -> None:
    assert {row.phase for row in TRANSITIONS} | {row.becomes for row in TRANSITIONS} == {
        *("new", "starting", "ready", "stopping", "ended"),
    }


def test_the_table_has_every_change_of_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the table, and the diagram that is made of it: what happens is in it, and what is in it happens."""
    from mlports.testing.simulation import play, world

    golden = Path(__file__).resolve().parents[1] / "otp" / "golden"
    changes = set()

    class Recorder(Supervisor):
        def __setattr__(self, name: str, value: object) -> None:
            if name == "phase" and hasattr(self, "phase"):
                changes.add((self.phase, value))
            super().__setattr__(name, value)

    monkeypatch.setattr(world, "Supervisor", Recorder)
    for recording in ("suite.txt", "schedules.txt"):
        list(play((golden / recording).read_text("utf-8").splitlines()))
    rows = {(row.phase, row.becomes) for row in TRANSITIONS}
    # A phase that something begins and ends within one event is passed through.
    assert changes - {(phase, phase) for phase, _ in changes} == rows - {(phase, phase) for phase, _ in rows}


def test_the_diagram_is_current() -> None:
    """Guards against a page that shows another machine; `python docs/supervision_diagram.py` writes it anew."""
    spec = importlib.util.spec_from_file_location("supervision_diagram", DOCS / "supervision_diagram.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = module.PAGE.read_text("utf-8")
    assert module.with_diagram(page) == page


def test_the_machine_is_fast_enough_to_be_no_cost() -> None:
    """Guards against work that grows with the number of restarts. Its speed itself is measured by `make bench`."""
    supervisor = up(SupervisorFlags(intensity=10**9, period=3600), child("a"))
    pid: object = "a"

    def restarts(count: int) -> float:
        nonlocal pid
        began = time.perf_counter()
        for _ in range(count):
            supervisor.exited(pid, "crash", 0)
            pid = object()
            supervisor.started(pid, 0)
        return time.perf_counter() - began

    restarts(5_000)
    first = min(restarts(2_000) for _ in range(3))
    restarts(20_000)
    assert min(restarts(2_000) for _ in range(3)) < 5 * first
