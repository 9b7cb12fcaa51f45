"""A mixture of experts that is only arithmetic: each device pulls its weights towards values of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from orbitrain.learning.moe.parts import Parts, bytes_of
from orbitrain.learning.moe.task import Counts, MoeTrained, Wanted
from orbitrain.learning.tasks import derive_seed
from orbitrain.learning.tensors import Tensors

SIZE = 5
RATE = np.float32(0.25)


class Pull:
    """Cluster k's data are for expert k, and a little for the next."""

    layers = 2
    top_k = 1

    def __init__(
        self, options: Mapping[str, object], clusters: Mapping[str, Sequence[str]], seed: int
    ) -> None:
        self.experts = int(str(options.get("experts", len(clusters))))
        self._seed = seed
        columns = int(str(options.get("columns", 0)))
        self._shape = (SIZE, columns) if columns else (SIZE,)
        self._cluster = {
            device: place for place, devices in enumerate(clusters.values()) for device in devices
        }
        self._samples = {device: 3 + place for place, device in enumerate(self._cluster)}

    def initial(self) -> Parts:
        experts = {number: {"w": self._values("start", number)} for number in range(self.experts)}
        return Parts({"w": self._values("start", "backbone")}, {"w": self._values("start", "gate")}, experts)

    def counts(self, device: str, parts: Parts) -> tuple[Counts, int]:
        mine = np.zeros((self.layers, self.experts), np.int64)
        place = self._cluster[device]
        mine[:, place % self.experts] += 9
        mine[:, (place + 1) % self.experts] += 1
        return mine, 10

    def train(self, device: str, parts: Parts, wanted: Wanted, round_number: int, seed: int) -> MoeTrained:
        def pulled(item: str, tensors: Tensors) -> Tensors:
            towards = self._values(device, item, round_number, seed)
            return {"w": tensors["w"] - RATE * (tensors["w"] - towards)}

        trained = Parts(
            pulled("backbone", parts.backbone) if wanted.backbone else {},
            pulled("gate", parts.gate) if wanted.gate else {},
            {number: pulled(f"expert/{number}", parts.experts[number]) for number in wanted.experts},
        )
        held = [parts.backbone, parts.gate, *parts.experts.values(), *trained.items().values()]
        return MoeTrained(trained, self._samples[device], sum(bytes_of(one) for one in held))

    def evaluate(self, parts: Parts) -> dict[str, float]:
        spread = sum(float(np.abs(tensors["w"]).sum()) for tensors in parts.items().values())
        return {"accuracy": 1 / (1 + spread)}

    def _values(self, *what: object) -> np.ndarray:
        seed = derive_seed(self._seed, *(str(one) for one in what))
        return np.random.default_rng(seed).standard_normal(self._shape).astype(np.float32)
