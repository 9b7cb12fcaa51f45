"""The satellite's commits: updates merged by a job, each item's next version, whole models put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from orbitrain.machine import Action, CancelJob, Digest, Report, Severity, StartJob
from orbitrain.protocols.emsfl.rules import weights
from orbitrain.protocols.emsfl.terms import GATE
from orbitrain.v1 import emsfl_pb2 as wire

if TYPE_CHECKING:
    from orbitrain.protocols.emsfl.satellite import Satellite

MERGE_FAILURES_MAX = 3
"""Tries of a merge that fails for no update's sake, before it is left to the next pass."""


class Commits:
    """Of one satellite, in whose state they are."""

    def __init__(self, satellite: Satellite) -> None:
        self._of = satellite

    def start(self, cluster: str, *, answers: bool) -> list[Action]:
        """Merge what is here: experts of the first step, or what was trained in contact.

        Not while the pass of another cluster merges one of the same items: that one's commit is the base.
        """
        of = self._of
        session = of.state.sessions[cluster]
        entries = of.answers(cluster) if answers else of.received(cluster)
        busy = {entry.item for other in of.state.sessions.values() for entry in other.merging}
        if not busy.isdisjoint(entry.item for entry in entries):
            return []
        replace(session.merging, entries)
        entries = list(session.merging)
        for waiting in (of.state.pending, session.shared):
            replace(waiting, [entry for entry in waiting if entry not in entries])
        session.answers = answers
        session.job = of.key(f"merge/{cluster}")
        params: dict[str, dict[str, Any]] = {}
        objects: dict[str, Digest] = {}
        for item, updates in by_item(entries).items():
            version = of.state.items[item].version
            shares, clips = weights(updates, version.number, of.params.stale)
            rank = of.params.work.rank if item in of.params.experts else None
            params[item] = {"weights": shares, "clips": clips, "rank": rank}
            objects[f"base/{item}"] = version.digest
            if rank is not None and of.state.items[item].residual:
                objects[f"residual/{item}"] = of.state.items[item].residual
            objects |= {f"update/{item}/{n}": update.digest for n, update in enumerate(updates)}
        return [StartJob(session.job, "moe.merge", {"items": params}, objects, of.params.times.merge_ns)]

    def done(self, job: str, outputs: Mapping[str, Digest]) -> list[Action]:
        if job in self._of.state.assemblies:
            return self._assembled(job, outputs["model"])
        for name, session in self._of.state.sessions.items():
            if session.job == job:
                return self._committed(name, session, outputs)
        return []

    def _committed(self, name: str, session: wire.Session, outputs: Mapping[str, Digest]) -> list[Action]:
        """Every item's next version, at once."""
        of, state = self._of, self._of.state
        merged = by_item(session.merging)
        actions: list[Action] = []
        for item, entries in merged.items():
            stands = state.items[item]
            contributors = [
                {
                    "device": entry.device,
                    "samples": entry.samples,
                    "rounds": entry.rounds,
                    "staleness": stands.version.number - entry.base,
                }
                for entry in entries
            ]
            stands.version.number += 1
            stands.version.digest = outputs[item]
            stands.step = outputs.get(f"step/{item}", "")
            stands.residual = outputs.get(f"residual/{item}", "")
            stands.lost = False
            fields: dict[str, Any] = {
                "item": item,
                "version": stands.version.number,
                "digest": outputs[item],
                "cluster": name,
                "cycle": of.cycle(name),
                "contributors": contributors,
            }
            kind, _, number = item.partition("/")
            if number:
                fields["expert"] = int(number)
            if stands.step:
                fields["step"] = stands.step
            actions.append(Report(f"{kind}_committed", Severity.ACTIVITY_HI, fields))
        state.edition += 1
        answers = session.answers
        self._stop(session)
        session.first_ns = session.failures = 0
        if answers:
            session.gated = True
            session.tuned = GATE in merged
        else:
            session.committed = True
            state.clusters[name].commits += 1
            state.clusters[name].lease_ns = of.now_ns
        if answers and not of.params.synchronous:
            actions += of.passes.gate(name, list(merged))
        return actions + self._assemble(name)

    @staticmethod
    def _stop(session: wire.Session) -> None:
        session.ClearField("job")
        session.ClearField("answers")
        replace(session.merging, [])

    def failed(self, job: str, reason: str) -> list[Action]:
        """Put aside the update that the worker blames, or a residual, and try again without it."""
        of = self._of
        of.state.assemblies.pop(job, None)
        for name, session in of.state.sessions.items():
            if session.job != job:
                continue
            blamed = [
                entry
                for item, entries in by_item(session.merging).items()
                for n, entry in enumerate(entries)
                if f"update/{item}/{n}:" in reason or f"update/{item}/{n} " in reason
            ]
            spoilt = [item for item in by_item(session.merging) if f"residual/{item}:" in reason]
            answers = session.answers
            actions = self._put_back(session, blamed, reason)
            for item in spoilt:
                actions += of.without_residual(item)
            if not blamed and not spoilt:
                session.failures += 1
                actions.append(
                    Report("merge_failed", Severity.WARNING_HI, {"cluster": name, "reason": reason})
                )
            if session.failures >= MERGE_FAILURES_MAX:
                session.failures = 0
                session.gated, session.committed = session.gated or answers, session.committed or not answers
            return actions
        return []

    def without(self, digest: Digest) -> list[Action]:
        """Leave merges that need an object which is lost."""
        actions: list[Action] = []
        for session in self._of.state.sessions.values():
            gone = [entry for entry in session.merging if entry.digest == digest]
            items = [self._of.state.items[entry.item] for entry in session.merging]
            needed = {one for item in items for one in (item.version.digest, item.residual)}
            if session.job and (gone or digest in needed):
                actions.append(CancelJob(session.job))
                actions += self._put_back(session, gone, "its object is lost")
        return actions

    def _put_back(self, session: wire.Session, dropped: Sequence[wire.Entry], reason: str) -> list[Action]:
        """What was being merged waits again, but for those that are dropped."""
        of = self._of
        kept = [entry for entry in session.merging if entry not in dropped]
        back = session.shared if session.answers and not of.params.synchronous else of.state.pending
        back.extend(kept)
        for entry in dropped:
            of.forget_counted(entry)
        actions: list[Action] = [of.refused(entry.device, entry.item, reason) for entry in dropped]
        self._stop(session)
        return actions

    def fence(self) -> list[Action]:
        """Drop updates of experts that have gone to another cluster."""
        of = self._of
        kept, actions = [], list[Action]()
        for entry in of.state.pending:
            owner = of.state.items[entry.item].owner
            if owner == of.params.cluster_of(entry.device).name:
                kept.append(entry)
            else:
                reason = f"{owner or 'nobody'} owns it since, before it was merged"
                actions.append(of.refused(entry.device, entry.item, reason))
        replace(of.state.pending, kept)
        return actions

    # ------------------------------------------------------------------------------- whole models

    def _assemble(self, cluster: str) -> list[Action]:
        of = self._of
        if any(item.lost for item in of.state.items.values()):
            return []
        job = of.key("assemble")
        of.state.assemblies[job].cluster = cluster
        of.state.assemblies[job].cycle = of.cycle(cluster)
        objects = {name: item.version.digest for name, item in sorted(of.state.items.items())}
        return [StartJob(job, "moe.assemble", {}, objects, of.params.times.merge_ns)]

    def _assembled(self, job: str, digest: Digest) -> list[Action]:
        assembly = self._of.state.assemblies[job]
        fields = {"cycle": assembly.cycle, "cluster": assembly.cluster, "digest": digest}
        del self._of.state.assemblies[job]
        return [Report("model_assembled", Severity.ACTIVITY_HI, fields, (digest,))]


def by_item(entries: Sequence[wire.Entry]) -> dict[str, list[wire.Entry]]:
    """In the order in which they come."""
    found: dict[str, list[wire.Entry]] = {}
    for entry in entries:
        found.setdefault(entry.item, []).append(entry)
    return found


def replace(entries: Any, kept: Sequence[wire.Entry]) -> None:
    """What a repeated field holds."""
    copies = [wire.Entry.FromString(entry.SerializeToString()) for entry in kept]
    del entries[:]
    entries.extend(copies)
