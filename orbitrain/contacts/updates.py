"""Plan updates: the rule by which a newer plan takes the place of an older one in a running scenario.

What a node did until now it did by the old plan, and who serves a region depends on who served it before. So
an update never rewrites the past: `spliced` keeps the old plan up to an instant and goes on with the new one,
under the next revision. It is made once, where plans are made, for an instant far enough ahead for the
slowest uplink; nodes get the result (or their slice of it) and only ever replace: `replaces` says whether.
Nodes that have not heard yet agree with those that have until that instant.
"""

from __future__ import annotations

from dataclasses import replace

from orbitrain.contacts.contact import Contact
from orbitrain.contacts.plan import ContactPlan


def replaces(current: ContactPlan, offered: ContactPlan) -> tuple[bool, str]:
    """Whether a node that holds `current` goes on with `offered`, and why."""
    if offered.scenario_sha256 != current.scenario_sha256:
        return False, "it is the plan of another scenario"
    if offered.epoch != current.epoch:
        return False, f"its epoch is {offered.epoch}, not {current.epoch}"
    if offered.for_node != current.for_node:
        return False, f"it is {_extent(offered)}, not {_extent(current)}"
    if offered.revision < current.revision:
        return False, f"revision {offered.revision} is older than {current.revision}"
    if offered.revision == current.revision:
        if offered.sha256 == current.sha256:
            return False, f"it is the plan in use, revision {current.revision}"
        return False, f"it is another plan under the same revision {current.revision}"
    return True, f"revision {offered.revision} follows {current.revision}"


def spliced(current: ContactPlan, fresh: ContactPlan, from_ns: int) -> ContactPlan:
    """`current` until `from_ns` and `fresh` from then on, as the revision after `current`'s.

    A contact of one directed pair and class that both plans have at that instant stays one contact: it does
    not end and start again. Nodes (and where they are) are as in `fresh`. ValueError unless both are whole
    plans of one scenario and epoch, and `fresh` reaches to `from_ns`.
    """
    if current.for_node is not None or fresh.for_node is not None:
        raise ValueError("plan: must be whole, slices are cut from what comes out")
    if fresh.scenario_sha256 != current.scenario_sha256:
        raise ValueError("scenario_sha256: must be the same in both plans")
    if fresh.epoch != current.epoch:
        raise ValueError(f"epoch: must be {current.epoch} in both plans, not {fresh.epoch}")
    if not 0 <= from_ns <= min(current.duration_ns, fresh.duration_ns):
        raise ValueError(f"from_ns: must be within both plans, not {from_ns}")
    contacts: list[Contact] = []
    joined: set[tuple[str, str]] = set()
    for contact in current.contacts:
        if contact.end_ns <= from_ns:
            contacts.append(contact)
        elif contact.start_ns < from_ns:
            before = _clipped(contact, contact.start_ns, from_ns)
            after = fresh.active(contact.source, contact.destination, from_ns)
            if after is not None and after.link_class == contact.link_class:
                joined.add((contact.source, contact.destination))
                before = _joined(before, after)
            contacts.append(before)
    for contact in fresh.contacts:
        pair = (contact.source, contact.destination)
        if contact.end_ns > from_ns and not (contact.start_ns <= from_ns and pair in joined):
            contacts.append(_clipped(contact, max(contact.start_ns, from_ns), contact.end_ns))
    known = {node.name for node in fresh.nodes}
    return replace(
        fresh,
        nodes=(*fresh.nodes, *(node for node in current.nodes if node.name not in known)),
        contacts=tuple(contacts),
        revision=current.revision + 1,
    )


def _clipped(contact: Contact, start_ns: int, end_ns: int) -> Contact:
    """The part of a contact between two of its instants, with the state it has there."""
    if (start_ns, end_ns) == (contact.start_ns, contact.end_ns):
        return contact
    inner = [sample for sample in contact.samples if start_ns < sample.t_ns < end_ns]
    samples = (contact.sample_at(start_ns), *inner, contact.sample_at(end_ns))
    return replace(contact, start_ns=start_ns, end_ns=end_ns, samples=samples)


def _joined(before: Contact, after: Contact) -> Contact:
    # The step from one state to the other takes the last ns of the old one.
    seam_ns = before.end_ns
    samples = (
        *(sample for sample in before.samples if sample.t_ns < seam_ns - 1),
        before.sample_at(seam_ns - 1),
        after.sample_at(seam_ns),
        *(sample for sample in after.samples if sample.t_ns > seam_ns),
    )
    # One edge is of either: what holds for both is the wider margin and the lower confidence.
    return replace(
        before,
        end_ns=after.end_ns,
        samples=samples,
        margin_ns=max(before.margin_ns, after.margin_ns),
        confidence=min(before.confidence, after.confidence),
    )


def _extent(plan: ContactPlan) -> str:
    return "a whole plan" if plan.for_node is None else f"a slice for {plan.for_node}"
