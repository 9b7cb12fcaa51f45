"""What an operator is shown of a node's transfers."""

from __future__ import annotations

from dataclasses import replace

from orbitrain.contacts.contact import Contact, Sample
from orbitrain.contacts.plan import ContactPlan, PlanNode
from orbitrain.machine import NEVER_NS, Fate
from orbitrain.mailbox import Letter
from orbitrain.protocols.bundles import ROLE
from orbitrain.transfers import incoming, listed, outgoing
from orbitrain.transport.expected import Expected
from orbitrain.v1 import bundles_pb2 as wire

SECOND_NS = 1_000_000_000


def plan(*windows: tuple[int, int]) -> ContactPlan:
    contacts = []
    for start_s, end_s in windows:
        samples = (Sample(start_s * SECOND_NS, 1, 8_000, 0.0, 1.0),)
        for ends in (("a", "b"), ("b", "a")):
            contacts.append(Contact(*ends, "service", start_s * SECOND_NS, end_s * SECOND_NS, samples))
    nodes = (PlanNode("a", "satellite"), PlanNode("b", "device"))
    return ContactPlan(1, "0" * 64, "2026-01-01T00:00:00Z", 100 * SECOND_NS, nodes, tuple(contacts))


def letter(sequence: int, *objects: tuple[str, int], cancelled: Fate | None = None) -> Letter:
    return Letter("r", f"k{sequence}", "b", "role", 3, sequence, "kind", b"", objects, 50, cancelled)


def test_a_letter_is_shown_with_what_its_peer_is_known_to_have() -> None:
    letters = [
        letter(1, ("x", 100), ("y", 50)),
        letter(2, ("x", 100)),
        letter(3, ("z", 10)),
        letter(4),
        letter(5, ("x", 100), cancelled=Fate.WITHDRAWN),
    ]
    rows = list(outgoing(letters, {("b", "x"): 30, ("b", "y"): 0, ("c", "z"): 1}, b""))
    assert [(one.key, one.size, one.done) for one in rows] == [
        ("k1", 150, 120),
        ("k2", 100, 70),
        ("k3", 10, -1),
    ]
    assert {(one.outgoing, one.peer, one.role, one.lane, one.expires_at_ns) for one in rows} == {
        (True, "b", "role", 3, 50)
    }


def test_a_partial_object_is_shown_for_every_letter_that_waits_for_it_or_for_none() -> None:
    letters = [("x", Expected(source, "i", "role", 3, 1, NEVER_NS)) for source in ("b", "c")]
    rows = list(incoming([("x", 100, 40), ("y", 9, 0)], letters))
    assert [(one.peer, one.digest, one.done, one.size) for one in rows] == [
        ("b", "x", 40, 100),
        ("c", "x", 40, 100),
        ("", "y", 0, 9),
    ]


def test_each_waits_for_the_contact_that_goes_on_or_comes_next() -> None:
    rows = list(outgoing([letter(1, ("x", 1))], {}, b""))
    for now_s, contact in ((5, (10, 20)), (15, (10, 20)), (20, (30, 40)), (40, (0, 0))):
        (one,) = listed(plan((10, 20), (30, 40)), "a", now_s * SECOND_NS, rows, ()).transfers
        found = (one.contact_start_ns // SECOND_NS, one.contact_end_ns // SECOND_NS)
        assert found == contact, now_s
        rows = list(outgoing([letter(1, ("x", 1))], {}, b""))


def custody(*held: wire.Held) -> bytes:
    return wire.CustodianState(held=held).SerializeToString()


def bundle(name: str, **changes: object) -> wire.Bundle:
    values = {"destination": "far", "name": name, "size": 100, "lane": 4, "expires_at_ns": 70, **changes}
    return wire.Bundle(**values)  # type: ignore[arg-type]


def carried(sequence: int, cancelled: Fate | None = None) -> Letter:
    return replace(letter(sequence, ("x", 100), cancelled=cancelled), sender_role=ROLE, role=ROLE)


def test_a_file_is_shown_with_where_it_is_for_whether_it_has_a_route_or_not() -> None:
    state = custody(
        wire.Held(bundle=bundle("one"), next="b", key="k1"),
        wire.Held(bundle=bundle("two", destination="moon")),
    )
    rows = list(outgoing([carried(1), letter(2, ("y", 5))], {}, state))
    assert [(one.peer, one.key, one.destination, one.size) for one in rows] == [
        ("b", "k1", "far", 100),
        ("b", "k2", "", 5),
        ("", "two", "moon", 100),
    ]
    (waiting,) = listed(plan((10, 20)), "a", 0, rows[2:], ()).transfers
    assert (waiting.outgoing, waiting.lane, waiting.expires_at_ns, waiting.done) == (True, 4, 70, 0)
    assert (waiting.contact_start_ns, waiting.contact_end_ns) == (0, 0)


def test_a_file_that_is_taken_back_is_shown_as_long_as_it_is_in_custody() -> None:
    """Its peer may have it already: until it has said so, this node answers for it."""
    state = custody(wire.Held(bundle=bundle("one"), next="b", key="k1", withdrawn=True))
    rows = list(outgoing([carried(1, Fate.WITHDRAWN)], {}, state))
    assert [(one.peer, one.key, one.destination) for one in rows] == [("b", "k1", "far")]
    assert list(outgoing([carried(1, Fate.WITHDRAWN)], {}, custody())) == []


def test_another_roles_letter_of_the_same_key_has_no_destination() -> None:
    state = custody(wire.Held(bundle=bundle("one"), next="b", key="k1"))
    assert [one.destination for one in outgoing([letter(1, ("x", 1))], {}, state)] == [""]
