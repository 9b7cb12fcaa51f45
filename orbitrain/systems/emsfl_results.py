"""What a run of EMS-FL came to, counted from journals."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from statistics import fmean
from typing import Any, Final

from orbitrain.machine import Digest
from orbitrain.results import Entry
from orbitrain.scenario import SECOND_NS
from orbitrain.splitting.gamma import predicted_reduction

COMMITS: Final = frozenset({"expert_committed", "gate_committed", "backbone_committed"})
"""Kinds of events that tell an item's next version."""


def assembled(entries: Sequence[Entry]) -> list[tuple[int, str, int, Digest]]:
    """(scenario ns, cluster, cycle, model) of every whole model that was put together, in order."""
    return [
        (
            entry.event.t_ns,
            str(entry.event.fields["cluster"]),
            int(entry.event.fields["cycle"]),
            str(entry.event.fields["digest"]),
        )
        for entry in entries
        if entry.event.kind == "model_assembled"
    ]


def cycles(entries: Sequence[Entry], scores: Mapping[Digest, float]) -> list[dict[str, Any]]:
    """Every pass: which cluster's, which of its passes, when it ended, what had been committed by then.

    `accuracy` is of the last model that was put together in the pass; None where none was, or none measured.
    """
    models = {(cluster, cycle): digest for _, cluster, cycle, digest in assembled(entries)}
    versions: dict[str, int] = {}
    found = []
    for entry in entries:
        fields = entry.event.fields
        match entry.event.kind:
            case kind if kind in COMMITS:
                versions[str(fields["item"])] = int(fields["version"])
            case "pass_ended":
                place = str(fields["cluster"]), int(fields["cycle"])
                found.append(
                    {
                        "cluster": place[0],
                        "cycle": place[1],
                        "t_s": round(entry.event.t_ns / SECOND_NS, 3),
                        "uploads": fields["uploads"],
                        "gate": bool(fields["gate"]),
                        "versions": dict(sorted(versions.items())),
                        "accuracy": scores.get(models.get(place, "")),
                    }
                )
    return found


def owners(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Who owns which expert, by epoch of the split; an empty name is nobody's."""
    return [
        {
            "epoch": entry.event.fields["epoch"],
            "t_s": round(entry.event.t_ns / SECOND_NS, 3),
            "owners": list(entry.event.fields["owners"]),
            "unserved": list(entry.event.fields["unserved"]),
            "revived": list(entry.event.fields["revived"]),
        }
        for entry in entries
        if entry.event.kind == "split"
    ]


def gamma(entries: Sequence[Entry]) -> dict[str, Any] | None:
    """How much more a cluster's data are for its experts than all clusters' are, in the last split.

    `predicted_reduction` is the share of cycles that small steps save by it, 1 - 1/gamma of the mean.
    """
    splits = [entry.event.fields for entry in entries if entry.event.kind == "split"]
    if not splits:
        return None
    by_cluster = {str(name): round(float(value), 6) for name, value in splits[-1]["gamma"].items()}
    mean = fmean(by_cluster.values()) if by_cluster else 0.0
    saved = predicted_reduction(mean)
    return {
        "by_cluster": by_cluster,
        "mean": round(mean, 6),
        "predicted_reduction": None if saved is None else round(saved, 6),
    }


def updates(entries: Sequence[Entry]) -> dict[str, int]:
    """Uploads by what became of them, and their items by what the satellite made of them."""
    fates: dict[tuple[str, str, str], str] = {}
    counts = dict.fromkeys(("sent", "delivered", "undelivered", "in_flight"), 0)
    items = dict.fromkeys(("accepted", "merged", "refused"), 0)
    for entry in entries:
        fields = entry.event.fields
        match entry.event.kind:
            case "update_sent":
                counts["sent"] += 1
                fates[entry.node, entry.incarnation, str(fields["key"])] = "in_flight"
            case "update_ended":
                fate = "delivered" if fields["fate"] == "delivered" else "undelivered"
                fates[entry.node, entry.incarnation, str(fields["key"])] = fate
            case "update_accepted":
                items["accepted"] += 1
            case "update_refused":
                items["refused"] += 1
            case kind if kind in COMMITS:
                items["merged"] += len(fields.get("contributors", ()))
    for fate in fates.values():
        counts[fate] += 1
    return counts | items


def device_bytes(entries: Sequence[Entry], devices: Collection[str]) -> dict[str, dict[str, int]]:
    """Bytes that each device sent and was sent over service links, every try counted."""
    found = {device: {"up": 0, "down": 0} for device in devices}
    for entry in entries:
        fields = entry.event.fields
        if fields.get("class") != "service" or "bytes" not in fields:
            continue
        peer = str(fields.get("to", fields.get("peer", "")))
        if entry.node in found:
            found[entry.node]["up"] += int(fields["bytes"])
        elif peer in found:
            found[peer]["down"] += int(fields["bytes"])
    return found


def device_memory(entries: Sequence[Entry], devices: Collection[str]) -> dict[str, dict[str, int]]:
    """Of each device: the most tensor bytes that training loaded, and the most that its process held."""
    found = {device: {"loaded": 0, "peak": 0} for device in devices}
    for entry in entries:
        if entry.event.kind == "trained" and entry.node in found:
            mine, fields = found[entry.node], entry.event.fields
            mine["loaded"] = max(mine["loaded"], int(fields["loaded_bytes"]))
            mine["peak"] = max(mine["peak"], int(fields["peak_bytes"]))
    return found


def device_compute(
    entries: Sequence[Entry], devices: Collection[str], duration_ns: int
) -> dict[str, dict[str, Any]]:
    """Of each device: rounds, declared seconds of training in contact and out of it, and the rest."""
    found: dict[str, dict[str, Any]] = {
        device: {"rounds": 0, "in_contact_s": 0.0, "out_of_contact_s": 0.0} for device in devices
    }
    for entry in entries:
        if entry.event.kind == "trained" and entry.node in found:
            mine = found[entry.node]
            mine["rounds"] += 1
            mine["in_contact_s" if entry.event.fields["connected"] else "out_of_contact_s"] += float(
                entry.event.fields["seconds"]
            )
    for mine in found.values():
        busy_s = mine["in_contact_s"] + mine["out_of_contact_s"]
        mine["idle_s"] = round(max(0.0, duration_ns / SECOND_NS - busy_s), 3)
    return found
