"""Values on the wire: exact, or off by what the wire's type rounds; and what does not belong is explained."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from orbitrain.learning.split.blocks import (
    Block,
    BlockError,
    check_block,
    check_features,
    decode_block,
    encode_block,
    values_bytes,
)
from orbitrain.learning.tensors import encode_tensors

MAKER = "ab" * 32


def block(n: int = 3, shape: tuple[int, ...] = (4, 5), seed: int = 1, dtype: type = np.float32) -> Block:
    values = np.random.default_rng(seed).normal(size=(n, *shape)).astype(dtype)
    return Block("sat-1", np.arange(n) * 7, values, MAKER)


finite = arrays(
    np.float32,
    array_shapes(min_dims=2, max_dims=3, max_side=4),
    elements=st.floats(-1e4, 1e4, width=32),
)


@settings(max_examples=50)
@given(values=finite, wire=st.sampled_from(["float64", "float32", "float16", "int8"]))
def test_a_block_comes_back_as_its_type_rounds(values: np.ndarray, wire: str) -> None:
    sent = Block("sat-1", np.arange(len(values)), values, MAKER)
    found = decode_block(encode_block(sent, wire), values.shape[1:], len(values))
    assert (found.owner, found.made_by, found.samples.tolist()) == ("sat-1", MAKER, sent.samples.tolist())
    if wire in ("float64", "float32"):
        assert np.array_equal(found.values, values)
        assert found.values.dtype == wire
    elif wire == "float16":
        assert np.array_equal(found.values, values.astype(np.float16).astype(np.float32))
    else:
        step = np.abs(values).max(axis=-1, keepdims=True) / 127
        assert found.values.dtype == np.float32
        assert (np.abs(found.values - values) <= step * 0.501 + 1e-37).all()


def test_float64_is_exact_too() -> None:
    sent = block(dtype=np.float64)
    assert np.array_equal(decode_block(encode_block(sent, "float64"), (4, 5), 3).values, sent.values)


@pytest.mark.parametrize("shape", [(64, 192), (192,)])
@pytest.mark.parametrize(("wire", "value_bytes"), [("float32", 4), ("float16", 2), ("int8", 1)])
def test_bytes_on_the_wire_are_those_of_the_values_and_little_more(
    wire: str, value_bytes: int, shape: tuple[int, ...]
) -> None:
    sent = block(8, shape)
    scales = math.prod(shape[:-1]) * 4 if wire == "int8" else 0
    assert values_bytes(wire, shape) == math.prod(shape) * value_bytes + scales
    assert 0 < len(encode_block(sent, wire)) - 8 * values_bytes(wire, shape) < 600


def test_equal_blocks_have_equal_bytes() -> None:
    assert encode_block(block(), "float16") == encode_block(block(), "float16")


def test_values_too_large_or_not_finite_are_not_sent() -> None:
    large = replace(block(), values=np.full((3, 4, 5), 7e4, np.float32))
    with pytest.raises(BlockError, match="reach 70000, too large for float16"):
        encode_block(large, "float16")
    encode_block(large, "float32")
    with pytest.raises(BlockError, match="not all finite"):
        encode_block(replace(block(), values=np.full((3, 4, 5), np.nan, np.float32)), "float32")
    with pytest.raises(BlockError, match="they can as float64, float32, float16, int8"):
        encode_block(block(), "bfloat16")


def test_a_block_says_what_is_wrong_with_it() -> None:
    with pytest.raises(BlockError, match="3 samples of 'sat-1' have values of shape"):
        replace(block(), values=np.zeros((4, 5), np.float32))
    with pytest.raises(BlockError, match="in the block twice"):
        replace(block(), samples=np.array([1, 1, 2]))
    with pytest.raises(BlockError, match="not numbered"):
        replace(block(), samples=np.array([1.0, 2.0, 3.0]))  # type: ignore[arg-type]
    with pytest.raises(BlockError, match="1 to 255 bytes"):
        replace(block(), owner="")
    with pytest.raises(BlockError, match="do not say which piece"):
        replace(block(), made_by="")


def test_features_of_what_was_sent_pass() -> None:
    sent = block()
    features = Block(sent.owner, sent.samples, np.zeros((3, 6), np.float32), "cd" * 32)
    check_features(features, sent, "cd" * 32, (6,))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"owner": "sat-2"}, "the features are of 'sat-2', not of 'sat-1'"),
        (
            {"samples": np.arange(2), "values": np.zeros((2, 6), np.float32)},
            "'sat-1' sent 3 samples and got features of 2",
        ),
        ({"samples": np.array([0, 14, 7])}, "features 1 of 'sat-1' are of its sample 14, not 7 (2 differ)"),
        ({"made_by": "ee" * 32}, "were made by piece eeeeeeeeeeee, not cdcdcdcdcdcd"),
        ({"values": np.zeros((3, 5), np.float32)}, "have shape [5] a sample, not [6]"),
    ],
)
def test_features_that_do_not_match_their_owner_are_explained(change: dict, reason: str) -> None:
    sent = block()
    features = Block(sent.owner, sent.samples, np.zeros((3, 6), np.float32), "cd" * 32)
    with pytest.raises(BlockError) as caught:
        check_features(replace(features, **change), sent, "cd" * 32, (6,))
    assert reason in str(caught.value)


def test_values_of_another_piece_or_shape_are_refused() -> None:
    check_block(block(), MAKER, (4, 5))
    with pytest.raises(BlockError, match="were made by piece"):
        check_block(block(), "cd" * 32, (4, 5))
    with pytest.raises(BlockError, match="have shape"):
        check_block(block(), MAKER, (5, 4))


GOOD = {
    "owner": np.frombuffer(b"sat-1", np.uint8),
    "piece": np.zeros(32, np.uint8),
    "samples": np.arange(2),
    "values": np.zeros((2, 5), np.float32),
}


@pytest.mark.parametrize(
    "change",
    [
        {"owner": np.frombuffer(b"\xff", np.uint8)},
        {"owner": np.zeros(3, np.int64)},
        {"owner": np.zeros(0, np.uint8)},
        {"owner": np.full(256, 65, np.uint8)},
        {"piece": np.zeros(31, np.uint8)},
        {"piece": np.zeros(32, np.int8)},
        {"samples": np.zeros(2, np.int64)},
        {"samples": np.arange(3)},
        {"samples": np.arange(2, dtype=np.int32)},
        {"values": np.zeros((2, 6), np.float32)},
        {"values": np.zeros((2, 5, 1), np.float32)},
        {"values": np.zeros((2, 5), np.int32)},
        {"values": np.zeros((2, 5), np.int8)},
        {"values": np.full((2, 5), np.inf, np.float16)},
        {"scale": np.ones((2, 1), np.float32)},
        {"values": np.ones((2, 5), np.int8), "scale": np.ones((2, 5), np.float32)},
        {"values": np.ones((2, 5), np.int8), "scale": np.ones((2, 1), np.float64)},
        {"values": np.ones((2, 5), np.int8), "scale": np.full((2, 1), np.nan, np.float32)},
        {"values": np.full((2, 5), 127, np.int8), "scale": np.full((2, 1), 3e38, np.float32)},
        {"more": np.zeros(1)},
    ],
)
@pytest.mark.filterwarnings("ignore:overflow")
def test_a_block_that_contradicts_itself_is_refused(change: dict) -> None:
    assert decode_block(encode_tensors(GOOD), (5,), 2).samples.tolist() == [0, 1]
    with pytest.raises(BlockError) as caught:
        decode_block(encode_tensors({**GOOD, **change}), (5,), 2)
    assert "\n" not in str(caught.value)


def test_more_samples_than_allowed_and_what_is_no_file_are_refused() -> None:
    data = encode_block(block(), "float32")
    with pytest.raises(BlockError, match="not up to 2 of"):
        decode_block(data, (4, 5), 2)
    with pytest.raises(BlockError):
        decode_block(data[:-1], (4, 5), 3)
    with pytest.raises(BlockError, match="more than a block can hold"):
        decode_block(data, (1 << 20,), 1 << 20)
