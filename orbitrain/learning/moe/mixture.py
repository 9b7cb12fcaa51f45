"""The reference mixture of experts, in torch: a small residual network with L layers of N experts.

    h = relu(embed(x));  in each layer  h = h + sum_i g_i expert_i(h);  scores = head(h)

An expert is width - hidden - width with ReLU. Embedding and head are the backbone, the gate of a layer is one
matrix (experts, width) without bias. Equations are those of EMS-FL (arXiv 2602.19485) as we restored them.

All loaded experts see all rows, and a weight of 0 keeps out those that were not chosen: at this size that is
quicker than picking rows, and it gives the same bits each time. Only workers import this module.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch.nn.functional import cross_entropy, linear, relu, softmax

from orbitrain.learning.moe.parts import BACKBONE, GATE, Parts, expert_item, from_items
from orbitrain.learning.tensors import Tensors

# One thread, and only algorithms that give the same bits each time.
torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)

Weights: TypeAlias = dict[str, dict[str, torch.Tensor]]
"""By item, then by name."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What the network is, apart from its weights."""

    inputs: int
    width: int
    hidden: int
    classes: int
    layers: int
    experts: int


class Routed(NamedTuple):
    """What the gate of a layer says of each row."""

    weights: torch.Tensor
    """(rows, experts), 0 for those that were not chosen."""

    chosen: torch.Tensor
    """(rows, experts), of booleans."""


Route: TypeAlias = Callable[[torch.Tensor], Routed]
"""From a gate's logits (rows, experts)."""


def top_k_route(top_k: int) -> Route:
    """Softmax, then the `top_k` largest (9). They are not made to add up to 1: with one expert a row that
    would leave the gate without a gradient."""

    def route(logits: torch.Tensor) -> Routed:
        shares = softmax(logits, dim=1)
        chosen = _largest(shares, top_k)
        return Routed(shares * chosen, chosen)

    return route


def masked_route(group: Sequence[int], experts: int, top_k: int, literal_zero: bool = False) -> Route:
    """The gate of a device that holds the experts `group` alone (43): logits of others are minus infinity
    before the softmax, min(`top_k`, experts held) are chosen, and their weights add up to 1.

    With one expert a row the weight is 1, so that such a gate has no gradient: it is meant to be frozen.
    `literal_zero` does what the paper's text says, a logit of 0 for the others, which keeps none of them out
    (e^0 = 1). It is there to compare with, and needs all experts loaded.
    """
    outside = torch.ones(experts, dtype=torch.bool)
    outside[list(group)] = False
    count = min(top_k, len(group))

    def route(logits: torch.Tensor) -> Routed:
        shares = softmax(logits.masked_fill(outside, 0.0 if literal_zero else float("-inf")), dim=1)
        chosen = _largest(shares, count)
        kept = shares * chosen
        return Routed(kept / kept.sum(dim=1, keepdim=True), chosen)

    return route


def soft_route(logits: torch.Tensor) -> Routed:
    """All experts, by softmax: what the gate is warmed up with."""
    return Routed(softmax(logits, dim=1), torch.ones_like(logits, dtype=torch.bool))


def whole_route(logits: torch.Tensor) -> Routed:
    """Every expert with weight 1: a network without a gate."""
    return Routed(torch.ones_like(logits), torch.ones_like(logits, dtype=torch.bool))


def _largest(shares: torch.Tensor, count: int) -> torch.Tensor:
    # A stable sort, because topk leaves open which of two equal shares it takes.
    order = torch.sort(shares, dim=1, descending=True, stable=True).indices[:, :count]
    return torch.zeros_like(shares, dtype=torch.bool).scatter(1, order, True)


class Passed(NamedTuple):
    """Rows that went through the network."""

    scores: torch.Tensor
    """(rows, classes)."""

    routed: list[Routed]
    """By each layer."""

    entered: list[torch.Tensor]
    """What came into each layer, (rows, width)."""


def forward(weights: Weights, rows: torch.Tensor, route: Route) -> Passed:
    """Pass `rows` (n, inputs) through the network, with those experts that are in `weights`."""
    backbone, gate = weights[BACKBONE], weights[GATE]
    experts = [(number, weights[item]) for number, item in _experts_of(weights)]
    all_routed: list[Routed] = []
    entered: list[torch.Tensor] = []
    state = relu(linear(rows, backbone["embed.weight"], backbone["embed.bias"]))
    for layer in range(len(gate)):
        routed = route(linear(state, gate[f"{layer}.weight"]))
        all_routed.append(routed)
        entered.append(state)
        for number, expert in experts:
            up = relu(linear(entered[-1], expert[f"{layer}.up.weight"], expert[f"{layer}.up.bias"]))
            down = linear(up, expert[f"{layer}.down.weight"], expert[f"{layer}.down.bias"])
            state = state + routed.weights[:, number : number + 1] * down
    return Passed(linear(state, backbone["head.weight"], backbone["head.bias"]), all_routed, entered)


def _experts_of(weights: Weights) -> list[tuple[int, str]]:
    numbers = sorted(int(item.partition("/")[2]) for item in weights if item not in (BACKBONE, GATE))
    return [(number, expert_item(number)) for number in numbers]


def drawn(shape: Shape, seed: int) -> Parts:
    """Random weights: torch's usual ones, the experts' outputs and the gate smaller.

    An expert begins close to 0 beside what passes it by, and a gate close to equal shares.
    """
    random = np.random.default_rng(seed)

    def uniform(*dims: int, scale: float = 1.0) -> np.ndarray[Any, np.dtype[np.float32]]:
        bound = scale / float(np.sqrt(dims[-1]))
        return random.uniform(-bound, bound, dims).astype(np.float32)

    def expert() -> Tensors:
        tensors: Tensors = {}
        for layer in range(shape.layers):
            tensors[f"{layer}.up.weight"] = uniform(shape.hidden, shape.width)
            tensors[f"{layer}.up.bias"] = np.zeros(shape.hidden, np.float32)
            tensors[f"{layer}.down.weight"] = uniform(shape.width, shape.hidden, scale=0.5)
            tensors[f"{layer}.down.bias"] = np.zeros(shape.width, np.float32)
        return tensors

    backbone: Tensors = {
        "embed.weight": uniform(shape.width, shape.inputs),
        "embed.bias": np.zeros(shape.width, np.float32),
        "head.weight": uniform(shape.classes, shape.width),
        "head.bias": np.zeros(shape.classes, np.float32),
    }
    gate: Tensors = {
        f"{layer}.weight": uniform(shape.experts, shape.width, scale=0.1) for layer in range(shape.layers)
    }
    return Parts(backbone, gate, {number: expert() for number in range(shape.experts)})


def loaded(parts: Parts, experts: Iterable[int], trained: Iterable[str] = ()) -> Weights:
    """The weights of backbone, gate and these experts as torch has them.

    The items `trained` are copies that ask for gradients; the others share the memory of `parts`, so that
    a frozen part is held once.
    """
    wanted = {BACKBONE, GATE, *(expert_item(number) for number in experts)}
    learning = set(trained)
    weights: Weights = {}
    for item, tensors in parts.items().items():
        if item in learning & wanted:
            weights[item] = {name: torch.tensor(value, requires_grad=True) for name, value in tensors.items()}
        elif item in wanted:
            weights[item] = {name: _shared(value) for name, value in tensors.items()}
    return weights


def _shared(value: np.ndarray[Any, np.dtype[Any]]) -> torch.Tensor:
    with warnings.catch_warnings():
        # torch warns of arrays that are read-only; nothing here writes to a frozen weight.
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(value)


def unloaded(weights: Weights, items: Iterable[str]) -> Parts:
    """These items as numpy has them, in the same memory."""
    named = {item: {name: value.detach().numpy() for name, value in weights[item].items()} for item in items}
    return from_items(named)


@dataclass(frozen=True, slots=True)
class Steps:
    """Batches of row numbers, one a step, and how far a step goes: for gates, and for all else."""

    batches: Sequence[np.ndarray[Any, np.dtype[np.int64]]]
    rate: float
    gate_rate: float


class Fitted(NamedTuple):
    """What `fit` found on its way."""

    loss: float
    """The mean of all steps, each before it was taken."""

    kept_bytes: int
    """What autograd kept of the first batch for the way back, weights apart."""


def fit(
    weights: Weights,
    trained: Sequence[str],
    samples: tuple[torch.Tensor, torch.Tensor],
    how: Steps,
    route: Route,
) -> Fitted:
    """Plain gradient descent on the mean cross-entropy of each batch, in place, of the items `trained`."""
    rates = {item: how.gate_rate if item == GATE else how.rate for item in trained}
    learning = [(value, rates[item]) for item in trained for value in weights[item].values()]
    rows, labels = samples
    kept = _Kept(weights)
    total = 0.0
    for number, batch in enumerate(how.batches):
        chosen = torch.from_numpy(batch)
        if number:
            loss = cross_entropy(forward(weights, rows[chosen], route).scores, labels[chosen])
        else:
            with torch.autograd.graph.saved_tensors_hooks(kept.keep, _same):
                loss = cross_entropy(forward(weights, rows[chosen], route).scores, labels[chosen])
        # torch would add to the gradients of the step before.
        for value, _ in learning:
            value.grad = None
        loss.backward()
        kept.release()
        with torch.no_grad():
            for value, rate in learning:
                if value.grad is not None:
                    value.add_(value.grad, alpha=-rate)
        total += float(loss.detach())
    return Fitted(total / len(how.batches), kept.bytes)


class _Kept:
    """Counts the memory behind the tensors that autograd saves, each block of it once."""

    def __init__(self, weights: Weights) -> None:
        self.bytes = 0
        self._seen = {
            value.untyped_storage().data_ptr() for item in weights.values() for value in item.values()
        }
        self._alive: list[torch.Tensor] = []

    def keep(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._seen:
            self._seen.add(storage.data_ptr())
            self._alive.append(tensor.detach())  # so that its address is no other's while we count
            self.bytes += storage.nbytes()
        return tensor

    def release(self) -> None:
        self._alive.clear()


def _same(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


def bytes_held(weights: Weights, trained: Iterable[str]) -> int:
    """Bytes of the weights, and of as many gradients as there are weights in the items `trained`."""
    sizes = {item: sum(value.nbytes for value in values.values()) for item, values in weights.items()}
    return sum(sizes.values()) + sum(sizes[item] for item in trained)


def selection_counts(routed: Sequence[Routed]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """How many rows chose each expert in each layer, (layers, experts): the counts of (29)."""
    return np.stack([layer.chosen.sum(dim=0).numpy() for layer in routed]).astype(np.int64)
