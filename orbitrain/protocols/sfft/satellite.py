"""The satellite: owns samples, embeds them, is a member of its ring, a gateway where the plan says so, and
steps its head.

Everything it does follows from what it holds: after each input `_advance` does what has become possible.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from google.protobuf.message import Message

from orbitrain.machine import (
    NEVER_NS,
    Acknowledged,
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
    RemoteProtocolError,
    Report,
    Send,
    Severity,
    StartJob,
    Undelivered,
    Withdraw,
)
from orbitrain.protocols.sfft.checks import check, check_at_satellite
from orbitrain.protocols.sfft.gateway import MERGE, Gateway
from orbitrain.protocols.sfft.gathering import Gathering
from orbitrain.protocols.sfft.planes import Crossings
from orbitrain.protocols.sfft.reducing import Reducing
from orbitrain.protocols.sfft.ring import Ring
from orbitrain.protocols.sfft.terms import (
    EARLY_MAX,
    Params,
    Space,
    head_of,
    is_news,
    letter,
    order,
    ring_of,
    tree_of,
)
from orbitrain.protocols.sfft.tree import Tree
from orbitrain.v1 import sfft_pb2 as wire

EMBED, HEAD, MEAN = "embed", "head", "mean"

_OF_ATTEMPT: Final = (wire.Visit, wire.Head, wire.Sum, wire.Crossed)
_OF_ROUND: Final = (wire.Block, wire.Fetch, wire.Features)


class Satellite:
    schema = 1
    accepts: tuple[type[Message], ...] = (wire.Round, wire.Status, *_OF_ROUND, *_OF_ATTEMPT)

    def __init__(self, params: Params, space: Space, name: str) -> None:
        self.params = params
        self.space = space
        self.name = name
        self.plane = params.plane_of(name)
        self.state = wire.SatelliteState()
        self.contacts: dict[str, int] = {}
        """Peers in contact, and when the plan believed ends that."""
        self.ring: Ring | None = None
        """Of this attempt; None for one that does not take part."""
        self.tree: Tree | None = None
        """Of this attempt; None where sums go to all planes."""
        self.crossings: Crossings = space.crossings(())
        """Of this attempt's participants, by the plan believed."""
        self.now_ns = 0
        self.gathering = Gathering(self)
        self.reducing = Reducing(self)
        self.gateway = Gateway(self)
        self._apart_ns: dict[str, int] = {}

    # ------------------------------------------------------------------------------- the contract

    def deadline_ns(self) -> int | None:
        wanted = [self.gateway.deadline_ns(), self._patience_ns()]
        if self._waits_for_features:
            wanted.append(self.state.round.step_by_ns)
        return min((t_ns for t_ns in wanted if t_ns is not None), default=None)

    def snapshot(self) -> tuple[bytes, frozenset[Digest]]:
        state = self.state
        named = {state.round.head, state.head, *state.features.digests.values(), *state.own.values()}
        for chunks in state.held.values():
            named.update(chunks.digests.values())
        for labelled in (*state.visits.values(), *state.final.values(), *state.heads.values()):
            named.add(labelled.digest)
        named.update(known.sum.digest for known in state.sums.values())
        for early in state.early:
            named.update(early.objects)
        return state.SerializeToString(deterministic=True), frozenset(named - {""})

    def restore(self, state: bytes, schema: int) -> None:
        if schema != self.schema:
            raise LocalProtocolError(f"snapshot schema {schema}, this version reads {self.schema}")
        self.state = wire.SatelliteState.FromString(state)
        self.contacts = {}
        self._apart_ns = {}
        self._form()

    def handle(self, item: Input, now_ns: int) -> list[Action]:
        self.now_ns = now_ns
        actions: list[Action] = []
        match item:
            case Delivered(source=source, message=message, objects=objects):
                check(self.params, message, objects)
                check_at_satellite(self.params, self.name, source, message)
                actions += self._take(source, message, objects)
            case ContactStarted(peer=peer, end_ns=end_ns):
                self.contacts[peer] = NEVER_NS if end_ns is None else end_ns
                self._apart_ns.pop(peer, None)
                actions += self._greet(peer)
            case ContactEnded(peer=peer):
                self.contacts.pop(peer, None)
                if peer in self.params.planes[self.plane]:
                    self._apart_ns[peer] = now_ns
                actions += self.gathering.parted(peer)
            case Acknowledged(key=key):
                actions += self._ended(key, True)
            case Undelivered(key=key):
                actions += self._ended(key, False)
            case JobDone(job=job, result=result, objects=outputs):
                actions += self._done(job, result, outputs)
            case JobFailed(job=job, reason=reason):
                actions += self._failed(job, reason)
            case ObjectLost(digest=digest):
                self._lost(digest)
            case PlanUpdated():
                self.crossings = self.space.crossings(self.participants)
                actions += self._believe()
        return actions + self._advance()

    # --------------------------------------------------------------------------- what parts share

    def send(
        self,
        to: str,
        message: Message,
        lane: Lane,
        objects: tuple[Digest, ...] = (),
        expires_at_ns: int = NEVER_NS,
        about: wire.About | None = None,
    ) -> Send:
        """A letter that a new attempt makes void, or if it is about something `of_round` a new round."""
        found = letter(self.params, self.state, to, message, lane, objects, expires_at_ns)
        self.state.open[found.key].CopyFrom(about or wire.About())
        return found

    def job(
        self, name: str, kind: str, params: Mapping[str, Any], objects: Mapping[str, Digest], took_ns: int
    ) -> StartJob:
        """A job of this attempt."""
        self.state.jobs.append(name)
        number = 1 if self.params.work.cache else self.state.round.round
        given = {**self.params.settings, "satellite": self.name, "round": number}
        return StartJob(name, f"sfft.{kind}", {**given, **params}, objects, took_ns)

    def is_running(self, name: str) -> bool:
        return name in self.state.jobs

    def report(self, kind: str, **fields: Any) -> Report:
        state = self.state
        told = {"round": state.round.round, "attempt": state.round.attempt, **fields}
        return Report(kind, Severity.ACTIVITY_LO, told)

    def spoil(self, reason: str) -> list[Action]:
        """The attempt cannot come to an end here: the server is told, and tries anew."""
        if self.state.spoiled:
            return []
        self.state.spoiled = True
        return [Report("attempt_spoiled", Severity.WARNING_HI, {"reason": reason})]

    @property
    def participants(self) -> Collection[str]:
        return self.state.round.participants

    # --------------------------------------------------------------------------- rounds and words

    def _take(self, source: str, message: Message, objects: tuple[Digest, ...]) -> list[Action]:
        if isinstance(message, wire.Round):
            return self._begin(source, message)
        if isinstance(message, wire.Status):
            return self._heard(source, message)
        assert isinstance(message, (*_OF_ROUND, *_OF_ATTEMPT))
        state = self.state
        attempt = message.attempt if isinstance(message, _OF_ATTEMPT) else state.round.attempt
        its = message.round, attempt
        if its > order(state.round):
            if len(state.early) >= EARLY_MAX:
                raise RemoteProtocolError(
                    f"round {message.round}: is not known here, nor room to wait for it"
                )
            kind, body = message.DESCRIPTOR.name, message.SerializeToString(deterministic=True)
            state.early.add(source=source, kind=kind, body=body, objects=objects)
            return []
        if its < order(state.round) or state.round.closed:
            return []  # of a round that is over
        match message:
            case wire.Block():
                self.gathering.take(message, objects)
            case wire.Fetch():
                self.gathering.fetch(source, message)
            case wire.Features():
                return self.gathering.features(message, objects)
            case wire.Visit():
                self.reducing.visit(source, message, objects)
            case wire.Head():
                return self.reducing.head(message, objects)
            case wire.Sum():
                return self.gateway.take(source, message, objects)
            case wire.Crossed():
                return self.gateway.crossed(message)
        return []

    def _begin(self, source: str, fresh: wire.Round) -> list[Action]:
        """A newer round, or attempt: what belongs to the one before is void."""
        state = self.state
        if order(fresh) <= order(state.round):
            return []
        kept = wire.SatelliteState(round=fresh, serial=state.serial)
        for name, status in state.statuses.items():
            kept.statuses[name].CopyFrom(status)
        if self.params.work.cache or fresh.round == state.round.round:
            kept.features.CopyFrom(state.features)
        if fresh.round == state.round.round:
            # Embeddings are the round's; a ring formed anew gets what it lacks of them.
            for owner, chunks in state.held.items():
                kept.held[owner].CopyFrom(chunks)
            for station, fetch in state.fetches.items():
                kept.fetches[station].CopyFrom(fetch)
            for peer, told in state.sent.items():
                kept.sent[peer].CopyFrom(told)
            kept.jobs.extend(job for job in state.jobs if job == EMBED)
            for key, about in state.open.items():
                if about.of_round:
                    kept.open[key].CopyFrom(about)
        actions: list[Action] = [Withdraw(key) for key in sorted(state.open.keys() - kept.open.keys())]
        actions += [CancelJob(job) for job in state.jobs if job not in kept.jobs]
        early = list(state.early)
        self.state = kept
        self._form()
        kind = "head_adopted" if fresh.closed else "round_joined"
        actions.append(self.report(kind, digest=fresh.head, takes_part=self.ring is not None))
        actions += self._believe()
        for peer in sorted(self.contacts):
            if peer != source:
                actions.append(self._tell(peer))
        for each in early:
            message: Message = getattr(wire, each.kind).FromString(each.body)
            try:
                actions += self._take(each.source, message, tuple(each.objects))
            except RemoteProtocolError as error:  # it was accepted when it came
                actions.append(self.report("early_put_aside", source=each.source, reason=str(error)))
        return actions

    def _form(self) -> None:
        """The ring of this attempt, and its ways between planes."""
        self.tree = tree_of(self.params, self.state.round)
        self.crossings = self.space.crossings(self.participants)
        # By the links since the attempt began: the same for all members, whenever they hear of it.
        self.ring = self._ring(self.state.round.step_by_ns - self.params.times.step_ns)

    def _ring(self, since_ns: int) -> Ring | None:
        if self.name not in self.participants or self.state.round.closed:
            return None
        ring = ring_of(self.params, self.space, self.plane, self.participants, since_ns)
        return ring if ring is not None and self.name in ring.members else None

    def _believe(self) -> list[Action]:
        """The plan may have been updated since the attempt began, and the ring be another one by now."""
        if self.state.head or self._ring(self.now_ns) == self.ring:
            return []
        return self.spoil("by the plan updated the ring is another one")

    def _tell(self, peer: str) -> Send:
        """The newest round, for a peer that may not know it."""
        fresh = self.state.round
        return letter(self.params, self.state, peer, fresh, Lane.CONTROL, (fresh.head,))

    def _greet(self, peer: str) -> list[Action]:
        actions: list[Action] = [self._tell(peer)] if self.state.round.round else []
        return actions + [self._pass(peer, status) for _, status in sorted(self.state.statuses.items())]

    def _pass(self, peer: str, status: wire.Status) -> Send:
        """To the ground with the head that it speaks of, if that is here."""
        told = wire.Status()
        told.CopyFrom(status)
        here = status.head in (self.state.head, self.state.round.head)
        told.with_head = peer in self.params.stations and status.head != "" and here
        return letter(self.params, self.state, peer, told, Lane.CONTROL, head_of(told))

    def _heard(self, source: str, status: wire.Status) -> list[Action]:
        """Word of a satellite of the plane goes on to all who may not have heard."""
        if status.satellite == self.name or status.satellite not in self.params.planes[self.plane]:
            return []
        if not is_news(status, self.state.statuses):
            return []
        self.state.statuses[status.satellite].CopyFrom(status)
        return [self._pass(peer, status) for peer in self._hearers() if peer != source]

    def _hearers(self) -> Iterable[str]:
        plane = self.params.planes[self.plane]
        return sorted(peer for peer in self.contacts if peer in plane or peer in self.params.stations)

    def _say(self) -> list[Action]:
        """Tell all what has changed of oneself."""
        state = self.state
        if not state.round.round:
            return []
        own = wire.Status(satellite=self.name, round=state.round.round, attempt=state.round.attempt)
        own.head = state.head
        sums = self.gateway.whole() or []
        if state.head:
            own.names.extend(sorted(name for one in sums for name in one.names))
            own.weight = sum(one.weight for one in sums)
            own.reduced_ns = state.sums[self.plane].since_ns if self.plane in state.sums else 0
        own.absent.extend(self._absent())
        own.spoiled = state.spoiled
        own.lacks = self._waits_for_features
        before = state.statuses[self.name]
        own.satellite, own.serial = self.name, before.serial
        if own == before:
            return []
        own.serial = max(own.serial + 1, self.now_ns)  # also after the loss of a disk it is a later one
        before.CopyFrom(own)
        return [self._pass(peer, own) for peer in self._hearers()]

    # ------------------------------------------------------------------------------------ absence

    def _missed(self) -> Iterable[str]:
        """Of the plane, those that it has a link with from now on and is not in contact with."""
        near, apart = self.space.neighbours, set(self.params.planes[self.plane]) - self.contacts.keys()
        return (peer for peer in sorted(apart - {self.name}) if near(self.name, peer, self.now_ns))

    def _absent(self) -> list[str]:
        patience_ns = self.params.times.patience_ns
        return sorted(
            peer
            for peer in self._missed()
            if self.now_ns >= self._apart_ns.setdefault(peer, self.now_ns) + patience_ns
            and self.space.in_contact(self.name, peer, self.now_ns)
        )

    def _patience_ns(self) -> int | None:
        waits = [since_ns + self.params.times.patience_ns for since_ns in self._apart_ns.values()]
        return min((t_ns for t_ns in waits if t_ns > self.now_ns), default=None)

    # -------------------------------------------------------------------------------- the advance

    @property
    def _waits_for_features(self) -> bool:
        state = self.state
        return self.ring is not None and not state.abstains and not state.own and not self.has_features

    @property
    def has_features(self) -> bool:
        return len(self.state.features.digests) == self.params.work.chunks

    def _advance(self) -> list[Action]:
        """Whatever has become possible."""
        actions: list[Action] = []
        state = self.state
        if self.ring is not None:
            actions += self._embed()
            actions += self.gathering.advance()
            actions += self._step()
            actions += self.reducing.advance()
        if state.round.round and not state.round.closed:
            actions += self.gateway.advance()
            actions += self._mean()
        return actions + self._say()

    def _embed(self) -> list[Action]:
        state = self.state
        if self.has_features or self.name in state.held or state.abstains or self.is_running(EMBED):
            return []
        work = self.params.work
        sizes = {"samples": work.samples, "chunk_samples": work.chunk_samples}
        pieces = self.params.pieces
        if work.on_board:
            both = {"embedding": pieces.embedding, "backbone": pieces.backbone}
            return [self.job(EMBED, "features", sizes, both, self.params.times.embed_ns)]
        embedding = {"embedding": pieces.embedding}
        return [self.job(EMBED, EMBED, sizes, embedding, self.params.times.embed_ns)]

    def _step(self) -> list[Action]:
        """Local steps of the head on the features; without them in time, nothing."""
        state = self.state
        assert self.ring is not None
        if self._waits_for_features and self.now_ns >= state.round.step_by_ns:
            state.abstains = True
            return [self.report("abstained")]
        if not self.has_features or state.own or state.abstains or self.is_running(HEAD):
            return []
        chunks = {f"features/{index}": digest for index, digest in sorted(state.features.digests.items())}
        sizes = {"parts": self.reducing.parts, "samples": self.params.work.samples}
        return [self.job(HEAD, HEAD, sizes, {"head": state.round.head, **chunks}, self.params.times.head_ns)]

    def _mean(self) -> list[Action]:
        """The new head, once the sums of all planes are there."""
        state = self.state
        if state.head or self.is_running(MEAN):
            return []
        sums = self.gateway.whole()
        if sums is None or not any(one.names for one in sums):
            return []
        objects = {f"sum/{n}": one.digest for n, one in enumerate(one for one in sums if one.names)}
        weight = sum(one.weight for one in sums)
        like = {"like": state.round.head}
        return [self.job(MEAN, MEAN, {"weight": weight}, {**objects, **like}, self.params.times.add_ns)]

    # --------------------------------------------------------------------------------------- ends

    def _ended(self, key: str, delivered: bool) -> list[Action]:
        if key not in self.state.open:
            return []
        about = wire.About()
        about.CopyFrom(self.state.open[key])
        del self.state.open[key]
        return self.gateway.ended(about.leg, delivered) if about.HasField("leg") else []

    def _done(self, job: str, result: Mapping[str, Any], outputs: Mapping[str, Digest]) -> list[Action]:
        state = self.state
        if job not in state.jobs:
            return []
        state.jobs.remove(job)
        if job == EMBED:
            work = self.params.work
            for index in range(work.chunks):
                if work.on_board:
                    state.features.digests[index] = outputs[f"features/{index}"]
                else:
                    state.held[self.name].digests[index] = outputs[f"chunk/{index}"]
            return [self.report("features_computed" if work.on_board else "embedded")]
        if job == HEAD:
            for part in range(self.reducing.parts):
                state.own[part] = outputs[f"part/{part}"]
            return [self.report("head_stepped", **dict(result))]
        if job == MEAN:
            state.head = outputs["head"]
            return [self.report("averaged", digest=state.head)]
        if job == MERGE:
            return self.gateway.merged(outputs["sum"])
        return self.reducing.done(job, outputs)

    def _failed(self, job: str, reason: str) -> list[Action]:
        """Without its own part it adds nothing; a sum that cannot be made leaves the attempt open."""
        if job not in self.state.jobs:
            return []
        self.state.jobs.remove(job)
        if job in (EMBED, HEAD):
            self.state.abstains = True
            return [Report("abstained", Severity.WARNING_HI, {"job": job, "reason": reason})]
        return self.spoil(f"{job}: {reason}")

    def _lost(self, digest: Digest) -> None:
        """Own embeddings and parts are made again; for what others sent there is another attempt."""
        state = self.state
        if digest == state.head:
            state.head = ""
        if digest == state.round.head and not state.own:
            state.spoiled = True
        summed = (*state.visits.values(), *state.final.values(), *state.heads.values())
        sums = (known.sum for known in state.sums.values())
        if any(one.digest == digest for one in (*summed, *sums)):
            state.spoiled = True
        for owner in [owner for owner, some in state.held.items() if digest in some.digests.values()]:
            del state.held[owner]
        if digest in state.features.digests.values():
            state.ClearField("features")
        if digest in state.own.values():
            state.ClearField("own")
