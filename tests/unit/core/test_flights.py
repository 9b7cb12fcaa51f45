"""What goes over a modelled link next, and what of it arrives."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orbitrain.contacts.contact import Contact, Sample
from orbitrain.contacts.plan import ContactPlan, PlanNode
from orbitrain.flights import (
    Choice,
    Load,
    Piece,
    arrived_bytes,
    choose,
    chunk_of,
    chunk_passage,
    first_bytes,
    room_bytes,
    sent_bytes,
    total_bytes,
)
from orbitrain.transport.objects import split

SECOND_NS = 1_000_000_000
ENDS = ("a", "b")
DELAY_NS = SECOND_NS // 4


def contact(start_s: int, end_s: int, rate_bps: int = 8_000) -> Contact:
    """1,000 bytes a second, a quarter of a second away."""
    samples = (Sample(start_s * SECOND_NS, DELAY_NS, rate_bps, 0.0, 1.0),)
    return Contact(*ENDS, "service", start_s * SECOND_NS, end_s * SECOND_NS, samples)


def plan(*contacts: Contact) -> ContactPlan:
    return ContactPlan(
        version=1,
        scenario_sha256="0" * 64,
        epoch="2026-01-01T00:00:00Z",
        duration_ns=100 * SECOND_NS,
        nodes=(PlanNode("a", "satellite"), PlanNode("b", "device")),
        contacts=contacts,
    )


def test_a_chunk_is_out_before_it_is_there_and_nowhere_if_the_link_goes_first() -> None:
    links = plan(contact(10, 20))
    assert chunk_passage(links, ENDS, 12 * SECOND_NS, 3_000, 20 * SECOND_NS) == (
        15 * SECOND_NS,
        15 * SECOND_NS + DELAY_NS,
    )
    assert chunk_passage(links, ENDS, 12 * SECOND_NS, 7_749, 20 * SECOND_NS) is not None
    assert chunk_passage(links, ENDS, 12 * SECOND_NS, 7_750, 20 * SECOND_NS) is None
    assert chunk_passage(links, ENDS, 12 * SECOND_NS, 9_000, 20 * SECOND_NS) is None


def test_bytes_are_out_as_the_rate_adds_up_over_contacts_that_touch() -> None:
    links = plan(contact(10, 20), contact(20, 30, 16_000), contact(40, 50))
    assert sent_bytes(links, ENDS, 12 * SECOND_NS, 15 * SECOND_NS) == 3_000
    assert sent_bytes(links, ENDS, 12 * SECOND_NS, 25 * SECOND_NS) == 18_000
    assert sent_bytes(links, ENDS, 12 * SECOND_NS, 60 * SECOND_NS) == 28_000
    assert sent_bytes(links, ENDS, 12 * SECOND_NS, 12 * SECOND_NS) == 0
    assert arrived_bytes(links, ENDS, 12 * SECOND_NS, 15 * SECOND_NS) == 2_750
    assert arrived_bytes(links, ENDS, 12 * SECOND_NS, 12 * SECOND_NS + DELAY_NS // 2) == 0
    assert arrived_bytes(links, ENDS, 35 * SECOND_NS, 36 * SECOND_NS) == 0


@given(st.integers(0, 9_999), st.integers(1, 9_000))
def test_a_chunk_that_is_there_has_arrived_to_the_byte(start_ms: int, nbytes: int) -> None:
    links, start_ns, end_ns = plan(contact(10, 20)), 10 * SECOND_NS + start_ms * 1_000_000, 20 * SECOND_NS
    course = chunk_passage(links, ENDS, start_ns, nbytes, end_ns)
    if course is None:
        assert arrived_bytes(links, ENDS, start_ns, end_ns) <= nbytes
    else:
        assert arrived_bytes(links, ENDS, start_ns, course[1]) == nbytes
        assert sent_bytes(links, ENDS, start_ns, course[0]) == nbytes


def test_a_chunk_is_two_seconds_of_the_link_within_bounds() -> None:
    at = 12 * SECOND_NS
    assert [chunk_of(contact(10, 20, rate_bps), at) for rate_bps in (8_000, 800_000, 10**9)] == [
        64 * 1024,
        200_000,
        2 * 1024 * 1024,
    ]


def test_room_is_what_still_arrives_by_the_believed_end() -> None:
    assert room_bytes(None, 0) is None
    assert room_bytes(contact(10, 20), 12 * SECOND_NS) == 7_750
    assert room_bytes(contact(10, 20), 20 * SECOND_NS - DELAY_NS) == 0


@pytest.mark.parametrize(
    ("loads", "chosen"),
    [
        ([], None),
        ([Load(100, 0)], Choice(0, 0, fits=True)),
        ([Load(100, 900)], Choice(0, 0, fits=True)),  # the last chunk goes with its letter
        ([Load(100, 5_000)], Choice(0, 2_000, fits=True)),
        ([Load(100, 50_000)], Choice(0, 2_000, fits=False)),
        ([Load(100, 50_000), Load(100, 0)], Choice(1, 0, fits=True)),  # what can be answered goes first
        ([Load(20_000, 0), Load(100, 9_000)], Choice(1, 2_000, fits=False)),
        ([Load(20_000, 0)], None),
        ([Load(20_000, 700)], Choice(0, 700, fits=False)),
    ],
)
def test_what_fits_goes_first_and_the_rest_of_the_contact_is_filled(
    loads: list[Load], chosen: Choice | None
) -> None:
    """8 s are left: 7,500 bytes can be answered, with half a second there and back, and 7,750 arrive."""
    assert choose(loads, contact(10, 20), 12 * SECOND_NS, 0, 2_000) == chosen


def test_where_no_contact_is_believed_everything_fits() -> None:
    assert choose([Load(100, 10**9)], None, 0, 0, 2_000) == Choice(0, 2_000, fits=True)


def test_close_to_the_end_only_what_still_arrives_goes_ahead() -> None:
    at = 19 * SECOND_NS
    assert choose([Load(100, 50_000)], contact(10, 20), at, 0, 2_000) == Choice(0, 750, fits=False)
    assert choose([Load(100, 50_000)], contact(10, 20), 20 * SECOND_NS - DELAY_NS, 0, 2_000) is None


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 20)), max_size=6),
    st.integers(0, 200),
)
def test_the_first_bytes_of_pieces_and_ranges_are_the_same_and_the_rest_is_left(
    spans: list[tuple[int, int]], nbytes: int
) -> None:
    ranges = [(start, start + length) for start, length in spans]
    pieces = [Piece(f"object {n}", start, end, 100) for n, (start, end) in enumerate(ranges)]
    first, others = split(ranges, nbytes)
    total = sum(end - start for start, end in ranges)
    assert (
        sum(end - start for start, end in first)
        == min(nbytes, total)
        == total_bytes(first_bytes(pieces, nbytes))
    )
    flat = [offset for start, end in first + others for offset in range(start, end)]
    assert flat == [offset for start, end in ranges for offset in range(start, end)]


def test_an_empty_object_goes_with_the_first_bytes() -> None:
    assert split([(0, 0)], 0) == ([(0, 0)], [])
