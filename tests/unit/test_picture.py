"""A plan as a picture: what is drawn, and what is said to be left out."""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from skyfield.api import load, wgs84

from orbitrain.contacts.compact import CompactPlan, compact
from orbitrain.contacts.contact import Contact, LinkClass, Sample
from orbitrain.contacts.elements import Shell, satellites_of
from orbitrain.contacts.geometry import propagated
from orbitrain.contacts.node import Orbit, Place, PlanNode
from orbitrain.contacts.orbits import orbit_of
from orbitrain.contacts.plan import ContactPlan
from orbitrain.ground_tracks import geodetic, ground_tracks, markers, split
from orbitrain.picture import MOST_ROWS, MOST_TRACKS, drawn, figure_of

S = 10**9
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


def plan_of(satellites: int, devices: int, *, placed: bool = True, link_class: LinkClass = "service") -> Any:
    """A contact of 100 s, both ways, between every satellite and every device, one after the other."""
    flying = satellites_of(Shell("sat", 550.0, 53.0, satellites), EPOCH)
    nodes = [PlanNode(s.name, "satellite", orbit=orbit_of(s) if placed else None) for s in flying]
    for n in range(devices):
        place = Place(-80.0 + 160.0 * n / devices, -170.0 + 340.0 * n / devices, 0.0)
        nodes.append(PlanNode(f"device-{n}", "device", place if placed else None))
    contacts = []
    for n, (a, b) in enumerate(itertools.product(range(satellites), range(devices))):
        samples = (Sample(n * 10 * S, 4_000_000, 10**6, 0.0, 1.0),)
        for ends in ((f"sat-{a}", f"device-{b}"), (f"device-{b}", f"sat-{a}")):
            contacts.append(Contact(*ends, link_class, n * 10 * S, n * 10 * S + 100 * S, samples))
    duration_ns = (satellites * devices * 10 + 100) * S
    return ContactPlan(1, "ab" * 32, "2026-01-01T00:00:00Z", duration_ns, tuple(nodes), tuple(contacts))


def figure(plan: ContactPlan, **changes: Any) -> Figure:
    given: dict[str, Any] = {"title": "T", "epoch": plan.epoch, "duration_ns": plan.duration_ns} | changes
    return figure_of(plan.nodes, plan.contacts, **given)


def texts(of: Figure) -> Iterator[str]:
    return (text.get_text() for text in of.findobj(Text))


def notes(of: Figure) -> list[str]:
    return [text.get_text() for text in of.texts]


def rows(of: Figure) -> list[str]:
    return [label.get_text() for label in of.axes[0].get_yticklabels()]


def size(png: bytes) -> tuple[int, int]:
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">2I", png[16:24])
    return width, height


def test_the_picture_is_1600_pixels_wide_and_the_same_every_time() -> None:
    plan = plan_of(3, 2)
    first, second = (
        drawn(plan.nodes, plan.contacts, title="T", epoch=plan.epoch, duration_ns=plan.duration_ns)
        for _ in range(2)
    )
    assert size(first)[0] == 1600 and first == second


def test_a_small_plan_has_a_row_for_each_pair_and_a_track_for_each_satellite() -> None:
    found = figure(plan_of(3, 2))
    assert rows(found) == [f"device-{d} – sat-{s}" for d in range(2) for s in range(3)]
    assert notes(found) == [
        "T",
        "a row is a pair of nodes, a bar a contact in either direction",
        "ground tracks of all satellites over one revolution from the epoch;  dots: at the epoch;  "
        "triangles: devices",
    ]
    assert {"sat-0", "sat-1", "sat-2", "device-0", "device-1", " service"} <= set(texts(found))
    bars = [collection for collection in found.axes[0].collections if len(collection.get_paths())]
    assert sum(len(one.get_paths()) for one in bars) == 6  # both directions are one bar


def test_classes_stand_in_their_order() -> None:
    plan = plan_of(2, 1)
    ground = PlanNode("hub", "ground", Place(78.0, 15.0, 0.0))
    isl = replace(plan.contacts[0], source="sat-0", destination="sat-1", link_class="intra_isl")
    feeder = replace(plan.contacts[0], source="sat-0", destination="hub", link_class="feeder")
    whole = replace(plan, nodes=(*plan.nodes, ground), contacts=(isl, feeder, *plan.contacts))
    found = figure(whole)
    assert rows(found) == ["device-0 – sat-0", "device-0 – sat-1", "hub – sat-0", "sat-0 – sat-1"]
    heads = [text.get_text() for text in found.axes[0].texts]
    assert heads == [" service", " feeder", " intra_isl"]
    assert "squares: ground stations" in notes(found)[2]


def test_devices_with_the_same_contacts_share_a_row() -> None:
    plan = plan_of(2, 1)
    twins = [replace(plan.nodes[-1], name=f"twin-{n}") for n in range(3)]
    contacts = list(plan.contacts)
    for twin in twins:
        for one in plan.contacts:
            ends = [twin.name if name == "device-0" else name for name in (one.source, one.destination)]
            contacts.append(replace(one, source=ends[0], destination=ends[1]))
    found = figure(replace(plan, nodes=(*plan.nodes, *twins), contacts=tuple(contacts)))
    assert rows(found) == ["device-0 + 3 – sat-0", "device-0 + 3 – sat-1"]
    assert "+ n: so many more nodes with the same contacts" in notes(found)[1]
    assert "device-0 and 3 more" in set(texts(found))


def test_too_many_pairs_become_a_strip_for_each_node_and_too_many_nodes_are_said() -> None:
    found = figure(plan_of(20, 10))
    assert rows(found) == [f"device-{n}" for n in range(10)]
    assert notes(found)[1] == "a row is a node, the darker the more links of its class it has at once"
    assert notes(found)[2].startswith(f"ground tracks of {MOST_TRACKS} of 20 satellites over one revolution")
    found = figure(plan_of(3, 100))
    assert len(rows(found)) == MOST_ROWS
    assert "52 of 100 rows left out, those with least contact time" in notes(found)[1]
    assert size(drawn_of(plan_of(3, 100)))[1] < 2200


def drawn_of(plan: ContactPlan) -> bytes:
    return drawn(plan.nodes, plan.contacts, title="T", epoch=plan.epoch, duration_ns=plan.duration_ns)


def test_of_one_node_there_are_its_partners() -> None:
    found = figure(plan_of(60, 1))
    assert len(rows(found)) == MOST_ROWS and rows(found)[0].startswith("device-0 – sat-")
    assert "12 of 60 rows left out" in notes(found)[1]


def test_every_class_keeps_its_share_of_the_rows() -> None:
    plan = plan_of(3, 100)
    one = Contact("sat-0", "sat-1", "inter_isl", 0, S, (Sample(0, 1, 1, 0.0, 1.0),))
    found = figure(replace(plan, contacts=(*plan.contacts, one)))
    assert rows(found)[-2:] == ["sat-0", "sat-1"] and len(rows(found)) == MOST_ROWS


def test_a_doubtful_contact_is_paler_and_its_edges_have_whiskers() -> None:
    plan = plan_of(1, 1)
    doubtful = tuple(replace(one, confidence=0.25, margin_ns=20 * S) for one in plan.contacts)
    found = figure(replace(plan, contacts=doubtful))
    assert "the paler, the less sure (confidence down to 0.25)" in notes(found)[1]
    assert "thin lines: where an edge may be" in notes(found)[1]
    assert len(found.axes[0].lines) == 2
    (bars,) = (one for one in found.axes[0].collections if len(one.get_paths()))
    assert math.isclose(np.asarray(bars.get_facecolor())[0, 3], 0.4)
    assert not figure(plan).axes[0].lines


def test_without_places_there_is_no_map_and_without_contacts_no_rows() -> None:
    found = figure(plan_of(2, 1, placed=False))
    assert len(found.axes) == 1
    assert "no map: no node has a place or an orbit" in notes(found)
    empty = figure(replace(plan_of(2, 1), contacts=()))
    assert notes(empty)[1] == "no contacts" and rows(empty) == []
    assert size(drawn_of(replace(plan_of(2, 1, placed=False), contacts=())))[0] == 1600


def test_a_compact_plan_is_drawn_from_its_links() -> None:
    plan = plan_of(2, 2)
    read = CompactPlan(compact(plan))
    given: dict[str, Any] = {"title": "T", "epoch": plan.epoch, "duration_ns": plan.duration_ns}
    assert drawn(read.nodes, read.links(), **given) == drawn_of(plan)


def test_many_sites_at_one_spot_lose_names_and_that_is_said() -> None:
    plan = plan_of(1, 30)
    near = tuple(
        replace(node, place=Place(n * 0.01, 0.0, 0.0)) if node.kind == "device" else node
        for n, node in enumerate(plan.nodes)
    )
    found = figure(replace(plan, nodes=near))
    assert "names left out for room" in notes(found)[-1]


# --- on the ground ----------------------------------------------------------------------------------------


def test_places_below_satellites_are_skyfields() -> None:
    shell = satellites_of(Shell("sat", 700.0, 98.0, 5), EPOCH)
    longitude, latitude = geodetic(propagated(shell, EPOCH, 60.0, 30.0)[0].position_km[:, 0])
    timescale = load.timescale(builtin=True)
    from skyfield.api import EarthSatellite

    for index, satellite in enumerate(shell):
        at = EarthSatellite.from_satrec(satellite.satrec, timescale).at(timescale.from_datetime(EPOCH))
        below = wgs84.subpoint_of(at)
        assert abs(below.longitude.degrees - longitude[index]) < 1e-3
        assert abs(below.latitude.degrees - latitude[index]) < 1e-3


@pytest.mark.parametrize("sign", [1, -1])
def test_a_line_is_cut_at_the_date_line(sign: int) -> None:
    east, north = split(sign * np.array([160.0, 170.0, -160.0, -150.0]), np.array([0.0, 10.0, 40.0, 50.0]))
    assert np.array_equal(east, sign * np.array([160, 170, 180, np.nan, -180, -160, -150.0]), equal_nan=True)
    assert np.array_equal(north, np.array([0, 10, 20, np.nan, 20, 40, 50.0]), equal_nan=True)


def test_a_line_that_stays_on_one_side_is_left_alone() -> None:
    east, north = np.array([-10.0, 0.0, 10.0]), np.array([1.0, 2.0, 3.0])
    assert all(np.array_equal(*pair) for pair in zip(split(east, north), (east, north), strict=True))


def test_a_satellite_that_sgp4_cannot_fly_is_counted() -> None:
    lost = Orbit(27_758.0, 0.0, 0.9, 0.0, 1.0, 0.0, 0.07, 0.0)  # its perigee is in the Earth
    nodes = [PlanNode("lost", "satellite", orbit=lost)]
    assert ground_tracks(nodes, EPOCH, 600.0, 9).lost == 1
    assert ground_tracks(nodes, EPOCH, 600.0, 9).tracks == ()
    plan = replace(plan_of(1, 1), nodes=(*plan_of(1, 1).nodes, *nodes))
    assert "1 left out, SGP4 cannot fly them" in notes(figure(plan))[2]


def test_a_track_is_a_revolution_but_no_longer_than_the_plan() -> None:
    nodes = plan_of(1, 0).nodes
    (whole,) = ground_tracks(nodes, EPOCH, 86_400.0, 1).tracks
    (short,) = ground_tracks(nodes, EPOCH, 600.0, 1).tracks
    assert 185 < np.isfinite(whole.longitude_degrees).sum() < 200  # 95.6 minutes in steps of half a minute
    assert np.isfinite(short.longitude_degrees).sum() == 21


def test_nodes_at_one_place_have_one_marker_for_each_kind() -> None:
    here = Place(1.0, 2.0, 0.0)
    nodes = [PlanNode("a", "device", here), PlanNode("b", "ground", here), PlanNode("c", "device", here)]
    assert [(one.label, one.kind, one.place) for one in markers(nodes)] == [
        ("a and 1 more", "device", (2.0, 1.0)),
        ("b", "ground", (2.0, 1.0)),
    ]
