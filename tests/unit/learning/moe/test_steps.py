"""Merges of bounded rank: the nearest step of its rank is served, and what it leaves out comes later."""

from __future__ import annotations

import tracemalloc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orbitrain.learning.aggregation import BadModel
from orbitrain.learning.moe import steps, update_files
from orbitrain.learning.moe.lora import RANK_MAX, is_factored
from orbitrain.learning.moe.updates import merge
from orbitrain.learning.outcome import JobError, JobResult
from orbitrain.learning.tensors import (
    MAX_MODEL_BYTES,
    TensorError,
    encode_tensors,
    read_tensors,
    write_tensors,
)

Model = dict[str, np.ndarray]
ITEM = "expert/3"
SHAPES = {"wide": (7, 19), "tall": (23, 6), "small": (2, 3), "bias": (11,), "scale": (), "none": (0, 4)}


def drawn(random: np.random.Generator, shape: tuple[int, ...], dtype: str = "f4") -> np.ndarray:
    return np.asarray(random.normal(size=shape)).astype(dtype)


def base_of(dtype: str, seed: int = 0) -> Model:
    random = np.random.default_rng(seed)
    return {name: drawn(random, shape, dtype) for name, shape in SHAPES.items()}


def update_of(base: Model, random: np.random.Generator, rank: int | None = None, scale: float = 0.1) -> Model:
    """As factors of a rank, or None: of any, or dense, as it comes."""
    update = {}
    for name, value in base.items():
        if value.ndim == 2 and min(value.shape) and (rank or random.integers(3)):
            own = min(rank or int(random.integers(1, 8)), *value.shape)
            update[f"{name}.lora_b"] = np.float32(scale) * drawn(random, (value.shape[0], own))
            update[f"{name}.lora_a"] = drawn(random, (own, value.shape[1]))
        else:
            update[name] = (scale * drawn(random, value.shape)).astype(value.dtype)
    return update


def product(tensors: Model, name: str) -> np.ndarray:
    if name in tensors:
        return tensors[name].astype(np.float64)
    return tensors[f"{name}.lora_b"].astype(np.float64) @ tensors[f"{name}.lora_a"]


def files_of(folder: Path, base: Model, given: Sequence[Model], residual: Model | None) -> dict[str, Path]:
    folder.mkdir(exist_ok=True)
    tensors = {f"base/{ITEM}": base, **{f"update/{ITEM}/{n}": update for n, update in enumerate(given)}}
    if residual is not None:
        tensors[f"residual/{ITEM}"] = residual
    paths = {name: folder / name.replace("/", "_") for name in tensors}
    for name, path in paths.items():
        write_tensors(path, tensors[name])
    return paths


def run(
    folder: Path,
    base: Model,
    given: Sequence[Model],
    rank: int | None,
    residual: Model | None = None,
    **how: Any,
) -> JobResult:
    inputs = files_of(folder / "in", base, given, residual)
    out = folder / "out"
    out.mkdir(exist_ok=True)
    ways = {"weights": [1.0] * len(given), "clips": [None] * len(given), **how, "rank": rank}
    return merge({"items": {ITEM: ways}}, inputs, out)


def read(done: JobResult, kind: str = "") -> Model:
    return read_tensors(done.outputs[f"{kind}/{ITEM}" if kind else ITEM], MAX_MODEL_BYTES)


def shares_of(given: Sequence[Model], base: Model, weights: Sequence[float], clips: Sequence) -> list[float]:
    shares = []
    for update, weight, clip in zip(given, weights, clips, strict=True):
        norm = np.sqrt(sum(np.square(product(update, name)).sum() for name in base))
        shares.append(weight * min(1.0, clip / norm) if clip is not None else weight)
    return shares


def total_of(base: Model, parts: Sequence[tuple[float, Model]]) -> Model:
    return {name: sum(share * product(part, name) for share, part in parts) for name in base}


@settings(max_examples=60)
@given(
    dtype=st.sampled_from(["f2", "f4", "f8"]),
    rank=st.integers(1, 9),
    weights=st.lists(st.tuples(st.floats(0, 2), st.none() | st.floats(0.1, 10)), min_size=1, max_size=4),
    remains=st.booleans(),
    piece=st.sampled_from([1, 5, 16, 1 << 17]),
    seed=st.integers(0, 2**32),
)
def test_a_step_is_the_nearest_of_its_rank_and_the_residual_is_the_rest(
    tmp_path_factory: pytest.TempPathFactory,
    dtype: str,
    rank: int,
    weights: list[tuple[float, float | None]],
    remains: bool,
    piece: int,
    seed: int,
) -> None:
    random, base = np.random.default_rng(seed), base_of(dtype, seed)
    given = [update_of(base, random) for _ in weights]
    residual = None
    if remains:  # of any form that one may have
        kept = np.promote_types(dtype, "f4")
        dense = {name: value.astype(kept) for name, value in base.items()}
        residual = update_of(dense, random)
    how = {"weights": [w for w, _ in weights], "clips": [clip for _, clip in weights]}
    folder = tmp_path_factory.mktemp("steps")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(update_files, "PIECE", piece)
        patch.setattr(steps, "PIECE", piece)
        done = run(folder, base, given, rank, residual, **how)
        step, rest = read(done, "step"), read(done, "residual")
        alone = read(run(folder / "in", base, [step], None))
    assert sorted(done.outputs) == [ITEM, f"residual/{ITEM}", f"step/{ITEM}"]
    assert len(list((folder / "out").iterdir())) == 3
    assert encode_tensors(read(done)) == encode_tensors(alone)
    parts = list(zip(shares_of(given, base, **how), given, strict=True))
    wanted = total_of(base, [*parts, *([(1.0, residual)] if residual else [])])
    for name, value in base.items():
        scale = sum(share * np.abs(product(part, name)).sum() for share, part in parts) + 100
        left = wanted[name] - product(step, name)
        np.testing.assert_allclose(product(rest, name), left, atol=1e-6 * scale)
        if not is_factored(value.shape, rank):
            assert step[name].dtype == value.dtype
            assert rest[name].dtype == np.promote_types(dtype, "f4")
            continue
        assert step[f"{name}.lora_b"].shape == (value.shape[0], rank)
        assert step[f"{name}.lora_a"].shape == (rank, value.shape[1])
        beyond = np.linalg.svd(wanted[name], compute_uv=False)[rank:]
        np.testing.assert_allclose(np.linalg.norm(left), np.linalg.norm(beyond), atol=1e-6 * scale)


def test_tensors_that_are_no_factors_are_summed_and_rounded_as_written(tmp_path: Path) -> None:
    base = {"b": np.array([0.1, -2.0, 3e4], "f2")}
    given = [{"b": np.array(values, "f2")} for values in ([0.3, 1e-4, 7.0], [0.7, 5.0, 0.01])]
    residual = {"b": np.array([1e-5, 0.3, -0.02], "f4")}
    done = run(tmp_path, base, given, 4, residual, weights=[0.3, 0.6])
    wanted = np.zeros(3)
    for share, update in zip((0.3, 0.6), given, strict=True):
        wanted = wanted + share * update["b"].astype("f8")
    wanted = wanted + 1.0 * residual["b"].astype("f8")
    step = wanted.astype("f2")
    assert read(done, "step")["b"].tobytes() == step.tobytes()
    assert read(done, "residual")["b"].tobytes() == (wanted - step).astype("f4").tobytes()
    assert read(done)["b"].tobytes() == (step.astype("f8") + base["b"]).astype("f2").tobytes()


@settings(max_examples=10)
@given(
    dtype=st.sampled_from(["f2", "f4", "f8"]),
    ranks=st.lists(st.integers(1, 6), min_size=12, max_size=25),
    seed=st.integers(0, 2**32),
)
def test_steps_and_the_last_residual_add_up_to_all_updates(
    tmp_path_factory: pytest.TempPathFactory, dtype: str, ranks: list[int], seed: int
) -> None:
    """Whatever the rank of a merge, and however many of them there are."""
    random, folder = np.random.default_rng(seed), tmp_path_factory.mktemp("steps")
    base, residual = base_of(dtype, seed), None
    all_updates, served = ({name: np.zeros(v.shape) for name, v in base.items()} for _ in range(2))
    limit = sum(value.size * max(4, value.itemsize) for value in base.values())
    for rank in ranks:
        given = [update_of(base, random) for _ in range(2)]
        done = run(folder, base, given, rank, residual, weights=[0.5, 0.25])
        base, step, residual = read(done), read(done, "step"), read(done, "residual")
        for name, value in total_of(base, [(0.5, given[0]), (0.25, given[1])]).items():
            all_updates[name] += value
            served[name] += product(step, name)
        assert sum(value.nbytes for value in residual.values()) <= limit
    assert residual is not None
    for name, value in all_updates.items():
        found = served[name] + product(residual, name)
        np.testing.assert_allclose(found, value, atol=3e-6 * max(1.0, np.linalg.norm(value)))


def test_what_a_rank_leaves_out_is_served_in_later_merges(tmp_path: Path) -> None:
    """A steady change of full rank: without the residual the same singular values are left out each time."""
    start = {"w": np.zeros((12, 12), "f4")}
    update = {"w": drawn(np.random.default_rng(5), (12, 12))}
    far = {}
    for keeps in (True, False):
        base, residual = start, None
        for _ in range(30):
            done = run(tmp_path, base, [update], 2, residual)
            base, residual = read(done), read(done, "residual") if keeps else None
        far[keeps] = np.linalg.norm(base["w"] - 30 * update["w"].astype("f8"))
    assert far[True] < far[False] / 4


def test_nothing_to_serve_is_a_step_of_zeros_and_nothing_is_left(tmp_path: Path) -> None:
    base = base_of("f4")
    zero = {name: np.zeros_like(value) for name, value in base.items()}
    factors = {name: np.zeros_like(v) for name, v in update_of(base, np.random.default_rng(1), 2).items()}
    residual = None
    for _ in range(3):
        done = run(tmp_path, base, [factors, zero, factors], 3, residual)
        step, residual = read(done, "step"), read(done, "residual")
        assert not any(value.any() for value in (*step.values(), *residual.values()))
        assert step["wide.lora_b"].shape == (7, 3)
        assert (residual["wide.lora_b"].shape, residual["wide.lora_a"].shape) == ((7, 0), (0, 19))
        assert encode_tensors(read(done)) == encode_tensors(base)


def test_a_sum_within_the_rank_leaves_nothing(tmp_path: Path) -> None:
    base, random = {"w": np.zeros((20, 30), "f4")}, np.random.default_rng(2)
    done = run(tmp_path, base, [update_of(base, random, 2), update_of(base, random, 1)], 5)
    assert read(done, "residual")["w.lora_b"].shape == (20, 0)
    assert not read(done, "step")["w.lora_b"][:, 3:].any()


def test_a_rest_is_kept_as_factors_until_these_are_no_smaller(tmp_path: Path) -> None:
    base, random, residual = {"w": np.zeros((20, 30), "f4")}, np.random.default_rng(2), None
    forms = []
    for _ in range(4):
        done = run(tmp_path, base, [update_of(base, random, 3), update_of(base, random, 3)], 2, residual)
        residual = read(done, "residual")
        forms.append({name: value.shape for name, value in residual.items()})
    assert forms == [
        {"w.lora_a": (4, 30), "w.lora_b": (20, 4)},
        {"w.lora_a": (8, 30), "w.lora_b": (20, 8)},
        {"w": (20, 30)},  # of rank 12, 600 numbers either way
        {"w": (20, 30)},
    ]


def test_no_whole_matrix_is_made_of_factors(tmp_path: Path) -> None:
    base = {"w": np.zeros((1500, 1500), "f4")}
    random = np.random.default_rng(3)
    inputs = files_of(tmp_path, base, [update_of(base, random, 2) for _ in range(3)], None)
    how = {"weights": [0.5] * 3, "clips": [None, 1.0, None], "rank": 2}
    tracemalloc.start()
    try:
        merge({"items": {ITEM: how}}, inputs, tmp_path)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < base["w"].nbytes


def test_several_items_are_merged_each_as_it_says(tmp_path: Path) -> None:
    items, inputs, ways = ("gate", "expert/1", "backbone"), {}, {}
    for n, item in enumerate(items):
        random = np.random.default_rng(n)
        base = base_of("f4", n)
        for name, model in ((f"base/{item}", base), (f"update/{item}/0", update_of(base, random, 2))):
            inputs[name] = tmp_path / name.replace("/", "_")
            write_tensors(inputs[name], model)
        ways[item] = {"weights": [1], "clips": [None], "rank": (None, 1, 2)[n]}
    done = merge({"items": ways}, inputs, tmp_path)
    made = ["backbone", "expert/1", "gate"]
    made += [f"{kind}/{item}" for kind in ("residual", "step") for item in ("backbone", "expert/1")]
    assert sorted(done.outputs) == made
    assert len(set(done.outputs.values())) == len(made)
    assert done.result == {}


# --- what is refused ----------------------------------------------------------------------------------------


def refused(error: pytest.ExceptionInfo[Exception]) -> str:
    """The reason, which is one line and short."""
    text = str(error.value)
    assert "\n" not in text
    assert len(text) <= 500
    return text


@pytest.mark.parametrize("rank", [0, -1, True, 1.0, "4", RANK_MAX + 1])
def test_a_rank_that_is_none_is_refused(tmp_path: Path, rank: Any) -> None:
    base = base_of("f4")
    with pytest.raises(JobError) as error:
        run(tmp_path, base, [base], rank)
    assert refused(error) == f"{ITEM}: the rank is {rank!r}; it is null, or from 1 to {RANK_MAX}"


def test_a_residual_without_a_rank_is_refused(tmp_path: Path) -> None:
    base = base_of("f4")
    with pytest.raises(JobError) as error:
        run(tmp_path, base, [base], None, base)
    assert refused(error) == f"the job has an input 'residual/{ITEM}' that its items do not explain"


def factors(b: tuple[int, ...], a: tuple[int, ...], dtype: str = "f4", fill: float = 0.0) -> Model:
    return {"w.lora_b": np.zeros(b, dtype), "w.lora_a": np.full(a, fill, dtype), "v": np.zeros(3, "f4")}


@pytest.mark.parametrize(
    ("residual", "reason"),
    [
        (factors((4, 5), (5, 9)), "tensor 'w.lora_b' has shape [4, 5]: no factor of rank 0 to 4"),
        (factors((4,), (2, 9)), "tensor 'w.lora_b' has shape [4]: no factor of rank 0 to 4"),
        (factors((9, 2), (2, 4)), "tensor 'w.lora_a' has shape [2, 4], not [2, 9]"),
        (factors((4, 0), (1, 9)), "tensor 'w.lora_a' has shape [1, 9], not [0, 9]"),
        (factors((4, 2), (2, 9), "f8"), "tensor 'w.lora_a' has dtype float64, not float32"),
        (factors((4, 2), (2, 9), fill=np.inf), "tensor 'w.lora_a' has values that are not finite"),
        ({"v": np.zeros(3, "f4")}, "tensor 'w' is missing (1 missing in all)"),
        ({"w": np.zeros((4, 9), "f2"), "v": np.zeros(3, "f4")}, "tensor 'w' has dtype float16, not float32"),
        ({"w": np.zeros((4, 9), "f4"), "v": np.zeros(4, "f4")}, "tensor 'v' has shape [4], not [3]"),
        ({**factors((4, 1), (1, 9)), "more": np.zeros(3)}, "tensor 'more' is unknown (1 unknown in all)"),
        (
            {**factors((4, 1), (1, 9)), "v": np.full(3, np.nan, "f4")},
            "tensor 'v' has values that are not finite",
        ),
    ],
)
def test_a_residual_that_is_none_of_its_base_is_refused(tmp_path: Path, residual: Model, reason: str) -> None:
    base = {"w": np.zeros((4, 9), "f2"), "v": np.zeros(3, "f2")}
    with pytest.raises(BadModel) as error:
        run(tmp_path, base, [base], 1, residual)
    assert refused(error) == f"residual/{ITEM}: {reason}"
    assert error.value.label == f"residual/{ITEM}"


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["w", "w.lora_b", "w.lora_a", "v"])
def test_an_update_that_is_not_finite_is_blamed(tmp_path: Path, bad: float, name: str) -> None:
    base = {"w": np.zeros((4, 9), "f4"), "v": np.zeros(3, "f4")}
    update = dict(base if name == "w" else factors((4, 2), (2, 9)))
    update[name] = np.full_like(update[name], bad)
    with pytest.raises(BadModel, match="not finite") as error:
        run(tmp_path, base, [base, update], 1)
    assert refused(error) == f"update/{ITEM}/1: tensor {name!r} has values that are not finite"


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_a_step_that_is_too_large_is_refused(tmp_path: Path, dtype: str) -> None:
    largest = np.finfo(dtype).max
    for name in ("w", "v"):
        base = {"w": np.zeros((4, 9), dtype), "v": np.zeros(3, dtype)}
        update = {**base, name: np.full_like(base[name], largest)}
        with pytest.raises(TensorError, match="too large") as error:
            run(tmp_path, base, [base, update, update], 1)
        assert refused(error).startswith(f"update/{ITEM}/1: what comes out is too large: ")


def test_an_update_of_a_rank_that_would_cost_a_satellite_its_time_is_refused(tmp_path: Path) -> None:
    side = RANK_MAX + 1
    huge: Mapping[str, np.ndarray] = {
        "w.lora_b": np.zeros((side, side), "f4"),
        "w.lora_a": np.eye(side, dtype="f4"),
    }
    with pytest.raises(BadModel, match=f"update/{ITEM}/0: .*no factor of rank 1 to {RANK_MAX}"):
        run(tmp_path, {"w": np.zeros((side, side), "f4")}, [dict(huge)], 4)
