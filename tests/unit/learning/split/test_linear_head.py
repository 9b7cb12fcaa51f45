"""The head in numpy: torch's gradients, the centralised result, and the same head from the same seed."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orbitrain.learning.split.linear_head import HeadError, LinearHead, Steps
from orbitrain.learning.tensors import TensorError, decode_tensors, encode_tensors


def data(
    n: int, width: int, classes: int, seed: int, dtype: str = "float64"
) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.normal(size=(n, width)).astype(dtype), random.integers(0, classes, n)


@settings(max_examples=20)
@given(st.integers(1, 20), st.integers(1, 9), st.integers(1, 6), st.integers(0, 2**32))
def test_loss_and_gradient_are_those_of_torch(n: int, width: int, classes: int, seed: int) -> None:
    torch = pytest.importorskip("torch")
    features, labels = data(n, width, classes, seed)
    head = LinearHead.initial(width, classes, seed, "float64")
    layer = torch.nn.Linear(width, classes, dtype=torch.float64)
    layer.load_state_dict({name: torch.from_numpy(value) for name, value in head.tensors().items()})
    loss = torch.nn.functional.cross_entropy(layer(torch.from_numpy(features)), torch.from_numpy(labels))
    loss.backward()
    gradient = head.gradient(features, labels)
    assert head.loss(features, labels) == pytest.approx(float(loss.detach()), rel=1e-12, abs=1e-12)
    np.testing.assert_allclose(gradient.weight, layer.weight.grad.numpy(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(gradient.bias, layer.bias.grad.numpy(), rtol=0, atol=1e-12)
    scores = layer(torch.from_numpy(features)).detach().numpy()
    np.testing.assert_allclose(head.scores(features), scores, rtol=0, atol=1e-12)


def test_a_head_for_each_token_has_the_gradient_of_torch() -> None:
    torch = pytest.importorskip("torch")
    random = np.random.default_rng(3)
    features, labels = random.normal(size=(4, 6, 5)), random.integers(0, 3, (4, 6))
    head = LinearHead.initial(5, 3, 1, "float64")
    weight = torch.from_numpy(head.weight.copy()).requires_grad_()
    scores = torch.from_numpy(features) @ weight.T + torch.from_numpy(head.bias)
    torch.nn.functional.cross_entropy(scores.transpose(1, 2), torch.from_numpy(labels)).backward()
    gradient = head.gradient(features, labels)
    np.testing.assert_allclose(gradient.weight, weight.grad.numpy(), rtol=0, atol=1e-12)
    assert head.scores(features).shape == (4, 6, 3)
    assert 0.0 <= head.accuracy(features, labels) <= 1.0


@settings(max_examples=20)
@given(
    counts=st.lists(st.integers(1, 12), min_size=1, max_size=5),
    rounds=st.integers(1, 20),
    seed=st.integers(0, 2**32),
)
def test_rounds_of_one_step_averaged_by_samples_equal_training_on_everything(
    counts: list[int], rounds: int, seed: int
) -> None:
    """Each round: everyone takes one step on all its samples; heads are averaged by sample counts."""
    features, labels = data(sum(counts), 7, 4, seed)
    starts = np.cumsum([0, *counts])
    steps = Steps(1, 0.3)
    head = central = LinearHead.initial(7, 4, seed, "float64")
    for number in range(rounds):
        weight, bias = np.zeros_like(head.weight), np.zeros_like(head.bias)
        for start, stop in pairwise(starts):
            own = head.trained(features[start:stop], labels[start:stop], steps, number)
            weight += (stop - start) * own.weight
            bias += (stop - start) * own.bias
        head = LinearHead(weight / sum(counts), bias / sum(counts))
        central = central.trained(features, labels, steps, number)
    np.testing.assert_allclose(head.weight, central.weight, rtol=0, atol=1e-12)
    np.testing.assert_allclose(head.bias, central.bias, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_steps_over_batches_are_those_of_a_plain_loop(dtype: str) -> None:
    features, labels = data(10, 5, 3, 1, dtype)
    head = LinearHead.initial(5, 3, 1, dtype)
    expected, random = head, np.random.default_rng(9)
    for _ in range(2):
        order = random.permutation(10)
        for batch in (order[:4], order[4:8], order[8:]):
            gradient = expected.gradient(features[batch], labels[batch])
            rate = np.dtype(dtype).type(0.1)
            expected = LinearHead(
                expected.weight - rate * gradient.weight, expected.bias - rate * gradient.bias
            )
    found = head.trained(features, labels, Steps(6, 0.1, batch=4), seed=9)
    assert encode_tensors(found.tensors()) == encode_tensors(expected.tensors())
    assert found.weight.dtype == dtype
    assert encode_tensors(head.trained(features, labels, Steps(6, 0.1, batch=4), 8).tensors()) != (
        encode_tensors(found.tensors())
    )


def test_training_writes_into_nothing_it_is_given() -> None:
    features, labels = data(10, 5, 3, 1, "float32")
    head = LinearHead.initial(5, 3, 1)
    for array in (features, labels, head.weight, head.bias):
        array.flags.writeable = False
    head.trained(features, labels, Steps(3, 0.1, 4), 1)


def test_training_separates_what_can_be_separated() -> None:
    random = np.random.default_rng(1)
    labels = np.repeat(np.arange(3), 40)
    features = (5 * np.eye(3)[labels] + random.normal(size=(120, 3))).astype(np.float32)
    head = LinearHead.initial(3, 3, 1)
    trained = head.trained(features, labels, Steps(100, 0.5), 1)
    assert trained.accuracy(features, labels) > 0.95
    assert trained.loss(features, labels) < head.loss(features, labels) / 3


def test_features_of_half_precision_are_used_in_that_of_the_head() -> None:
    features, labels = data(10, 5, 3, 1, "float16")
    head = LinearHead.initial(5, 3, 1)
    found = head.trained(features, labels, Steps(3, 0.1), 1)
    again = head.trained(features.astype(np.float32), labels, Steps(3, 0.1), 1)
    assert np.array_equal(found.weight, again.weight)


def test_large_scores_give_no_overflow() -> None:
    head = LinearHead(np.eye(2) * 1e4, np.zeros(2))
    features, labels = np.eye(2), np.array([0, 1])
    assert head.loss(features, labels) == 0.0
    assert head.loss(features, labels[::-1]) == pytest.approx(1e4)
    assert np.isfinite(head.gradient(features, labels[::-1]).weight).all()


def test_a_seed_gives_one_head_and_another_seed_another() -> None:
    one, same, other = (LinearHead.initial(192, 10, seed) for seed in (1, 1, 2))
    assert one.digest() == same.digest() != other.digest()
    assert one.weight.shape == (10, 192)
    assert one.weight.dtype == np.float32
    assert abs(one.weight).max() <= 192**-0.5


def test_a_head_is_the_same_after_safetensors() -> None:
    head = LinearHead.initial(6, 4, 1)
    found = LinearHead.from_tensors(decode_tensors(encode_tensors(head.tensors())), head)
    assert found.digest() == head.digest()
    with pytest.raises(TensorError, match="shape"):
        LinearHead.from_tensors(LinearHead.initial(5, 4, 1).tensors(), head)
    with pytest.raises(TensorError, match="not finite"):
        LinearHead.from_tensors({**head.tensors(), "bias": np.full(4, np.nan, np.float32)}, head)


@pytest.mark.parametrize(
    ("features", "labels", "reason"),
    [
        (np.zeros((3, 6)), np.zeros(3, int), "for a head of 5"),
        (np.zeros(5), np.zeros(1, int), "for a head of 5"),
        (np.zeros((3, 5)), np.zeros(2, int), "for features of shape"),
        (np.zeros((3, 5)), np.zeros(3), "for features of shape"),
        (np.zeros((0, 5)), np.zeros(0, int), "for features of shape"),
        (np.zeros((3, 5)), np.array([0, 1, 3]), "labels from 0 to 3 for 3 classes"),
        (np.zeros((3, 5)), np.array([0, -1, 2]), "labels from -1 to 2 for 3 classes"),
    ],
)
def test_features_and_labels_that_do_not_fit_are_explained(features, labels, reason: str) -> None:
    with pytest.raises(HeadError, match=reason):
        LinearHead.initial(5, 3, 1).trained(features, labels, Steps(1, 0.1), 1)


def test_a_rate_that_breaks_the_head_is_reported() -> None:
    features, labels = data(10, 5, 3, 1, "float32")
    with pytest.raises(HeadError, match="not finite after 5 steps"), np.errstate(all="ignore"):
        LinearHead.initial(5, 3, 1).trained(features * 1e30, labels, Steps(5, 1e30), 1)


@pytest.mark.parametrize("arguments", [(0, 0.1), (1, 0.0), (1, float("nan")), (1, 0.1, 0)])
def test_steps_out_of_range_are_refused(arguments: tuple) -> None:
    with pytest.raises(HeadError):
        Steps(*arguments)


@pytest.mark.parametrize(
    ("weight", "bias"),
    [
        (np.zeros((3, 5)), np.zeros(5)),
        (np.zeros(3), np.zeros(3)),
        (np.zeros((3, 5), np.float16), np.zeros(3, np.float16)),
        (np.zeros((3, 5), np.float32), np.zeros(3)),
    ],
)
def test_arrays_that_are_no_head_are_refused(weight: np.ndarray, bias: np.ndarray) -> None:
    with pytest.raises(HeadError):
        LinearHead(weight, bias)
