"""What a split can gain."""

from __future__ import annotations

import pytest

from orbitrain.splitting.gamma import predicted_reduction, ratios
from tests.unit.splitting.counted import counted


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        pytest.param(([500, 500], [500, 500]), {"a": 1.0, "b": 1.0}, id="uniform data: no gain"),
        pytest.param(
            ([1000, 0], [0, 1000]), {"a": 2.0, "b": 2.0}, id="all in one cluster: as many as clusters"
        ),
        pytest.param(([900, 100], [300, 700]), {"a": 1.5, "b": 1.75}, id="between"),
    ],
)
def test_gamma_is_own_relevance_over_the_mean(
    rows: tuple[list[int], ...], expected: dict[str, float]
) -> None:
    assert ratios(counted(*rows), ("a", "b")) == pytest.approx(expected)


def test_experts_of_a_cluster_count_together() -> None:
    relevance = counted([600, 300, 100], [100, 100, 800])
    assert ratios(relevance, ("a", "a", "b")) == pytest.approx({"a": 0.9 / 0.55, "b": 0.8 / 0.45})


def test_a_cluster_without_data_does_not_raise_the_others_gamma() -> None:
    relevance = counted([500, 500], [500, 500], [0, 0], totals=(1000, 1000, 0))
    assert ratios(relevance, ("a", "b")) == pytest.approx({"a": 1.0, "b": 1.0})


def test_a_cluster_with_nothing_or_with_dead_experts_alone_has_no_gamma() -> None:
    assert ratios(counted([1000, 0], [1000, 0], [1000, 0]), ("a", "b")) == pytest.approx({"a": 1.0})
    assert ratios(counted([1000, 0], [1000, 0]), ("a", "")) == pytest.approx({"a": 1.0})


@pytest.mark.parametrize(
    ("gamma", "expected"),
    [(1.0, 0.0), (4.0, 0.75), (2.66, pytest.approx(0.62, abs=0.005)), (0.5, -1.0), (0.0, None)],
)
def test_the_predicted_reduction_is_1_minus_1_over_gamma(gamma: float, expected: float | None) -> None:
    assert predicted_reduction(gamma) == expected
