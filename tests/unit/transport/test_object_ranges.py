from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orbitrain.transport.objects import RangeSet

ranges = st.tuples(st.integers(0, 60), st.integers(0, 20)).map(lambda pair: (pair[0], pair[0] + pair[1]))


@given(st.lists(ranges, max_size=20), ranges)
def test_a_range_set_is_the_set_of_its_offsets(added: list[tuple[int, int]], window: tuple[int, int]) -> None:
    offsets = {offset for start, end in added for offset in range(start, end)}
    held = RangeSet(added)
    parts = list(held)
    assert {offset for start, end in parts for offset in range(start, end)} == offsets
    assert held.total_bytes == len(offsets)
    assert len(held) == len(parts)
    assert all(end < start for (_, end), (start, _) in itertools.pairwise(parts))
    gaps = held.missing(*window)
    assert {offset for start, end in gaps for offset in range(start, end)} == set(range(*window)) - offsets
    assert all(start < end for start, end in gaps)


@pytest.mark.parametrize("bad", [(-1, 2), (3, 2), (-5, -2)])
def test_what_is_no_range_is_refused(bad: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="not a range"):
        RangeSet([bad])
