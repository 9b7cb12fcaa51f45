"""The ground server: begins rounds, has embeddings fetched, runs the backbone, and commits heads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from google.protobuf.message import Message

from orbitrain.machine import (
    Action,
    CancelJob,
    ContactEnded,
    ContactStarted,
    Delivered,
    Digest,
    Input,
    JobDone,
    JobFailed,
    Lane,
    LocalProtocolError,
    ObjectLost,
    PlanUpdated,
    Report,
    Send,
    Severity,
    StartJob,
)
from orbitrain.protocols.sfft.checks import check, check_at_server
from orbitrain.protocols.sfft.exchange import WAYS, Exchange
from orbitrain.protocols.sfft.terms import Ground, Params, is_news, letter, order
from orbitrain.protocols.sfft.weights import Label, commits
from orbitrain.v1 import sfft_pb2 as wire

BACKBONE: Final = "backbone"

BATCH_MAX: Final = 64
"""Chunks of one job: it ends within a training slot, and features of the first do not wait for the last."""


class Server:
    schema = 1
    accepts: tuple[type[Message], ...] = (wire.Block, wire.Status, wire.Sighting, wire.Passed)

    def __init__(self, params: Params, plan: Ground) -> None:
        self.params = params
        self.plan = plan
        self.state = wire.ServerState()
        self._stations: set[str] = set()
        self.now_ns = 0
        self.exchange = Exchange(self)

    def deadline_ns(self) -> int | None:
        if self._is_over:
            return None
        return self.state.commit_by_ns

    def snapshot(self) -> tuple[bytes, frozenset[Digest]]:
        state = self.state
        named = {state.round.head, self.params.pieces.head, self.params.pieces.backbone}
        named.update(status.head for status in state.statuses.values() if status.with_head)
        for chunks in (*state.pieces.values(), *state.features.values()):
            named.update(chunks.digests.values())
        return state.SerializeToString(deterministic=True), frozenset(named - {""})

    def restore(self, state: bytes, schema: int) -> None:
        if schema != self.schema:
            raise LocalProtocolError(f"snapshot schema {schema}, this version reads {self.schema}")
        self.state = wire.ServerState.FromString(state)
        self._stations = set()
        self.exchange = Exchange(self)

    def handle(self, item: Input, now_ns: int) -> list[Action]:
        self.now_ns = now_ns
        if isinstance(item, Delivered):
            check(self.params, item.message, item.objects)
            check_at_server(self.params, item.source)
        actions: list[Action] = []
        match item:
            case ContactStarted(peer=peer):
                self._stations.add(peer)
                actions += self._tell([peer])
            case ContactEnded(peer=peer):
                self._stations.discard(peer)
            case Delivered(source=source, message=wire.Sighting() as sighting):
                self.exchange.sighted(source, sighting)
            case Delivered(message=wire.Block() as block, objects=objects):
                self.exchange.take(block, objects)
            case Delivered(source=source, message=wire.Passed() as passed):
                self.exchange.passed(source, passed)
            case Delivered(message=wire.Status() as status):
                self._heard(status)
            case JobDone(job=job, objects=outputs):
                actions += self._computed(job, outputs)
            case JobFailed(job=job, reason=reason):
                actions += self._not_computed(job, reason)
            case ObjectLost(digest=digest):
                self._lost(digest)
            case PlanUpdated():
                self.exchange.stale.update(WAYS)
        return actions + self._advance()

    @property
    def _is_over(self) -> bool:
        return self.state.round.closed

    def _report(self, kind: str, severity: Severity, **fields: Any) -> Report:
        its = self.state.round
        return Report(kind, severity, {"round": its.round, "attempt": its.attempt, **fields})

    # ------------------------------------------------------------------------------------ arrivals

    def _heard(self, status: wire.Status) -> None:
        if is_news(status, self.state.statuses):
            self.state.statuses[status.satellite].CopyFrom(status)
            if self.params.work.cache:
                self.exchange.stale.add("down")
            self._rise_again(status)
            if status.satellite in self.state.silent:
                self.state.silent.remove(status.satellite)

    def _rise_again(self, status: wire.Status) -> None:
        """Who lacks its features in a new attempt may have lost them on their way around the ring before."""
        risen, owner = self.state.risen, status.satellite
        if not (status.lacks and _is_of(self.state.round, status) and owner in risen):
            return
        if risen[owner].attempt < status.attempt:
            del risen[owner]
            self.exchange.stale.add("up")

    # ------------------------------------------------------------------------------------- advance

    def _advance(self) -> list[Action]:
        if self._is_over:
            return []
        if not self.state.round.round:
            return self._begin(1, self.params.pieces.head)
        verdict = self._verdict()
        if verdict:
            return verdict
        return self.exchange.advance() + self._compute()

    def _begin(
        self, number: int, head: Digest, without: Iterable[str] = (), attempt: int = 1
    ) -> list[Action]:
        state, times = self.state, self.params.times
        absent = set(without)
        # Where each is missed by another, those go on who did so far.
        there = [name for name in self.params.satellites if name not in absent] or state.round.participants
        fresh = wire.Round(
            round=number,
            attempt=attempt,
            head=head,
            embedding=self.params.pieces.embedding,
            backbone=self.params.pieces.backbone,
            participants=there,
            step_by_ns=self.now_ns + times.step_ns,
            closed=number > self.params.work.rounds,
        )
        actions: list[Action] = []
        if number != state.round.round:
            actions += [CancelJob(BACKBONE)] if state.job else []
            for field in ("pieces", "features", "job", "rising", "risen", "handouts", "useless"):
                state.ClearField(field)
        tree = None if fresh.closed else self.plan.tree(self._ready_ns(fresh), fresh.participants)
        if tree is not None:
            fresh.parents.extend(tree.written(len(self.params.planes)))
        state.round.CopyFrom(fresh)
        state.begun_ns = self.now_ns
        state.commit_by_ns = self.now_ns + times.commit_ns
        kind = "closed" if fresh.closed else "round_begun"
        told = {"digest": head, "participants": list(fresh.participants), "parents": list(fresh.parents)}
        actions.append(self._report(kind, Severity.ACTIVITY_HI, **told))
        self.exchange.stale.update(WAYS)
        return actions + self._tell(sorted(self._stations))

    def _ready_ns(self, fresh: wire.Round) -> dict[int, int]:
        """When each plane is likely to have its sum: as long after the beginning as the last time."""
        after_ns = self.state.ready_after_ns
        planes = self.params.taking_part(fresh.participants)
        return {plane: self.now_ns + after_ns.get(plane, 0) for plane in planes}

    def _tell(self, stations: Iterable[str]) -> list[Action]:
        fresh = self.state.round
        if not fresh.round:
            return []
        return [self.send(station, fresh, Lane.CONTROL, (fresh.head,)) for station in stations]

    def send(self, station: str, message: Message, lane: Lane, objects: tuple[Digest, ...] = ()) -> Send:
        return letter(self.params, self.state, station, message, lane, objects)

    # -------------------------------------------------------------------------------- the verdict

    def _verdict(self) -> list[Action]:
        """The round is committed, or tried anew without those who are absent, or goes on."""
        state = self.state
        its = state.round
        there = {name: state.statuses[name] for name in its.participants if name in state.statuses}
        done = {name: status for name, status in there.items() if status.head and _is_of(its, status)}
        has_head = any(status.with_head for status in done.values())
        if has_head and len(done) == len(its.participants):
            return self._commit(done)
        absent = self._absent()
        fresh = sorted(absent & set(its.participants))
        if fresh and not absent >= set(self.params.satellites):
            return self._again(absent, f"{', '.join(fresh)} cannot be reached")
        spoiled = [name for name, status in there.items() if status.spoiled and _is_of(its, status)]
        if spoiled:
            return self._again(absent, f"{', '.join(spoiled)} cannot bring it to an end")
        if self.now_ns < state.commit_by_ns:
            return []
        silent = sorted(set(its.participants) - done.keys())
        if has_head:
            return self._commit(done, silent)
        unheard = {name for name in silent if name not in there or not _is_of(its, there[name])}
        if unheard and len(unheard) < len(its.participants):
            state.silent.extend(sorted(unheard - {*state.silent}))
            return self._again(absent | unheard, f"{', '.join(sorted(unheard))} are not heard of")
        # Nothing is lost by waiting: what they hold they keep, and contacts come.
        state.commit_by_ns = self.now_ns + self.params.times.commit_ns
        return [self._report("round_late", Severity.WARNING_LO, silent=silent)]

    def _absent(self) -> set[str]:
        """Satellites that a neighbour misses, or that were silent once and have not been heard of since."""
        missed = {name for status in self.state.statuses.values() for name in status.absent}
        return missed | set(self.state.silent)

    def _again(self, absent: set[str], why: str) -> list[Action]:
        its = self.state.round
        report = self._report("attempt_given_up", Severity.WARNING_LO, reason=why)
        return [report, *self._begin(its.round, its.head, absent, its.attempt + 1)]

    def _commit(self, done: Mapping[str, wire.Status], silent: Iterable[str] = ()) -> list[Action]:
        its = self.state.round
        words = {(status.head, tuple(status.names), status.weight) for status in done.values()}
        if len(words) > 1:
            return self._again(self._absent(), f"{len(words)} different heads")
        ((head, names, weight),) = words
        planes = self.params.taking_part(its.participants)
        label = Label(frozenset(planes), frozenset(names), weight)
        good, why = commits(label, planes, dict.fromkeys(self.params.satellites, self.params.work.samples))
        if not good:
            return self._again(self._absent(), why)
        for name, status in done.items():
            plane = self.params.plane_of(name)
            self.state.ready_after_ns[plane] = max(0, status.reduced_ns - self.state.begun_ns)
        report = self._report(
            "committed",
            Severity.ACTIVITY_HI,
            digest=head,
            participants=list(names),
            weight=weight,
            silent=sorted(silent),
        )
        return [report, *self._begin(its.round + 1, head, self._absent())]

    # -------------------------------------------------------------------------------- what is needed

    def lacks(self, owner: str) -> bool:
        """Whether its samples have to come down: where features are kept, only if it says so."""
        state = self.state
        if owner in state.useless:
            return False
        if not self.params.work.cache:
            return True
        if owner not in state.statuses:
            return False
        said = state.statuses[owner]
        return _is_of(state.round, said) and said.lacks

    # ---------------------------------------------------------------------------------- backbone

    def _compute(self) -> list[Action]:
        """One job at a time, of all chunks that wait; no sample's features depend on the others."""
        state = self.state
        if state.job:
            return []
        waiting = [
            (f"{owner}/{index}", digest)
            for owner, pieces in sorted(state.pieces.items())
            for index, digest in sorted(pieces.digests.items())
            if owner not in state.features or index not in state.features[owner].digests
        ][:BATCH_MAX]
        if not waiting:
            return []
        state.job.extend(place for place, _ in waiting)
        objects = {f"chunk/{place}": digest for place, digest in waiting}
        objects["backbone"] = self.params.pieces.backbone
        took_ns = len(waiting) * self.params.times.backbone_ns
        return [StartJob(BACKBONE, "sfft.backbone", self.params.settings, objects, took_ns)]

    def _computed(self, job: str, outputs: Mapping[str, Digest]) -> list[Action]:
        state = self.state
        for place in state.job:
            owner, _, index = place.rpartition("/")
            state.features[owner].digests[int(index)] = outputs[f"features/{place}"]
        count = len(state.job)
        state.ClearField("job")
        self.exchange.stale.add("up")
        return [self._report("features_computed", Severity.ACTIVITY_LO, chunks=count)]

    def _not_computed(self, job: str, reason: str) -> list[Action]:
        """The owners that the worker blames, or all that it worked for, have no features in this round."""
        state = self.state
        owners = sorted({place.rpartition("/")[0] for place in state.job})
        blamed = [owner for owner in owners if f"chunk/{owner}/" in reason] or owners
        for owner in blamed:
            del state.pieces[owner]
        state.useless.extend(blamed)
        state.ClearField("job")
        return [self._report("backbone_failed", Severity.WARNING_HI, owners=blamed, reason=reason)]

    def _lost(self, digest: Digest) -> None:
        """It is fetched, or computed, again."""
        self.exchange.stale.update(WAYS)
        for some in (self.state.pieces, self.state.features):
            for owner in [owner for owner, chunks in some.items() if digest in chunks.digests.values()]:
                del some[owner]


def _is_of(its: wire.Round, status: wire.Status) -> bool:
    """Whether a word is of this attempt."""
    return (status.round, status.attempt) == order(its)
