"""The reference mixture of experts against its equations in numpy."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from orbitrain.learning.moe.mixture import (  # noqa: E402
    Shape,
    Steps,
    bytes_held,
    drawn,
    fit,
    forward,
    loaded,
    masked_route,
    selection_counts,
    top_k_route,
    unloaded,
)
from orbitrain.learning.moe.parts import Parts, bytes_of, expert_item  # noqa: E402
from orbitrain.learning.tensors import encode_tensors  # noqa: E402

SHAPE = Shape(inputs=5, width=6, hidden=7, classes=4, layers=2, experts=4)
RANDOM = np.random.default_rng(5)
ROWS = RANDOM.normal(size=(20, 5)).astype(np.float32)
LABELS = RANDOM.integers(0, 4, 20)
Array = np.ndarray[Any, np.dtype[Any]]


def parts(seed: int = 1) -> Parts:
    """With gates that choose clearly: the drawn ones are near to equal shares."""
    made = drawn(SHAPE, seed)
    return Parts(made.backbone, {name: 30 * value for name, value in made.gate.items()}, made.experts)


def gate_of(logits: Array, group: tuple[int, ...], top_k: int, masked: bool) -> Array:
    """Softmax over `group`, its largest kept; with a mask, made to add up to 1."""
    weights = np.zeros_like(logits)
    for row, values in enumerate(logits):
        exponentials = np.exp(values[list(group)] - values[list(group)].max())
        shares = dict(zip(group, exponentials / exponentials.sum(), strict=True))
        kept = sorted(group, key=lambda number: -shares[number])[:top_k]
        total = sum(shares[number] for number in kept) if masked else 1.0
        for number in kept:
            weights[row, number] = shares[number] / total
    return weights


def network(
    model: Parts, rows: Array, group: tuple[int, ...], top_k: int, masked: bool
) -> tuple[Array, Array]:
    """Scores and counts in float64, every expert evaluated."""
    w = {
        item: {n: v.astype(np.float64) for n, v in tensors.items()} for item, tensors in model.items().items()
    }
    state = np.maximum(rows @ w["backbone"]["embed.weight"].T + w["backbone"]["embed.bias"], 0)
    counts = []
    for layer in range(SHAPE.layers):
        gates = gate_of(state @ w["gate"][f"{layer}.weight"].T, group, top_k, masked)
        counts.append((gates > 0).sum(axis=0))
        outputs = np.zeros_like(state)
        for number in range(SHAPE.experts):
            e = w[expert_item(number)]
            up = np.maximum(state @ e[f"{layer}.up.weight"].T + e[f"{layer}.up.bias"], 0)
            down = up @ e[f"{layer}.down.weight"].T + e[f"{layer}.down.bias"]
            outputs += gates[:, number : number + 1] * down
        state = state + outputs
    return state @ w["backbone"]["head.weight"].T + w["backbone"]["head.bias"], np.array(counts)


@pytest.mark.parametrize("top_k", [1, 2, 4])
def test_the_open_gate_is_a_softmax_of_which_the_largest_are_kept(top_k: int) -> None:
    passed = forward(loaded(parts(), range(4)), torch.from_numpy(ROWS), top_k_route(top_k))
    scores, counts = network(parts(), ROWS, (0, 1, 2, 3), top_k, masked=False)
    np.testing.assert_allclose(passed.scores.numpy(), scores, atol=1e-5)
    assert selection_counts(passed.routed).tolist() == counts.tolist()
    assert counts.sum() == top_k * len(ROWS) * SHAPE.layers


@pytest.mark.parametrize("top_k", [1, 2, 3])
@pytest.mark.parametrize("group", [group for size in (1, 2, 4) for group in combinations(range(4), size)])
def test_the_masked_gate_is_a_softmax_over_its_group_and_needs_no_other_expert(
    group: tuple[int, ...], top_k: int
) -> None:
    held = parts()
    only = Parts(held.backbone, held.gate, {number: held.experts[number] for number in group})
    route = masked_route(group, 4, top_k)
    passed = forward(loaded(only, group), torch.from_numpy(ROWS), route)
    scores, _ = network(held, ROWS, group, top_k, masked=True)
    np.testing.assert_allclose(passed.scores.numpy(), scores, atol=1e-5)
    full = forward(loaded(held, range(4)), torch.from_numpy(ROWS), route)
    assert torch.equal(full.scores, passed.scores)
    for layer in passed.routed:
        assert (layer.chosen.sum(dim=1) == min(top_k, len(group))).all()


def test_a_logit_of_zero_keeps_nobody_out() -> None:
    logits = torch.tensor([[-1.0, -2.0, 3.0]])
    assert masked_route((0,), 3, 1)(logits).chosen.tolist() == [[True, False, False]]
    assert masked_route((0,), 3, 1, literal_zero=True)(logits).chosen.tolist() == [[False, True, False]]


def test_of_equal_shares_the_first_experts_are_chosen() -> None:
    assert top_k_route(2)(torch.zeros(1, 4)).chosen.tolist() == [[True, True, False, False]]


def test_the_gate_has_a_gradient_with_one_expert_a_row() -> None:
    weights = loaded(parts(), range(4), ["gate"])
    passed = forward(weights, torch.from_numpy(ROWS), top_k_route(1))
    torch.nn.functional.cross_entropy(passed.scores, torch.from_numpy(LABELS)).backward()
    assert all(value.grad is not None and value.grad.abs().max() > 0 for value in weights["gate"].values())


@pytest.mark.parametrize("trained", [["expert/1"], ["gate"], ["backbone", "expert/0", "expert/3"]])
def test_only_what_is_trained_changes(trained: list[str]) -> None:
    given = parts()
    before = {item: encode_tensors(tensors) for item, tensors in given.items().items()}
    weights = loaded(given, range(4), trained)
    steps = Steps([np.arange(10), np.arange(10, 20)], rate=0.1, gate_rate=0.1)
    fit(weights, trained, (torch.from_numpy(ROWS), torch.from_numpy(LABELS)), steps, top_k_route(2))
    after = {item: encode_tensors(tensors) for item, tensors in unloaded(weights, weights).items().items()}
    assert {item for item in after if after[item] != before[item]} == set(trained)
    assert {item: encode_tensors(tensors) for item, tensors in given.items().items()} == before


def test_a_step_is_the_gradient_of_the_mean_loss_times_the_rate() -> None:
    """Of the experts, by central differences of the reference."""
    given = parts()
    weights = loaded(given, range(4), ["expert/2"])
    steps = Steps([np.arange(20)], rate=0.5, gate_rate=9.0)
    fit(weights, ["expert/2"], (torch.from_numpy(ROWS), torch.from_numpy(LABELS)), steps, top_k_route(4))
    name = "1.down.weight"

    def loss(change: float) -> float:
        moved = {**given.experts[2], name: given.experts[2][name].astype(np.float64)}
        moved[name][3, 2] += change
        model = Parts(given.backbone, given.gate, {**given.experts, 2: moved})
        scores, _ = network(model, ROWS, (0, 1, 2, 3), 4, masked=False)
        logs = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
        return float(-logs[np.arange(20), LABELS].mean())

    slope = (loss(1e-4) - loss(-1e-4)) / 2e-4
    moved = weights["expert/2"][name].detach().numpy()[3, 2] - given.experts[2][name][3, 2]
    assert moved == pytest.approx(-0.5 * slope, rel=1e-3)


@pytest.mark.parametrize("held", [(0,), (1, 2), (0, 1, 3)])
def test_experts_left_out_save_their_weights_and_their_gradients(held: tuple[int, ...]) -> None:
    model = parts()
    everything = bytes_held(loaded(model, range(4)), [expert_item(number) for number in range(4)])
    some = bytes_held(loaded(model, held), [expert_item(number) for number in held])
    expert_bytes = bytes_of(model.experts[0])
    assert everything - some == (4 - len(held)) * (expert_bytes + expert_bytes)
