"""What deaths and crowds of workers cost. Every subject by the name that its process is given; imports no peer."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.recovery.bare_start import BareStart
from benchmarks.recovery.crowd import MlportsCrowd, SpawnedCrowd
from benchmarks.recovery.erlang_kills import ErlangKills
from benchmarks.recovery.machine import Machine
from benchmarks.recovery.mlports_kills import MlportsKills, MlportsStandbyKills
from benchmarks.recovery.ray_kills import RayKills
from benchmarks.recovery.subject import Subject

SUBJECTS: Mapping[str, type[Subject]] = {
    subject.name: subject
    for subject in (
        MlportsStandbyKills,
        MlportsKills,
        BareStart,
        ErlangKills,
        RayKills,
        MlportsCrowd,
        SpawnedCrowd,
        Machine,
    )
}
