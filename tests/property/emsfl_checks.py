"""What holds of every run of EMS-FL, whatever happened in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from orbitrain.protocols.emsfl.rules import weights
from orbitrain.protocols.emsfl.terms import SATELLITE_ROLE
from orbitrain.v1 import emsfl_pb2 as wire
from tests.trace.emsfl_world import SATELLITE, World, merge

Counted = tuple[str, str, int]
"""Device, item, base."""


def waiting(world: World) -> list[Counted]:
    """Updates that were taken and not merged when the run ended."""
    kept = world.simulation.journal(SATELLITE).load().snapshots.get(SATELLITE_ROLE)
    state = wire.SatelliteState.FromString(kept.state if kept is not None else b"")
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
    _check_commits(world)
    _check_devices(world)
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
                assert merge_of(world, values[item], versions[item], updates, taken) == fields["digest"]
                versions[item] += 1
                assert fields["version"] == versions[item]
                values[item] = engine.get(fields["digest"])
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
) -> str:
    """What the equation makes of these updates."""
    entries = [wire.Entry(base=counted[2], samples=part["samples"]) for counted, part in updates]
    shares, clips = weights(entries, version, world.params.stale)
    values = [world.engine.get(taken[counted]) for counted, _ in updates]
    return world.engine.put(merge(base, values, shares, clips))


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
