"""The satellite: keeps every item, takes what devices send, and has passes, commits and owners settled."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from google.protobuf.message import Message

from orbitrain.machine import (
    NEVER_NS,
    Acknowledged,
    Action,
    ContactEnded,
    ContactStarted,
    Delivered,
    Digest,
    Input,
    JobDone,
    JobFailed,
    LocalProtocolError,
    ObjectLost,
    PlanUpdated,
    Report,
    Severity,
    Undelivered,
)
from orbitrain.protocols.emsfl.checks import check_at_satellite
from orbitrain.protocols.emsfl.commits import Commits, replace
from orbitrain.protocols.emsfl.ownership import Ownership
from orbitrain.protocols.emsfl.passes import Passes
from orbitrain.protocols.emsfl.rules import accepted
from orbitrain.protocols.emsfl.terms import Params, Splitter, Windows
from orbitrain.v1 import emsfl_pb2 as wire


class Satellite:
    schema = 1
    accepts: tuple[type[Message], ...] = (wire.Hello, wire.Upload, wire.Shared, wire.Found)

    def __init__(self, params: Params, splitter: Splitter, windows: Windows | None = None) -> None:
        """Without `windows` the end of a contact is what was believed at its beginning."""
        self.params = params
        self.windows = windows
        self.state = _initial(params)
        self.now_ns = 0
        self.back_ns: int | None = None
        """When this node came up: what it knew of contacts is not sure for a while."""
        self.contacts: dict[str, int] = {}
        """In contact since this node came up, with the end as it is believed; 0: not known."""
        self.passes = Passes(self)
        self.commits = Commits(self)
        self.ownership = Ownership(self, splitter)
        self._wake_ns = 0

    def deadline_ns(self) -> int | None:
        return None if self._wake_ns == NEVER_NS else self._wake_ns

    def snapshot(self) -> tuple[bytes, frozenset[Digest]]:
        state = self.state
        named = {item.version.digest for item in state.items.values() if not item.lost}
        named.update(digest for item in state.items.values() for digest in (item.step, item.residual))
        named.discard("")
        named.update(entry.digest for entry in self._entries())
        return state.SerializeToString(deterministic=True), frozenset(named)

    def _entries(self) -> Iterator[wire.Entry]:
        yield from self.state.pending
        for session in self.state.sessions.values():
            yield from session.shared
            yield from session.merging

    def restore(self, state: bytes, schema: int) -> None:
        if schema != self.schema:
            raise LocalProtocolError(f"snapshot schema {schema}, this version reads {self.schema}")
        self.state = wire.SatelliteState.FromString(state)
        self.back_ns = None
        self.contacts = {}
        self._wake_ns = 0

    def handle(self, item: Input, now_ns: int) -> list[Action]:
        if isinstance(item, Delivered):
            check_at_satellite(self.params, self.state, item.source, item.message, item.objects)
        self._begin(now_ns)
        actions: list[Action] = []
        match item:
            case ContactStarted(peer=peer, end_ns=end_ns):
                self.passes.meet(peer, end_ns)
            case ContactEnded(peer=peer):
                self.passes.leave(peer)
            case Delivered(source=source, message=wire.Hello() as hello):
                actions += self._greeted(source, hello)
            case Delivered(source=source, message=wire.Upload() as upload):
                actions += self._uploaded(source, upload)
            case Delivered(source=source, message=wire.Shared() as shared):
                actions += self._answered(source, shared)
            case Delivered(message=wire.Found() as found):
                actions += self._found(found)
            case JobDone(job=job, objects=outputs):
                actions += self.commits.done(job, outputs)
            case JobFailed(job=job, reason=reason):
                actions += self.commits.failed(job, reason)
            case Acknowledged(key=key) | Undelivered(key=key):
                self.passes.ended(key)
            case ObjectLost(digest=digest):
                actions += self._lost(digest)
            case PlanUpdated():
                self.passes.follow()
        self.passes.part()
        actions += self.ownership.settle()
        for cluster in self.params.clusters:
            if cluster.name in self.state.sessions:
                actions += self.passes.advance(cluster.name)
        instants = [*self.passes.instants(), *self.ownership.instants()]
        self._wake_ns = min((t_ns for t_ns in instants if t_ns > now_ns), default=NEVER_NS)
        return actions

    def _begin(self, now_ns: int) -> None:
        self.now_ns = now_ns
        if self.back_ns is None:
            self.back_ns = now_ns
        if not self.state.begun:
            self.state.begun = True
            self.state.begun_ns = now_ns

    # ------------------------------------------------------------------------------- what they share

    @property
    def is_training(self) -> bool:
        """Experts have owners, and there are passes to come."""
        return self.state.epoch > 0 and not self.state.finished

    def key(self, what: str) -> str:
        self.state.serial += 1
        return f"{what}/{self.state.serial}"

    def cycle(self, cluster: str) -> int:
        """Which pass of the cluster the one in progress is."""
        return self.state.clusters[cluster].passes + 1

    def owner(self, item: str, cluster: str) -> str:
        """Whose updates of the item count; those of this cluster where everybody's do."""
        return cluster if self.params.synchronous else self.state.items[item].owner

    def received(self, cluster: str) -> list[wire.Entry]:
        """Updates of the cluster that can be merged, in the order in which they are."""
        devices = self.params.cluster_of_name(cluster).devices
        return self._mergeable(entry for entry in self.state.pending if entry.device in devices)

    def answers(self, cluster: str) -> list[wire.Entry]:
        """As `received`, of what was trained in contact in the pass in progress."""
        if self.params.synchronous:
            return self.received(cluster)
        return self._mergeable(self.state.sessions[cluster].shared)

    def _mergeable(self, entries: Iterable[wire.Entry]) -> list[wire.Entry]:
        found = [entry for entry in entries if not self.state.items[entry.item].lost]
        return sorted(found, key=lambda entry: (entry.item, entry.device, entry.base))

    def forget_counted(self, entry: wire.Entry) -> None:
        """An update that was taken did not count after all: another one of the same base may."""
        self.state.members[entry.device].counted[entry.item] = entry.base

    @staticmethod
    def refused(device: str, item: str, reason: str) -> Report:
        fields = {"device": device, "item": item, "reason": reason}
        return Report("update_refused", Severity.WARNING_LO, fields)

    # ---------------------------------------------------------------------------------- messages

    def _member(self, device: str) -> tuple[wire.Member, list[Action]]:
        """A device that has been heard of, from now on."""
        known = device in self.state.members
        fields = {"device": device, "cluster": self.params.cluster_of(device).name}
        report = Report("member_joined", Severity.ACTIVITY_HI, fields)
        return self.state.members[device], [] if known else [report]

    def _greeted(self, device: str, hello: wire.Hello) -> list[Action]:
        member, actions = self._member(device)
        member.missing = False
        if hello.surveyed:
            experts = self.params.model.experts
            sums = [sum(hello.counts[number::experts]) for number in range(experts)]
            member.surveyed, member.samples = True, hello.samples
            member.counts[:] = sums
        self.ownership.heard(self.params.cluster_of(device).name)
        self.passes.greeted(device, hello)
        return actions

    def _uploaded(self, device: str, upload: wire.Upload) -> list[Action]:
        cluster = self.params.cluster_of(device).name
        member, actions = self._member(device)
        taken = 0
        for change in upload.changes:
            item = self.state.items[change.item]
            sender = item.owner if self.params.synchronous else cluster
            counts, reason = accepted(
                item, change, sender, member.counted.get(change.item, 0), self.params.stale
            )
            if self.state.finished:
                counts, reason = False, "training is over"
            if not counts:
                actions.append(self.refused(device, change.item, reason))
                continue
            taken += 1
            member.counted[change.item] = change.base + 1
            self.state.pending.append(_entry(device, change, upload.samples, upload.rounds))
            actions.append(_accepted(device, change, item))
        self.passes.uploaded(device, upload.model, taken)
        return actions

    def _answered(self, device: str, shared: wire.Shared) -> list[Action]:
        """What was trained in contact counts in that pass alone."""
        member, actions = self._member(device)
        session, why = self.passes.answered(device, shared.model)
        for change in shared.changes:
            item = self.state.items[change.item]
            counts, reason = False, why
            if session is not None:
                counted = member.counted.get(change.item, 0)
                counts, reason = accepted(item, change, item.owner, counted, self.params.stale)
            if session is None or not counts:
                actions.append(self.refused(device, change.item, reason))
                continue
            member.counted[change.item] = change.base + 1
            session.shared.append(_entry(device, change, shared.samples, 1))
            actions.append(_accepted(device, change, item))
        return actions

    def _found(self, found: wire.Found) -> list[Action]:
        item = self.state.items[found.item]
        if not item.lost or item.version.digest != found.digest:
            return []  # of no use any more, or never asked for
        item.lost = False
        fields = {"item": found.item, "version": item.version.number, "digest": found.digest}
        return [Report("item_found", Severity.ACTIVITY_HI, fields)]

    # ------------------------------------------------------------------------------------ losses

    def _lost(self, digest: Digest) -> list[Action]:
        """A lost item is asked of devices that hold it; a lost update does not count."""
        actions: list[Action] = [Report("object_lost", Severity.WARNING_HI, {"digest": digest})]
        for item in self.state.items.values():
            if item.version.digest == digest:
                item.lost = True
        actions += self.commits.without(digest)
        actions += self._without_step(digest)
        for entries in (self.state.pending, *(one.shared for one in self.state.sessions.values())):
            gone = [entry for entry in entries if entry.digest == digest]
            kept = [entry for entry in entries if entry.digest != digest]
            for entry in gone:
                self.forget_counted(entry)
                actions.append(self.refused(entry.device, entry.item, "its object is lost"))
            if gone:
                replace(entries, kept)
        return actions

    def _without_step(self, digest: Digest) -> list[Action]:
        """Without its step an item goes down whole."""
        actions: list[Action] = []
        for name, item in sorted(self.state.items.items()):
            if item.step == digest:
                item.step = ""
            if item.residual == digest:
                actions += self.without_residual(name)
        return actions

    def without_residual(self, name: str) -> list[Action]:
        """What an item's residual held is lost to the model."""
        item = self.state.items[name]
        fields = {"item": name, "version": item.version.number, "digest": item.residual}
        item.ClearField("residual")
        return [Report("residual_lost", Severity.WARNING_HI, fields)]


def _initial(params: Params) -> wire.SatelliteState:
    """Nobody owns anything, unless everybody owns everything."""
    state = wire.SatelliteState()
    for item, digest in params.model.items.items():
        state.items[item].version.digest = digest
    for cluster in params.clusters:
        state.clusters[cluster.name].passes = 0
    if params.synchronous:
        state.epoch = state.edition = 1
    return state


def _entry(device: str, change: wire.Change, samples: int, rounds: int) -> wire.Entry:
    return wire.Entry(
        device=device,
        item=change.item,
        base=change.base,
        digest=change.digest,
        samples=samples,
        rounds=rounds,
    )


def _accepted(device: str, change: wire.Change, item: wire.Item) -> Report:
    fields = {
        "device": device,
        "item": change.item,
        "base_version": change.base,
        "digest": change.digest,
        "staleness": item.version.number - change.base,
    }
    return Report("update_accepted", Severity.ACTIVITY_LO, fields)
