"""Model files are read as the library wrote them, and written as it would have, byte for byte."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orbitrain.learning.model_file import DTYPES, ModelFile, ModelWriter
from orbitrain.learning.tensors import (
    MAX_HEADER_BYTES,
    Spec,
    TensorError,
    check_same,
    encode_tensors,
    read_tensors,
)

NAMES = st.text(st.characters(codec="utf-8"), min_size=0, max_size=8)
SHAPES = st.lists(st.integers(0, 4), max_size=3).map(tuple)


@given(
    st.dictionaries(NAMES, st.tuples(st.sampled_from(list(DTYPES.values())), SHAPES), max_size=8),
    st.integers(0, 2**32),
)
def test_what_is_written_is_what_the_library_writes(
    tmp_path_factory: pytest.TempPathFactory, kinds: dict[str, tuple[str, tuple[int, ...]]], seed: int
) -> None:
    kinds.pop("__metadata__", None)
    random = np.random.default_rng(seed)
    tensors = {
        name: random.integers(0, 2, size=shape).astype(dtype) for name, (dtype, shape) in kinds.items()
    }
    folder = tmp_path_factory.mktemp("models")
    specs = {name: Spec(value.dtype, value.shape) for name, value in tensors.items()}
    with ModelWriter(folder / "ours", specs) as writer:
        for name, value in tensors.items():
            flat = value.reshape(-1)
            for start in range(0, len(flat), 3):
                writer.put(name, start, flat[start : start + 3])
    assert (folder / "ours").read_bytes() == encode_tensors(tensors)
    model = ModelFile(folder / "ours", 1 << 20)
    assert model.specs == dict(sorted(specs.items()))
    for name, value in tensors.items():
        found = model.elements(name, 0, value.size)
        assert found.tobytes() == value.tobytes()


def test_a_tensor_without_elements_may_be_put(tmp_path: Path) -> None:
    empty = np.zeros((5, 0), np.float32)
    with ModelWriter(tmp_path / "ours", {"w": Spec(empty.dtype, empty.shape)}) as writer:
        writer.put("w", 0, empty)
    assert (tmp_path / "ours").read_bytes() == encode_tensors({"w": empty})


def header(path: Path, entries: object, data: bytes = b"", *, length: int | None = None) -> Path:
    text = json.dumps(entries).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return path


def entry(start: int, end: int, shape: list[int], dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


@pytest.mark.parametrize(
    ("entries", "data"),
    [
        ({"w": entry(0, 8, [2])}, b"1234"),  # it would be read beyond the end of the file
        ({"w": entry(0, 4, [2])}, b"1234"),
        ({"w": entry(4, 8, [1])}, b"12345678"),
        ({"w": entry(0, 4, [1]), "v": entry(0, 4, [1])}, b"1234"),
        ({"w": entry(-4, 0, [1])}, b"1234"),
        ({"w": entry(0, 4, [-1])}, b"1234"),
        ({"w": entry(0, 4, [2**62, 2**62])}, b"1234"),
        ({"w": entry(0, 2, [1], "BF16")}, b"12"),
        ({"w": entry(0, 2, [1], "X")}, b"12"),
        ({"w": 3}, b""),
        ([], b""),
        ({"w": entry(0, 4, [1])}, b"12345678"),  # bytes that nothing names
    ],
)
def test_a_header_that_does_not_hold_is_refused(tmp_path: Path, entries: object, data: bytes) -> None:
    path = header(tmp_path / "bad", entries, data)
    with pytest.raises(TensorError, match="not readable safetensors"):
        ModelFile(path, 1 << 20)
    with pytest.raises(TensorError):  # as the other reader has it
        read_tensors(path, 1 << 20)


def test_sizes_are_bounded_before_anything_is_read(tmp_path: Path) -> None:
    path = header(tmp_path / "large", {"w": entry(0, 4, [1])}, b"1234")
    with pytest.raises(TensorError, match="larger than the allowed 10"):
        ModelFile(path, 10)
    with pytest.raises(TensorError, match=r"header of .* larger than the allowed"):
        ModelFile(header(path, {}, length=MAX_HEADER_BYTES + 1), 1 << 20)
    with pytest.raises(TensorError, match="does not fit"):
        ModelFile(header(path, {}, length=1000), 1 << 20)
    path.write_bytes(b"123")
    with pytest.raises(TensorError, match="too short"):
        ModelFile(path, 1 << 20)


def test_a_dtype_that_the_format_lacks_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(TensorError, match="dtype complex64 cannot be stored"):
        ModelWriter(tmp_path / "out", {"w": Spec(np.dtype("c8"), (1,))})


def test_what_differs_is_named() -> None:
    f4, f8 = np.dtype("<f4"), np.dtype("<f8")
    base = {"a": Spec(f4, (2,)), "b": Spec(f4, ())}
    check_same(base, base)
    for specs, said in [
        ({"a": base["a"]}, "'b' is missing"),
        ({**base, "c": base["a"]}, "'c' is unknown"),
        ({**base, "a": Spec(f4, (2, 1))}, "'a' has shape [2, 1], not [2]"),
        ({**base, "a": Spec(f8, (2,))}, "'a' has dtype float64, not float32"),
    ]:
        with pytest.raises(TensorError) as caught:
            check_same(specs, base)
        assert said in str(caught.value)
