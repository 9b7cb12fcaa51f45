"""The decisions of EMS-FL as pure functions that also return why."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from orbitrain.protocols.emsfl.terms import Params, Stale
from orbitrain.v1 import emsfl_pb2 as wire


class Decision(StrEnum):
    WAIT = "wait"
    MERGE = "merge"
    SKIP = "skip"
    """There is nothing to merge, and nothing to wait for."""
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Clock:
    """Of a pass: now, its beginning, its first update of this step (0: none), and when it ends as it is
    believed (0: not known). Scenario ns."""

    now_ns: int
    begun_ns: int
    first_ns: int
    end_ns: int

    def is_late(self, margin_ns: int) -> bool:
        return 0 < self.end_ns <= self.now_ns + margin_ns

    def waited_ns(self) -> int:
        """Since the first update, or since the beginning where it is of an earlier pass."""
        return self.now_ns - (self.first_ns or self.begun_ns)


def awaited(guests: Mapping[str, wire.Guest], members: Mapping[str, wire.Member]) -> tuple[list[str], str]:
    """Devices whose updates a pass waits for: those in contact that have some or have not said, and those
    that were in the last pass and have not come yet."""
    found = []
    for device in sorted({*guests, *members}):
        if device in guests:
            guest = guests[device]
            if guest.there and (not guest.heard or (guest.ready and not guest.came)):
                found.append(device)
        elif not members[device].missing:
            found.append(device)
    return found, f"waiting for {', '.join(found)}" if found else "all have come"


def answering(guests: Mapping[str, wire.Guest]) -> tuple[list[str], str]:
    """Devices in contact that were sent a model, and have not answered with what they trained from it."""
    found = [name for name, guest in sorted(guests.items()) if is_awaited_answer(guest)]
    return found, f"waiting for {', '.join(found)}" if found else "all have answered"


def is_awaited_answer(guest: wire.Guest) -> bool:
    return guest.there and guest.asked and not guest.answered


def first_step(
    params: Params,
    session: wire.Session,
    members: Mapping[str, wire.Member],
    received: int,
    clock: Clock,
) -> tuple[Decision, str]:
    """Whether experts' updates are merged now (eq. (35)). One commit a pass; what comes after it waits for
    the next pass. `members` are the cluster's, `received` how many updates of its experts are here."""
    if session.committed:
        return Decision.DONE, "this pass has committed"
    if params.synchronous and any(guest.model for guest in session.guests.values()):
        return Decision.DONE, "models have been sent"
    waiting, why = awaited(session.guests, members)
    if not received:
        here = [name for name in waiting if name in session.guests]
        if here and not clock.is_late(params.pace.margin_ns):
            return Decision.WAIT, why
        return Decision.SKIP, "nobody has an update"
    if not any(guest.heard for guest in session.guests.values()):
        return Decision.WAIT, "nobody has been heard, and such a pass does not count"
    return _merge(params, session, waiting, why, clock, patient=False)


def second_step(params: Params, session: wire.Session, received: int, clock: Clock) -> tuple[Decision, str]:
    """Whether what was trained in contact is merged now (eq. (36); synchronous: eq. (28)). Whoever was asked
    is waited for as long as the pass lasts."""
    if session.gated:
        return Decision.DONE, "this pass has committed"
    if not any(guest.asked for guest in session.guests.values()):
        return Decision.SKIP, "nobody was asked"
    waiting, why = answering(session.guests)
    if not received:
        return (Decision.WAIT, why) if waiting else (Decision.SKIP, "nobody has answered")
    return _merge(params, session, waiting, why, clock, patient=True)


def _merge(
    params: Params,
    session: wire.Session,
    waiting: Sequence[str],
    why: str,
    clock: Clock,
    patient: bool,
) -> tuple[Decision, str]:
    """Of updates that are here. `patient`: as long as the pass lasts, if that is known."""
    if not waiting:
        return Decision.MERGE, why
    if not any(guest.there for guest in session.guests.values()):
        return Decision.MERGE, "nobody is in contact any more"
    if clock.is_late(params.pace.margin_ns):
        return Decision.MERGE, "the pass is about to end"
    if not (patient and clock.end_ns) and clock.waited_ns() >= params.pace.wait_ns:
        return Decision.MERGE, "that was waited long enough"
    return Decision.WAIT, why


def accepted(
    item: wire.Item, change: wire.Change, cluster: str, counted: int, stale: Stale
) -> tuple[bool, str]:
    """Whether an update of an item counts. `cluster` is its sender's; `counted` is one more than the base of
    the last update of this item that counted of this device.

    A base before the item came to the cluster is fenced off: what was trained in an earlier turn is over.
    """
    if item.owner != cluster:
        return False, f"{item.owner or 'nobody'} owns it"
    if change.base < item.since:
        return False, f"version {change.base} is of before version {item.since}, with which {cluster} got it"
    if change.base < counted:
        return False, f"an update of version {counted - 1} was counted before"
    behind = item.version.number - change.base
    if behind > stale.most:
        return False, f"version {change.base} is {behind} behind, allowed are {stale.most}"
    return True, f"{behind} behind"


def weights(
    entries: Sequence[wire.Entry], version: int, stale: Stale
) -> tuple[list[float], list[float | None]]:
    """Of updates of one item, in this order: n_m decay^s / sum n, and the norm that each may have."""
    total = sum(entry.samples for entry in entries)
    behind = [version - entry.base for entry in entries]
    shares = [entry.samples * stale.decay**late / total for entry, late in zip(entries, behind, strict=True)]
    return shares, [stale.clip if late else None for late in behind]


def lapsed(
    params: Params, clusters: Mapping[str, wire.Standing], owners: Collection[str], now_ns: int
) -> list[str]:
    """Clusters that own experts and have not committed for so long that they lose them."""
    return [
        name
        for name, standing in sorted(clusters.items())
        if name in owners and not standing.absent and now_ns - standing.lease_ns >= params.pace.lease_ns
    ]


def split_due(
    params: Params, state: wire.SatelliteState, owners: Collection[str], is_merging: bool, now_ns: int
) -> tuple[bool, str]:
    """Whether experts are given out now. `owners` are the clusters that own some. Not while a pass is about
    to merge updates, or does: they would be fenced off."""
    if params.synchronous or state.finished:
        return False, "nothing is given out"
    if is_merging:
        return False, "updates are being merged"
    devices = {cluster.name: cluster.devices for cluster in params.clusters}
    surveyed = {
        name: [
            device for device in devices[name] if device in state.members and state.members[device].surveyed
        ]
        for name in devices
    }
    if not any(surveyed[name] and not state.clusters[name].absent for name in devices):
        return False, "no counts of any cluster"
    if not state.epoch:
        lacking = [device for name in devices for device in devices[name] if device not in surveyed[name]]
        if not lacking:
            return True, "all counts are here"
        if now_ns - state.begun_ns >= params.pace.lease_ns:
            return True, f"{', '.join(lacking)} did not send counts"
        return False, f"no counts of {', '.join(lacking)}"
    gone = [name for name in sorted(owners) if state.clusters[name].absent]
    if gone:
        return True, f"the lease of {', '.join(gone)} has expired"
    if state.resplit:
        return True, "a cluster that was left out is back"
    cycles = params.pace.resplit_cycles
    if cycles and owners and all(state.clusters[name].commits >= cycles for name in owners):
        return True, f"every owner has committed {cycles} times"
    return False, "it is nobody's turn"
