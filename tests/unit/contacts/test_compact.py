"""The compact file: the same plan as the JSON file, in columns."""

from __future__ import annotations

import hashlib
import itertools
import json
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from random import Random
from statistics import median
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orbitrain.contacts.compact import MAGIC, PROFILES_A_BLOCK, CompactPlan, compact, is_compact
from orbitrain.contacts.contact import LARGEST_INTEGER, Contact, PlanError, Sample
from orbitrain.contacts.plan import ContactPlan, Orbit, Place, PlanNode

NODES = (
    PlanNode("sat-0", "satellite", orbit=Orbit(27_758.1, 1e-5, 0.001, 4.0, 0.925, -1.25, 0.0657, 6.28)),
    PlanNode("sat-1", "satellite"),
    PlanNode("hub", "ground", place=Place(78.23, 15.4, 450.0)),
    PlanNode("quito-0", "device"),
)
NAMES = tuple(node.name for node in NODES)
DURATION_NS = 60
NAN = float("nan")


def plan_of(*contacts: Contact, **changes: Any) -> ContactPlan:
    plan = ContactPlan(1, "ab" * 32, "2026-01-01T00:00:00Z", DURATION_NS, NODES, contacts)
    return replace(plan, **changes)


@st.composite
def plans(draw: st.DrawFn) -> ContactPlan:
    contacts = []
    for source, destination in itertools.permutations(NAMES, 2):
        edges = sorted(draw(st.sets(st.integers(0, DURATION_NS), max_size=5)))
        for start_ns, end_ns in itertools.pairwise(edges):
            if draw(st.booleans()):
                times = draw(st.sets(st.integers(start_ns, end_ns), min_size=1, max_size=3))
                samples = tuple(
                    Sample(
                        t,
                        draw(st.integers(0, LARGEST_INTEGER)),
                        draw(st.integers(1, LARGEST_INTEGER)),
                        draw(st.floats(0, 1)),
                        draw(st.floats(1, 9)),
                    )
                    for t in sorted(times)
                )
                kind = draw(st.sampled_from(["service", "feeder", "intra_isl", "inter_isl"]))
                margin_ns = draw(st.sampled_from([0, 0, 0, 1, LARGEST_INTEGER]))
                confidence = draw(st.sampled_from([1.0, 1.0, 1.0, 0.0, 0.7]))
                contacts.append(
                    Contact(source, destination, kind, start_ns, end_ns, samples, margin_ns, confidence)
                )
    return plan_of(*contacts, revision=draw(st.integers(0, 2)))


@settings(max_examples=40)
@given(plans())
def test_the_compact_file_holds_the_very_plan_of_the_json_file(plan: ContactPlan) -> None:
    read = CompactPlan(compact(plan))
    assert read.sha256 == plan.sha256
    assert read.plan() == plan
    assert read.plan().to_json() == plan.to_json()
    assert compact(read.plan()) == compact(plan)


def link_of(c: Contact) -> tuple[object, ...]:
    return c.source, c.destination, c.link_class, c.start_ns, c.end_ns, c.margin_ns, c.confidence


@settings(max_examples=40)
@given(plans(), st.integers(-2, DURATION_NS + 2))
def test_queries_answer_as_the_plan_does(plan: ContactPlan, t_ns: int) -> None:
    read = CompactPlan(compact(plan))
    assert (read.nodes, read.epoch, read.duration_ns) == (plan.nodes, plan.epoch, plan.duration_ns)
    assert (len(read), tuple(read)) == (len(plan.contacts), plan.contacts)
    assert list(read.links()) == [link_of(c) for c in plan.contacts]
    for a in (*NAMES, "x"):
        active = plan.active_of(a, t_ns)
        assert read.active_of(a, t_ns) == active
        assert read.links_at(a, t_ns) == [link_of(c) for c in active]
        assert read.contacts_of(a) == plan.contacts_of(a)
        assert read.neighbours(a) == plan.neighbours(a)
        for b in (*NAMES, "x"):
            assert read.between(a, b) == plan.between(a, b)
            assert read.active(a, b, t_ns) == plan.active(a, b, t_ns)
            assert read.next_contact(a, b, t_ns) == plan.next_contact(a, b, t_ns)


def many() -> ContactPlan:
    samples = [tuple(Sample(n * 10 + k, n * 7 + k, 1000 + n, 0.5, 2.0) for k in range(3)) for n in range(150)]
    contacts = [
        Contact(*ends, "service", n * 10, n * 10 + 5, samples[n])
        for n in range(150)
        for ends in (("sat-0", "quito-0"), ("quito-0", "sat-0"))
    ]
    return ContactPlan(1, "ab" * 32, "2026-01-01T00:00:00Z", 1500, NODES, tuple(contacts))


def test_contacts_with_the_same_samples_share_them_over_several_blocks() -> None:
    plan = many()
    data = compact(plan)
    head = header(data)
    assert head["profiles"] == 150 and head["contacts"] == 300
    assert len(head["blocks"]) == -(-150 // PROFILES_A_BLOCK)
    assert CompactPlan(data).plan() == plan
    assert len(data) < len(plan.to_json()) / 20


def test_a_slice_says_of_what_it_is_one() -> None:
    plan = plan_of(revision=4, for_node="hub", of_sha256="cd" * 32)
    read = CompactPlan(compact(plan))
    assert (read.revision, read.for_node, read.of_sha256) == (4, "hub", "cd" * 32)
    assert read.whole_sha256 == "cd" * 32
    assert read.plan() == plan


def test_the_layout_is_the_documented_one() -> None:
    samples = (Sample(1, 2, 3, 0.0, 1.0),)
    data = compact(plan_of(Contact("sat-1", "hub", "feeder", 1, 9, samples, 4, 0.5)))
    assert data[:8] == b"ORBPLAN\x02" and is_compact(data)
    assert data[8:40] == hashlib.sha256(data[40:]).digest()
    (length,) = struct.unpack_from("<I", data, 40)
    head = header(data)
    assert list(head) == [
        "version", "sha256", "scenario_sha256", "epoch", "duration_ns", "nodes",
        "contacts", "profiles", "columns", "blocks",
    ]  # fmt: skip
    at = 44 + length
    columns = []
    for size in (*head["columns"], *head["blocks"]):
        columns.append(zlib.decompress(data[at : at + size]))
        at += size
    assert at == len(data)
    assert columns[:7] == [struct.pack("<q", value) for value in (1, 9, 1, 2, 1, 0, 4)]
    assert columns[7] == struct.pack("<d", 0.5)
    assert columns[8] == struct.pack("<4q2d", 1, 1, 2, 3, 0.0, 1.0)


def test_a_column_that_says_nothing_has_no_bytes() -> None:
    contact = Contact("sat-1", "hub", "feeder", 1, 9, (Sample(1, 2, 3, 0.0, 1.0),))
    assert header(compact(plan_of(contact)))["columns"][6:] == [0, 0]
    assert header(compact(plan_of()))["columns"][6:] == [0, 0]
    sizes = header(compact(plan_of(replace(contact, margin_ns=1))))["columns"]
    assert sizes[6] > 0 and sizes[7] == 0
    sizes = header(compact(plan_of(replace(contact, confidence=0.0))))["columns"]
    assert sizes[6] == 0 and sizes[7] > 0


@pytest.mark.parametrize(("column", "value"), [("margin_ns", -1), ("confidence", 1.5), ("confidence", NAN)])
def test_a_margin_or_confidence_out_of_range_is_refused_when_its_contact_is_read(
    column: str, value: float
) -> None:
    contact = Contact("sat-1", "hub", "feeder", 1, 9, (Sample(1, 2, 3, 0.0, 1.0),), 1, 0.5)
    data = compact(plan_of(contact))
    sizes = header(data)["columns"]
    packed = zlib.compress(struct.pack("<q" if column == "margin_ns" else "<d", value))
    index = 6 if column == "margin_ns" else 7
    at = 44 + struct.unpack_from("<I", data, 40)[0] + sum(sizes[:index])
    data = data[:at] + packed + data[at + sizes[index] :]
    sizes[index] = len(packed)
    read = CompactPlan(with_header(data, lambda head: head.update(columns=sizes)))
    with pytest.raises(PlanError, match=rf"^contacts\[0\]\.{column}: must be 0 to "):
        read.active_of("hub", 5)


def test_a_column_is_differences_byte_by_byte() -> None:
    samples = (Sample(0, 0, 1, 0.0, 1.0),)
    contacts = [Contact("sat-0", name, "service", 258 * n, 900, samples) for n, name in enumerate(NAMES[1:])]
    contacts = [replace(c, samples=(replace(samples[0], t_ns=c.start_ns),)) for c in contacts]
    data = compact(replace(plan_of(), duration_ns=900, contacts=tuple(contacts)))
    (length,) = struct.unpack_from("<I", data, 40)
    starts = zlib.decompress(data[44 + length : 44 + length + header(data)["columns"][0]])
    assert starts == bytes([0, 2, 2, 0, 1, 1]) + bytes(18)


# --- refusals ---------------------------------------------------------------------------------------------


def header(data: bytes) -> dict[str, Any]:
    (length,) = struct.unpack_from("<I", data, 40)
    head: dict[str, Any] = json.loads(zlib.decompress(data[44 : 44 + length]))
    return head


def with_header(data: bytes, edit: Callable[[dict[str, Any]], None]) -> bytes:
    (length,) = struct.unpack_from("<I", data, 40)
    head = header(data)
    edit(head)
    packed = zlib.compress(json.dumps(head).encode())
    body = struct.pack("<I", len(packed)) + packed + data[44 + length :]
    return MAGIC + hashlib.sha256(body).digest() + body


@given(st.data())
def test_a_changed_or_missing_byte_is_noticed(data: st.DataObject) -> None:
    whole = compact(many())
    at = data.draw(st.integers(0, len(whole) - 1))
    changed = bytearray(whole)
    changed[at] ^= data.draw(st.integers(1, 255))
    for damaged in (bytes(changed), whole[:at], whole + b"x"):
        with pytest.raises(PlanError, match=r"^plan: ") as refusal:
            CompactPlan(damaged)
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("sha256", 7, "sha256: must be"),
        ("epoch", "today", "epoch: must be a UTC instant"),
        ("version", 2, "version: must be 1, not 2"),
        ("nodes", [], "columns.source: must be 0 to -1 throughout"),
        ("nodes", [7], "nodes[0]: must be an object"),
        ("note", "x", "note: unknown key"),
        ("contacts", 10**12, "contacts: must be 0 to"),
        ("contacts", 299, "columns.start_ns: must unpack to 2392 bytes"),
        ("contacts", True, "contacts: must be 0 to"),
        ("profiles", 149, "columns.profile: must be 0 to 148 throughout"),
        ("columns", [1], "columns: must be 8 lengths"),
        ("columns", [0, -1, 2, 3, 4, 5, 0, 0], "columns: must be lengths in bytes"),
        ("columns", [0, 1, 2, 3, 4, 5, 0, 0], "columns.start_ns: must unpack to"),
        ("columns", [*[0] * 6, 1, 0], "columns.start_ns: must unpack to"),
        ("blocks", [1, 2, 3], "plan: must end after"),
    ],
)
def test_a_header_that_is_wrong_is_refused(key: str, value: object, message: str) -> None:
    data = with_header(compact(many()), lambda head: head.update({key: value}))
    with pytest.raises(PlanError) as refusal:
        CompactPlan(data)
    assert str(refusal.value).startswith(message)


def test_a_contact_that_breaks_a_rule_is_refused_when_it_is_asked_for() -> None:
    data = with_header(compact(many()), lambda head: head.update(duration_ns=1494))
    read = CompactPlan(data)
    assert read.active("sat-0", "quito-0", 3) is not None
    with pytest.raises(PlanError, match=r"^contacts\[298\]\.end_ns: must be at most duration_ns"):
        read.active_of("quito-0", 1490)
    with pytest.raises(PlanError, match=r"^contacts\[298\]"):
        read.plan()


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (struct.pack("<q", -1), r"^blocks\[0\]: must say how many samples"),
        (struct.pack("<q", 2**62), r"^blocks\[0\]: must hold 4611686018427387904 samples$"),
        (b"", r"^blocks\[0\]: must say how many samples"),
        (None, r"^blocks\[0\]: cannot be unpacked"),
    ],
)
def test_a_block_that_is_wrong_is_refused_when_it_is_read(block: bytes | None, message: str) -> None:
    contact = Contact("sat-1", "hub", "feeder", 1, 9, (Sample(1, 2, 3, 0.0, 1.0),))
    data = compact(plan_of(contact))
    old = header(data)["blocks"][0]
    packed = b"nothing" if block is None else zlib.compress(block)
    read = CompactPlan(with_header(data[:-old] + packed, lambda head: head.update(blocks=[len(packed)])))
    assert len(read.links_at("hub", 5)) == 1
    with pytest.raises(PlanError, match=message):
        read.active_of("hub", 5)


def test_a_stated_digest_of_another_plan_is_refused_when_all_is_read() -> None:
    data = with_header(compact(many()), lambda head: head.update(sha256="0" * 64))
    with pytest.raises(PlanError, match=r"^sha256: must be the digest of the plan"):
        CompactPlan(data).plan()


def test_another_format_is_refused() -> None:
    with pytest.raises(PlanError, match=r"^plan: must be a compact plan file$"):
        CompactPlan(many().to_json())
    assert not is_compact(many().to_json())
    with pytest.raises(PlanError, match=r"^plan: must be of compact format 2, not 1$"):
        CompactPlan(b"ORBPLAN\x01" + compact(many())[8:])


def test_reading_it_needs_no_numpy() -> None:
    code = "import sys, orbitrain.contacts.compact; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.full
def test_a_million_contacts_load_in_three_seconds_and_answer_in_twenty_microseconds() -> None:
    nodes = [PlanNode(f"sat-{n}", "satellite") for n in range(1000)]
    nodes += [PlanNode(f"device-{n}", "device") for n in range(1000)]
    random = Random(3)
    contacts = []
    for n in range(500_000):
        start_ns = n * 170_000 * 1000
        end_ns = start_ns + random.randrange(100, 400) * 10**9
        samples = tuple(
            Sample(
                start_ns + (end_ns - start_ns) * k // 5, 4_000_000 + random.randrange(10**6), 10**7, 0.0, 1.0
            )
            for k in range(6)
        )
        a, b = nodes[n % 1000].name, nodes[1000 + (7 * n + n // 1000) % 1000].name
        contacts += [Contact(*ends, "service", start_ns, end_ns, samples) for ends in ((a, b), (b, a))]
    data = compact(
        ContactPlan(1, "ab" * 32, "2026-01-01T00:00:00Z", 86_400 * 10**9, tuple(nodes), tuple(contacts))
    )
    del contacts
    begun_s = time.perf_counter()
    plan = CompactPlan(data)
    assert time.perf_counter() - begun_s < 3
    for node in nodes:  # the first question about a node makes its index
        plan.links_at(node.name, 0)
    took_ns = []
    for _ in range(5000):
        node, t_ns = random.choice(nodes).name, random.randrange(85_000 * 10**9)
        begun_ns = time.perf_counter_ns()
        plan.links_at(node, t_ns)
        took_ns.append(time.perf_counter_ns() - begun_ns)
    assert median(took_ns) < 20_000
