"""What holds of every run of EMS-FL, whatever happened in it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from orbitrain.protocols.emsfl.rules import weights
from orbitrain.protocols.emsfl.terms import DEVICE_ROLE, SATELLITE_ROLE
from orbitrain.v1 import emsfl_pb2 as wire
from tests.trace.emsfl_world import SATELLITE, Vector, World, merge, merge_ranked, weighted

Counted = tuple[str, str, int]
"""Device, item, base."""


def satellite_state(world: World) -> wire.SatelliteState:
    """As it was committed last."""
    kept = world.simulation.journal(SATELLITE).load().snapshots.get(SATELLITE_ROLE)
    return wire.SatelliteState.FromString(kept.state if kept is not None else b"")


def device_state(world: World, name: str) -> wire.DeviceState:
    """As it was committed last."""
    kept = world.simulation.journal(name).load().snapshots.get(DEVICE_ROLE)
    return wire.DeviceState.FromString(kept.state if kept is not None else b"")


def waiting(world: World) -> list[Counted]:
    """Updates that were taken and not merged when the run ended."""
    state = satellite_state(world)
    entries = list(state.pending)
    for session in state.sessions.values():
        entries += [*session.shared, *session.merging]
    return [(entry.device, entry.item, entry.base) for entry in entries]


def check(world: World, *, faithful: bool = True) -> None:
    """One owner, one version after the other, each update once, each commit by the equation.

    `faithful`: nobody lost a disk or an object, so nobody refuses a message.
    """
    assert world.simulation.dead_letters == 0, world.fields("dead_letter")
    if faithful:
        refused = [fields["reason"] for fields in world.fields("message_refused")]
        assert not refused, refused
        assert not world.fields("model_incomplete"), "a step fits what is said to be held"
    _check_commits(world)
    _check_devices(world)
    _check_versions(world)
    _check_steps(world)
    _check_uploads(world)


def _check_commits(world: World) -> None:
    engine = world.engine
    values = {item: engine.get(digest) for item, digest in world.params.model.items.items()}
    versions: Counter[str] = Counter()
    taken: dict[Counted, str] = {}
    merged: Counter[Counted] = Counter()
    dropped: Counter[tuple[str, str]] = Counter()
    steps: Counter[tuple[str, int, str]] = Counter()
    owners: list[str] = []
    residuals: dict[str, Vector] = {}
    epoch = 0
    for entry in world.simulation.entries():
        fields, kind = entry.event.fields, entry.event.kind
        match kind:
            case "split":
                assert fields["epoch"] == epoch + 1
                epoch, owners = fields["epoch"], fields["owners"]
                assert len(owners) == world.params.model.experts
            case "update_accepted":
                counted = (fields["device"], fields["item"], fields["base_version"])
                assert counted not in taken or dropped[counted[:2]], f"{counted} is taken twice"
                assert fields["base_version"] + fields["staleness"] == versions[fields["item"]]
                taken[counted] = fields["digest"]
            case "update_refused":
                dropped[fields["device"], fields["item"]] += 1
            case "expert_committed" | "gate_committed" | "backbone_committed":
                item, cluster = fields["item"], fields["cluster"]
                steps[cluster, fields["cycle"], item] += 1
                if kind == "expert_committed" and not world.params.synchronous:
                    assert owners[fields["expert"]] == cluster, (
                        "an expert changes by its owner's commit alone"
                    )
                updates = []
                for part in fields["contributors"]:
                    counted = (part["device"], item, versions[item] - part["staleness"])
                    merged[counted] += 1
                    assert part["device"] in world.params.cluster_of_name(cluster).devices
                    updates.append((counted, part))
                rank = world.params.work.rank if kind == "expert_committed" else None
                made = merge_of(
                    world, values[item], versions[item], updates, taken, residuals.get(item), rank
                )
                assert world.engine.put(made[0]) == fields["digest"]
                assert ("step" in fields) == (rank is not None)
                if rank is not None:
                    assert fields["step"] == world.engine.put(made[1])
                    assert merge(values[item], [made[1]], [1.0]) == made[0], "the step leads there"
                    residuals[item] = made[2]
                versions[item] += 1
                assert fields["version"] == versions[item]
                values[item] = engine.get(fields["digest"])
            case "residual_lost":
                assert fields["digest"] == world.engine.put(residuals.pop(fields["item"]))
            case "model_assembled":
                assert set(engine.get(fields["digest"])) == {*world.params.model.items}
    assert set(merged.values()) <= {1}, "nothing is counted twice"
    most = 2 if world.params.synchronous else 1
    assert max(steps.values(), default=0) <= most, "an item has one commit a pass"
    left = Counter(waiting(world))
    for counted in taken:
        if not merged[counted] and not left[counted]:
            assert dropped[counted[:2]], f"{counted} was taken and is lost"


def merge_of(
    world: World,
    base: Any,
    version: int,
    updates: list[tuple[Counted, Mapping[str, Any]]],
    taken: Mapping[Counted, str],
    residual: Vector | None,
    rank: int | None,
) -> tuple[Vector, Vector, Vector]:
    """What the equation makes of these updates: the item, and of a rank the step and what it leaves out."""
    entries = [wire.Entry(base=counted[2], samples=part["samples"]) for counted, part in updates]
    shares, clips = weights(entries, version, world.params.stale)
    values = [world.engine.get(taken[counted]) for counted, _ in updates]
    if rank is None:
        return merge(base, values, shares, clips), (), ()
    return merge_ranked(base, values, shares, clips, residual, rank)


def known_versions(world: World) -> dict[tuple[str, int], str]:
    """The digest of each version of each item."""
    known = {(item, 0): digest for item, digest in world.params.model.items.items()}
    known |= {(fields["item"], fields["version"]): fields["digest"] for fields in world.committed()}
    return known


def _check_versions(world: World) -> None:
    """Whatever way an item came, a device has what was committed."""
    known = known_versions(world)
    of_item: dict[str, set[str]] = {}
    for (item, _), digest in known.items():
        of_item.setdefault(item, set()).add(digest)
    for node in (device for cluster in world.params.clusters for device in cluster.devices):
        state = device_state(world, node)
        for model in (state.adopted, state.arriving):
            for item, version in model.items.items():
                assert version.digest == known[item, version.number], (node, item)
    for node, job in world.engine.jobs:
        if job.kind == "moe.train":
            for item, digest in job.objects.items():
                assert digest in of_item[item] | world.engine.trained, (node, item)


def _check_steps(world: World) -> None:
    """Of each expert: its steps and what the last one left out are the weighted updates of all commits."""
    taken = {
        (fields["device"], fields["item"], fields["base_version"]): fields["digest"]
        for fields in world.fields("update_accepted")
    }
    lost = {fields["item"] for fields in world.fields("residual_lost")}
    wanted: dict[str, list[Vector]] = {}
    steps: dict[str, list[Vector]] = {}
    for fields in world.fields("expert_committed"):
        item, version = fields["item"], fields["version"] - 1
        if "step" not in fields or item in lost:
            continue
        parts = fields["contributors"]
        bases = [(part["device"], item, version - part["staleness"]) for part in parts]
        entries = [
            wire.Entry(base=base, samples=part["samples"])
            for (_, _, base), part in zip(bases, parts, strict=True)
        ]
        updates = [world.engine.get(taken[counted]) for counted in bases]
        wanted.setdefault(item, []).append(weighted(updates, *weights(entries, version, world.params.stale)))
        steps.setdefault(item, []).append(world.engine.get(fields["step"]))
    state = satellite_state(world)
    for item, changes in wanted.items():
        left = world.engine.get(state.items[item].residual)
        for n, rest in enumerate(left):
            summed = math.fsum(change[n] for change in changes)
            assert math.isclose(math.fsum([*(step[n] for step in steps[item]), rest]), summed, abs_tol=1e-9)


def _check_devices(world: World) -> None:
    """Nobody goes back to an older version or an earlier split."""
    newest: dict[tuple[str, str], dict[str, int]] = {}
    epochs: dict[tuple[str, str], int] = {}
    for entry in world.events("model_adopted"):
        store, fields = (entry.node, entry.incarnation), entry.event.fields
        assert fields["epoch"] >= epochs.get(store, 0)
        epochs[store] = fields["epoch"]
        known = newest.setdefault(store, {})
        for item, version in fields["versions"].items():
            assert version >= known.get(item, 0)
            known[item] = version


def _check_uploads(world: World) -> None:
    """Every upload ends once at most, and what was delivered was taken or refused, item by item."""
    fates: dict[tuple[str, str, str], str] = {}
    for entry in world.events("update_ended"):
        key = (entry.node, entry.incarnation, entry.event.fields["key"])
        assert key not in fates
        fates[key] = entry.event.fields["fate"]
    answered = Counter(
        (fields["device"], fields["item"])
        for kind in ("update_accepted", "update_refused")
        for fields in world.fields(kind)
    )
    delivered: Counter[tuple[str, str]] = Counter()
    for entry in world.events("update_sent"):
        if fates.get((entry.node, entry.incarnation, entry.event.fields["key"])) == "delivered":
            for item, _, _ in entry.event.fields["items"]:
                delivered[entry.node, item] += 1
    for counted, times in delivered.items():
        assert answered[counted] >= times, counted
