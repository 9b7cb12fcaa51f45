"""What a run comes to, counted from journals: the same functions for daemons and for the simulator."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Protocol

from orbitrain.contacts.contact import LINK_CLASSES
from orbitrain.machine import Digest
from orbitrain.step import Event

UPDATE_ENDS = (
    "aggregated",
    "duplicates_dropped",
    "superseded",
    "late",
    "expired",
    "refused",
    "in_flight",
    "lost",
)
"""How the sending of an update can have ended; every one sent is in exactly one of them."""

UNSHAPED: Mapping[str, Any] = {"backend": "none", "verdict": "unshaped"}
"""`links_truth` of a run whose contacts are gated by the plan alone: no packet was delayed or lost."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One event report of one node. `incarnation` tells the node's stores apart."""

    node: str
    incarnation: str
    event: Event

    def json_line(self) -> str:
        """As in events.jsonl."""
        event = self.event
        return json.dumps(
            {
                "t_ns": event.t_ns,
                "node": self.node,
                "incarnation": self.incarnation,
                "role": event.role,
                "severity": event.severity.value,
                "kind": event.kind,
                "fields": dict(event.fields),
            },
            separators=(",", ":"),
        )


@dataclass(slots=True)
class Lineage:
    """The models that devices adopted, by region and round."""

    digests: dict[tuple[str, int], Digest] = field(default_factory=dict)
    contributors: dict[tuple[str, int], tuple[tuple[str, int], ...]] = field(default_factory=dict)
    rounds: dict[str, int] = field(default_factory=dict)
    forks: list[tuple[str, int]] = field(default_factory=list)
    """(region, round) of which two models were adopted: a defect."""

    def add(self, fields: Mapping[str, Any]) -> None:
        """Take in a `model_adopted` report."""
        region, number, digest = fields["region"], fields["round"], fields["digest"]
        if self.digests.setdefault((region, number), digest) != digest:
            self.forks.append((region, number))
        parts = tuple((device, round_number) for device, round_number, _ in fields["contributors"])
        self.contributors[region, number] = parts
        self.rounds[region] = max(self.rounds.get(region, 0), number)

    @property
    def counted(self) -> list[tuple[str, int]]:
        """(device, round) of every update in it, as often as it occurs."""
        return [part for parts in self.contributors.values() for part in parts]


def lineage(entries: Iterable[Entry]) -> Lineage:
    found = Lineage()
    for entry in entries:
        if entry.event.kind == "model_adopted":
            found.add(entry.event.fields)
    return found


@dataclass(frozen=True, slots=True)
class _Sending:
    device: str
    incarnation: str
    key: str
    region: str
    round: int
    satellite: str


_VERDICTS = {
    "update_accepted": "accepted",
    "update_late": "late",
    "update_duplicate": "duplicates_dropped",
    "update_refused": "refused",
}
_FATES = {"refused": "refused", "expired": "expired", "superseded": "superseded", "withdrawn": "superseded"}


def count_updates(entries: Sequence[Entry]) -> dict[str, int]:
    """How every sending of an update ended. `sent` is the sum of the others.

    An update may be sent several times, when a round is abandoned at the end of a service and the next server
    collects it again; then one sending is aggregated and the others are superseded, late or expired.
    """
    known = lineage(entries)
    in_lineage = set(known.counted)
    sendings: list[_Sending] = []
    fates: dict[tuple[str, str, str], str] = {}
    verdicts: dict[tuple[str, str, int], list[str]] = defaultdict(list)
    stores: dict[str, str] = {}
    for entry in entries:
        event, fields = entry.event, entry.event.fields
        stores[entry.node] = entry.incarnation
        if event.kind == "update_sent":
            sendings.append(
                _Sending(
                    entry.node,
                    entry.incarnation,
                    fields["key"],
                    fields["region"],
                    fields["round"],
                    fields["to"],
                )
            )
        elif event.kind == "update_ended":
            fates[entry.node, entry.incarnation, fields["key"]] = fields["fate"]
        elif event.kind in _VERDICTS:
            words = verdicts[entry.node, fields["device"], fields["round"]]
            if event.kind == "update_refused" and words and words[-1] == "accepted":
                words.pop()  # accepted at first, then found to be unusable
            words.append(_VERDICTS[event.kind])
    counts = dict.fromkeys(("sent", *UPDATE_ENDS), 0)
    credited: set[tuple[str, int]] = set()
    for one in sendings:
        heard = verdicts[one.satellite, one.device, one.round]
        fate = fates.get((one.device, one.incarnation, one.key))
        end = _end_of(
            one,
            fate,
            heard.pop(0) if heard and fate in (None, "delivered") else None,
            kept=stores[one.device] == one.incarnation,
            closed=one.round <= known.rounds.get(one.region, 0),
            counts=(one.device, one.round) in in_lineage,
            credited=credited,
        )
        counts["sent"] += 1
        counts[end] += 1
    return counts


def _end_of(
    one: _Sending,
    fate: str | None,
    verdict: str | None,
    *,
    kept: bool,
    closed: bool,
    counts: bool,
    credited: set[tuple[str, int]],
) -> str:
    """The end of one sending: by its sender's word, then its receiver's, then the lineage."""
    if fate in _FATES:
        return _FATES[fate]
    if verdict in ("late", "duplicates_dropped", "refused"):
        return verdict
    if verdict == "accepted" or fate == "delivered":
        if counts and (one.device, one.round) not in credited:
            credited.add((one.device, one.round))
            return "aggregated"
        if counts:
            return "superseded"
        return "lost" if closed else "in_flight"
    # Nobody says how it ended: it waits in its sender's store, or that store is gone.
    if kept or not closed:
        return "in_flight"
    return "superseded" if counts else "lost"


def count_carries(entries: Iterable[Entry]) -> dict[str, int]:
    """Models picked up, mixed, of these mixed late (the region had to wait), and dropped unmixed."""
    picked_up = expired = 0
    mixed: set[tuple[str, int]] = set()
    starved: set[tuple[str, int]] = set()
    for entry in entries:
        fields = entry.event.fields
        match entry.event.kind:
            case "carry_picked_up":
                picked_up += 1
            case "carry_expired":
                expired += 1
            case "carry_mixed":
                mixed.add((fields["region"], fields["round"]))
            case "round_starved":
                starved.add((fields["region"], fields["round"]))
    return {
        "picked_up": picked_up,
        "mixed": len(mixed),
        "late": len(mixed & starved),
        "expired": expired,
    }


def count_bytes(entries: Iterable[Entry]) -> dict[str, int]:
    """Bytes moved by link class, every try counted."""
    counts = dict.fromkeys(LINK_CLASSES, 0)
    for entry in entries:
        fields = entry.event.fields
        if fields.get("class") in counts and "bytes" in fields:
            counts[fields["class"]] += fields["bytes"]
    return counts


def aggregates(entries: Iterable[Entry]) -> dict[tuple[str, int], tuple[Digest, Digest, int]]:
    """(model, aggregate before mixing, t_ns) by (region, round)."""
    found: dict[tuple[str, int], tuple[Digest, Digest, int]] = {}
    for entry in entries:
        if entry.event.kind == "aggregated":
            fields = entry.event.fields
            place = (fields["region"], fields["round"])
            found.setdefault(place, (fields["digest"], fields["pre"], entry.event.t_ns))
    return found


def accuracy(
    entries: Sequence[Entry], evaluations: Mapping[Digest, float], regions: Sequence[str], delta: int
) -> dict[str, Any] | None:
    """Accuracy of each region's model, averaged over the rounds of its last mixing cycle.

    `pre_mix` and `post_mix` are means over regions at each region's last mixing round. None when no model of
    some region was evaluated.
    """
    models = aggregates(entries)
    rounds = lineage(entries).rounds
    by_region: dict[str, float] = {}
    before, after = [], []
    for region in regions:
        last = rounds.get(region, 0)
        cycle = [models[region, n][0] for n in range(last - delta + 1, last + 1) if (region, n) in models]
        scores = [evaluations[digest] for digest in cycle if digest in evaluations]
        if not scores:
            return None
        by_region[region] = round(fmean(scores), 6)
        model = models.get((region, last - last % delta))
        if model is not None and model[0] in evaluations and model[1] in evaluations:
            after.append(evaluations[model[0]])
            before.append(evaluations[model[1]])
    return {
        "mean": round(fmean(by_region.values()), 6),
        "worst": min(by_region.values()),
        "by_region": by_region,
        "pre_mix": round(fmean(before), 6) if before else None,
        "post_mix": round(fmean(after), 6) if after else None,
    }


@dataclass(slots=True)
class Progress:
    """How far a run is, kept up to date event by event."""

    rounds_wanted: int
    devices: Mapping[str, str]
    """Region by device."""
    adopted: dict[str, int] = field(default_factory=dict)

    def see(self, event: Event, node: str) -> None:
        if event.kind == "model_adopted" and node in self.devices:
            self.adopted[node] = max(self.adopted.get(node, 0), event.fields["round"])

    def rounds(self) -> dict[str, int]:
        """The newest round adopted, by region."""
        newest = dict.fromkeys(self.devices.values(), 0)
        for device, number in self.adopted.items():
            newest[self.devices[device]] = max(newest[self.devices[device]], number)
        return newest

    @property
    def finished(self) -> bool:
        """Every device has adopted the model of the last round."""
        return all(self.adopted.get(device, 0) >= self.rounds_wanted for device in self.devices)


class Ending(Protocol):
    """What says when a run is over."""

    @property
    def finished(self) -> bool: ...

    def see(self, event: Event, node: str) -> object:
        """Take an event in."""
        ...


def until_the_end(entries: Iterable[Entry], progress: Ending, duration_ns: int) -> tuple[list[Entry], int]:
    """The entries (by time) up to the run's end, and that instant.

    A run ends with the step in which the last node adopts the last model. How soon the operator notices, and
    what the nodes do until then, is no part of it.
    """
    kept: list[Entry] = []
    end_ns = duration_ns
    for entry in entries:
        if entry.event.t_ns > end_ns:
            break
        kept.append(entry)
        progress.see(entry.event, entry.node)
        if progress.finished:
            end_ns = entry.event.t_ns
    return kept, end_ns


def summarise(
    entries: Sequence[Entry],
    evaluations: Mapping[Digest, float],
    regions: Sequence[str],
    delta: int,
) -> dict[str, Any]:
    """The part of result.json that journals tell."""
    known = lineage(entries)
    return {
        "rounds": {region: known.rounds.get(region, 0) for region in regions},
        "accuracy": accuracy(entries, evaluations, regions, delta),
        "updates": count_updates(entries),
        "carries": count_carries(entries),
        "bytes": count_bytes(entries),
        "overruns": sum(1 for entry in entries if entry.event.kind == "overrun"),
        "model_sha256": {
            region: known.digests[region, number] for region, number in sorted(known.rounds.items())
        },
    }
