"""The built-in mixture of experts: clusters of devices whose data are of really different domains.

Digits, chess positions, cell nuclei and more (`sources`), one a cluster, in one network (`mixture`) that
starts from a few samples of all (`warmup`). Only workers import this module: it loads torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from orbitrain.learning.moe.mixture import (
    Route,
    Shape,
    Steps,
    bytes_held,
    fit,
    forward,
    loaded,
    masked_route,
    selection_counts,
    top_k_route,
    unloaded,
)
from orbitrain.learning.moe.parts import BACKBONE, GATE, Parts, bytes_of, check_parts, expert_item
from orbitrain.learning.moe.sources import SOURCES, Source, read_source
from orbitrain.learning.moe.task import MoeTrained, Wanted
from orbitrain.learning.moe.warmup import Samples, WarmUp, batches, warmed_up
from orbitrain.learning.tasks import derive_seed, dirichlet_split
from orbitrain.learning.tensors import Tensors

Numbers: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]

INPUTS: Final = 64
"""Features of a sample, the same for all domains: those with fewer are padded with zeros."""

DEFAULTS: Final[Mapping[str, bool | float | int]] = {
    "overlap": 0.0,
    "device_beta": 1.0,
    "samples": 1000,
    "held_out": 100,
    "shared": 30,
    "trial": 256,
    "width": 64,
    "hidden": 64,
    "layers": 2,
    "top_k": 1,
    "batch": 32,
    "steps": 10,
    "learning_rate": 0.1,
    "gate_learning_rate": 0.1,
    "foundation_steps": 150,
    "tuning_steps": 300,
    "gate_rounds": 60,
    "specialised": True,
    "mask_literal_zero": False,
}
"""Options and their defaults, beside `domains` (the first of `sources`, as many as there are clusters) and
`experts` (as many as there are clusters).

With `shared` 60 the first three domains begin at 87 % (seed 1), of some 95 % that can be had; 30 were taken
to begin lower, at 75 %. We had looked at how EMS-FL and its baselines go on from there.
"""

_LIMITS: Final[Mapping[str, tuple[float, float]]] = {
    "overlap": (0.0, 1.0),
    "device_beta": (1e-3, 1e6),
    "samples": (16, 100_000),
    "held_out": (1, 2_000),
    "shared": (1, 10_000),
    "trial": (1, 100_000),
    "width": (1, 4096),
    "hidden": (1, 16_384),
    "layers": (1, 64),
    "experts": (1, 256),
    "top_k": (1, 256),
    "batch": (1, 100_000),
    "steps": (1, 100_000),
    "learning_rate": (1e-9, 100.0),
    "gate_learning_rate": (1e-9, 100.0),
    "foundation_steps": (0, 100_000),
    "tuning_steps": (0, 100_000),
    "gate_rounds": (0, 100_000),
}


@dataclass(frozen=True, slots=True)
class _Domain:
    """A domain's samples as the network takes them, in three parts that share none."""

    tested: Samples
    shared: Samples
    rest: Samples


class Domains:
    """A `MoeTask`: cluster i has samples of `domains[i]`, counted around where there are more clusters.

    `overlap`: 0, a cluster has its own domain alone; 1, all clusters have all domains alike; between, a share
    that grows evenly. Within a cluster samples are dealt to its devices with classes skewed by
    Dirichlet(`device_beta`), so that devices differ, also in how many they have. Of each domain `held_out`
    samples are everyone's to measure on, `shared` are the warm-up's, and at most `samples` of the others are
    dealt out. Each domain is standardised by mean and deviation of all but what is measured on. Classes of
    all domains together are what the one head tells apart.
    """

    def __init__(
        self, options: Mapping[str, object], clusters: Mapping[str, Sequence[str]], seed: int
    ) -> None:
        """Raises ValueError for an option that is unknown or out of range (`DEFAULTS`, `_LIMITS`)."""
        chosen = _checked({"experts": len(clusters), **options})
        self.experts, self.layers, self.top_k = (int(chosen[name]) for name in ("experts", "layers", "top_k"))
        if self.top_k > self.experts:
            raise ValueError(f"option 'top_k' is {self.top_k}, but there are {self.experts} experts")
        self._options = chosen
        self._seed = seed
        names = _names(options.get("domains"), len(clusters))
        self._domains, self.classes = _prepared(dict.fromkeys(names), chosen, seed)
        self._domain_of = {cluster: names[i % len(names)] for i, cluster in enumerate(clusters)}
        self._samples = _dealt(self._domains, self._domain_of, clusters, chosen, seed)
        self._initial: Parts | None = None

    def initial(self) -> Parts:
        """The model after its warm-up; made once and kept."""
        if self._initial is None:
            options = self._options
            width, hidden = int(options["width"]), int(options["hidden"])
            shape = Shape(INPUTS, width, hidden, self.classes, self.layers, self.experts)
            how = WarmUp(
                foundation_steps=int(options["foundation_steps"]),
                tuning_steps=int(options["tuning_steps"]),
                gate_rounds=int(options["gate_rounds"]),
                specialised=bool(options["specialised"]),
            )
            shared = [domain.shared for domain in self._domains.values()]
            self._initial = warmed_up(shape, shared, how, self._seed)
        made = self._initial
        return Parts(
            _copied(made.backbone), _copied(made.gate), {n: _copied(e) for n, e in made.experts.items()}
        )

    def counts(self, device: str, parts: Parts) -> tuple[Numbers, int]:
        """Of up to `trial` of the device's samples, drawn once. Raises ValueError, TensorError."""
        self._check(parts, range(self.experts))
        rows, labels = self._of(device)
        random = np.random.default_rng(derive_seed(self._seed, device, "trial"))
        drawn = np.sort(random.permutation(len(labels))[: int(self._options["trial"])])
        with torch.no_grad():
            weights = loaded(parts, range(self.experts))
            passed = forward(weights, rows[torch.from_numpy(drawn)], top_k_route(self.top_k))
        return selection_counts(passed.routed), len(drawn)

    def train(self, device: str, parts: Parts, wanted: Wanted, round_number: int, seed: int) -> MoeTrained:
        """Take `steps` steps of plain gradient descent on batches of the device's samples.

        Metrics: `loss`, the mean over the steps. `peak_bytes` counts what `loaded_bytes` does, the weights
        given of what is trained, and what autograd kept of the largest batch; no buffers within torch.
        Raises ValueError for a device or a wish that cannot be, TensorError for weights of another network.
        """
        samples = self._of(device)
        options = self._options
        loads = self._loads(parts, wanted)
        self._check(parts, loads)
        trained = [*([BACKBONE] if wanted.backbone else []), *([GATE] if wanted.gate else [])]
        trained += [expert_item(number) for number in wanted.experts]
        if not trained:
            raise ValueError("nothing is to be trained")
        count = int(options["steps"]) if wanted.steps is None else wanted.steps
        rate = float(options["learning_rate"]) if wanted.learning_rate is None else wanted.learning_rate
        random = np.random.default_rng(derive_seed(seed, device, round_number, "order"))
        order = batches(len(samples[1]), int(options["batch"]), count, random)
        weights = loaded(parts, loads, trained)
        steps = Steps(order, rate, float(options["gate_learning_rate"]))
        fitted = fit(weights, trained, samples, steps, self._route(wanted))
        loaded_bytes = bytes_held(weights, trained)
        given = parts.items()
        peak_bytes = loaded_bytes + fitted.kept_bytes + sum(bytes_of(given[item]) for item in trained)
        learned = unloaded(weights, trained)
        return MoeTrained(learned, len(samples[1]), loaded_bytes, {"loss": fitted.loss}, peak_bytes)

    def evaluate(self, parts: Parts) -> dict[str, float]:
        """Return `accuracy` and `loss` on what is held out of all domains, and `accuracy.CLUSTER`.

        Raises TensorError for weights of another network.
        """
        self._check(parts, range(self.experts))
        weights = loaded(parts, range(self.experts))
        right: dict[str, float] = {}
        loss = 0.0
        with torch.no_grad():
            for name, domain in self._domains.items():
                rows, labels = domain.tested
                scores = forward(weights, rows, top_k_route(self.top_k)).scores
                right[name] = int((scores.argmax(dim=1) == labels).sum()) / len(labels)
                loss += float(cross_entropy(scores, labels)) / len(self._domains)
        found = {"accuracy": sum(right.values()) / len(right), "loss": loss}
        return found | {f"accuracy.{cluster}": right[name] for cluster, name in self._domain_of.items()}

    def _loads(self, parts: Parts, wanted: Wanted) -> Sequence[int]:
        """The experts that are loaded: those of the mask, or all."""
        if not wanted.masked or self._options["mask_literal_zero"]:
            return range(self.experts)
        if not wanted.experts:
            raise ValueError("a masked gate needs at least one expert to choose")
        return wanted.experts

    def _route(self, wanted: Wanted) -> Route:
        if not wanted.masked:
            return top_k_route(self.top_k)
        literal = bool(self._options["mask_literal_zero"])
        return masked_route(wanted.experts, self.experts, self.top_k, literal)

    def _of(self, device: str) -> Samples:
        if device not in self._samples:
            raise ValueError(f"device {device!r} is in no cluster")
        return self._samples[device]

    def _check(self, parts: Parts, experts: Sequence[int]) -> None:
        given, reference = parts.items(), self.initial().items()
        for item in (BACKBONE, GATE, *(expert_item(number) for number in experts)):
            if item not in given:
                raise ValueError(f"{item!r} is needed, but was not given")
        check_parts(given, reference)


def _names(domains: object, clusters: int) -> list[str]:
    if clusters < 1:
        raise ValueError("there is no cluster")
    if domains is None:
        return list(SOURCES)[:clusters]
    if not isinstance(domains, list | tuple) or not domains or not all(isinstance(n, str) for n in domains):
        raise ValueError(f"option 'domains' is {domains!r}; it must be a list of {', '.join(SOURCES)}")
    return list(domains)


def _prepared(
    names: Mapping[str, None], options: Mapping[str, float], seed: int
) -> tuple[dict[str, _Domain], int]:
    """Each domain once, with labels that go on where those of the one before end; and how many there are."""
    domains: dict[str, _Domain] = {}
    classes = 0
    tested, shared = int(options["held_out"]), int(options["shared"])
    for name in names:
        source = read_source(name)
        random = np.random.default_rng(derive_seed(seed, "domain", name))
        order = random.permutation(len(source.labels))
        apart = np.zeros(len(order), bool) if source.only_tested is None else source.only_tested
        measured = (order if source.only_tested is None else order[apart[order]])[:tested]
        learned = np.setdiff1d(order[~apart[order]], measured)
        learned = random.permutation(learned)[: shared + int(options["samples"])]
        if len(measured) < tested or len(learned) < shared + 16:
            raise ValueError(
                f"domain {name!r} has {len(source.labels)} samples, too few for held_out {tested} and shared"
                f" {shared}"
            )
        values, labels = _standardised(source, learned), source.labels + classes
        parts = (measured, learned[:shared], learned[shared:])
        domains[name] = _Domain(*((torch.from_numpy(values[p]), torch.from_numpy(labels[p])) for p in parts))
        classes += int(source.labels.max()) + 1
    return domains, classes


def _standardised(source: Source, learned: Numbers) -> np.ndarray[Any, np.dtype[np.float32]]:
    """To mean 0 and deviation 1 over what may be learned from; constant features to 0; padded with zeros."""
    known = source.values[learned]
    axis = None if source.alike else 0
    centred = source.values - known.mean(axis=axis)
    deviation = np.broadcast_to(known.std(axis=axis), centred.shape)
    scaled = np.divide(centred, deviation, out=np.zeros_like(centred), where=deviation > 0)
    padded = np.zeros((len(centred), INPUTS), np.float32)
    # A value that was all but constant where we learn may lie far out elsewhere.
    padded[:, : centred.shape[1]] = np.clip(scaled, -5, 5)
    return padded


def _dealt(
    domains: Mapping[str, _Domain],
    domain_of: Mapping[str, str],
    clusters: Mapping[str, Sequence[str]],
    options: Mapping[str, float],
    seed: int,
) -> dict[str, Samples]:
    """Each device's samples: of every domain to the clusters by `overlap`, of a cluster to its devices."""
    mine: dict[str, list[Samples]] = {cluster: [] for cluster in clusters}
    common = float(options["overlap"]) / len(clusters)
    for name, domain in domains.items():
        rows, labels = domain.rest
        owners = [cluster for cluster in clusters if domain_of[cluster] == name]
        own = (1.0 - float(options["overlap"])) / max(len(owners), 1)
        shares = [common + (own if cluster in owners else 0.0) for cluster in clusters]
        cuts = np.rint(np.cumsum(shares) / sum(shares) * len(labels)).astype(int)
        for cluster, start, end in zip(clusters, (0, *cuts), cuts, strict=False):
            mine[cluster].append((rows[start:end], labels[start:end]))
    samples: dict[str, Samples] = {}
    for cluster, devices in clusters.items():
        rows = torch.cat([part[0] for part in mine[cluster]])
        labels = torch.cat([part[1] for part in mine[cluster]])
        beta = float(options["device_beta"])
        split = dirichlet_split(labels.numpy(), {cluster: devices}, 1.0, beta, seed)
        for device, numbers in split.items():
            if device in samples:
                raise ValueError(f"device {device!r} is in two clusters")
            chosen = torch.from_numpy(numbers)
            samples[device] = rows[chosen], labels[chosen]
    return samples


def _copied(tensors: Tensors) -> Tensors:
    return {name: value.copy() for name, value in tensors.items()}


def _checked(options: Mapping[str, object]) -> dict[str, float]:
    known = {*DEFAULTS, "domains", "experts"}
    unknown = sorted(options.keys() - known)
    if unknown:
        raise ValueError(f"unknown option {unknown[0]!r}; allowed are {', '.join(sorted(known))}")
    chosen: dict[str, float] = dict(DEFAULTS)
    for name in sorted(options.keys() - {"domains"}):
        value, default = options[name], DEFAULTS.get(name, 1)
        if isinstance(default, bool):
            if not isinstance(value, bool):
                raise ValueError(f"option {name!r} is {value!r}; it must be true or false")
            chosen[name] = value
            continue
        low, high = _LIMITS[name]
        whole = isinstance(default, int)
        allowed = (int,) if whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, allowed) or not low <= value <= high:
            wanted = "a whole number" if whole else "a number"
            raise ValueError(f"option {name!r} is {value!r}; it must be {wanted} from {low:g} to {high:g}")
        chosen[name] = value
    return chosen
