"""The ground server: begins rounds, has embeddings fetched, runs the backbone, and commits heads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from google.protobuf.message import Message

from orbitrain.flow.board import Board
from orbitrain.flow.schedule import Handout
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
    RemoteProtocolError,
    Report,
    Send,
    Severity,
    StartJob,
)
from orbitrain.protocols.sfft.checks import check
from orbitrain.protocols.sfft.terms import Ground, Params, letter, order
from orbitrain.protocols.sfft.weights import Label, commits
from orbitrain.transport.objects import Range
from orbitrain.v1 import sfft_pb2 as wire

BACKBONE: Final = "backbone"

BATCH_MAX: Final = 64
"""Chunks of one job: it ends within a training slot, and features of the first do not wait for the last."""


class Server:
    schema = 1
    accepts: tuple[type[Message], ...] = (wire.Block, wire.Status, wire.Sighting, wire.Passed)

    def __init__(self, params: Params, plan: Ground) -> None:
        self._params = params
        self._plan = plan
        self._state = wire.ServerState()
        self._stations: set[str] = set()
        self._now_ns = 0
        self._stale = True
        """What is handed out may be more, or other, than the plan would now have it."""

    def deadline_ns(self) -> int | None:
        if self._is_over:
            return None
        return self._state.commit_by_ns

    def snapshot(self) -> tuple[bytes, frozenset[Digest]]:
        state = self._state
        named = {state.round.head, self._params.pieces.head, self._params.pieces.backbone}
        named.update(status.head for status in state.statuses.values())
        for chunks in (*state.pieces.values(), *state.features.values()):
            named.update(chunks.digests.values())
        return state.SerializeToString(deterministic=True), frozenset(named - {""})

    def restore(self, state: bytes, schema: int) -> None:
        if schema != self.schema:
            raise LocalProtocolError(f"snapshot schema {schema}, this version reads {self.schema}")
        self._state = wire.ServerState.FromString(state)
        self._stations = set()
        self._stale = True

    def handle(self, item: Input, now_ns: int) -> list[Action]:
        self._now_ns = now_ns
        if isinstance(item, Delivered):
            check(self._params, item.message, item.objects)
        actions: list[Action] = []
        match item:
            case ContactStarted(peer=peer):
                self._stations.add(peer)
                actions += self._tell([peer])
            case ContactEnded(peer=peer):
                self._stations.discard(peer)
            case Delivered(source=source, message=wire.Sighting() as sighting):
                self._sighted(source, sighting)
            case Delivered(message=wire.Block() as block, objects=objects):
                self._take(block, objects)
            case Delivered(source=source, message=wire.Passed() as passed):
                self._passed(source, passed)
            case Delivered(message=wire.Status() as status):
                self._heard(status)
            case JobDone(job=job, objects=outputs):
                actions += self._computed(job, outputs)
            case JobFailed(job=job, reason=reason):
                actions += self._not_computed(job, reason)
            case ObjectLost(digest=digest):
                self._lost(digest)
            case PlanUpdated():
                self._stale = True
        return actions + self._advance()

    @property
    def _is_over(self) -> bool:
        return self._state.round.closed

    def _report(self, kind: str, severity: Severity, **fields: Any) -> Report:
        its = self._state.round
        return Report(kind, severity, {"round": its.round, "attempt": its.attempt, **fields})

    # ------------------------------------------------------------------------------------ arrivals

    def _sighted(self, station: str, sighting: wire.Sighting) -> None:
        """Said twice, the contact ended in between unnoticed."""
        if station not in self._params.stations:
            raise RemoteProtocolError(f"there is no station {station}")
        self._stale = True
        seen = self._state.seen[station].satellites
        self._free(sighting.satellite, station)
        if sighting.satellite in seen:
            seen.remove(sighting.satellite)
        if sighting.there:
            seen.append(sighting.satellite)

    def _free(self, satellite: str, station: str) -> None:
        """What was handed out to a link and has not come may be handed out again."""
        board = self._board()
        board.contact_ended(satellite, station)
        self._keep(board)

    def _take(self, block: wire.Block, objects: tuple[Digest, ...]) -> None:
        if block.round != self._state.round.round or self._is_over or block.owner in self._state.useless:
            return
        pieces = self._state.pieces[block.owner].digests
        for index, digest in zip(block.indices, objects, strict=True):
            if index not in pieces:
                pieces[index] = digest

    def _passed(self, station: str, passed: wire.Passed) -> None:
        its = self._state
        if not passed.taken and passed.satellite in its.seen[station].satellites:
            its.seen[station].satellites.remove(passed.satellite)  # it has left, as a sighting will tell
        if passed.round != its.round.round or passed.owner not in its.passing:
            return
        if its.passing[passed.owner].satellite != passed.satellite:
            return
        del its.passing[passed.owner]
        if passed.taken and passed.owner not in its.passed:
            its.passed.append(passed.owner)

    def _heard(self, status: wire.Status) -> None:
        known = self._state.statuses
        if status.satellite not in known or known[status.satellite].serial < status.serial:
            known[status.satellite].CopyFrom(status)
            self._stale |= self._params.work.cache
            if status.satellite in self._state.silent:
                self._state.silent.remove(status.satellite)

    # ------------------------------------------------------------------------------------- advance

    def _advance(self) -> list[Action]:
        if self._is_over:
            return []
        if not self._state.round.round:
            return self._begin(1, self._params.pieces.head)
        verdict = self._verdict()
        if verdict:
            return verdict
        return self._hand_out() + self._compute() + self._send_up()

    def _begin(
        self, number: int, head: Digest, without: Iterable[str] = (), attempt: int = 1
    ) -> list[Action]:
        state, times = self._state, self._params.times
        absent = set(without)
        fresh = wire.Round(
            round=number,
            attempt=attempt,
            head=head,
            embedding=self._params.pieces.embedding,
            backbone=self._params.pieces.backbone,
            participants=[name for name in self._params.satellites if name not in absent],
            step_by_ns=self._now_ns + times.step_ns,
            closed=number > self._params.work.rounds,
        )
        actions: list[Action] = []
        if number != state.round.round:
            actions += [CancelJob(BACKBONE)] if state.job else []
            for field in ("pieces", "features", "job", "passing", "passed", "handouts", "useless"):
                state.ClearField(field)
        tree = None if fresh.closed else self._plan.tree(self._ready_ns(fresh))
        if tree is not None:
            fresh.parents.extend(tree.written(len(self._params.planes)))
        state.round.CopyFrom(fresh)
        state.begun_ns = self._now_ns
        state.commit_by_ns = self._now_ns + times.commit_ns
        kind = "closed" if fresh.closed else "round_begun"
        told = {"digest": head, "participants": list(fresh.participants), "parents": list(fresh.parents)}
        actions.append(self._report(kind, Severity.ACTIVITY_HI, **told))
        self._stale = True
        return actions + self._tell(sorted(self._stations))

    def _ready_ns(self, fresh: wire.Round) -> dict[int, int]:
        """When each plane is likely to have its sum: as long after the beginning as the last time."""
        after_ns = self._state.ready_after_ns
        planes = self._params.taking_part(fresh.participants)
        return {plane: self._now_ns + after_ns.get(plane, 0) for plane in planes}

    def _tell(self, stations: Iterable[str]) -> list[Action]:
        fresh = self._state.round
        if not fresh.round:
            return []
        return [self._send(station, fresh, Lane.CONTROL, (fresh.head,)) for station in stations]

    def _send(self, station: str, message: Message, lane: Lane, objects: tuple[Digest, ...] = ()) -> Send:
        return letter(self._params, self._state, station, message, lane, objects)

    # -------------------------------------------------------------------------------- the verdict

    def _verdict(self) -> list[Action]:
        """The round is committed, or tried anew without those who are absent, or goes on."""
        state = self._state
        its = state.round
        there = {name: state.statuses[name] for name in its.participants if name in state.statuses}
        done = {name: status for name, status in there.items() if status.head and _is_of(its, status)}
        if len(done) == len(its.participants):
            return self._commit(done)
        absent = self._absent()
        fresh = sorted(absent & set(its.participants))
        if fresh and not absent >= set(self._params.satellites):
            return self._again(absent, f"{', '.join(fresh)} cannot be reached")
        spoiled = [name for name, status in there.items() if status.spoiled and _is_of(its, status)]
        if spoiled:
            return self._again(absent, f"{', '.join(spoiled)} cannot bring it to an end")
        if self._now_ns < state.commit_by_ns:
            return []
        silent = sorted(set(its.participants) - done.keys())
        if done:
            return self._commit(done, silent)
        unheard = {name for name in silent if name not in there or not _is_of(its, there[name])}
        if unheard and len(unheard) < len(its.participants):
            state.silent.extend(sorted(unheard - {*state.silent}))
            return self._again(absent | unheard, f"{', '.join(sorted(unheard))} are not heard of")
        # Nothing is lost by waiting: what they hold they keep, and contacts come.
        state.commit_by_ns = self._now_ns + self._params.times.commit_ns
        return [self._report("round_late", Severity.WARNING_LO, silent=silent)]

    def _absent(self) -> set[str]:
        """Satellites that a neighbour misses, or that were silent once and have not been heard of since."""
        missed = {name for status in self._state.statuses.values() for name in status.absent}
        return missed | set(self._state.silent)

    def _again(self, absent: set[str], why: str) -> list[Action]:
        its = self._state.round
        report = self._report("attempt_given_up", Severity.WARNING_LO, reason=why)
        return [report, *self._begin(its.round, its.head, absent, its.attempt + 1)]

    def _commit(self, done: Mapping[str, wire.Status], silent: Iterable[str] = ()) -> list[Action]:
        its = self._state.round
        words = {(status.head, tuple(status.names), status.weight) for status in done.values()}
        if len(words) > 1:
            return self._again(self._absent(), f"{len(words)} different heads")
        ((head, names, weight),) = words
        planes = self._params.taking_part(its.participants)
        label = Label(frozenset(planes), frozenset(names), weight)
        good, why = commits(label, planes, dict.fromkeys(self._params.satellites, self._params.work.samples))
        if not good:
            return self._again(self._absent(), why)
        for name, status in done.items():
            plane = self._params.plane_of(name)
            self._state.ready_after_ns[plane] = max(0, status.reduced_ns - self._state.begun_ns)
        report = self._report(
            "committed",
            Severity.ACTIVITY_HI,
            digest=head,
            participants=list(names),
            weight=weight,
            silent=sorted(silent),
        )
        return [report, *self._begin(its.round + 1, head, self._absent())]

    # ---------------------------------------------------------------------------------- downlink

    def _hand_out(self) -> list[Action]:
        """What the schedule has for satellites in sight, until they leave it."""
        if not self._stale or self._params.work.on_board:
            return []
        self._stale = False
        live = [
            (satellite, station)
            for station, seen in sorted(self._state.seen.items())
            for satellite in sorted(seen.satellites)
        ]
        board = self._board()
        if not live or not any(board.left().values()):
            return []
        handouts = board.hand_out(self._plan.shares(self._now_ns, board, live))
        self._keep(board)
        return [self._fetch(handout) for handout in handouts]

    def _board(self) -> Board:
        """Chunks of every plane, numbered owner after owner; what nobody needs is as if it had come."""
        state, count = self._state, self._params.work.chunks
        come: dict[str, list[Range]] = {}
        for plane, members in enumerate(self._params.planes):
            ranges = come.setdefault(str(plane), [])
            for place, owner in enumerate(members):
                first = place * count
                if owner not in state.round.participants or not self._lacks(owner):
                    ranges.append((first, first + count))
                elif owner in state.pieces:
                    ranges += [(first + n, first + n + 1) for n in sorted(state.pieces[owner].digests)]
        chunks = {str(plane): len(members) * count for plane, members in enumerate(self._params.planes)}
        board = Board(chunks, outstanding=map(_handout, state.handouts))
        for name, ranges in come.items():
            board.acknowledged(name, ranges)
        return board

    def _keep(self, board: Board) -> None:
        """What links have been handed."""
        del self._state.handouts[:]
        for handout in board.outstanding():
            self._state.handouts.add(
                plane=int(handout.plane),
                satellite=handout.satellite,
                station=handout.station,
                starts=[start for start, _ in handout.ranges],
                ends=[end for _, end in handout.ranges],
            )

    def _lacks(self, owner: str) -> bool:
        """Whether its samples have to come down: where features are kept, only if it says so."""
        state = self._state
        if owner in state.useless:
            return False
        if not self._params.work.cache:
            return True
        if owner not in state.statuses:
            return False
        said = state.statuses[owner]
        return _is_of(state.round, said) and said.lacks

    def _fetch(self, handout: Handout) -> Action:
        state, count = self._state, self._params.work.chunks
        members = self._params.planes[int(handout.plane)]
        wanted: dict[int, list[int]] = {}
        for start, end in handout.ranges:
            for number in range(start, end):
                wanted.setdefault(number // count, []).append(number % count)
        fetch = wire.Fetch(round=state.round.round, satellite=handout.satellite)
        for place, indices in wanted.items():
            fetch.wanted.add(round=state.round.round, owner=members[place], indices=indices)
        return self._send(handout.station, fetch, Lane.CONTROL)

    # ---------------------------------------------------------------------------------- backbone

    def _compute(self) -> list[Action]:
        """One job at a time, of all chunks that wait; no sample's features depend on the others."""
        state = self._state
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
        objects["backbone"] = self._params.pieces.backbone
        took_ns = len(waiting) * self._params.times.backbone_ns
        return [StartJob(BACKBONE, "sfft.backbone", self._params.settings, objects, took_ns)]

    def _computed(self, job: str, outputs: Mapping[str, Digest]) -> list[Action]:
        state = self._state
        for place in state.job:
            owner, _, index = place.rpartition("/")
            state.features[owner].digests[int(index)] = outputs[f"features/{place}"]
        count = len(state.job)
        state.ClearField("job")
        return [self._report("features_computed", Severity.ACTIVITY_LO, chunks=count)]

    def _not_computed(self, job: str, reason: str) -> list[Action]:
        """The owners that the worker blames, or all that it worked for, have no features in this round."""
        state = self._state
        owners = sorted({place.rpartition("/")[0] for place in state.job})
        blamed = [owner for owner in owners if f"chunk/{owner}/" in reason] or owners
        for owner in blamed:
            del state.pieces[owner]
        state.useless.extend(blamed)
        state.ClearField("job")
        return [self._report("backbone_failed", Severity.WARNING_HI, owners=blamed, reason=reason)]

    # ------------------------------------------------------------------------------------ features

    def _send_up(self) -> list[Action]:
        """Features of whole blocks, over the first satellite of the owner's plane that is in sight."""
        state = self._state
        actions: list[Action] = []
        for owner in state.round.participants:
            whole = owner in state.features and len(state.features[owner].digests) == self._params.work.chunks
            if not whole or owner in state.passing or owner in state.passed:
                continue
            way = self._way(self._params.plane_of(owner))
            if way is None:
                continue
            satellite, station = way
            state.passing[owner].satellite = satellite
            digests = tuple(digest for _, digest in sorted(state.features[owner].digests.items()))
            message = wire.Features(round=state.round.round, owner=owner, satellite=satellite)
            actions.append(self._send(station, message, Lane.ACTIVATION, digests))
        return actions

    def _way(self, plane: int) -> tuple[str, str] | None:
        members = self._params.planes[plane]
        for station, seen in sorted(self._state.seen.items()):
            for satellite in sorted(seen.satellites):
                if satellite in members and satellite in self._state.round.participants:
                    return satellite, station
        return None

    def _lost(self, digest: Digest) -> None:
        """It is fetched, or computed, again."""
        self._stale = True
        for some in (self._state.pieces, self._state.features):
            for owner in [owner for owner, chunks in some.items() if digest in chunks.digests.values()]:
                del some[owner]


def _is_of(its: wire.Round, status: wire.Status) -> bool:
    """Whether a word is of this attempt."""
    return (status.round, status.attempt) == order(its)


def _handout(kept: wire.Handout) -> Handout:
    ranges = tuple(zip(kept.starts, kept.ends, strict=True))
    return Handout(str(kept.plane), kept.satellite, kept.station, ranges)
