"""Aggregation of files equals five-line references bit for bit, whatever the pieces."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orbitrain.learning import aggregation
from orbitrain.learning.aggregation import BadModel, Labelled, Mixing, aggregate
from orbitrain.learning.model_file import ModelFile
from orbitrain.learning.tensors import MAX_MODEL_BYTES, encode_tensors, read_tensors

Model = Mapping[str, np.ndarray]


@contextmanager
def on_disk(*models: Model) -> Iterator[tuple[Path, list[Labelled]]]:
    """The models as files, and a folder."""
    with TemporaryDirectory() as folder:
        found = []
        for n, tensors in enumerate(models):
            path = Path(folder) / f"{n}"
            path.write_bytes(encode_tensors(tensors))
            found.append(Labelled(f"model {n}", ModelFile(path, MAX_MODEL_BYTES)))
        yield Path(folder), found


def weighted_mean(updates: Sequence[tuple[Model, int]]) -> dict[str, np.ndarray]:
    with on_disk(*(model for model, _ in updates)) as (folder, models):
        weights = [n for _, n in updates]
        base = models[0].model.specs if models else {}
        aggregate(list(zip(models, weights, strict=True)), base, folder / "out")
        return read_tensors(folder / "out", MAX_MODEL_BYTES)


def mean_of(own: Model) -> dict[str, np.ndarray]:
    """Of one model alone: itself, but that a sum which begins at 0.0 knows no -0.0."""
    return {
        name: np.asarray(0.0 + value.astype(np.float64)).astype(value.dtype) for name, value in own.items()
    }


def mix(own: Model, carried: Model, alpha: float) -> dict[str, np.ndarray]:
    with on_disk(own, carried) as (folder, models):
        mixing = Mixing(models[1], alpha, folder / "pre")
        aggregate([(models[0], 1)], models[0].model.specs, folder / "out", mixing)
        assert encode_tensors(read_tensors(folder / "pre", MAX_MODEL_BYTES)) == encode_tensors(mean_of(own))
        return read_tensors(folder / "out", MAX_MODEL_BYTES)


def model(seed: int, dtype: type = np.float32) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {"w": random.normal(size=(5, 7)).astype(dtype), "b": random.normal(size=()).astype(dtype)}


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@given(weights=st.lists(st.integers(1, 10**6), min_size=1, max_size=6), seed=st.integers(0, 2**32))
def test_weighted_mean_equals_a_reference_bit_for_bit(dtype: type, weights: list[int], seed: int) -> None:
    updates = [(model(seed + k, dtype), n) for k, n in enumerate(weights)]
    total = sum(weights)
    reference = {
        name: np.asarray(sum((n / total) * v[name].astype(np.float64) for v, n in updates)).astype(dtype)
        for name in ("w", "b")
    }
    assert encode_tensors(weighted_mean(updates)) == encode_tensors(reference)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@given(alpha=st.floats(0, 1, exclude_min=True, exclude_max=True), seed=st.integers(0, 2**32))
def test_mix_equals_a_reference_bit_for_bit(dtype: type, alpha: float, seed: int) -> None:
    own, carried = mean_of(model(seed, dtype)), model(seed + 1, dtype)
    reference = {
        name: np.asarray(
            (1 - alpha) * own[name].astype(np.float64) + alpha * carried[name].astype(np.float64)
        ).astype(dtype)
        for name in own
    }
    assert encode_tensors(mix(own, carried, alpha)) == encode_tensors(reference)


def test_mix_with_alpha_zero_or_one_is_exact_down_to_the_sign_of_zero() -> None:
    own = {"w": np.array([0.0, 1e-45, 0.1], dtype=np.float32)}
    carried = {"w": np.array([0.0, -0.0, 3e38], dtype=np.float32)}
    assert encode_tensors(mix(own, carried, 0)) == encode_tensors(own)
    assert encode_tensors(mix(own, carried, 1)) == encode_tensors(carried)


def test_mixing_a_model_with_itself_changes_nothing_visible() -> None:
    np.testing.assert_allclose(mix(model(1), model(1), 0.3)["w"], model(1)["w"], rtol=1e-6)


def test_mixing_around_the_ring_keeps_the_mean_of_the_regions() -> None:
    ring = [model(seed, np.float64) for seed in range(5)]
    mixed = [mix(ring[i], ring[i - 1], 0.3) for i in range(5)]
    np.testing.assert_allclose(sum(m["w"] for m in mixed), sum(m["w"] for m in ring), atol=1e-12)


def test_step_counters_are_rounded_to_the_nearest() -> None:
    updates = [({"n": np.array(5)}, 1), ({"n": np.array(6)}, 3)]
    assert weighted_mean(updates)["n"] == 6
    assert weighted_mean(updates)["n"].dtype == np.int64


@pytest.mark.parametrize("weight", [0, -1, 1.5, True, None])
def test_a_weight_that_counts_no_samples_is_refused(weight: object) -> None:
    with pytest.raises(ValueError, match="update 1 has weight"):
        weighted_mean([(model(1), 1), (model(2), weight)])  # type: ignore[list-item]


def test_nothing_to_average_is_refused() -> None:
    with pytest.raises(ValueError, match="no update"):
        weighted_mean([])


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan")])
def test_alpha_outside_its_range_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha"):
        mix(model(1), model(2), alpha)


def test_models_of_different_shape_are_refused() -> None:
    with pytest.raises(BadModel, match="model 1: tensor 'b' is missing"):
        mix(model(1), {"w": np.zeros(3)}, 0.5)
    with pytest.raises(BadModel, match="model 1: tensor 'b' has dtype float64, not float32"):
        weighted_mean([(model(1), 1), (model(1, np.float64), 1)])


def test_values_that_are_not_finite_are_refused() -> None:
    bad = {**model(2), "b": np.float32("nan")}
    with pytest.raises(BadModel, match="model 1: tensor 'b' has values that are not finite"):
        weighted_mean([(model(1), 1), (bad, 1)])


@pytest.mark.parametrize("piece", [1, 2, 7, 34, 35, 36])
def test_pieces_are_not_to_be_seen(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    updates = [(model(seed), seed + 1) for seed in range(4)]
    whole = encode_tensors(weighted_mean(updates))
    monkeypatch.setattr(aggregation, "PIECE", piece)
    assert encode_tensors(weighted_mean(updates)) == whole


@pytest.mark.parametrize("dtype", ["u1", "i8", "?", "f2", "f8"])
@pytest.mark.parametrize("shape", [(), (0,), (3, 5)])
def test_every_dtype_and_shape_goes_in_pieces_too(
    dtype: str, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(5)
    updates = [({"w": np.asarray(random.integers(0, 2, shape)).astype(dtype)}, n) for n in (3, 1, 2)]
    total = np.zeros(shape)
    for tensors, n in updates:
        total = total + (n / 6) * tensors["w"].astype(np.float64)
    mean = total.astype(dtype) if np.dtype(dtype).kind == "f" else np.rint(total).astype(dtype)
    monkeypatch.setattr(aggregation, "PIECE", 4)
    assert weighted_mean(updates)["w"].tobytes() == mean.tobytes()


def test_more_updates_than_files_may_be_open_are_averaged() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    try:
        mean = weighted_mean([({"w": np.full(3, float(n))}, 1) for n in range(200)])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    np.testing.assert_allclose(mean["w"], 99.5)


def test_a_file_that_shrinks_while_it_is_read_is_refused() -> None:
    with on_disk(model(1), model(2)) as (folder, models):
        os.truncate(folder / "1", 100)
        with pytest.raises(BadModel, match="model 1: the file has changed"):
            aggregate([(each, 1) for each in models], models[0].model.specs, folder / "out")
