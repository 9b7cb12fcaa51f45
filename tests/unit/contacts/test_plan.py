"""The contact plan: its file, its rules, its queries, its arithmetic."""

from __future__ import annotations

import hashlib
import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orbitrain.contacts.contact import Contact, PlanError, Sample
from orbitrain.contacts.plan import ActiveIndex, ContactPlan, Orbit, Place, PlanNode

NODES = (PlanNode("sat-0", "satellite"), PlanNode("sat-1", "satellite"), PlanNode("quito-0", "device"))
NAMES = tuple(node.name for node in NODES)
DURATION_NS = 100


def sample(t_ns: int, delay_ns: int = 5, rate_bps: int = 1000) -> Sample:
    return Sample(t_ns, delay_ns, rate_bps, 0.01, 3.5)


def contact(source: str, destination: str, start_ns: int, end_ns: int) -> Contact:
    return Contact(source, destination, "service", start_ns, end_ns, (sample(start_ns), sample(end_ns, 9)))


def plan_of(*contacts: Contact) -> ContactPlan:
    return ContactPlan(1, "ab" * 32, "2026-01-01T00:00:00Z", DURATION_NS, NODES, contacts)


def small_plan() -> ContactPlan:
    return plan_of(
        contact("sat-0", "quito-0", 10, 30),
        contact("quito-0", "sat-0", 12, 35),
        contact("sat-1", "quito-0", 20, 60),
        contact("sat-0", "quito-0", 50, 70),
    )


@st.composite
def plans(draw: st.DrawFn) -> ContactPlan:
    contacts = []
    for source, destination in itertools.permutations(NAMES, 2):
        edges = sorted(draw(st.sets(st.integers(0, DURATION_NS), max_size=8)))
        for start_ns, end_ns in itertools.pairwise(edges):
            if not draw(st.booleans()):
                continue
            times = draw(st.sets(st.integers(start_ns, end_ns), min_size=1, max_size=4))
            samples = tuple(
                Sample(
                    t,
                    draw(st.integers(0, 50)),
                    draw(st.integers(1, 10**10)),
                    draw(st.floats(0, 1)),
                    draw(st.floats(1, 9)),
                )
                for t in sorted(times)
            )
            margin_ns = draw(st.sampled_from([0, 0, 7, 2**63 - 1]))
            confidence = draw(st.sampled_from([1.0, 1.0, 0.0, 0.1, 1 / 3]))
            contacts.append(
                Contact(source, destination, "service", start_ns, end_ns, samples, margin_ns, confidence)
            )
    return plan_of(*draw(st.permutations(contacts)))


# --- file -------------------------------------------------------------------------------------------------


@given(plans())
def test_a_plan_survives_its_file_and_gives_the_same_bytes_again(plan: ContactPlan) -> None:
    data = plan.to_json()
    again = ContactPlan.from_json(data)
    assert again == plan
    assert again.sha256 == plan.sha256
    assert again.to_json() == data


@given(plans())
def test_the_digest_is_that_of_the_canonical_json_without_the_digest(plan: ContactPlan) -> None:
    document = json.loads(plan.to_json())
    stated = document.pop("sha256")
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    assert stated == hashlib.sha256(text.encode()).hexdigest()


def test_the_digest_does_not_change_between_versions_of_the_code() -> None:
    assert small_plan().sha256 == "4d12b338f15b15be56eb74794996770bf48dd818f6e91fbb7416777faed66efc"


def test_the_digest_does_not_depend_on_the_order_contacts_were_given_in() -> None:
    plan = small_plan()
    assert replace(plan, contacts=plan.contacts[::-1]) == plan
    assert replace(plan, contacts=plan.contacts[::-1]).sha256 == plan.sha256


def test_the_file_has_one_line_per_contact_and_exactly_the_agreed_keys() -> None:
    data = small_plan().to_json()
    lines = [line for line in data.decode().splitlines() if '"samples"' in line]
    assert len(lines) == 4
    document = json.loads(data)
    assert list(document) == [
        "version", "sha256", "scenario_sha256", "epoch", "duration_ns", "nodes", "contacts",
    ]  # fmt: skip
    assert document["nodes"][2] == {"name": "quito-0", "kind": "device"}
    assert document["contacts"][0] == {
        "source": "sat-0",
        "destination": "quito-0",
        "class": "service",
        "start_ns": 10,
        "end_ns": 30,
        "samples": [
            {"t_ns": 10, "delay_ns": 5, "rate_bps": 1000, "loss": {"mean": 0.01, "burst": 3.5}},
            {"t_ns": 30, "delay_ns": 9, "rate_bps": 1000, "loss": {"mean": 0.01, "burst": 3.5}},
        ],
    }


def test_loss_written_as_integers_reads_as_the_same_plan() -> None:
    lossless = Contact("sat-0", "sat-1", "inter_isl", 0, 9, (Sample(0, 1, 1, 0, 0),))
    plan = plan_of(lossless)
    data = plan.to_json().replace(b"0.0", b"0")
    assert ContactPlan.from_json(data).sha256 == plan.sha256


def test_loading_a_plan_and_its_services_needs_no_numpy() -> None:
    code = (
        "import sys, orbitrain.contacts.plan, orbitrain.contacts.serving;"
        "sys.exit(bool({'numpy', 'sgp4', 'skyfield'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- rules ------------------------------------------------------------------------------------------------

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


# --- queries ----------------------------------------------------------------------------------------------


@given(plans(), st.sampled_from(NAMES), st.sampled_from(NAMES), st.integers(-5, DURATION_NS + 5))
def test_queries_answer_as_a_walk_over_all_contacts_does(
    plan: ContactPlan, a: str, b: str, t_ns: int
) -> None:
    of_pair = tuple(c for c in plan.contacts if (c.source, c.destination) == (a, b))
    assert plan.between(a, b) == of_pair
    assert plan.active(a, b, t_ns) == next((c for c in of_pair if c.start_ns <= t_ns < c.end_ns), None)
    assert plan.next_contact(a, b, t_ns) == next((c for c in of_pair if c.end_ns > t_ns), None)
    assert plan.contacts_of(a) == tuple(c for c in plan.contacts if a in (c.source, c.destination))
    met = {c.source for c in plan.contacts_of(a)} | {c.destination for c in plan.contacts_of(a)}
    assert plan.neighbours(a) == tuple(sorted(met - {a}))


@given(plans(), st.sampled_from(NAMES), st.sampled_from(NAMES))
def test_windows_are_the_instants_at_which_both_directions_are_active(
    plan: ContactPlan, a: str, b: str
) -> None:
    windows = plan.windows(a, b)
    for t_ns in range(DURATION_NS):
        both = plan.active(a, b, t_ns) is not None and plan.active(b, a, t_ns) is not None
        assert any(start_ns <= t_ns < end_ns for start_ns, end_ns in windows) == both
    assert all(start_ns < end_ns for start_ns, end_ns in windows)
    assert all(one[1] < other[0] for one, other in itertools.pairwise(windows))
    assert plan.windows(b, a) == windows


def test_an_unknown_name_has_no_contacts() -> None:
    plan = small_plan()
    assert not plan.contacts_of("x") and not plan.neighbours("x")
    assert not plan.between("x", "y") and not plan.windows("x", "y")
    assert plan.active("x", "y", 0) is None
    assert plan.next_contact("x", "y", 0) is None


@given(plans(), st.integers(-DURATION_NS, DURATION_NS))
def test_shifting_moves_every_contact_and_cuts_off_what_leaves_the_plan(
    plan: ContactPlan, offset_ns: int
) -> None:
    moved = plan.shifted(offset_ns)
    assert moved.duration_ns == plan.duration_ns
    ContactPlan.from_json(moved.to_json())
    for a, b in itertools.permutations(NAMES, 2):
        for t_ns in range(max(0, offset_ns), min(DURATION_NS, DURATION_NS + offset_ns)):
            then, now = plan.active(a, b, t_ns - offset_ns), moved.active(a, b, t_ns)
            assert (then is None) == (now is None)
            if (
                then is not None
                and now is not None
                and then.end_ns - then.start_ns == now.end_ns - now.start_ns
            ):
                assert now.sample_at(t_ns) == replace(then.sample_at(t_ns - offset_ns), t_ns=t_ns)
    assert len(moved.contacts) == sum(
        c.end_ns + offset_ns > 0 and c.start_ns + offset_ns < DURATION_NS for c in plan.contacts
    )


def test_a_contact_cut_by_a_shift_starts_with_the_state_it_had_there() -> None:
    ramp = Contact("sat-0", "sat-1", "intra_isl", 10, 30, (sample(10, 100, 1000), sample(30, 300, 3000)))
    (cut,) = plan_of(ramp).shifted(-15).contacts
    assert (cut.start_ns, cut.end_ns) == (0, 15)
    assert cut.samples == (sample(0, 150, 1500), sample(15, 300, 3000))


# --- arithmetic -------------------------------------------------------------------------------------------


def test_delay_and_rate_run_linearly_between_samples_and_hold_outside() -> None:
    ramp = Contact("sat-0", "sat-1", "service", 0, 40, (sample(10, 100, 3000), sample(20, 201, 1000)))
    assert [ramp.delay_ns_at(t) for t in (0, 10, 11, 15, 19, 20, 40)] == [100, 100, 110, 151, 191, 201, 201]
    assert [ramp.rate_bps_at(t) for t in (0, 10, 11, 20, 40)] == [3000, 3000, 2800, 1000, 1000]


@st.composite
def bent_contacts(draw: st.DrawFn) -> Contact:
    start_ns, length_ns = draw(st.integers(0, 20)), draw(st.integers(1, 60))
    times = draw(st.sets(st.integers(start_ns, start_ns + length_ns), min_size=1, max_size=6))
    samples = tuple(sample(t, 5, draw(st.integers(1, 30 * 10**9))) for t in sorted(times))
    return Contact("sat-0", "sat-1", "service", start_ns, start_ns + length_ns, samples)


def volume_bits_e9(contact: Contact) -> dict[int, Fraction]:
    """The exact volume (bit * 1e9) from the start to every ns; bends are at whole ns, so a sum is exact."""

    def rate(t_ns: int) -> Fraction:
        if t_ns <= contact.samples[0].t_ns:
            return Fraction(contact.samples[0].rate_bps)
        for a, b in itertools.pairwise(contact.samples):
            if t_ns <= b.t_ns:
                return a.rate_bps + Fraction((b.rate_bps - a.rate_bps) * (t_ns - a.t_ns), b.t_ns - a.t_ns)
        return Fraction(contact.samples[-1].rate_bps)

    volume = {contact.start_ns: Fraction(0)}
    for t_ns in range(contact.start_ns, contact.end_ns):
        volume[t_ns + 1] = volume[t_ns] + (rate(t_ns) + rate(t_ns + 1)) / 2
    return volume


@given(bent_contacts(), st.integers(0, 90), st.integers(0, 90), st.integers(0, 120))
def test_finish_and_volume_equal_a_sum_over_every_nanosecond(
    contact: Contact, from_ns: int, to_ns: int, size_bytes: int
) -> None:
    volume = volume_bits_e9(contact)
    begin_ns = max(from_ns, contact.start_ns)
    enough = [
        t for t in range(begin_ns, contact.end_ns + 1)
        if volume[t] - volume[begin_ns] >= size_bytes * 8 * 10**9
    ]  # fmt: skip
    assert contact.finish_ns(from_ns, size_bytes) == (enough[0] if enough else None)
    low, high = (min(max(t, contact.start_ns), contact.end_ns) for t in (from_ns, to_ns))
    expected = int((volume[high] - volume[low]) / (8 * 10**9)) if low < high else 0
    assert contact.volume_bytes(from_ns, to_ns) == expected


@given(bent_contacts(), st.integers(0, 90))
def test_what_fits_until_the_end_finishes_and_one_byte_more_does_not(contact: Contact, from_ns: int) -> None:
    fits_bytes = contact.volume_bytes(from_ns, contact.end_ns)
    if from_ns <= contact.end_ns:
        assert contact.finish_ns(from_ns, fits_bytes) is not None
    assert contact.finish_ns(from_ns, fits_bytes + 1) is None


def test_a_megabyte_at_eight_megabit_per_second_takes_a_second_of_a_pass() -> None:
    s = 10**9
    pass_ = Contact("sat-0", "sat-1", "service", 5 * s, 500 * s, (sample(5 * s, 1, 8_000_000),))
    assert pass_.finish_ns(7 * s, 1_000_000) == 8 * s
    assert pass_.finish_ns(0, 1_000_000) == 6 * s  # nothing can be sent before the contact
    assert pass_.finish_ns(7 * s, 1) == 7 * s + 1000
    assert pass_.finish_ns(7 * s, 0) == 7 * s
    assert pass_.finish_ns(499 * s, 1_000_001) is None
    assert pass_.finish_ns(501 * s, 0) is None
    assert pass_.volume_bytes(0, 1000 * s) == 495_000_000


def test_a_negative_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^size_bytes: must be 0 or more, not -1$"):
        contact("sat-0", "sat-1", 0, 10).finish_ns(0, -1)


@given(bent_contacts(), st.integers(0, 90), st.integers(0, 120))
def test_the_latest_start_equals_a_sum_over_every_nanosecond(
    contact: Contact, finish_ns: int, size_bytes: int
) -> None:
    volume = volume_bits_e9(contact)
    end_ns = min(finish_ns, contact.end_ns)
    wanted = Fraction(size_bytes * 8 * 10**9)
    enough = [t for t in range(contact.start_ns, end_ns + 1) if volume[end_ns] - volume[t] >= wanted]
    assert contact.latest_start_of_ns(finish_ns, wanted) == (enough[-1] if enough else None)


@settings(max_examples=30)
@given(plans(), st.integers(-5, DURATION_NS + 5), st.integers(-5, DURATION_NS + 5))
def test_the_volume_of_a_pair_is_that_of_its_contacts(plan: ContactPlan, from_ns: int, to_ns: int) -> None:
    for a, b in itertools.permutations(NAMES, 2):
        volume = sum(c.volume_bytes(from_ns, to_ns) for c in plan.between(a, b))
        assert plan.volume_bytes(a, b, from_ns, to_ns) == volume


@given(plans(), st.sampled_from(NAMES), st.integers(-5, DURATION_NS + 5))
def test_what_is_active_at_a_node_is_what_a_walk_over_all_contacts_finds(
    plan: ContactPlan, node: str, t_ns: int
) -> None:
    active = tuple(c for c in plan.contacts_of(node) if c.start_ns <= t_ns < c.end_ns)
    assert plan.active_of(node, t_ns) == active
    assert plan.active_of("x", t_ns) == ()


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 60)), max_size=60), st.integers(-1, 125))
def test_an_index_of_overlapping_intervals_finds_all_that_hold_an_instant(
    intervals: list[tuple[int, int]], t_ns: int
) -> None:
    starts = sorted(start for start, _ in intervals)
    ends = [start + length for start, (_, length) in zip(starts, intervals, strict=True)]
    found = ActiveIndex(starts, ends).at(t_ns)
    assert found == [i for i in range(len(starts)) if starts[i] <= t_ns < ends[i]]


@given(plans(), st.sampled_from(NAMES), st.sampled_from(NAMES), st.integers(-5, DURATION_NS + 5))
def test_contacts_from_an_instant_on_and_back_from_it(plan: ContactPlan, a: str, b: str, t_ns: int) -> None:
    of_pair = plan.between(a, b)
    assert list(plan.from_instant(a, b, t_ns)) == [c for c in of_pair if c.end_ns > t_ns]
    assert list(plan.back_from_instant(a, b, t_ns)) == [c for c in of_pair if c.start_ns <= t_ns][::-1]


# --- optional keys ----------------------------------------------------------------------------------------


def test_revision_and_slice_are_in_the_file_only_where_they_say_something() -> None:
    plan = replace(small_plan(), revision=3, for_node="sat-0", of_sha256="cd" * 32)
    document = json.loads(plan.to_json())
    assert list(document)[5:-2] == ["revision", "for_node", "of_sha256"]
    assert ContactPlan.from_json(plan.to_json()) == plan
    stated = document.pop("sha256")
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    assert stated == hashlib.sha256(text.encode()).hexdigest() == plan.sha256
    assert plan.whole_sha256 == "cd" * 32
    assert small_plan().whole_sha256 == small_plan().sha256


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


# --- margins, places, orbits ------------------------------------------------------------------------------

PLACE = Place(-0.18, -78.47, 2850.0)
ORBIT = Orbit(27_758.123456789, 1.5e-5, 0.001, 4.0, 0.925, -1.25, 0.0657, 6.28)


def trusted() -> ContactPlan:
    contacts = list(small_plan().contacts)
    contacts[1] = replace(contacts[1], margin_ns=130_000_000)
    contacts[3] = replace(contacts[3], confidence=0.75)
    nodes = (replace(NODES[0], orbit=ORBIT), NODES[1], replace(NODES[2], place=PLACE))
    return replace(small_plan(), nodes=nodes, contacts=tuple(contacts))


def test_what_is_not_known_exactly_is_in_the_file_and_nothing_else_is() -> None:
    document = json.loads(trusted().to_json())
    assert [c.get("margin_ns") for c in document["contacts"]] == [None, 130_000_000, None, None]
    assert [c.get("confidence") for c in document["contacts"]] == [None, None, None, 0.75]
    assert [sorted(node) for node in document["nodes"]] == [
        ["kind", "name", "orbit"],
        ["kind", "name"],
        ["kind", "name", "place"],
    ]
    assert document["nodes"][2]["place"] == {
        "latitude_degrees": -0.18,
        "longitude_degrees": -78.47,
        "altitude_m": 2850.0,
    }
    assert ContactPlan.from_json(trusted().to_json()) == trusted()
    stated = document.pop("sha256")
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    assert stated == hashlib.sha256(text.encode()).hexdigest()


def test_the_digest_of_a_plan_with_all_keys_does_not_change_either() -> None:
    assert trusted().sha256 == "668be95c32feebafb5c92995a103d0782ae4947f6f8f540e9a362000394ff539"


@given(st.data())
def test_an_orbit_comes_back_to_the_last_bit(data: st.DataObject) -> None:
    angle = st.floats(-6.28, 6.28)
    orbit = Orbit(
        data.draw(st.floats(0, 1e5)),
        data.draw(st.floats(-1, 1)),
        data.draw(st.floats(0, 1, exclude_max=True)),
        data.draw(angle),
        data.draw(st.floats(0, 3.14)),
        data.draw(angle),
        data.draw(st.floats(1e-6, 0.1)),
        data.draw(angle),
    )
    plan = replace(plan_of(), nodes=(PlanNode("sat-0", "satellite", orbit=orbit),))
    again = ContactPlan.from_json(plan.to_json())
    assert again == plan and again.sha256 == plan.sha256


def test_equal_plans_have_one_digest_however_their_numbers_are_spelled() -> None:
    plan = trusted()
    whole = replace(plan.contacts[0], confidence=1, samples=(Sample(10, 5, 1000, 0, 1),))
    signed = replace(whole, confidence=1.0, samples=(Sample(10, 5, 1000, -0.0, 1.0),))
    assert whole == signed
    one, other = replace(plan, contacts=(whole,)), replace(plan, contacts=(signed,))
    assert one.sha256 == other.sha256 and one.to_json() == other.to_json()


def test_a_shifted_contact_is_as_sure_as_before() -> None:
    moved = trusted().shifted(-15).contacts
    assert sorted((c.margin_ns, c.confidence) for c in moved) == [
        (0, 0.75),
        (0, 1.0),
        (0, 1.0),
        (130_000_000, 1.0),
    ]
    assert trusted().shifted(-15).nodes == trusted().nodes


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
