"""What a custodian of bundles does not accept, and that a refusal changes nothing."""

from __future__ import annotations

import pytest

from orbitrain.machine import NEVER_NS, Acknowledged, Delivered, Lane, RemoteProtocolError
from orbitrain.protocols.bundles import custodian
from orbitrain.v1 import bundles_pb2 as wire
from tests.unit.protocols.custody import (
    DIGEST,
    NOW,
    bundle,
    command,
    fields,
    held,
    letter,
    node,
    offered,
    reports,
)

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
