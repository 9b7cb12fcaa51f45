"""Contact plans that break a rule are refused in one line that names the field."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from orbitrain.contacts.contact import PlanError
from orbitrain.contacts.plan import ContactPlan
from tests.unit.contacts.small_plans import small_plan, trusted

Edit = Callable[[dict[str, Any]], Any]


def put(*path: str | int, value: object) -> Edit:
    def edit(document: Any) -> None:
        for step in path[:-1]:
            document = document[step]
        document[path[-1]] = value

    return edit


def drop(*path: str | int) -> Edit:
    def edit(document: Any) -> None:
        for step in path[:-1]:
            document = document[step]
        del document[path[-1]]

    return edit


C, S = "contacts", "samples"
REFUSED: list[tuple[Edit, str]] = [
    (put("version", value=2), "version: must be 1, not 2"),
    (put("version", value=True), "version: must be an integer, not true"),
    (put("sha256", value="0" * 64), "sha256: must be the digest of the plan ("),
    (put("sha256", value=None), "sha256: must be a string, not null"),
    (put("scenario_sha256", value="AB" * 32), "scenario_sha256: must be 64 lower-case hex digits"),
    (
        put("epoch", value="2026-01-01T00:00:00"),
        "epoch: must be a UTC instant such as 2026-01-01T00:00:00Z, not",
    ),
    (put("epoch", value="2026-02-30T00:00:00Z"), "epoch: must be a UTC instant such as"),
    (put("duration_ns", value=0), "duration_ns: must be 1 to 9223372036854775807, not 0"),
    (put("duration_ns", value=1.5), "duration_ns: must be an integer, not a fraction"),
    (put("nodes", value={}), "nodes: must be a list, not an object"),
    (put("nodes", 0, value=7), "nodes[0]: must be an object, not an integer"),
    (put("nodes", 0, "name", value="a b"), "nodes[0].name: must be 1 to 64 printable ASCII characters"),
    (put("nodes", 1, "name", value="sat-0"), "nodes[1].name: must be unique, 'sat-0' is there already"),
    (put("nodes", 1, "kind", value="moon"), "nodes[1].kind: must be satellite, ground or device, not 'moon'"),
    (put("nodes", 1, "colour", value=1), "nodes[1].colour: unknown key, allowed are kind, name"),
    (put("note", value="x"), "note: unknown key, allowed are contacts, duration_ns, epoch"),
    (put("new\nline", value="x"), r"'new\nline': unknown key"),
    (drop("epoch"), "epoch: must be there"),
    (drop(C, 1, S, 0, "loss", "mean"), "contacts[1].samples[0].loss.mean: must be there"),
    (put(C, 0, "source", value="sat-9"), "contacts[0].source: must be the name of a node, not 'sat-9'"),
    (put(C, 0, "destination", value="sat-0"), "contacts[0].destination: must differ from source (sat-0)"),
    (
        put(C, 0, "class", value="x"),
        "contacts[0].class: must be service, feeder, intra_isl, inter_isl or backhaul, not 'x'",
    ),
    (put(C, 0, "start_ns", value=-1), "contacts[0].start_ns: must be 0 or more, not -1"),
    (put(C, 1, "end_ns", value=12), "contacts[1].end_ns: must be greater than start_ns (12)"),
    (put(C, 3, "end_ns", value=101), "contacts[3].end_ns: must be at most duration_ns (100), not 101"),
    (put(C, 3, "end_ns", value="70"), "contacts[3].end_ns: must be an integer, not a string"),
    (put(C, 0, S, value=[]), "contacts[0].samples: must have at least one sample"),
    (put(C, 0, S, 0, value=[]), "contacts[0].samples[0]: must be an object, not a list"),
    (
        put(C, 0, S, 0, "t_ns", value=9),
        "contacts[0].samples[0].t_ns: must be inside the contact (10 to 30), not 9",
    ),
    (put(C, 0, S, 1, "t_ns", value=31), "contacts[0].samples[1].t_ns: must be inside the contact (10 to 30)"),
    (
        put(C, 0, S, 1, "t_ns", value=10),
        "contacts[0].samples[1].t_ns: must be greater than the sample before (10)",
    ),
    (
        put(C, 0, S, 1, "delay_ns", value=-1),
        "contacts[0].samples[1].delay_ns: must be 0 to 9223372036854775807",
    ),
    (
        put(C, 0, S, 1, "rate_bps", value=0),
        "contacts[0].samples[1].rate_bps: must be 1 to 9223372036854775807, not 0",
    ),
    (
        put(C, 0, S, 1, "rate_bps", value=True),
        "contacts[0].samples[1].rate_bps: must be an integer, not true",
    ),
    (put(C, 0, S, 1, "loss", value=0.1), "contacts[0].samples[1].loss: must be an object, not a fraction"),
    (
        put(C, 0, S, 1, "loss", "mean", value=1.01),
        "contacts[0].samples[1].loss.mean: must be 0 to 1, not 1.01",
    ),
    (
        put(C, 0, S, 1, "loss", "mean", value=False),
        "contacts[0].samples[1].loss.mean: must be a number, not false",
    ),
    (
        put(C, 0, S, 1, "loss", "mean", value=float("nan")),
        "contacts[0].samples[1].loss.mean: must be 0 to 1, not nan",
    ),
    (
        put(C, 0, S, 1, "loss", "burst", value=0.5),
        "contacts[0].samples[1].loss.burst: must be 1 or more packets",
    ),
    (
        put(C, 0, S, 1, "loss", "burst", value=10**400),
        "contacts[0].samples[1].loss.burst: must be a number of ordinary",
    ),
    (lambda d: d[C].reverse(), "contacts[1]: must be in the order of start_ns, source, destination"),
    (
        put(C, 0, "end_ns", value=51),
        "contacts[3].start_ns: must not be before the end (51) of the earlier contact from sat-0 to quito-0",
    ),
]


@pytest.mark.parametrize(("edit", "message"), REFUSED, ids=[message[:60] for _, message in REFUSED])
def test_a_broken_plan_is_refused_in_one_line_that_names_the_field(edit: Edit, message: str) -> None:
    document = json.loads(small_plan().to_json())
    edit(document)
    with pytest.raises(PlanError) as refusal:
        ContactPlan.from_json(json.dumps(document).encode())
    assert str(refusal.value).startswith(message)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[" * 100_000], ids=["empty", "cut", "latin", "deep"])
def test_what_is_not_json_is_refused_as_such(data: bytes) -> None:
    with pytest.raises(PlanError, match=r"^plan: must be JSON in UTF-8"):
        ContactPlan.from_json(data)


def test_a_list_is_not_a_plan() -> None:
    with pytest.raises(PlanError, match=r"^plan: must be an object, not a list$"):
        ContactPlan.from_json(b"[]")


def test_one_changed_digit_is_noticed() -> None:
    data = small_plan().to_json().replace(b'"delay_ns": 9', b'"delay_ns": 8', 1)
    with pytest.raises(PlanError, match=r"^sha256: "):
        ContactPlan.from_json(data)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (put("revision", value=-1), "revision: must be 0 to 9223372036854775807, not -1"),
        (put("revision", value=0), "revision: must be 1 or more, or not be there"),
        (put("revision", value="1"), "revision: must be an integer, not a string"),
        (put("for_node", value="sat-0"), "of_sha256: must be there, as a slice has both"),
        (put("of_sha256", value="cd" * 32), "for_node: must be there, as a slice has both"),
    ],
)
def test_a_broken_optional_key_is_refused(edit: Edit, message: str) -> None:
    document = json.loads(small_plan().to_json())
    edit(document)
    with pytest.raises(PlanError) as refusal:
        ContactPlan.from_json(json.dumps(document).encode())
    assert str(refusal.value).startswith(message)


def test_a_slice_is_for_a_node_and_of_a_digest() -> None:
    with pytest.raises(PlanError, match=r"^for_node: must be the name of a node, not 'x'$"):
        replace(small_plan(), for_node="x", of_sha256="cd" * 32)
    with pytest.raises(PlanError, match=r"^of_sha256: must be 64 lower-case hex digits$"):
        replace(small_plan(), for_node="sat-0", of_sha256="cd")


N = "nodes"
REFUSED_TRUST: list[tuple[Edit, str]] = [
    (put(C, 1, "margin_ns", value=0), "contacts[1].margin_ns: must be 1 or more, or not be there"),
    (put(C, 1, "margin_ns", value=-1), "contacts[1].margin_ns: must be 0 to 9223372036854775807, not -1"),
    (put(C, 1, "margin_ns", value=2**63), "contacts[1].margin_ns: must be 0 to 9223372036854775807, not"),
    (put(C, 1, "margin_ns", value=1.0), "contacts[1].margin_ns: must be an integer, not a fraction"),
    (put(C, 3, "confidence", value=1), "contacts[3].confidence: must be below 1, or not be there"),
    (put(C, 3, "confidence", value=1.5), "contacts[3].confidence: must be 0 to 1, not 1.5"),
    (put(C, 3, "confidence", value=-0.5), "contacts[3].confidence: must be 0 to 1, not -0.5"),
    (put(C, 3, "confidence", value=float("nan")), "contacts[3].confidence: must be 0 to 1, not nan"),
    (put(C, 3, "confidence", value="high"), "contacts[3].confidence: must be a number, not a string"),
    (put(C, 3, "trust", value=1), "contacts[3].trust: unknown key, allowed are class, confidence,"),
    (put(N, 2, "place", value=None), "nodes[2].place: must be an object, not null"),
    (drop(N, 2, "place", "altitude_m"), "nodes[2].place.altitude_m: must be there"),
    (put(N, 2, "place", "height", value=1), "nodes[2].place.height: unknown key, allowed are altitude_m"),
    (
        put(N, 2, "place", "latitude_degrees", value=90.5),
        "nodes[2].place.latitude_degrees: must be -90 to 90, not 90.5",
    ),
    (
        put(N, 2, "place", "longitude_degrees", value=float("inf")),
        "nodes[2].place.longitude_degrees: must be -180 to 180, not inf",
    ),
    (put(N, 2, "place", "altitude_m", value=2e5), "nodes[2].place.altitude_m: must be -500 to 100000, not"),
    (
        lambda d: d[N][2].update(kind="satellite"),
        "nodes[2].place: must not be there for a satellite, which has an orbit",
    ),
    (
        lambda d: d[N][0].update(kind="ground"),
        "nodes[0].orbit: must not be there for a ground, which has a place",
    ),
    (put(N, 0, "orbit", "epoch_days", value=-1), "nodes[0].orbit.epoch_days: must be 0 to 100000, not -1.0"),
    (put(N, 0, "orbit", "bstar", value=float("nan")), "nodes[0].orbit.bstar: must be a finite number, not"),
    (put(N, 0, "orbit", "bstar", value=True), "nodes[0].orbit.bstar: must be a number, not true"),
    (
        put(N, 0, "orbit", "eccentricity", value=1),
        "nodes[0].orbit.eccentricity: must be 0 to less than 1, not 1.0",
    ),
    (
        put(N, 0, "orbit", "inclination_radians", value=3.2),
        "nodes[0].orbit.inclination_radians: must be 0 to 3.1415926535897931, not 3.2",
    ),
    (
        put(N, 0, "orbit", "mean_anomaly_radians", value=7),
        "nodes[0].orbit.mean_anomaly_radians: must be -6.28",
    ),
    (
        put(N, 0, "orbit", "mean_motion_radians_per_minute", value=0),
        "nodes[0].orbit.mean_motion_radians_per_minute: must be above 0 and at most 0.1, not 0.0",
    ),
]


@pytest.mark.parametrize(
    ("edit", "message"), REFUSED_TRUST, ids=[message[:60] for _, message in REFUSED_TRUST]
)
def test_a_broken_margin_place_or_orbit_is_refused(edit: Edit, message: str) -> None:
    document = json.loads(trusted().to_json())
    edit(document)
    with pytest.raises(PlanError) as refusal:
        ContactPlan.from_json(json.dumps(document).encode())
    assert str(refusal.value).startswith(message)
    assert "\n" not in str(refusal.value)
