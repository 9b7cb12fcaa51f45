"""Parts of a mixture of experts: their names, and one file of all."""

from __future__ import annotations

import numpy as np
import pytest

from orbitrain.learning.moe.parts import Parts, expert_number, from_items, joined, taken_apart
from orbitrain.learning.tensors import TensorError, encode_tensors


def one(value: float) -> dict[str, np.ndarray]:
    return {"w": np.full((2,), value, np.float32)}


def test_a_model_in_one_file_is_taken_apart_into_the_same_parts() -> None:
    parts = Parts(one(1), one(2), {number: one(number) for number in range(12)})
    model = joined(parts.items())
    assert list(model)[:2] == ["backbone:w", "expert/0:w"]
    again = taken_apart(model)
    assert list(again.items()) == ["backbone", "gate", *(f"expert/{number}" for number in range(12))]
    for item, tensors in parts.items().items():
        assert encode_tensors(again.items()[item]) == encode_tensors(tensors)


@pytest.mark.parametrize(
    "item", ["expert/", "expert/01", "expert/-1", "expert/²", "expert/4096", "gate", "x"]
)
def test_only_canonical_names_are_experts(item: str) -> None:
    assert expert_number(item) is None
    assert expert_number("expert/4095") == 4095


@pytest.mark.parametrize(
    ("items", "reason"),
    [
        (("backbone", "gate"), "'expert/0' is missing"),
        (("backbone", "gate", "expert/0", "expert/2"), "'expert/1' is missing"),
        (("gate", "expert/0"), "'backbone' is missing"),
        (("backbone", "gate", "expert/0", "head"), "'head' is no part"),
    ],
)
def test_a_model_needs_all_its_parts_and_no_other(items: tuple[str, ...], reason: str) -> None:
    with pytest.raises(TensorError, match=reason):
        joined({item: one(0) for item in items})


def test_tensors_that_belong_to_no_part_are_refused() -> None:
    with pytest.raises(TensorError, match="names no part"):
        taken_apart(one(1))
    with pytest.raises(TensorError, match="'expert/x' is no part"):
        from_items({"expert/x": one(1)})
