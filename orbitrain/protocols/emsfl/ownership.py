"""Who owns which expert: when experts are given out (Algorithm 1), and leases."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from orbitrain.machine import Action, LocalProtocolError, Report, Severity
from orbitrain.protocols.emsfl.rules import lapsed, split_due
from orbitrain.protocols.emsfl.terms import Split, Splitter, expert
from orbitrain.splitting.relevance import Relevance

if TYPE_CHECKING:
    from orbitrain.protocols.emsfl.satellite import Satellite


class Ownership:
    """Of one satellite, in whose state it is."""

    def __init__(self, satellite: Satellite, splitter: Splitter) -> None:
        self._of = satellite
        self._splitter = splitter

    @property
    def owners(self) -> list[str]:
        """By expert; empty where nobody has it."""
        return [self._of.state.items[item].owner for item in self._of.params.experts]

    def heard(self, cluster: str) -> None:
        """A cluster that was left out takes part again once its counts are known."""
        state = self._of.state
        standing = state.clusters[cluster]
        if standing.absent and self._surveyed(cluster):
            standing.absent = False
            state.resplit = True

    def _surveyed(self, cluster: str) -> list[str]:
        """Its devices whose counts are here."""
        members = self._of.state.members
        devices = self._of.params.cluster_of_name(cluster).devices
        return [device for device in devices if device in members and members[device].surveyed]

    def settle(self) -> list[Action]:
        """End leases, and give out experts where that is due."""
        of = self._of
        if of.params.synchronous or of.state.finished:
            return []
        actions: list[Action] = []
        owners = set(self.owners) - {""}
        for name in lapsed(of.params, of.state.clusters, owners, of.now_ns):
            of.state.clusters[name].absent = True
            actions.append(Report("lease_expired", Severity.WARNING_LO, {"cluster": name}))
        due, reason = split_due(of.params, of.state, owners, of.passes.is_merging, of.now_ns)
        return actions + (self._split(reason) if due else [])

    def _split(self, reason: str) -> list[Action]:
        of, state = self._of, self._of.state
        relevance = self._relevance()
        epoch = state.epoch + 1
        split, memory = self._splitter(relevance, of.params.split, state.memory, of.params.seed, epoch)
        owners = self._checked(split)
        state.epoch = epoch
        state.edition += 1
        state.memory = memory
        state.resplit = False
        for number, owner in enumerate(owners):
            item = state.items[expert(number)]
            if item.owner != owner:
                item.owner, item.since = owner, item.version.number
        for name, standing in state.clusters.items():
            standing.commits, standing.lease_ns = 0, of.now_ns
            standing.absent = standing.absent or not self._surveyed(name)
        fields = {
            "epoch": epoch,
            "owners": owners,
            "gamma": dict(split.gamma),
            "unserved": list(split.unserved),
            "revived": list(split.revived),
            "relevance": [list(row) for row in split.relevance],
            "reason": reason,
        }
        of.passes.anew()
        return [Report("split", Severity.ACTIVITY_HI, fields), *of.commits.fence()]

    def _relevance(self) -> Relevance:
        """Of clusters that are left out there are no counts."""
        of, state = self._of, self._of.state
        names = tuple(cluster.name for cluster in of.params.clusters)
        counts, totals = [], []
        for name in names:
            members = [] if state.clusters[name].absent else self._surveyed(name)
            rows = [state.members[device].counts for device in members]
            counts.append(tuple(sum(row[n] for row in rows) for n in range(of.params.model.experts)))
            totals.append(of.params.model.layers * sum(state.members[device].samples for device in members))
        return Relevance(names, tuple(counts), tuple(totals))

    def _checked(self, split: Split) -> list[str]:
        """Owners; an expert that was given to a cluster that is left out stays as it is."""
        of = self._of
        owners = list(split.owners)
        names = {"", *(cluster.name for cluster in of.params.clusters)}
        if len(owners) != of.params.model.experts or not names.issuperset(owners):
            raise LocalProtocolError(f"the splitter gave {owners} as owners")
        left_out = {name for name in names if name and of.state.clusters[name].absent}
        return ["" if owner in left_out else owner for owner in owners]

    def instants(self) -> Iterator[int]:
        """When `settle` may do more."""
        of = self._of
        if of.params.synchronous or of.state.finished:
            return
        lease_ns = of.params.pace.lease_ns
        if not of.state.epoch:
            yield of.state.begun_ns + lease_ns
        for name in sorted(set(self.owners) - {""}):
            if not of.state.clusters[name].absent:
                yield of.state.clusters[name].lease_ns + lease_ns
