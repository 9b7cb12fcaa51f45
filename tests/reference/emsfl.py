"""EMS-FL in one process, straight from its equations: clusters in turn, each device every round."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from orbitrain.protocols.emsfl.terms import Params, Shared, expert
from tests.trace.emsfl_world import Vector, merge, merge_ranked, pack, samples_of, start, train


@dataclass
class _Device:
    name: str
    round: int = 0
    holds: dict[str, Vector] = field(default_factory=dict)
    """What it downloaded, gate and backbone as merged since."""
    bases: dict[str, Vector] = field(default_factory=dict)
    now: dict[str, Vector] = field(default_factory=dict)
    residuals: dict[str, Vector] = field(default_factory=dict)

    def train(self, items: Sequence[str]) -> dict[str, Vector]:
        self.round += 1
        return train(self.name, {**self.holds, **self.now}, items, self.round)


class Reference:
    """`run` for a sequence of passes; `commits` are the values that items had, in order."""

    def __init__(self, params: Params, owners: Sequence[str]) -> None:
        self.params = params
        self.items: dict[str, Vector] = {item: start(item) for item in params.model.items}
        self.commits: list[tuple[str, Vector]] = []
        self.residuals: dict[str, Vector] = {}
        """What experts' steps have left out, at the satellite."""
        self._owners = owners
        self._devices = {
            cluster.name: [_Device(name) for name in sorted(cluster.devices)] for cluster in params.clusters
        }

    def run(self, passes: Sequence[str]) -> Reference:
        """Clusters in the order of their passes, each with all its devices."""
        cycles: dict[str, int] = {}
        for cluster in passes:
            cycles[cluster] = cycles.get(cluster, 0) + 1
            if self.params.synchronous:
                self._synchronous(cluster)
            else:
                self._pass(cluster, cycles[cluster])
        return self

    def _commit(self, devices: Sequence[_Device], updates: Mapping[str, Sequence[Vector]]) -> None:
        """Eqs. (35), (36), (28): the mean over a cluster's devices, by their samples; of experts that have
        a rank its step, and what it leaves out counts in the next."""
        total = sum(samples_of(device.name) for device in devices)
        weights = [samples_of(device.name) / total for device in devices]
        for item in sorted(updates):
            rank = self._rank(item)
            if rank is None:
                self.items[item] = merge(self.items[item], updates[item], weights)
            else:
                self.items[item], _, self.residuals[item] = merge_ranked(
                    self.items[item], updates[item], weights, None, self.residuals.get(item), rank
                )
            self.commits.append((item, self.items[item]))

    def _rank(self, item: str) -> int | None:
        return self.params.work.rank if item.startswith("expert/") else None

    def _uploads(
        self, devices: Sequence[_Device], items: Sequence[str]
    ) -> Iterator[tuple[str, list[Vector]]]:
        for item in items:
            sent = []
            for device in devices:
                rank = self._rank(item)
                residual = device.residuals.get(item) if rank is not None else None
                update, left = pack(device.bases[item], device.now[item], residual, rank)
                if rank is not None:
                    device.residuals[item] = left
                sent.append(update)
            yield item, sent

    def _pass(self, cluster: str, cycle: int) -> None:
        """Algorithm 2; with a masked, frozen gate Algorithm 3."""
        devices, work = self._devices[cluster], self.params.work
        own = [expert(n) for n, owner in enumerate(self._owners) if owner == cluster]
        if own and devices[0].now:
            self._commit(devices, dict(self._uploads(devices, own)))
        tuned = cycle > work.cycles - work.gate_cycles
        shared = ["gate"] if tuned or work.shared is not Shared.NONE else []
        shared += ["backbone"] if work.shared is Shared.GATE_AND_BACKBONE else []
        answers: dict[str, list[Vector]] = {item: [] for item in shared}
        for device in devices:
            device.holds, device.now = dict(self.items), {}
            device.bases = {item: self.items[item] for item in own}
            if not own and not shared:
                continue
            trained = device.train([*own, *shared])
            device.now = {item: trained[item] for item in own}
            for item in shared:
                answers[item].append(pack(self.items[item], trained[item], None, None)[0])
        if shared:
            self._commit(devices, answers)
        for device in devices if own else ():
            device.holds |= {item: self.items[item] for item in shared}
            for _ in range(1, self.params.pace.rounds_max):
                device.now = device.train(own)

    def _synchronous(self, cluster: str) -> None:
        """Section 4: everything, by the connected cluster alone."""
        devices = self._devices[cluster]
        items = [item for item in self.items if item != "backbone"]
        items += ["backbone"] if self.params.work.shared is Shared.GATE_AND_BACKBONE else []
        for device in devices:
            device.holds, device.now = dict(self.items), {}
            device.bases = {item: self.items[item] for item in items}
            for _ in range(self.params.pace.rounds_max):
                device.now = device.train(items)
        self._commit(devices, dict(self._uploads(devices, items)))
