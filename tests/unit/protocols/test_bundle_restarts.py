"""A custodian of bundles that is started again goes on."""

from __future__ import annotations

import pytest

from orbitrain.machine import Acknowledged, JobFailed, LocalProtocolError, RemoteProtocolError, TimerFired
from orbitrain.protocols.bundles import Custodian, custodian
from tests.unit.protocols.custody import NOW, bundle, command, job, letter, met, node, offered, reports


def test_a_custodian_that_is_started_again_goes_on() -> None:
    machine, ways = node()
    sent = letter(machine.handle(command("token"), NOW))
    waiting = bundle(sequence=2, destination="home")
    failed = job(offered(machine, waiting))
    machine.handle(JobFailed(failed.job, "the disk is full"), NOW)
    state, objects = machine.snapshot()
    again = Custodian("home", ways)
    again.restore(state, again.schema)
    assert again.snapshot() == (state, objects)
    assert again.deadline_ns() == machine.deadline_ns()
    assert reports(again.handle(command("token"), NOW)) == ["bundle_queued_before"]
    with pytest.raises(RemoteProtocolError, match=r"^duplicate$"):
        offered(again, waiting)
    later = letter(again.handle(command(name="later"), NOW))
    assert later.key != sent.key
    assert reports(again.handle(Acknowledged(sent.key), NOW)) == ["custody_moved"]
    assert job(again.handle(TimerFired(), NOW + custodian.RETRY_NS)).job != failed.job


def test_contacts_from_before_a_restart_are_forgotten() -> None:
    machine, _ = node()
    machine.handle(met("far"), NOW)
    machine.restore(machine.snapshot()[0], machine.schema)
    assert letter(machine.handle(command(), NOW)).to == "relay"


def test_a_snapshot_of_another_schema_is_not_read() -> None:
    machine, _ = node()
    with pytest.raises(LocalProtocolError, match="snapshot schema 2, this version reads 1"):
        machine.restore(b"", 2)
