"""Merging equals a reference of ten lines bit for bit, however files are read in pieces."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orbitrain.learning.moe import update_files
from orbitrain.learning.moe.lora import Factors, aggregate_products
from orbitrain.learning.moe.updates import merge
from orbitrain.learning.tensors import MAX_MODEL_BYTES, encode_tensors, read_tensors, write_tensors

Model = dict[str, np.ndarray]

MATRICES = st.tuples(st.integers(1, 9), st.integers(1, 9))
SHAPES = st.lists(st.integers(0, 6), max_size=3).map(tuple)


def reference(base: Model, given: Sequence[Model], weights: Sequence[float], clips: Sequence) -> Model:
    """ITEM := base + sum_n w_n update_n in float64, in the given order, rounded once; eq. (35) on deltas."""
    total = {name: np.zeros(value.shape) for name, value in base.items()}
    for update, weight, clip in zip(given, weights, clips, strict=True):
        delta = {name: np.zeros(value.shape) for name, value in base.items()}
        for name in base:
            b, a = (
                update.get(name + end, np.zeros((1, 0))).astype(np.float64) for end in (".lora_b", ".lora_a")
            )
            for k in range(b.shape[1]):
                delta[name] = delta[name] + np.outer(b[:, k], a[k])
            delta[name] = update[name].astype(np.float64) if name in update else delta[name]
        norm = math.sqrt(math.fsum(x * x for value in delta.values() for x in value.ravel().tolist()))
        share = weight * (clip / norm) if clip is not None and norm > clip else weight
        total = {name: total[name] + share * delta[name] for name in base}
    return {name: (value + total[name]).astype(value.dtype) for name, value in base.items()}


def merged(base: Model, given: Sequence[Model], weights: Sequence[float], clips: Sequence) -> Model:
    with TemporaryDirectory() as name:
        folder = Path(name)
        inputs = {"base/expert/0": folder / "base"}
        write_tensors(folder / "base", base)
        for n, update in enumerate(given):
            inputs[f"update/expert/0/{n}"] = folder / f"{n}"
            write_tensors(folder / f"{n}", update)
        items = {"expert/0": {"weights": list(weights), "clips": list(clips), "rank": None}}
        done = merge({"items": items}, inputs, folder)
        assert done.result == {}
        return read_tensors(done.outputs["expert/0"], MAX_MODEL_BYTES)


def drawn(random: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    return np.asarray(random.normal(size=shape) * 10.0 ** random.integers(-3, 1)).astype(dtype)


def update_of(base: Model, random: np.random.Generator) -> Model:
    """Dense or factored, as it comes."""
    update = {}
    for name, value in base.items():
        if value.ndim == 2 and min(value.shape) and random.integers(4):
            rank = int(random.integers(1, min(value.shape) + 1))
            update[f"{name}.lora_b"] = drawn(random, (value.shape[0], rank), "f4")
            update[f"{name}.lora_a"] = drawn(random, (rank, value.shape[1]), "f4")
        else:
            update[name] = drawn(random, value.shape, value.dtype.str)
    return update


@settings(max_examples=60)
@given(
    shapes=st.lists(MATRICES | SHAPES, min_size=1, max_size=4),
    dtype=st.sampled_from(["f2", "f4", "f8"]),
    weights=st.lists(st.tuples(st.floats(0, 2), st.none() | st.floats(1e-3, 1e2)), min_size=1, max_size=5),
    piece=st.sampled_from([1, 3, 5, 8, 1 << 17]),
    seed=st.integers(0, 2**32),
)
def test_merge_equals_the_reference_bit_for_bit_whatever_the_pieces(
    shapes: list[tuple[int, ...]],
    dtype: str,
    weights: list[tuple[float, float | None]],
    piece: int,
    seed: int,
) -> None:
    random = np.random.default_rng(seed)
    base = {f"t{n}": drawn(random, shape, dtype) for n, shape in enumerate(shapes)}
    given = [update_of(base, random) for _ in weights]
    shares, clips = [w for w, _ in weights], [clip for _, clip in weights]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(update_files, "PIECE", piece)
        found = merged(base, given, shares, clips)
    assert encode_tensors(found) == encode_tensors(reference(base, given, shares, clips))


@pytest.mark.parametrize("piece", [1, 4, 7, 50])
def test_factors_are_multiplied_in_parts_of_rows_and_of_columns(
    piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(3)
    base = {"wide": drawn(random, (3, 10), "f8"), "tall": drawn(random, (9, 2), "f8")}
    update = {
        f"{name}.lora_{side}": drawn(random, shape, "f4")
        for name, (rows, cols) in (("wide", (3, 10)), ("tall", (9, 2)))
        for side, shape in (("b", (rows, 2)), ("a", (2, cols)))
    }
    monkeypatch.setattr(update_files, "PIECE", piece)
    for weight in (0.1, 0.7, 1.3):
        found = merged(base, [update, update], [weight, 1], [0.3, None])
        assert encode_tensors(found) == encode_tensors(
            reference(base, [update, update], [weight, 1], [0.3, None])
        )


def test_merge_equals_the_aggregation_of_products_bit_for_bit() -> None:
    random = np.random.default_rng(2)
    weight = drawn(random, (33, 17), "f4")
    parts = [
        (w, Factors(drawn(random, (33, 4), "f4"), drawn(random, (4, 17), "f4"))) for w in (0.2, 0.5, 0.3)
    ]
    given = [{"w.lora_b": factors.b, "w.lora_a": factors.a} for _, factors in parts]
    found = merged({"w": weight}, given, [w for w, _ in parts], [None] * 3)
    assert found["w"].tobytes() == aggregate_products(weight, parts).tobytes()


def test_the_order_of_updates_is_the_order_of_the_sum() -> None:
    base, given = {"w": np.zeros(1)}, [{"w": np.array([x])} for x in (1.0, 1e16, -1e16)]
    assert merged(base, given, [1, 1, 1], [None] * 3)["w"] == 0.0
    assert merged(base, given[::-1], [1, 1, 1], [None] * 3)["w"] == 1.0


def test_a_stale_update_is_no_longer_than_its_clip_and_a_short_one_is_left_alone() -> None:
    base = {"b": np.zeros(3, np.float32), "w": np.zeros((2, 2), np.float32)}
    factors = {
        "w.lora_b": np.array([[2.0], [0.0]], np.float32),
        "w.lora_a": np.array([[2.0, 0.0]], np.float32),
    }
    stale = {"b": np.array([3.0, 0.0, 0.0], np.float32), **factors}  # of norm 5: 3 and 4
    clipped = merged(base, [stale], [1.0], [2.5])
    np.testing.assert_allclose([clipped["b"][0], clipped["w"][0, 0]], [1.5, 2.0])
    left = merged(base, [stale], [1.0], [5.0])
    np.testing.assert_allclose([left["b"][0], left["w"][0, 0]], [3.0, 4.0])


def test_updates_of_weight_zero_leave_the_base_as_it_was() -> None:
    base = {"w": np.array([0.1, -3e38, 1e-45], np.float32)}
    assert encode_tensors(merged(base, [base, base], [0, 0.0], [None, 1.0])) == encode_tensors(base)
