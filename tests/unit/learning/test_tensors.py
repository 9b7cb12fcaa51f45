"""Tensors: the same bytes each time, and nothing hostile gets through."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from orbitrain.learning.tensors import (
    MAX_HEADER_BYTES,
    TensorError,
    check_like,
    decode_tensors,
    encode_tensors,
    read_tensors,
    write_tensors,
)


def model() -> dict[str, np.ndarray]:
    return {
        "b": np.arange(6, dtype=np.float32).reshape(2, 3),
        "a": np.array(3, dtype=np.int64),
        "c": np.zeros((0, 4), dtype=np.float16),
    }


def framed(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def test_tensors_come_back_as_they_were(tmp_path: Path) -> None:
    write_tensors(tmp_path / "m", model())
    back = read_tensors(tmp_path / "m", 10_000)
    assert list(back) == ["a", "b", "c"]
    for name, value in model().items():
        assert back[name].dtype == value.dtype
        assert back[name].shape == value.shape
        assert back[name].tobytes() == value.tobytes()


def test_bytes_do_not_depend_on_the_order_of_names_or_on_memory_layout() -> None:
    turned = {name: np.asarray(value, order="F") for name, value in reversed(model().items())}
    turned["b"] = np.repeat(turned["b"], 2, axis=1)[:, ::2]
    assert encode_tensors(turned) == encode_tensors(model())
    swapped = {name: value.astype(value.dtype.newbyteorder(">")) for name, value in model().items()}
    assert encode_tensors(swapped) == encode_tensors(model())


def test_every_truncated_file_is_refused() -> None:
    data = encode_tensors(model())
    for length in range(len(data)):
        with pytest.raises(TensorError) as caught:
            decode_tensors(data[:length])
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        (2**63).to_bytes(8, "little") + b"{}",
        (MAX_HEADER_BYTES + 1).to_bytes(8, "little") + b"{" + b" " * MAX_HEADER_BYTES + b"}",
        (100).to_bytes(8, "little") + b"{}",
        framed(b"not json"),
        framed(b"[" * 100_000),
        framed([]),
        framed({"a": 1}),
        framed({"a": {"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 4]}}, bytes(4)),
        framed({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, bytes(4)),
        framed({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}, bytes(4)),
        framed({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 2**40]}}, bytes(4)),
        framed({"a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}, bytes(4)),
        framed({"a": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}}, bytes(4)),
        framed({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, bytes(8)),
        framed({n: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for n in "ab"}, bytes(4)),
        framed({"a": {"dtype": "F32", "shape": [1] * 70, "data_offsets": [0, 4]}}, bytes(4)),
    ],
)
def test_hostile_bytes_are_refused_with_one_line(data: bytes) -> None:
    with pytest.raises(TensorError) as caught:
        decode_tensors(data)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_file_beyond_the_limit_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "m"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(TensorError, match="larger than the allowed 1000"):
        read_tensors(path, 1000)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda m: m.pop("b"), "'b' is missing"),
        (lambda m: m.update(z=m["b"]), "'z' is unknown"),
        (lambda m: m.update({"x" * 500 + "\n": m["b"]}), "is unknown"),
        (lambda m: m.update(b=m["b"].T), r"shape \[3, 2\], not \[2, 3\]"),
        (lambda m: m.update(b=m["b"].astype(np.float64)), "dtype float64, not float32"),
        (lambda m: m.update(b=m["b"] * np.nan), "'b' has values that are not finite"),
        (lambda m: m.update(b=m["b"] + np.inf), "not finite"),
    ],
)
def test_a_model_unlike_the_reference_is_refused(change, reason: str) -> None:
    other = model()
    change(other)
    with pytest.raises(TensorError, match=reason) as caught:
        check_like(other, model())
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_a_model_like_the_reference_passes() -> None:
    check_like(model(), model())


@pytest.mark.parametrize("dtype", [np.complex64, object, "U3"])
def test_what_the_format_lacks_cannot_be_written(dtype: object) -> None:
    with pytest.raises(TensorError, match="cannot be stored"):
        encode_tensors({"a": np.zeros(2, dtype=dtype)})
