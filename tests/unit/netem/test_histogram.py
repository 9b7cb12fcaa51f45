from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from netem.histogram import STEP_NS, STEPS, Histogram


@given(st.lists(st.integers(0, 10**12), min_size=1), st.sampled_from([0.5, 0.95, 0.99, 1.0]))
def test_a_quantile_is_at_most_a_bucket_above_the_true_one(values: list[int], share: float) -> None:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    ordered = sorted(values)
    true_ns = ordered[max(0, -(-round(share * 10**6) * len(values) // 10**6) - 1)]
    found_ns = histogram.quantile_ns(share)
    assert true_ns <= found_ns <= (true_ns + STEP_NS if true_ns < STEPS * STEP_NS else 2 * true_ns)
    assert histogram.total == len(values)
    assert histogram.most_ns == max(values)


def test_negative_and_endless_values_have_a_bucket() -> None:
    histogram = Histogram()
    histogram.add(-5)
    histogram.add(10**30)
    assert histogram.counts[0] == histogram.counts[-1] == 1


def test_nothing_is_all_zero() -> None:
    assert set(Histogram().document().values()) == {0}
