"""A user's own model: found by name, made from a seed, and refused with one line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from orbitrain.learning.split.cut import cut  # noqa: E402
from orbitrain.learning.split.pieces import load_model  # noqa: E402
from orbitrain.learning.tasks import TaskError  # noqa: E402

MINE = """
import torch
from orbitrain.learning.split.pieces import SplitModel
from orbitrain.learning.split.identity import described

class Words(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.map = torch.nn.Linear(4, width)
        self.position = torch.nn.Parameter(torch.randn(3, width))
    def forward(self, inputs):
        return self.map(inputs) + self.position

class Mean(torch.nn.Module):
    def forward(self, tokens):
        return torch.tanh(tokens).mean(dim=1)

def mine(options, seed):
    if options.get("width", 6) < 1:
        raise ValueError("width must be at least 1\\nsecond line")
    whole = torch.nn.Sequential(Words(options.get("width", 6)), Mean(), torch.nn.Linear(6, 2))
    return SplitModel(whole[0], whole[1], whole[2], whole, (3, 4), described({"name": "mine", **options}))

def other(options, seed):
    return 3
constant = 3
"""


@pytest.fixture(autouse=True)
def users_module(tmp_path: Path):
    path = list(sys.path)
    (tmp_path / "users_split.py").write_text(MINE)
    yield
    sys.path[:] = path
    sys.modules.pop("users_split", None)


def test_a_users_function_beside_the_scenario_is_found_and_its_model_cut(tmp_path: Path) -> None:
    pieces = cut(load_model("users_split:mine", {}, 1, tmp_path))
    assert pieces.difference == 0.0
    assert (pieces.identity.shapes.embedded, pieces.identity.shapes.features) == ((3, 6), (6,))


def test_weights_follow_from_the_seed_and_leave_the_generator_as_it_was(tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one, same, other = (cut(load_model("users_split:mine", {}, seed, tmp_path)) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(3), expected)
    assert one.identity == same.identity != other.identity


@pytest.mark.parametrize(
    ("spec", "options", "reason"),
    [
        ("users_split", {}, "model 'users_split' is not of the form package.module:Name"),
        ("users_split:absent", {}, "model 'users_split:absent': module 'users_split' has no 'absent'"),
        ("users_gone:mine", {}, "model 'users_gone:mine': cannot import 'users_gone'"),
        ("users_split:constant", {}, "model 'users_split:constant': it is not a function"),
        ("users_split:other", {}, "model 'users_split:other': it returned int, not a SplitModel"),
        ("users_split:mine", {"width": 0}, "model 'users_split:mine': width must be at least 1"),
    ],
)
def test_a_model_that_cannot_be_made_is_one_line(
    spec: str, options: dict[str, object], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(TaskError) as caught:
        load_model(spec, options, 1, tmp_path)
    assert str(caught.value).startswith(reason)
    assert "\n" not in str(caught.value)
