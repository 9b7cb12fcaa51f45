"""What holds for both roles: their snapshots, what does not concern them, and who runs which."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orbitrain.machine import Acknowledged, ContactStarted, JobDone, JobFailed, LocalProtocolError, TimerFired
from orbitrain.protocols import fedmeld
from orbitrain.roles import fedmeld_machines
from tests.unit.protocols.two_regions import NOW, ORBITS, PARAMS, device, satellite, serving, trained


@pytest.mark.parametrize("make", [device, satellite])
def test_a_snapshot_of_another_schema_is_not_read(make: Callable[[], fedmeld.Device]) -> None:
    with pytest.raises(LocalProtocolError, match="snapshot schema 2, this version reads 1"):
        make().restore(b"", 2)


@pytest.mark.parametrize("make", [serving, trained])
def test_a_restored_role_is_what_it_was(make: Callable[[], fedmeld.Device]) -> None:
    machine = make()
    state, objects = machine.snapshot()
    fresh = device() if isinstance(machine, fedmeld.Device) else satellite()
    fresh.restore(state, fresh.schema)
    assert fresh.snapshot() == (state, objects)


def test_what_does_not_concern_a_role_is_nothing() -> None:
    assert device().handle(Acknowledged("status/1"), NOW) == []
    assert device().handle(ContactStarted("sat-1", "service", 1), NOW) == []
    assert device().deadline_ns() is None
    machine = satellite()
    machine.handle(TimerFired(), NOW)
    assert machine.handle(Acknowledged("poll/1"), NOW) == []
    assert machine.handle(JobDone("aggregate/north/9", {}, {"model": "x"}), NOW) == []
    assert machine.handle(JobFailed("aggregate/north/9", "x"), NOW) == []


def test_a_node_runs_the_roles_of_its_kind() -> None:
    kinds = [("satellite", "sat-1"), ("device", "south-1"), ("ground", "desk")]
    roles = [sorted(fedmeld_machines(kind, name, PARAMS, ORBITS)) for kind, name in kinds]
    assert roles == [["fedmeld.satellite"], ["fedmeld.device"], []]
