"""Where federated training starts from: experts and a gate that are specialised, but weak.

From a few samples of every domain: one network without a gate is trained (the foundation) and copied to all
experts; copy i is trained on domain i (modulo their number); then the gate is trained, with all experts in
soft proportions, so that all of them are tried.

The model must stay weak: where the warm-up has learned all there is, nothing is left to train. The lengths by
default are those of our trials; the paper's own are not known to us, but for 60 rounds of the gate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from orbitrain.learning.moe.mixture import (
    Route,
    Shape,
    Steps,
    drawn,
    fit,
    forward,
    loaded,
    soft_route,
    top_k_route,
    unloaded,
    whole_route,
)
from orbitrain.learning.moe.parts import BACKBONE, GATE, Parts, expert_item
from orbitrain.learning.tasks import derive_seed
from orbitrain.learning.tensors import Tensors

Samples: TypeAlias = tuple[torch.Tensor, torch.Tensor]
"""Rows and labels."""


@dataclass(frozen=True, slots=True)
class WarmUp:
    """How long each part of it takes."""

    foundation_steps: int
    tuning_steps: int
    gate_rounds: int
    specialised: bool
    """Otherwise no expert knows a domain and the gate treats all alike: nothing is gained by splitting."""

    batch: int = 32
    rate: float = 0.2
    gate_rate: float = 1.0
    own_share: float = 0.25


def warmed_up(shape: Shape, domains: Sequence[Samples], how: WarmUp, seed: int) -> Parts:
    """A model after its warm-up on these few samples of each domain; a function of its arguments."""
    start = drawn(shape, derive_seed(seed, "moe", "initial"))
    pooled = _pooled(domains)
    foundation = _trained(
        Parts(start.backbone, start.gate, {0: start.experts[0]}),
        (BACKBONE, expert_item(0)),
        pooled,
        _steps(pooled, how.foundation_steps, how, derive_seed(seed, "moe", "foundation")),
        whole_route,
    )
    own = _own_experts(shape.experts, len(domains))
    experts: dict[int, Tensors] = {}
    for number in range(shape.experts):
        mine = [domain for domain, numbers in zip(domains, own, strict=True) if number in numbers]
        samples = _pooled(mine if how.specialised else domains)
        order = _steps(samples, how.tuning_steps, how, derive_seed(seed, "moe", "tuning", number))
        # As expert 0 of a network that has no other: `whole_route` adds up all there are.
        experts[number] = _trained(foundation, (expert_item(0),), samples, order, whole_route).experts[0]
    whole = Parts(foundation.backbone, start.gate, experts)
    if not how.specialised:
        return _levelled(whole, domains)
    owned = torch.zeros(len(pooled[1]), shape.experts)
    ends = np.cumsum([len(labels) for _, labels in domains])
    for start_row, end_row, numbers in zip((0, *ends), ends, own, strict=False):
        owned[start_row:end_row, list(numbers)] = 1.0
    return _gated(whole, pooled, owned, how)


def _pooled(domains: Sequence[Samples]) -> Samples:
    return torch.cat([rows for rows, _ in domains]), torch.cat([labels for _, labels in domains])


def _own_experts(experts: int, domains: int) -> list[tuple[int, ...]]:
    """Of each domain, the experts that are to know it: all experts and all domains have one at least."""
    pairs = [(number % domains, number % experts) for number in range(max(experts, domains))]
    return [tuple(expert for domain, expert in pairs if domain == one) for one in range(domains)]


def _gated(parts: Parts, samples: Samples, owned: torch.Tensor, how: WarmUp) -> Parts:
    """Train the gate alone, in soft proportions, on the classes and on what share a row's own experts have.

    The classes alone do not do it: where a domain has two classes, another's expert often serves as well.
    """
    weights = loaded(parts, parts.experts, (GATE,))
    rows, labels = samples
    for _ in range(how.gate_rounds):
        passed = forward(weights, rows, soft_route)
        loss = cross_entropy(passed.scores, labels)
        for layer in passed.routed:
            loss = loss - how.own_share * (layer.weights * owned).sum(dim=1).log().mean()
        for value in weights[GATE].values():
            value.grad = None
        loss.backward()
        with torch.no_grad():
            for value in weights[GATE].values():
                assert value.grad is not None
                value.add_(value.grad, alpha=-how.gate_rate)
    return Parts(parts.backbone, unloaded(weights, (GATE,)).gate, parts.experts)


def _steps(samples: Samples, count: int, how: WarmUp, seed: int) -> Steps:
    random = np.random.default_rng(seed)
    return Steps(batches(len(samples[1]), how.batch, count, random), how.rate, how.gate_rate)


def batches(
    samples: int, size: int, count: int, random: np.random.Generator
) -> list[np.ndarray[Any, np.dtype[np.int64]]]:
    """`count` batches of up to `size` sample numbers, each sample once before any comes again."""
    drawn_batches: list[np.ndarray[Any, np.dtype[np.int64]]] = []
    order = np.empty(0, np.int64)
    for _ in range(count):
        if not len(order):
            order = random.permutation(samples).astype(np.int64)
        drawn_batches.append(order[:size])
        order = order[size:]
    return drawn_batches


def _trained(parts: Parts, items: tuple[str, ...], samples: Samples, how: Steps, route: Route) -> Parts:
    if not how.batches:
        return parts
    weights = loaded(parts, parts.experts, items)
    fit(weights, items, samples, how, route)
    new = {**parts.items(), **unloaded(weights, items).items()}
    experts = {number: new[expert_item(number)] for number in parts.experts}
    return Parts(new[BACKBONE], new[GATE], experts)


def _levelled(parts: Parts, domains: Sequence[Samples]) -> Parts:
    """A gate whose logits are 0 for the mean sample of every domain: within each, chance decides.

    A random gate would tell domains apart by accident, as their samples lie far from one another.
    """
    gate = {name: value.astype(np.float64) for name, value in parts.gate.items()}
    for layer in range(len(gate)):
        weights = loaded(_with_gate(parts, gate), parts.experts)
        means = []
        with torch.no_grad():
            for rows, _ in domains:
                means.append(forward(weights, rows, top_k_route(1)).entered[layer].mean(dim=0).numpy())
        directions, _ = np.linalg.qr(np.array(means, dtype=np.float64).T)
        name = f"{layer}.weight"
        gate[name] = gate[name] - gate[name] @ directions @ directions.T
    return _with_gate(parts, gate)


def _with_gate(parts: Parts, gate: Tensors) -> Parts:
    rounded: Tensors = {name: value.astype(np.float32) for name, value in gate.items()}
    return Parts(parts.backbone, rounded, parts.experts)
