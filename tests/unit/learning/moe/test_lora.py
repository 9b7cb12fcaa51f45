"""Low-rank algebra: nearest factors, sums of products, and nothing that is left out gets lost."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orbitrain.learning.moe.lora import (
    Factors,
    aggregate_products,
    collapse,
    compress,
    data_bytes,
    exact,
    factor,
    gradients,
    is_factored,
    outputs,
    padded,
    recompress,
    start,
    update_specs,
)
from orbitrain.learning.tensors import Spec, TensorError

SIDES = st.integers(1, 12)


def matrix(rows: int, cols: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, cols)).astype(np.float32)


def pair(rows: int, cols: int, rank: int, seed: int) -> Factors:
    return Factors(matrix(rows, rank, seed), matrix(rank, cols, seed + 1))


@given(rows=SIDES, cols=SIDES, seed=st.integers(0, 2**32))
def test_factors_of_full_rank_are_the_matrix(rows: int, cols: int, seed: int) -> None:
    delta = matrix(rows, cols, seed)
    factors = factor(delta, 12)
    assert factors.rank == min(rows, cols)
    assert factors.b.dtype == factors.a.dtype == np.float32
    np.testing.assert_allclose(factors.product(), delta, atol=2e-6)


@settings(max_examples=30)
@given(rows=SIDES, cols=SIDES, rank=st.integers(1, 12), seed=st.integers(0, 2**32))
def test_factors_miss_the_singular_values_beyond_their_rank_and_no_more(
    rows: int, cols: int, rank: int, seed: int
) -> None:
    delta = matrix(rows, cols, seed)
    missed = np.linalg.norm(delta - factor(delta, rank).product())
    values = np.linalg.svd(delta.astype(np.float64), compute_uv=False)
    np.testing.assert_allclose(missed, np.sqrt(np.square(values[rank:]).sum()), atol=2e-5)


@given(rows=SIDES, cols=SIDES, seed=st.integers(0, 2**32))
def test_signs_of_factors_are_fixed(rows: int, cols: int, seed: int) -> None:
    delta = matrix(rows, cols, seed)
    factors, negated = factor(delta, 3), factor(-delta, 3)
    for column in factors.b.T:
        assert column[np.abs(column).argmax()] > 0
    np.testing.assert_allclose(negated.b, factors.b, atol=1e-6)
    np.testing.assert_allclose(negated.a, -factors.a, atol=1e-6)


def test_the_same_matrix_has_the_same_factors_to_the_last_bit() -> None:
    delta = matrix(40, 30, 1)
    first, second = factor(delta, 4), factor(np.asfortranarray(delta.copy()), 4)
    assert first.b.tobytes() == second.b.tobytes()
    assert first.a.tobytes() == second.a.tobytes()


def test_no_change_has_factors_of_zeros() -> None:
    factors = factor(np.zeros((5, 4), np.float32), 2)
    assert factors.b.shape == (5, 2)
    assert not factors.product().any()


def test_a_matrix_that_is_not_finite_has_no_factors() -> None:
    with pytest.raises(TensorError, match=r"a matrix \[2, 3\] has no factors"):
        factor(np.full((2, 3), np.nan), 1)


@settings(max_examples=30)
@given(rows=SIDES, cols=SIDES, rank=st.integers(1, 4), rounds=st.integers(1, 30), seed=st.integers(0, 2**32))
def test_what_was_sent_and_the_residual_add_up_to_all_changes(
    rows: int, cols: int, rank: int, rounds: int, seed: int
) -> None:
    changes, sent, residual = np.zeros((rows, cols)), np.zeros((rows, cols)), None
    for n in range(rounds):
        delta = matrix(rows, cols, seed + n)
        factors, residual = compress(delta, residual, rank)
        changes += delta
        sent += factors.product()
    np.testing.assert_allclose(sent + residual, changes, rtol=1e-6, atol=1e-9)


def test_error_feedback_sends_in_the_end_what_one_rank_would_never_send() -> None:
    """A steady change of full rank: without feedback the same singular values are left out each time."""
    delta, sent, residual = matrix(8, 8, 3), np.zeros((8, 8)), None
    for _ in range(60):
        factors, residual = compress(delta, residual, 1)
        sent += factors.product()
    without = np.linalg.norm(60 * (delta - factor(delta, 1).product()))
    assert np.linalg.norm(60 * delta - sent) < without / 10


# --- sums of products ---------------------------------------------------------------------------------------


def test_aggregation_is_on_products_and_not_on_factors() -> None:
    """FedEx-LoRA, arXiv 2410.09432: the product of the means is not the mean of the products."""
    weight, devices = matrix(6, 5, 0), [pair(6, 5, 2, seed) for seed in (10, 20, 30)]
    shares = [0.5, 0.3, 0.2]
    exact = sum(w * (f.b.astype(np.float64) @ f.a) for w, f in zip(shares, devices, strict=True))
    merged = aggregate_products(weight, list(zip(shares, devices, strict=True)))
    np.testing.assert_allclose(merged, weight + exact, atol=1e-6)
    mean_b = sum(w * f.b for w, f in zip(shares, devices, strict=True))
    mean_a = sum(w * f.a for w, f in zip(shares, devices, strict=True))
    assert np.abs(mean_b @ mean_a - exact).max() > 0.5
    assert np.linalg.matrix_rank(exact) > 2  # so no factors of the devices' rank are the mean at all


@settings(max_examples=30)
@given(
    rows=SIDES,
    cols=SIDES,
    ranks=st.lists(st.integers(1, 5), min_size=1, max_size=5),
    rank=st.integers(1, 6),
    seed=st.integers(0, 2**32),
)
def test_a_recompressed_sum_and_its_rest_are_the_sum(
    rows: int, cols: int, ranks: list[int], rank: int, seed: int
) -> None:
    parts = [(0.1 + n, pair(rows, cols, r, seed + 7 * n)) for n, r in enumerate(ranks)]
    exact = sum(w * f.product() for w, f in parts)
    served, rest = recompress(parts, rank)
    assert served.rank <= rank
    assert served.rank + rest.rank <= min(rows, cols, sum(ranks))
    scale = sum(w * np.linalg.norm(f.b) * np.linalg.norm(f.a) for w, f in parts)
    np.testing.assert_allclose(served.product() + rest.product(), exact, atol=1e-6 * scale)
    # Nearest of its rank: as near as factors of the whole matrix.
    best = np.linalg.norm(exact - factor(exact, rank).product())
    assert np.linalg.norm(exact - served.product()) <= best + 1e-6 * scale


def test_a_rest_that_is_kept_makes_served_and_exact_agree_over_many_cycles() -> None:
    exact = base = matrix(20, 30, 5).astype(np.float64)
    served, rest = base, None
    for cycle in range(25):
        parts = [(0.5, pair(20, 30, 4, 100 * cycle + n)) for n in range(3)]
        exact = exact + sum(w * f.product() for w, f in parts)
        sent, rest = recompress([*parts, *([(1.0, rest)] if rest else [])], 4)
        assert sent.rank == 4
        assert rest.rank <= 16
        served = served + sent.product()
    assert rest is not None
    np.testing.assert_allclose(served + rest.product(), exact, atol=1e-6 * np.linalg.norm(exact))


def test_a_sum_within_the_rank_leaves_no_rest() -> None:
    served, rest = recompress([(0.5, pair(9, 7, 1, 1)), (0.5, pair(9, 7, 1, 3))], 2)
    assert (served.rank, rest.rank) == (2, 0)
    served, rest = recompress([(0.5, pair(9, 7, 1, 1)), (0.25, pair(9, 7, 1, 1))], 1)
    assert (served.rank, rest.rank) == (1, 0)
    zero = Factors(np.zeros((9, 2), np.float32), np.zeros((2, 7), np.float32))
    served, rest = recompress([(1.0, zero)], 2)
    assert not served.product().any()
    assert rest.rank == 0


@given(rows=SIDES, cols=SIDES, more=st.integers(0, 4), seed=st.integers(0, 2**32))
def test_a_matrix_is_factors_of_itself_and_zeros_change_no_product(
    rows: int, cols: int, more: int, seed: int
) -> None:
    delta = matrix(rows, cols, seed)
    factors = exact(delta)
    assert factors.rank == min(rows, cols)
    wider = padded(factors, factors.rank + more)
    assert wider.rank == factors.rank + more
    for found in (factors, wider):
        assert found.product().tobytes() == delta.astype(np.float64).tobytes()


# --- training in low-rank form ------------------------------------------------------------------------------


def test_factors_that_are_not_trained_yet_change_nothing() -> None:
    weight, inputs = matrix(6, 5, 1), matrix(3, 5, 2)
    factors = start((6, 5), 2, seed=4)
    assert collapse(weight, factors).tobytes() == weight.tobytes()
    np.testing.assert_array_equal(outputs(inputs, weight, factors), inputs @ weight.T)
    assert factors.a.any()
    assert start((6, 5), 2, seed=4).a.tobytes() == factors.a.tobytes() != start((6, 5), 2, seed=5).a.tobytes()


def test_a_collapsed_weight_answers_as_weight_and_factors_do() -> None:
    weight, inputs, factors = matrix(6, 5, 1), matrix(3, 5, 2), pair(6, 5, 2, 3)
    collapsed = collapse(weight, factors)
    assert collapsed.dtype == np.float32
    np.testing.assert_allclose(outputs(inputs, weight, factors), inputs @ collapsed.T, atol=1e-5)


def test_gradients_of_factors_are_those_of_differences() -> None:
    rng = np.random.default_rng(0)
    weight, inputs, wanted = rng.normal(size=(4, 3)), rng.normal(size=(5, 3)), rng.normal(size=(5, 4))
    factors = Factors(rng.normal(size=(4, 2)), rng.normal(size=(2, 3)))

    def loss(by: Factors) -> float:
        return 0.5 * float(np.square(outputs(inputs, weight, by) - wanted).sum())

    found = gradients(inputs, outputs(inputs, weight, factors) - wanted, factors)
    for side, gradient in (("b", found.b), ("a", found.a)):
        for place in np.ndindex(gradient.shape):
            ends = []
            for step in (1e-6, -1e-6):
                moved = {"b": factors.b.copy(), "a": factors.a.copy()}
                moved[side][place] += step
                ends.append(loss(Factors(**moved)))
            assert (ends[0] - ends[1]) / 2e-6 == pytest.approx(gradient[place], abs=1e-6)


def test_training_the_factors_alone_finds_a_change_of_their_rank() -> None:
    rng = np.random.default_rng(1)
    weight, inputs = rng.normal(size=(6, 5)), rng.normal(size=(200, 5))
    truth = weight + pair(6, 5, 1, 8).product()
    factors = start((6, 5), 2, seed=2)
    for _ in range(1500):
        errors = outputs(inputs, weight, factors) - inputs @ truth.T
        by = gradients(inputs, errors / len(inputs), factors)
        factors = Factors(factors.b - 0.05 * by.b, factors.a - 0.05 * by.a)
    np.testing.assert_allclose(collapse(weight, factors), truth, atol=1e-3)


# --- sizes --------------------------------------------------------------------------------------------------


def test_factors_are_as_many_numbers_as_the_paper_says_of_its_experts() -> None:
    """Section 5 of the notes: Llama-3-8B's feed-forward layers, three matrices in 32 layers, rank 4."""
    float32 = np.dtype(np.float32)
    expert = {f"{layer}.{n}": Spec(float32, (4096, 14336)) for layer in range(32) for n in range(3)}
    assert data_bytes(update_specs(expert, 4)) == 4 * 7_077_888
    assert data_bytes(update_specs(expert, None)) == 4 * 5_637_144_576


def test_vectors_and_matrices_that_factors_would_not_shrink_stay_dense() -> None:
    float32 = np.dtype(np.float32)
    base = {name: Spec(float32, shape) for name, shape in {"w": (128, 256), "n": (8, 8), "b": (128,)}.items()}
    shapes = {name: spec.shape for name, spec in update_specs(base, 4).items()}
    assert shapes == {"w.lora_b": (128, 4), "w.lora_a": (4, 256), "n": (8, 8), "b": (128,)}
    assert not is_factored((0, 7), 1)
    assert is_factored((8, 8), 3)
    assert not is_factored((2, 2, 2), 1)
