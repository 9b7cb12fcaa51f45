"""The matching against all matchings: pairs first, then credits, then weights."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orbitrain.splitting.matching import Pair, best_matching
from tests.unit.splitting.counted import matchings

WEIGHT = st.integers(-40 * 64, 37 * 64).map(lambda steps: steps / 64)  # exact in any number of bits we use


@st.composite
def problems(draw: st.DrawFn) -> tuple[dict[Pair, float], list[int], int]:
    clusters, experts = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    pairs = [(k, i) for k in range(clusters) for i in range(experts) if draw(st.booleans())]
    weights = {pair: draw(WEIGHT) for pair in pairs}
    return weights, [draw(st.sampled_from([0, 0, 1, 2, 10**6])) for _ in range(clusters)], experts


@given(problems())
@settings(max_examples=200, deadline=None)
def test_no_matching_has_more_pairs_nor_with_as_many_more_credits_nor_with_those_more_weight(
    problem: tuple[dict[Pair, float], list[int], int],
) -> None:
    weights, credits, experts = problem

    def worth(matching: tuple[Pair, ...]) -> tuple[float, ...]:
        return (
            len(matching),
            sum(credits[cluster] for cluster, _ in matching),
            sum(weights[pair] for pair in matching),
        )

    found = best_matching(weights, credits, experts)
    assert set(found) <= set(weights)
    assert found in [tuple(sorted(matching)) for matching in matchings(list(weights))]
    assert worth(found) == max(map(worth, matchings(list(weights))))


def test_one_more_pair_outweighs_any_weight() -> None:
    weights = {(0, 0): 36.0, (0, 1): -40.0, (1, 0): -40.0}
    assert best_matching(weights, (0, 0), 2) == ((0, 1), (1, 0))


def test_one_more_credit_outweighs_any_weight() -> None:
    assert best_matching({(0, 0): 36.0, (1, 0): -40.0}, (4, 5), 1) == ((1, 0),)


def test_the_smallest_step_of_a_weight_decides_at_the_largest_size() -> None:
    """256 clusters that have waited unequally long, and as many experts: 1/2048 still tells two apart."""
    last = 255
    weights = {(k, k): 36.0 if k % 2 else -40.0 for k in range(last - 1)}
    weights |= {(last - 1, last - 1): 1.0, (last, last): 1.0}
    weights |= {(last - 1, last): 1.0 + 2**-11, (last, last - 1): 1.0}
    found = best_matching(weights, range(256), 256)
    assert len(found) == 256
    assert (last - 1, last) in found


def test_without_any_pair_there_is_no_matching() -> None:
    assert best_matching({}, (0, 0), 3) == ()


@pytest.mark.parametrize("size", [1, 16, 64])
def test_weights_have_twenty_bits_up_to_64_clusters_and_experts(size: int) -> None:
    weights = {(0, 0): 1.0, (size - 1, 0): 1.0 + 2**-20}
    assert best_matching(weights, (0,) * size, size) == ((size - 1, 0),)
