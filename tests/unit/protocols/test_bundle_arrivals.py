"""A file that has come to its destination goes into the inbox, and is then reported."""

from __future__ import annotations

import pytest

from orbitrain.machine import (
    Acknowledged,
    ContactEnded,
    Fate,
    JobDone,
    JobFailed,
    ObjectLost,
    RemoteProtocolError,
    TimerFired,
    Undelivered,
)
from orbitrain.protocols.bundles import custodian
from tests.unit.protocols.custody import (
    DIGEST,
    NOW,
    S,
    bundle,
    command,
    fields,
    job,
    met,
    node,
    offered,
    reports,
)


def test_a_file_that_has_come_is_put_into_the_inbox_and_then_reported() -> None:
    machine, _ = node()
    done = offered(machine, bundle(destination="home"))
    started = job(done)
    assert reports(done) == ["bundle_accepted"]
    assert (started.kind, started.params) == ("inbox", {"origin": "start", "name": "photo.jpg"})
    assert started.objects == {"file": DIGEST}
    assert machine.snapshot()[1] == {DIGEST}
    assert reports(machine.handle(JobDone(started.job, {}, {}), NOW)) == ["file_received"]
    assert machine.snapshot()[1] == frozenset()
    with pytest.raises(RemoteProtocolError, match=r"^duplicate$"):
        offered(machine, bundle(destination="home"))


def test_a_file_that_arrives_late_by_this_clock_has_arrived() -> None:
    machine, _ = node()
    assert reports(offered(machine, bundle(destination="home", expires_at_ns=NOW - S))) == ["bundle_accepted"]


def test_an_inbox_that_takes_nothing_is_tried_again() -> None:
    machine, _ = node()
    first = job(offered(machine, bundle(destination="home")))
    done = machine.handle(JobFailed(first.job, "the disk is full"), NOW)
    assert fields(done, "file_not_stored")["reason"] == "the disk is full"
    assert machine.snapshot()[1] == {DIGEST}
    assert machine.deadline_ns() == NOW + custodian.RETRY_NS
    assert machine.handle(TimerFired(), NOW + custodian.RETRY_NS - 1) == []
    second = job(machine.handle(TimerFired(), NOW + custodian.RETRY_NS))
    assert (second.job != first.job, second.params) == (True, first.params)
    assert machine.deadline_ns() is None
    assert reports(machine.handle(JobDone(second.job, {}, {}), NOW)) == ["file_received"]


def test_a_job_or_letter_that_is_not_known_means_nothing() -> None:
    machine, _ = node()
    machine.handle(command(), NOW)
    before = machine.snapshot()
    for item in (
        *(Acknowledged("k"), Undelivered("k", Fate.REFUSED), JobDone("j", {}, {}), JobFailed("j", "x")),
        *(ObjectLost("cd" * 32), met("stranger"), ContactEnded("stranger")),
    ):
        assert machine.handle(item, NOW) == []
    assert machine.snapshot() == before
