"""The custodian of bundles alone: what it refuses, and where it sends what it has."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from orbitrain.machine import (
    NEVER_NS,
    Acknowledged,
    Action,
    CancelJob,
    CommandReceived,
    ContactEnded,
    ContactStarted,
    Delivered,
    Fate,
    JobDone,
    JobFailed,
    Lane,
    LocalProtocolError,
    ObjectLost,
    PlanUpdated,
    RemoteProtocolError,
    Report,
    Send,
    StartJob,
    TimerFired,
    Undelivered,
    Withdraw,
)
from orbitrain.protocols.bundles import (
    COMMAND,
    PRIORITIES,
    ROLE,
    Custodian,
    Leg,
    Order,
    OrderError,
    bundles_held,
    custodian,
    order_of,
)
from orbitrain.v1 import bundles_pb2 as wire

S = 1_000_000_000
NOW = 100 * S
DIGEST = "ab" * 32


@dataclass
class Ways:
    """Routes by hand: where a bundle goes next by its destination, the best way first."""

    legs: dict[str, list[Leg]] = field(default_factory=dict)
    kept: set[str] = field(default_factory=set)

    def knows(self, node: str) -> bool:
        return node in ("home", "relay", "other", "far")

    def leg(
        self, bundle: str, destination: str, now_ns: int, size_bytes: int, without: Collection[str]
    ) -> Leg | None:
        self.kept.discard(bundle)
        for leg in self.legs.get(destination, ()):
            if leg.ends_ns > now_ns and leg.node not in without:
                self.kept.add(bundle)
                return leg
        return None

    def release(self, bundle: str) -> None:
        self.kept.discard(bundle)


RELAY, OTHER = Leg("relay", NOW + 50 * S), Leg("other", NOW + 80 * S)


def node(*legs: Leg, name: str = "home") -> tuple[Custodian, Ways]:
    ways = Ways({"far": list(legs or (RELAY, OTHER))})
    return Custodian(name, ways), ways


def bundle(**changes: Any) -> wire.Bundle:
    values = {
        "source": "start",
        "created_ns": 5,
        "sequence": 1,
        "destination": "far",
        "name": "photo.jpg",
        "digest": DIGEST,
        "size": 7,
        "lane": int(Lane.UPDATE),
        "expires_at_ns": NEVER_NS,
        "custodians": ["start", "before"],
        **changes,
    }
    return wire.Bundle(**values)


def offered(
    machine: Custodian, what: wire.Bundle, source: str = "before", objects: tuple[str, ...] = (DIGEST,)
) -> list[Action]:
    return machine.handle(Delivered(source, what, objects), NOW)


def command(token: str = "", **changes: Any) -> CommandReceived:
    order = Order("far", "photo.jpg", Lane.UPDATE)
    arguments = {**order.arguments(), "bytes": 7, "token": token, **changes}
    return CommandReceived(COMMAND, arguments, (DIGEST,))


def reports(actions: list[Action]) -> list[str]:
    return [one.kind for one in actions if isinstance(one, Report)]


def fields(actions: list[Action], kind: str) -> Mapping[str, Any]:
    (found,) = [one.fields for one in actions if isinstance(one, Report) and one.kind == kind]
    return found


def letter(actions: list[Action]) -> Send:
    (found,) = [one for one in actions if isinstance(one, Send)]
    return found


def job(actions: list[Action]) -> StartJob:
    (found,) = [one for one in actions if isinstance(one, StartJob)]
    return found


def deeds(actions: list[Action]) -> list[Action]:
    return [one for one in actions if not isinstance(one, Report)]


def held(machine: Custodian) -> list[wire.Held]:
    return bundles_held(machine.snapshot()[0])


def met(peer: str, end_ns: int | None = None) -> ContactStarted:
    return ContactStarted(peer, "inter_isl", end_ns)


# ----------------------------------------------------------------------------- what is not accepted

REFUSED = [
    ("no object", bundle(), "before", (), "a bundle is of one object"),
    ("another object", bundle(), "before", ("cd" * 32,), "a bundle is of one object"),
    ("two objects", bundle(), "before", (DIGEST, "cd" * 32), "a bundle is of one object"),
    ("no digest", bundle(digest="AB" * 32), "before", ("AB" * 32,), "a bundle is of one object"),
    ("nobody had it", bundle(custodians=[]), "before", (DIGEST,), "custodians: must be 1 to 32, not 0"),
    (
        "too many had it",
        bundle(custodians=["start", *(f"n{n}" for n in range(31)), "before"]),
        "before",
        (DIGEST,),
        "custodians: must be 1 to 32, not 33",
    ),
    ("another began", bundle(custodians=["else", "before"]), "before", (DIGEST,), "custodians: must begin"),
    ("another sends", bundle(), "relay", (DIGEST,), "custodians: must begin with its source and end with"),
    *(
        (f"source {name!r}", bundle(source=name, custodians=[name, "before"]), "before", (DIGEST,), "a name")
        for name in ("", ".", "..", "a/b", "/etc", "A", "a\n", "a" * 65, "-a", "\u212a")
    ),
    ("a custodian's name", bundle(custodians=["start", "../up", "before"]), "before", (DIGEST,), "a name of"),
    ("a destination's name", bundle(destination="../up"), "before", (DIGEST,), "a name of a node is none"),
    *(
        (f"name {name!r}", bundle(name=name), "before", (DIGEST,), "name: must ")
        for name in (
            *("", ".", "..", ".hidden", "a/b", "/etc/passwd", "a\\b", "a\nb", "a\0b", "\u202egpj.exe"),
            *(" a", "a ", "n" * 201, "\u00e9" * 101),
        )
    ),
    ("lane", bundle(lane=int(Lane.CONTROL)), "before", (DIGEST,), "lane, size or created_ns"),
    ("no lane", bundle(lane=77), "before", (DIGEST,), "lane, size or created_ns"),
    ("size", bundle(size=-1), "before", (DIGEST,), "lane, size or created_ns"),
    ("instant", bundle(created_ns=-1), "before", (DIGEST,), "lane, size or created_ns"),
    ("loop", bundle(custodians=["start", "home", "before"]), "before", (DIGEST,), "loop: "),
    ("expired", bundle(expires_at_ns=NOW), "before", (DIGEST,), "expired"),
    ("expired long ago", bundle(expires_at_ns=-1), "before", (DIGEST,), "expired"),
    ("no route", bundle(destination="moon"), "before", (DIGEST,), "no route to 'moon'"),
    (
        "only the way back",
        bundle(custodians=["start", "relay", "other"]),
        "other",
        (DIGEST,),
        "no route to 'far'",
    ),
]


@pytest.mark.parametrize(
    ("what", "source", "objects", "why"),
    [row[1:] for row in REFUSED],
    ids=[row[0].encode("ascii", "backslashreplace").decode() for row in REFUSED],
)
def test_a_hostile_or_unlucky_bundle_is_refused_and_changes_nothing(
    what: wire.Bundle, source: str, objects: tuple[str, ...], why: str
) -> None:
    machine, ways = node()
    machine.handle(command(), NOW)
    before, kept = machine.snapshot(), set(ways.kept)
    with pytest.raises(RemoteProtocolError) as caught:
        offered(machine, what, source, objects)
    assert str(caught.value).startswith(why)
    assert (machine.snapshot(), ways.kept) == (before, kept)


def test_a_bundle_is_accepted_once() -> None:
    machine, _ = node()
    sent = letter(offered(machine, bundle()))
    for _ in range(2):
        before = machine.snapshot()
        with pytest.raises(RemoteProtocolError, match=r"^duplicate$"):
            offered(machine, bundle())
        assert machine.snapshot() == before
        machine.handle(Acknowledged(sent.key), NOW)  # also once it has gone on


def test_a_node_takes_no_more_than_it_can_keep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(custodian, "HELD_MAX", 2)
    machine, _ = node()
    offered(machine, bundle(sequence=1))
    offered(machine, bundle(sequence=2, destination="home"))
    before = machine.snapshot()
    with pytest.raises(RemoteProtocolError, match=r"^full: 2 bundles are in custody$"):
        offered(machine, bundle(sequence=3))
    assert machine.snapshot() == before
    machine.handle(command(), NOW)
    before = machine.snapshot()
    done = machine.handle(command(), NOW)
    assert fields(done, "bundle_refused")["reason"] == "2 bundles are in custody"
    assert machine.snapshot() == before


def test_what_every_next_custodian_would_refuse_is_not_taken() -> None:
    machine, _ = node()
    most = ["start", *(f"n{n}" for n in range(30)), "before"]
    with pytest.raises(RemoteProtocolError, match=r"^custodians: "):
        offered(machine, bundle(custodians=most))
    assert held(machine) == []
    assert "bundle_accepted" in reports(offered(machine, bundle(custodians=most, destination="home")))


def test_what_is_remembered_is_bounded_and_forgets_what_has_expired(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(custodian, "KNOWN_MAX", 3)
    machine, _ = node()
    for n in range(1, 6):
        offered(machine, bundle(sequence=n, expires_at_ns=NOW + n))
    state = wire.CustodianState.FromString(machine.snapshot()[0])
    assert [known.expires_at_ns - NOW for known in state.known] == [3, 4, 5]
    machine.handle(Delivered("before", bundle(sequence=6), (DIGEST,)), NOW + 4)
    state = wire.CustodianState.FromString(machine.snapshot()[0])
    assert [known.expires_at_ns for known in state.known] == [NOW + 5, NEVER_NS]


# ------------------------------------------------------------------------------------------- orders


def test_an_order_is_taken_into_custody_and_sent_to_the_first_on_the_way() -> None:
    machine, ways = node()
    done = machine.handle(command(), NOW)
    assert reports(done) == ["bundle_queued", "bundle_routed"]
    sent = letter(done)
    assert (sent.to, sent.role, sent.lane, sent.objects) == ("relay", ROLE, Lane.UPDATE, (DIGEST,))
    assert sent.message == bundle(source="home", created_ns=NOW, custodians=["home"])
    assert machine.snapshot()[1] == {DIGEST}
    assert machine.deadline_ns() == RELAY.ends_ns
    moved = machine.handle(Acknowledged(sent.key), NOW + S)
    assert fields(moved, "custody_moved")["to"] == "relay"
    assert (held(machine), machine.snapshot()[1], ways.kept) == ([], frozenset(), set())
    assert machine.deadline_ns() is None


def test_a_relay_adds_itself_to_the_custodians_and_keeps_the_priority_and_the_expiry() -> None:
    machine, _ = node()
    sent = letter(offered(machine, bundle(lane=int(Lane.BULK), expires_at_ns=NOW + S)))
    assert list(sent.message.custodians) == ["start", "before", "home"]  # type: ignore[attr-defined]
    assert (sent.lane, sent.expires_at_ns) == (Lane.BULK, NOW + S)


def test_an_order_that_is_repeated_is_taken_once() -> None:
    machine, _ = node()
    assert "bundle_queued" in reports(machine.handle(command("once"), NOW))
    before = machine.snapshot()
    assert reports(machine.handle(command("once"), NOW + S)) == ["bundle_queued_before"]
    assert machine.snapshot() == before
    for token in ("twice", "", ""):
        assert "bundle_queued" in reports(machine.handle(command(token), NOW))
    assert len(held(machine)) == 4


def test_two_long_tokens_that_begin_alike_are_two_orders() -> None:
    machine, _ = node()
    for token in ("x" * 64 + "1", "x" * 64 + "2"):
        assert "bundle_queued" in reports(machine.handle(command(token), NOW))


ORDERS = [
    ({"destination": "moon"}, "'moon' is not a node of the plan"),
    ({"name": "a/b"}, "name: must be printable, without slashes"),
    ({"name": ".."}, "name: must not begin with a dot, nor begin or end with a space"),
    ({"name": ""}, "name: must have 1 to 200 bytes, not 0"),
    ({"name": "\udcff"}, "name: must be UTF-8"),
    ({"lane": 9}, "priority: must be expedited, normal, bulk, not lane 9"),
    ({"lane": 0}, "priority: must be expedited, normal, bulk, not lane 0"),
    ({"expires_at_ns": -1}, "expires: must be 0 to 9223372036854775807 ns, not -1"),
    ({"expires_at_ns": 1 << 63}, "expires: must be 0 to 9223372036854775807 ns, not 9223372036854775808"),
    ({"expires_at_ns": "soon"}, "expires_at_ns: must be a whole number"),
    ({"lane": None}, "lane: must be a whole number"),
]


@pytest.mark.parametrize(("wrong", "why"), ORDERS, ids=[why for _, why in ORDERS])
def test_an_order_that_cannot_be_taken_is_reported_and_changes_nothing(
    wrong: dict[str, Any], why: str
) -> None:
    machine, _ = node()
    before = machine.snapshot()
    done = machine.handle(command("token", **wrong), NOW)
    assert (reports(done), deeds(done)) == (["bundle_refused"], [])
    assert fields(done, "bundle_refused")["reason"] == why
    assert machine.snapshot() == before


def test_an_order_that_lacks_something_says_what() -> None:
    whole = Order("far", "a", Lane.BULK, 5).arguments()
    assert order_of(whole) == Order("far", "a", Lane.BULK, 5)
    for lacking in whole:
        with pytest.raises(OrderError, match=f"^{lacking}: is missing$"):
            order_of({key: value for key, value in whole.items() if key != lacking})
    assert {lane for lane in Lane if lane in PRIORITIES.values()} == {Lane.ACTIVATION, Lane.UPDATE, Lane.BULK}


def test_an_order_without_its_object_is_not_taken() -> None:
    machine, _ = node()
    done = machine.handle(replace(command(), objects=()), NOW)
    assert (reports(done), held(machine)) == (["bundle_refused"], [])


def test_another_command_is_not_for_it() -> None:
    machine, _ = node()
    assert machine.handle(CommandReceived("reboot"), NOW) == []


# -------------------------------------------------------------------------------------- the end


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


# --------------------------------------------------------------------------------- another way


def test_a_contact_that_was_missed_sends_it_another_way() -> None:
    machine, _ = node()
    first = letter(machine.handle(command(), NOW))
    assert machine.handle(TimerFired(), RELAY.ends_ns) == [Withdraw(first.key)]
    assert machine.handle(TimerFired(), RELAY.ends_ns + 1) == []  # asked once
    assert machine.deadline_ns() is None
    second = letter(machine.handle(Undelivered(first.key, Fate.WITHDRAWN), RELAY.ends_ns + 2))
    assert (second.to, second.key != first.key) == ("other", True)
    assert machine.deadline_ns() == OTHER.ends_ns


def test_a_withdrawal_that_comes_too_late_is_a_move() -> None:
    machine, _ = node()
    first = letter(machine.handle(command(), NOW))
    machine.handle(TimerFired(), RELAY.ends_ns)
    assert reports(machine.handle(Acknowledged(first.key), RELAY.ends_ns + 1)) == ["custody_moved"]


def test_a_missed_contact_with_no_other_way_leaves_it_where_it_may_still_be_fetched() -> None:
    machine, _ = node(RELAY)
    machine.handle(command(), NOW)
    assert machine.handle(TimerFired(), RELAY.ends_ns) == []
    assert (held(machine)[0].next, machine.deadline_ns()) == ("relay", None)


def test_a_contact_that_ends_early_may_come_back_and_one_that_lasts_is_used() -> None:
    machine, _ = node()
    first = letter(machine.handle(command(), NOW))
    machine.handle(met("relay"), NOW + 1)
    assert machine.handle(ContactEnded("relay"), NOW + 2) == []
    assert machine.deadline_ns() == RELAY.ends_ns
    machine.handle(met("relay"), NOW + 3)
    assert machine.handle(TimerFired(), RELAY.ends_ns) == []
    assert machine.deadline_ns() is None
    assert machine.handle(ContactEnded("relay"), RELAY.ends_ns + 9) == [Withdraw(first.key)]


def test_a_relay_that_refuses_is_gone_round() -> None:
    machine, _ = node()
    first = letter(machine.handle(command(), NOW))
    done = machine.handle(Undelivered(first.key, Fate.REFUSED, "no route to 'far'"), NOW + 1)
    assert reports(done) == ["bundle_refused", "bundle_routed"]
    assert letter(done).to == "other"
    done = machine.handle(Undelivered(letter(done).key, Fate.REFUSED, "full"), NOW + 2)
    assert reports(done) == ["bundle_refused", "bundle_waits"]
    assert len(held(machine)) == 1


def test_a_relay_that_refused_is_asked_again_when_it_is_met_again_and_there_is_no_other() -> None:
    machine, _ = node(RELAY)
    machine.handle(met("relay"), NOW)
    first = letter(machine.handle(command(), NOW))
    machine.handle(Undelivered(first.key, Fate.REFUSED, "full"), NOW + 1)
    machine.handle(ContactEnded("relay"), NOW + 2)
    assert held(machine)[0].key == ""
    again = letter(machine.handle(met("relay"), NOW + 3))
    assert again.to == "relay"
    assert reports(machine.handle(Undelivered(again.key, Fate.REFUSED, "full"), NOW + 4)) == [
        "bundle_refused",
        "bundle_waits",
    ]


def test_an_update_of_the_plan_routes_anew_and_forgets_refusals() -> None:
    machine, ways = node()
    first = letter(machine.handle(command(), NOW))
    second = letter(machine.handle(Undelivered(first.key, Fate.REFUSED, "full"), NOW))
    assert second.to == "other"
    ways.legs["far"] = [replace(OTHER, ends_ns=OTHER.ends_ns + S)]
    assert machine.handle(PlanUpdated(2), NOW) == []
    assert machine.deadline_ns() == OTHER.ends_ns + S
    ways.legs["far"] = [RELAY, OTHER]
    assert machine.handle(PlanUpdated(3), NOW) == [Withdraw(second.key)]
    assert letter(machine.handle(Undelivered(second.key, Fate.WITHDRAWN), NOW)).to == "relay"


def test_an_update_of_the_plan_brings_a_route_to_what_has_none() -> None:
    machine, ways = node()
    ways.legs.clear()
    machine.handle(command(), NOW)
    assert reports(machine.handle(PlanUpdated(2), NOW)) == ["bundle_waits"]
    ways.legs["far"] = [RELAY]
    assert letter(machine.handle(PlanUpdated(3), NOW)).to == "relay"


# ------------------------------------------------------------------------- the destination turns up


def test_an_unannounced_contact_with_the_destination_is_used() -> None:
    machine, ways = node()
    ways.legs.clear()
    machine.handle(command(), NOW)
    assert letter(machine.handle(met("far"), NOW)).to == "far"
    assert machine.handle(met("far"), NOW) == []


def test_what_is_meant_for_a_relay_goes_to_the_destination_that_turns_up() -> None:
    machine, _ = node()
    first = letter(machine.handle(command(), NOW))
    assert machine.handle(met("far"), NOW + 1) == [Withdraw(first.key)]
    second = letter(machine.handle(Undelivered(first.key, Fate.WITHDRAWN), NOW + 1))
    assert second.to == "far"
    assert machine.handle(ContactEnded("far"), NOW + 2) == [Withdraw(second.key)]
    assert letter(machine.handle(Undelivered(second.key, Fate.WITHDRAWN), NOW + 3)).to == "relay"


def test_a_file_is_given_to_its_destination_while_that_is_there() -> None:
    machine, _ = node()
    machine.handle(met("far"), NOW)
    assert letter(machine.handle(command(), NOW)).to == "far"
    assert letter(offered(machine, bundle())).to == "far"
    unknown = bundle(sequence=2, destination="moon")
    machine.handle(met("moon"), NOW)
    assert letter(offered(machine, unknown)).to == "moon"  # no plan has it, and it is here


# -------------------------------------------------------------------------------------- arriving


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


# ----------------------------------------------------------------------------------- after a restart


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
