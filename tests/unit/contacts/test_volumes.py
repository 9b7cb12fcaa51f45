"""What a contact carries by when, held to an exact sum over every nanosecond."""

from __future__ import annotations

import itertools
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orbitrain.contacts.contact import Contact
from tests.unit.contacts.small_plans import contact, sample


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
