"""The built-in task: handwritten digits (scikit-learn's 1,797 images of 8x8) and a small network, in torch.

Small enough that a round takes milliseconds, real enough that a region which never sees a digit cannot read
it. Only workers import this module: it loads torch and scikit-learn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits

from orbitrain.learning.tasks import Trained, derive_seed, dirichlet_split
from orbitrain.learning.tensors import Tensors, check_like

# One thread, and only algorithms that give the same bits each time.
torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)

_CLASSES = 10
_FEATURES = 64

DEFAULTS: Mapping[str, float | int] = {
    "region_beta": 0.1,
    "device_beta": 100.0,
    "hidden": 256,
    "epochs": 3,
    "batch": 8,
    "learning_rate": 0.4,
    "momentum": 0.0,
    "held_out_per_class": 30,
}
"""Options and their defaults.

Chosen by experiment: of those tried, the cheapest with which ten mixings of a ring of three regions of two
devices (alpha 1/2, every 2 rounds) gain at least 20 points of accuracy over isolated regions for each of
the seeds 1, 2, 3 and 7. A smaller network or a lower rate forgets sooner what was mixed in; a rate of 0.8
with this batch breaks down for some seeds.
"""

_LIMITS: Mapping[str, tuple[float, float]] = {
    "region_beta": (1e-3, 1e6),
    "device_beta": (1e-3, 1e6),
    "hidden": (1, 4096),
    "epochs": (1, 1000),
    "batch": (1, 1797),
    "learning_rate": (1e-9, 100.0),
    "momentum": (0.0, 0.999),
    "held_out_per_class": (1, 150),
}


class Digits:
    """A `Task`: a network 64 - hidden - 10 with ReLU, trained by plain SGD on cross-entropy.

    Weights are named and laid out as by `torch.nn.Sequential(Linear(64, hidden), ReLU(), Linear(hidden,
    10))`: `0.weight` (hidden, 64), `0.bias` (hidden,), `2.weight` (10, hidden), `2.bias` (10,), all float32.
    Images are scaled to [0, 1]. `held_out_per_class` images of each digit are held out for everyone's
    evaluation; the others are dealt to the devices by `dirichlet_split`.
    """

    classes = _CLASSES

    def __init__(
        self, options: Mapping[str, object], regions: Mapping[str, Sequence[str]], seed: int
    ) -> None:
        """Raises ValueError for an option that is unknown or out of range (`DEFAULTS`, `_LIMITS`)."""
        chosen = _checked(options)
        self._hidden = int(chosen["hidden"])
        self._epochs = int(chosen["epochs"])
        self._batch = int(chosen["batch"])
        self._learning_rate = float(chosen["learning_rate"])
        self._momentum = float(chosen["momentum"])
        self._seed = seed

        bunch = load_digits()
        images = (np.asarray(bunch.data) / 16.0).astype(np.float32)
        labels = np.asarray(bunch.target, dtype=np.int64)
        held_out = _held_out(labels, int(chosen["held_out_per_class"]), seed)
        self._held_out_images = torch.from_numpy(images[held_out])
        self._held_out_labels = torch.from_numpy(labels[held_out])
        training = np.setdiff1d(np.arange(len(labels)), held_out)
        split = dirichlet_split(
            labels[training], regions, float(chosen["region_beta"]), float(chosen["device_beta"]), seed
        )
        self._images = {device: torch.from_numpy(images[training[part]]) for device, part in split.items()}
        self._labels = {device: torch.from_numpy(labels[training[part]]) for device, part in split.items()}
        self._initial = self._draw_initial()

    def initial(self) -> Tensors:
        """Return torch's usual initial weights for this network, drawn from the seed."""
        return {name: value.copy() for name, value in self._initial.items()}

    def train(self, device: str, weights: Tensors, round_number: int, seed: int) -> Trained:
        """Run `epochs` epochs of SGD on the device's images; metrics: `loss`, the mean over the last epoch.

        Raises TensorError for weights of another network, ValueError for a device without data.
        """
        if device not in self._images:
            raise ValueError(f"device {device!r} is in no region")
        images, labels = self._images[device], self._labels[device]
        network = self._network(weights)
        optimizer = torch.optim.SGD(
            network.parameters(), lr=self._learning_rate, momentum=self._momentum, foreach=False
        )
        random = np.random.default_rng(derive_seed(seed, device, round_number, "order"))
        loss_sum = 0.0
        for _ in range(self._epochs):
            loss_sum = 0.0
            order = torch.from_numpy(random.permutation(len(labels)))
            for start in range(0, len(labels), self._batch):
                batch = order[start : start + self._batch]
                optimizer.zero_grad()
                loss = torch.nn.functional.cross_entropy(network(images[batch]), labels[batch])
                loss.backward()
                optimizer.step()
                loss_sum += float(loss.detach()) * len(batch)
        return Trained(_arrays(network), len(labels), {"loss": loss_sum / len(labels)})

    def evaluate(self, weights: Tensors) -> dict[str, float]:
        """Return `accuracy` and `loss` on the held-out images.

        Raises TensorError for weights of another network.
        """
        network = self._network(weights)
        with torch.no_grad():
            scores = network(self._held_out_images)
            loss = torch.nn.functional.cross_entropy(scores, self._held_out_labels)
            right = (scores.argmax(dim=1) == self._held_out_labels).sum()
        return {"accuracy": int(right) / len(self._held_out_labels), "loss": float(loss)}

    def _blank(self) -> torch.nn.Sequential:
        return torch.nn.Sequential(
            torch.nn.Linear(_FEATURES, self._hidden), torch.nn.ReLU(), torch.nn.Linear(self._hidden, _CLASSES)
        )

    def _draw_initial(self) -> Tensors:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(self._seed, "digits", "initial"))
            return _arrays(self._blank())

    def _network(self, weights: Tensors) -> torch.nn.Sequential:
        check_like(weights, self._initial)
        network = self._blank()
        # Copied: training must not write into the caller's arrays, which may be read-only.
        network.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in weights.items()})
        return network


def _arrays(network: torch.nn.Module) -> Tensors:
    return {name: value.detach().numpy().copy() for name, value in network.state_dict().items()}


def _held_out(
    labels: np.ndarray[Any, np.dtype[np.int64]], per_class: int, seed: int
) -> np.ndarray[Any, np.dtype[np.int64]]:
    random = np.random.default_rng(derive_seed(seed, "digits", "held out"))
    drawn = [random.permutation(np.flatnonzero(labels == digit))[:per_class] for digit in range(_CLASSES)]
    return np.sort(np.concatenate(drawn))


def _checked(options: Mapping[str, object]) -> dict[str, float | int]:
    unknown = sorted(options.keys() - DEFAULTS.keys())
    if unknown:
        raise ValueError(f"unknown option {unknown[0]!r}; allowed are {', '.join(sorted(DEFAULTS))}")
    chosen = dict(DEFAULTS)
    for name in sorted(options):
        value, (low, high) = options[name], _LIMITS[name]
        whole = isinstance(DEFAULTS[name], int)
        wanted = "a whole number" if whole else "a number"
        allowed = (int,) if whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, allowed) or not low <= value <= high:
            raise ValueError(f"option {name!r} is {value!r}; it must be {wanted} from {low:g} to {high:g}")
        chosen[name] = value
    return chosen
