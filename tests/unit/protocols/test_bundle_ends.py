"""How custody of a bundle ends: expired, lost, refused for good, or moved."""

from __future__ import annotations

from orbitrain.machine import CancelJob, Fate, JobDone, ObjectLost, TimerFired, Undelivered, Withdraw
from orbitrain.protocols.bundles import Leg, custodian
from tests.unit.protocols.custody import (
    DIGEST,
    NOW,
    RELAY,
    S,
    bundle,
    command,
    deeds,
    fields,
    held,
    job,
    letter,
    met,
    node,
    offered,
    reports,
)


def test_a_file_with_a_route_expires_with_its_letter() -> None:
    machine, ways = node()
    sent = letter(machine.handle(command(expires_at_ns=NOW + 10), NOW))
    assert sent.expires_at_ns == NOW + 10
    done = machine.handle(Undelivered(sent.key, Fate.EXPIRED), NOW + 10)
    assert (reports(done), deeds(done)) == (["bundle_expired"], [])
    assert (held(machine), ways.kept, machine.snapshot()[1]) == ([], set(), frozenset())


def test_a_file_without_a_route_waits_for_one_until_it_expires() -> None:
    machine, ways = node()
    ways.legs.clear()
    assert reports(machine.handle(command(expires_at_ns=NOW + 10), NOW)) == ["bundle_queued", "bundle_waits"]
    assert machine.deadline_ns() == NOW + 10
    assert machine.handle(TimerFired(), NOW + 9) == []
    assert reports(machine.handle(TimerFired(), NOW + 10)) == ["bundle_expired"]
    assert (held(machine), machine.deadline_ns()) == ([], None)
    machine.handle(command(), NOW)
    assert machine.deadline_ns() is None  # this one is wanted for good


def test_a_lost_object_is_reported_and_the_letter_taken_back() -> None:
    machine, ways = node()
    sent = letter(machine.handle(command(), NOW))
    arrived = job(offered(machine, bundle(destination="home")))
    done = machine.handle(ObjectLost(DIGEST), NOW)
    assert reports(done) == ["bundle_lost", "bundle_lost"]
    assert deeds(done) == [Withdraw(sent.key), CancelJob(arrived.job)]
    assert (held(machine), ways.kept, machine.snapshot()[1]) == ([], set(), frozenset())
    assert machine.handle(Undelivered(sent.key, Fate.WITHDRAWN), NOW) == []
    assert machine.handle(JobDone(arrived.job, {}, {}), NOW) == []
    assert machine.handle(ObjectLost(DIGEST), NOW) == []


def test_the_destinations_no_is_the_end_and_is_reported() -> None:
    machine, ways = node(Leg("far", NOW + S), RELAY)
    sent = letter(machine.handle(command(), NOW))
    done = machine.handle(Undelivered(sent.key, Fate.REFUSED, "name: no"), NOW)
    assert (reports(done), deeds(done)) == (["bundle_refused"], [])
    assert fields(done, "bundle_refused")["by"] == "far"
    assert fields(done, "bundle_refused")["reason"] == "name: no"
    assert (held(machine), ways.kept) == ([], set())


def test_a_destination_that_is_full_is_asked_again_when_it_is_met_again() -> None:
    machine, _ = node(Leg("far", NOW + S), Leg("far", NOW + 90 * S))
    sent = letter(machine.handle(command(), NOW))
    done = machine.handle(Undelivered(sent.key, Fate.REFUSED, f"{custodian.FULL}: so many"), NOW)
    assert reports(done) == ["bundle_refused", "bundle_waits"]
    assert len(held(machine)) == 1
    assert letter(machine.handle(met("far"), NOW + 60 * S)).to == "far"


def test_a_next_custodian_that_has_had_it_has_custody() -> None:
    machine, _ = node()
    sent = letter(machine.handle(command(), NOW))
    done = machine.handle(Undelivered(sent.key, Fate.REFUSED, "duplicate"), NOW)
    assert (reports(done), held(machine)) == (["custody_moved"], [])
