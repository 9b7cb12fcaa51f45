"""Updates as jobs: what is packed is merged again, nothing gets lost, and a peer's nonsense is one line."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orbitrain.learning.moe import updates
from orbitrain.learning.moe.lora import RANK_MAX, data_bytes, update_specs
from orbitrain.learning.moe.updates import UPDATE_KINDS, merge, pack
from orbitrain.learning.outcome import JobError, JobResult
from orbitrain.learning.tensors import (
    MAX_MODEL_BYTES,
    Spec,
    TensorError,
    encode_tensors,
    read_tensors,
    write_tensors,
)

Model = dict[str, np.ndarray]
ITEM = "expert/0"


def files(folder: Path, tensors: Mapping[str, Model]) -> dict[str, Path]:
    folder.mkdir(exist_ok=True)
    paths = {name: folder / name.replace("/", "_") for name in tensors}
    for name, path in paths.items():
        write_tensors(path, tensors[name])
    return paths


def packed(folder: Path, tensors: Mapping[str, Model], rank: int | None) -> JobResult:
    """Of the one item."""
    (folder / "out").mkdir(exist_ok=True)
    return pack({"items": [ITEM], "rank": rank}, files(folder / "in", tensors), folder / "out")


def merged(folder: Path, base: Model, *given: Model, weights: Any = None, clips: Any = None) -> Model:
    inputs = files(
        folder / "in", {f"base/{ITEM}": base, **{f"update/{ITEM}/{n}": u for n, u in enumerate(given)}}
    )
    return merged_files(folder, inputs, weights or [1.0] * len(given), clips or [None] * len(given))


def merged_files(folder: Path, inputs: Mapping[str, Path], weights: Any, clips: Any) -> Model:
    (folder / "out").mkdir(exist_ok=True)
    done = merge(
        {"items": {ITEM: {"weights": weights, "clips": clips, "rank": None}}}, inputs, folder / "out"
    )
    return read_tensors(done.outputs[ITEM], MAX_MODEL_BYTES)


def read(done: JobResult, name: str) -> Model:
    return read_tensors(done.outputs[name], MAX_MODEL_BYTES)


def expert(seed: int, scale: float = 1.0) -> Model:
    random = np.random.default_rng(seed)
    shapes = {"w1": (16, 24), "b1": (16,), "w2": (24, 16), "b2": (24,)}
    return {name: (scale * random.normal(size=shape)).astype(np.float32) for name, shape in shapes.items()}


def near(base: Model, seed: int, scale: float = 0.01) -> Model:
    """After some training."""
    return {name: value + expert(seed, scale)[name] for name, value in base.items()}


FLOATS = st.floats(-(2.0**100), 2.0**100, width=32)


@settings(max_examples=60)
@given(st.lists(st.tuples(FLOATS, FLOATS), min_size=1, max_size=8))
def test_a_dense_update_merged_with_weight_one_gives_now_to_one_unit_in_the_last_place(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[float, float]]
) -> None:
    folder = tmp_path_factory.mktemp("updates")
    base, now = ({"w": np.array(side, np.float32)} for side in zip(*pairs, strict=True))
    done = packed(folder, {f"base/{ITEM}": base, f"now/{ITEM}": now}, None)
    again = merged(folder, base, read(done, f"update/{ITEM}"))
    larger = np.maximum(np.abs(base["w"]), np.abs(now["w"]))
    assert (np.abs(again["w"].astype(np.float64) - now["w"]) <= np.spacing(larger)).all()
    within = (now["w"] / 2 <= base["w"]) & (base["w"] <= now["w"] * 2) & (now["w"] > 0)
    assert (again["w"] == now["w"])[within].all()


def test_a_dense_update_is_the_difference_and_leaves_no_residual(tmp_path: Path) -> None:
    base = expert(1)
    now = near(base, 2)
    done = packed(tmp_path, {f"base/{ITEM}": base, f"now/{ITEM}": now}, None)
    assert list(done.outputs) == [f"update/{ITEM}"]
    update = read(done, f"update/{ITEM}")
    assert encode_tensors(update) == encode_tensors({name: now[name] - base[name] for name in base})
    assert done.result == {"update_bytes": {ITEM: done.outputs[f"update/{ITEM}"].stat().st_size}}


def test_an_update_of_a_change_within_the_rank_gives_now_again(tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    base = expert(1)
    now = {**near(base, 2), "w2": base["w2"]}
    now["w1"] = base["w1"] + (random.normal(size=(16, 3)) @ random.normal(size=(3, 24))).astype(np.float32)
    done = packed(tmp_path, {f"base/{ITEM}": base, f"now/{ITEM}": now}, 3)
    update = read(done, f"update/{ITEM}")
    assert sorted(update) == ["b1", "b2", "w1.lora_a", "w1.lora_b", "w2.lora_a", "w2.lora_b"]
    again = merged(tmp_path, base, update)
    for name, value in now.items():
        np.testing.assert_allclose(again[name], value, atol=3e-6)
    assert not read(done, f"residual/{ITEM}")["w2"].any()


@pytest.mark.parametrize("rank", [9, 16, RANK_MAX])
def test_an_update_of_full_rank_goes_dense_where_factors_would_be_no_smaller(
    tmp_path: Path, rank: int
) -> None:
    base = expert(1)
    now = near(base, 2)
    done = packed(tmp_path, {f"base/{ITEM}": base, f"now/{ITEM}": now}, rank)
    again = merged(tmp_path, base, read(done, f"update/{ITEM}"))
    assert ("w1.lora_b" in read(done, f"update/{ITEM}")) == (rank == 9)
    kept = read(done, f"residual/{ITEM}")
    for name, value in now.items():
        np.testing.assert_allclose(again[name] + kept[name], value, atol=1e-6)


def test_factors_of_full_rank_are_merged_to_now(tmp_path: Path) -> None:
    base, now = {"w": expert(1)["w1"]}, {"w": near(expert(1), 2)["w1"]}
    left, values, right = np.linalg.svd(now["w"] - base["w"], full_matrices=False)
    update = {"w.lora_b": left * values, "w.lora_a": right}
    np.testing.assert_allclose(merged(tmp_path, base, update)["w"], now["w"], atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_packed_updates_and_the_last_residual_add_up_to_all_changes(tmp_path: Path, dtype: type) -> None:
    base = {name: value.astype(dtype) for name, value in expert(0).items()}
    changes, sent = ({name: np.zeros(v.shape) for name, v in base.items()} for _ in range(2))
    zero = {name: np.zeros_like(value) for name, value in base.items()}
    tensors = {}
    for n in range(40):
        now = {name: value.astype(dtype) for name, value in near(base, n + 1, 0.1).items()}
        tensors = {f"base/{ITEM}": base, f"now/{ITEM}": now, **tensors}
        done = packed(tmp_path, tensors, 2)
        tensors = {f"residual/{ITEM}": read(done, f"residual/{ITEM}")}
        update = read(done, f"update/{ITEM}")
        for name, before in base.items():
            changes[name] += now[name].astype(np.float64) - before
            factors = (update.get(f"{name}.lora_b"), update.get(f"{name}.lora_a"))
            sent[name] += update[name] if name in update else factors[0].astype(np.float64) @ factors[1]
        base = now
    last = tensors[f"residual/{ITEM}"]
    assert {v.dtype for v in last.values()} == {np.promote_types(dtype, np.float32)}
    for name, value in changes.items():
        np.testing.assert_allclose(sent[name] + last[name], value, atol=1e-6 * np.linalg.norm(value))
    assert np.linalg.norm(last["w1"]) > 0.1  # rank 2 of 16 leaves something to keep
    # Once the rank is no matter any more, the residual goes with the next update.
    done = packed(tmp_path, {f"base/{ITEM}": zero, f"now/{ITEM}": zero, **tensors}, None)
    for name, value in read(done, f"update/{ITEM}").items():
        np.testing.assert_allclose(value, last[name], rtol=1e-3, atol=1e-6)


def test_packing_in_pieces_is_not_to_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = {f"base/{ITEM}": expert(1), f"now/{ITEM}": expert(2)}
    whole = encode_tensors(read(packed(tmp_path, tensors, 8), f"update/{ITEM}"))
    monkeypatch.setattr(updates, "PIECE", 5)
    assert encode_tensors(read(packed(tmp_path, tensors, 8), f"update/{ITEM}")) == whole


def test_files_are_as_large_as_the_sizes_say(tmp_path: Path) -> None:
    specs = {name: Spec(value.dtype, value.shape) for name, value in expert(1).items()}
    for rank in (None, 4):
        done = packed(tmp_path, {f"base/{ITEM}": expert(1), f"now/{ITEM}": expert(2)}, rank)
        header = done.outputs[f"update/{ITEM}"].read_bytes()[:8]
        size = 8 + int.from_bytes(header, "little") + data_bytes(update_specs(specs, rank))
        assert done.result["update_bytes"] == {ITEM: size}


def test_several_items_are_packed_and_merged_at_once(tmp_path: Path) -> None:
    items = {"gate": 1, "expert/7": 2, "backbone": 3}
    before = {item: expert(seed) for item, seed in items.items()}
    after = {item: near(before[item], 10 + seed) for item, seed in items.items()}
    inputs = {f"base/{item}": value for item, value in before.items()}
    inputs |= {f"now/{item}": value for item, value in after.items()}
    done = UPDATE_KINDS["moe.pack"]({"items": list(items), "rank": None}, files(tmp_path, inputs), tmp_path)
    paths = files(tmp_path, {f"base/{item}": value for item, value in before.items()})
    paths |= {f"update/{item}/0": done.outputs[f"update/{item}"] for item in items}
    given = {item: {"weights": [1], "clips": [None], "rank": None} for item in items}
    models = UPDATE_KINDS["moe.merge"]({"items": given}, paths, tmp_path)
    assert set(models.outputs) == set(items)
    for item, now in after.items():
        for name, value in read(models, item).items():
            np.testing.assert_allclose(value, now[name], rtol=1e-6)


# --- what is refused ----------------------------------------------------------------------------------------


def refused(error: pytest.ExceptionInfo[Exception]) -> str:
    """The reason, which is one line and short."""
    text = str(error.value)
    assert "\n" not in text
    assert len(text) <= 500
    return text


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"w1": None}, "tensor 'w1' is missing (1 missing in all)"),
        ({"evil\nname": np.zeros(1)}, r"tensor 'evil\nname' is unknown (1 unknown in all)"),
        ({"w1": np.zeros((24, 16), np.float32)}, "tensor 'w1' has shape [24, 16], not [16, 24]"),
        ({"w1": np.zeros((16, 24))}, "tensor 'w1' has dtype float64, not float32"),
        ({"b1": np.full(16, np.inf, np.float32)}, "tensor 'b1' has values that are not finite"),
        ({"w1.lora_b": np.zeros((16, 2), np.float32)}, "tensor 'w1.lora_b' is unknown (1 unknown in all)"),
        (
            {"b1": None, "b1.lora_b": np.zeros((16, 1), np.float32)},
            "tensor 'b1' is missing (1 missing in all)",
        ),
    ],
)
def test_a_dense_update_that_is_not_like_its_base_is_refused(
    tmp_path: Path, change: dict[str, np.ndarray | None], reason: str
) -> None:
    bad = {name: value for name, value in {**expert(2), **change}.items() if value is not None}
    with pytest.raises(TensorError) as error:
        merged(tmp_path, expert(1), expert(2), bad)
    assert refused(error) == f"update/{ITEM}/1: {reason}"


def factors(b: tuple[int, ...], a: tuple[int, ...], dtype: str = "f4", fill: float = 0.0) -> Model:
    return {"w.lora_b": np.zeros(b, dtype), "w.lora_a": np.full(a, fill, dtype)}


@pytest.mark.parametrize(
    ("update", "reason"),
    [
        (factors((4, 5), (5, 9)), "tensor 'w.lora_b' has shape [4, 5]: no factor of rank 1 to 4"),
        (factors((4, 0), (0, 9)), "tensor 'w.lora_b' has shape [4, 0]: no factor of rank 1 to 4"),
        (factors((4,), (2, 9)), "tensor 'w.lora_b' has shape [4]: no factor of rank 1 to 4"),
        (factors((4, 2), (3, 9)), "tensor 'w.lora_a' has shape [3, 9], not [2, 9]"),
        (factors((9, 2), (2, 4)), "tensor 'w.lora_a' has shape [2, 4], not [2, 9]"),
        (factors((4, 2), (2, 9), "f8"), "tensor 'w.lora_a' has dtype float64, not float32"),
        (factors((4, 2), (2, 9), fill=np.nan), "tensor 'w.lora_a' has values that are not finite"),
        ({"w.lora_a": np.zeros((2, 9), np.float32)}, "tensor 'w' is missing (1 missing in all)"),
        ({"w.lora_b": np.zeros((4, 2), "f4")}, "tensor 'w.lora_a' is missing (1 missing in all)"),
    ],
)
def test_factors_that_do_not_make_up_a_change_of_their_base_are_refused(
    tmp_path: Path, update: Model, reason: str
) -> None:
    with pytest.raises(TensorError) as error:
        merged(tmp_path, {"w": np.zeros((4, 9), np.float32)}, update, clips=[1.0])
    assert refused(error) == f"update/{ITEM}/0: {reason}"


def test_a_rank_that_would_cost_a_satellite_its_time_is_refused(tmp_path: Path) -> None:
    side = RANK_MAX + 1
    with pytest.raises(TensorError, match=f"no factor of rank 1 to {RANK_MAX}"):
        merged(tmp_path, {"w": np.zeros((side, side), np.float32)}, factors((side, side), (side, side)))


@pytest.mark.parametrize(
    "data", [b"", b"\xff" * 64, (1 << 40).to_bytes(8, "little") + b"{}", b"\2" + b"\0" * 7]
)
def test_an_update_that_is_no_model_file_is_refused(tmp_path: Path, data: bytes) -> None:
    inputs = files(tmp_path, {f"base/{ITEM}": expert(1), f"update/{ITEM}/0": expert(2)})
    inputs[f"update/{ITEM}/0"].write_bytes(data)
    with pytest.raises(TensorError) as error:
        merged_files(tmp_path, inputs, [1], [None])
    assert refused(error).startswith(f"update/{ITEM}/0: ")


def test_of_a_sum_that_is_too_large_the_largest_update_is_blamed(tmp_path: Path) -> None:
    base, small = {"w": np.zeros((4, 9), "f2")}, {"w": np.ones((4, 9), "f2")}
    huge = {"w": np.full((4, 9), 6e4, "f2")}
    thin = {"w.lora_b": np.full((4, 1), 1e30, "f4"), "w.lora_a": np.full((1, 9), 1e30, "f4")}
    for large in (huge, thin):
        with pytest.raises(TensorError, match="too large") as error:
            merged(tmp_path, base, small, large, small, weights=[1.0, 2.0, 1.0])
        assert refused(error).startswith(f"update/{ITEM}/1: what comes out is too large: ")


def test_an_update_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    inputs = files(tmp_path, {f"base/{ITEM}": expert(1), f"update/{ITEM}/0": expert(2)})
    os.truncate(inputs[f"update/{ITEM}/0"], 600)
    with pytest.raises(TensorError, match=f"update/{ITEM}/0: not readable safetensors"):
        merged_files(tmp_path, inputs, [1], [None])


def test_a_sum_beyond_the_base_s_dtype_is_refused(tmp_path: Path) -> None:
    huge = {"w": np.array([3e38], np.float32)}
    with pytest.raises(TensorError) as error:
        merged(tmp_path, huge, huge)
    reason = "what comes out is too large: tensor 'w' has values that are not finite"
    assert refused(error) == f"update/{ITEM}/0: {reason}"
    with pytest.raises(TensorError, match="too large"):
        packed(tmp_path, {f"base/{ITEM}": huge, f"now/{ITEM}": {"w": -huge["w"]}}, None)
    for wide in ({"w": np.array([1e200])}, {"w": np.full(9, 1e154)}):  # a square too large, and their sum
        with pytest.raises(TensorError, match=f"update/{ITEM}/0: its norm is not finite"):
            merged(tmp_path, wide, wide, clips=[1.0])


@pytest.mark.parametrize("weight", [-0.1, math.nan, math.inf, True, None, "1", 10**400])
def test_a_weight_that_is_no_share_is_refused(tmp_path: Path, weight: object) -> None:
    with pytest.raises(JobError, match="update 1 has weight") as error:
        merged(tmp_path, expert(1), expert(2), expert(3), weights=[1.0, weight])
    refused(error)


@pytest.mark.parametrize("clip", [0, -1.0, math.nan, math.inf, False, "1"])
def test_a_clip_that_is_no_norm_is_refused(tmp_path: Path, clip: object) -> None:
    with pytest.raises(JobError, match="update 0 has clip") as error:
        merged(tmp_path, expert(1), expert(2), clips=[clip])
    refused(error)


@pytest.mark.parametrize(
    ("items", "reason"),
    [
        (None, "'items' is None"),
        ({}, "'items' is {}"),
        ([ITEM], "not weights, clips and rank by item"),
        ({"../x": {"weights": [1], "clips": [None], "rank": None}}, r"there is no item '../x'"),
        ({"expert/00": {"weights": [1], "clips": [None], "rank": None}}, "there is no item"),
        ({ITEM: [1.0]}, "is not {weights"),
        ({ITEM: {"weights": [1], "clips": [None]}}, "is not {weights"),
        ({ITEM: {"weights": [1], "clips": [None], "rank": None, "more": 1}}, "is not {weights"),
        ({ITEM: {"weights": [], "clips": [], "rank": None}}, "there is no update to merge"),
        ({ITEM: {"weights": [1], "clips": [], "rank": None}}, "1 weights but 0 clips"),
        (
            {ITEM: {"weights": [1, 1], "clips": [None, None], "rank": None}},
            "needs an input 'update/expert/0/1'",
        ),
        (
            {"gate": {"weights": [1], "clips": [None], "rank": None}},
            "an input 'base/expert/0' that its items do not explain",
        ),
    ],
)
def test_parameters_that_say_nothing_to_merge_are_refused(tmp_path: Path, items: object, reason: str) -> None:
    inputs = files(tmp_path, {f"base/{ITEM}": expert(1), f"update/{ITEM}/0": expert(2)})
    with pytest.raises(JobError) as error:
        merge({"items": items}, inputs, tmp_path)
    assert reason in refused(error)


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"items": [], "rank": None}, "'items' is []"),
        ({"items": [ITEM, ITEM], "rank": None}, "an item is there twice"),
        ({"items": [7], "rank": None}, "there is no item 7"),
        ({"items": [ITEM], "rank": 0}, "'rank' is 0"),
        ({"items": [ITEM], "rank": True}, "'rank' is True"),
        ({"items": [ITEM], "rank": RANK_MAX + 1}, f"'rank' is {RANK_MAX + 1}"),
        ({"items": ["gate"]}, "an input 'base/expert/0' that its items do not explain"),
        ({"items": [ITEM, "gate"]}, "needs an input 'base/gate'"),
    ],
)
def test_parameters_that_say_nothing_to_pack_are_refused(
    tmp_path: Path, params: dict[str, Any], reason: str
) -> None:
    inputs = files(tmp_path, {f"base/{ITEM}": expert(1), f"now/{ITEM}": expert(2)})
    with pytest.raises(JobError) as error:
        pack(params, inputs, tmp_path)
    assert reason in refused(error)


@pytest.mark.parametrize(
    ("name", "tensors", "reason"),
    [
        ("now", {"w": np.zeros(4, "f4")}, "now/expert/0: tensor 'w' has shape [4], not [3]"),
        ("now", {"w": np.full(3, np.nan, "f4")}, "now/expert/0: tensor 'w' has values that are not finite"),
        ("residual", {"w": np.zeros(3)}, "residual/expert/0: tensor 'w' has dtype float64, not float32"),
        ("base", {"w": np.zeros(3, "i8")}, "now/expert/0: tensor 'w' has dtype float32, not int64"),
    ],
)
def test_a_device_whose_own_files_do_not_fit_packs_nothing(
    tmp_path: Path, name: str, tensors: Model, reason: str
) -> None:
    given = {f"{kind}/{ITEM}": {"w": np.ones(3, "f4")} for kind in ("base", "now")}
    with pytest.raises(TensorError) as error:
        packed(tmp_path, {**given, f"{name}/{ITEM}": tensors}, 1)
    assert refused(error) == reason


@pytest.mark.parametrize(
    ("base", "reason"),
    [
        ({"n": np.zeros(3, "i8")}, "tensor 'n' has dtype int64: only floats are trained"),
        ({"w.lora_a": np.zeros((2, 2), "f4")}, "tensor 'w.lora_a' is named as a factor is"),
    ],
)
def test_a_base_that_updates_cannot_be_made_for_is_refused(tmp_path: Path, base: Model, reason: str) -> None:
    with pytest.raises(TensorError) as error:
        packed(tmp_path, {f"base/{ITEM}": base, f"now/{ITEM}": base}, 1)
    assert refused(error) == f"base/{ITEM}: {reason}"
    with pytest.raises(TensorError) as error:
        merged(tmp_path, base, base)
    assert refused(error) == f"base/{ITEM}: {reason}"
