"""What a custodian of bundles asks the plan that its node believes. Pure.

A contact is counted on from when it is confirmed, and not at its edges, where this node's clock may err: it
is cut by as much at either end. Routes are the earliest arrivals over what is left of the contacts once the
routes of this node's other bundles are taken off; what other nodes have promised no node knows.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

from orbitrain.contacts.contact import Contact
from orbitrain.contacts.plan import ContactPlan
from orbitrain.contacts.routing import Residual, earliest_arrival, earliest_arrival_in_parts
from orbitrain.mailbox import ENVELOPE_BYTES
from orbitrain.protocols.bundles import Leg


class PlanRoutes:
    """The routes of one node's bundles. It follows updates of the plan."""

    def __init__(self, plan: ContactPlan, node: str, acquisition_ns: int, clock_error_ns: int) -> None:
        """`acquisition_ns` is what a contact takes to be confirmed; `clock_error_ns` how far a clock may be
        off."""
        self._node = node
        self._before_ns = acquisition_ns + clock_error_ns
        self._after_ns = clock_error_ns
        self.follow(plan)

    def follow(self, plan: ContactPlan) -> None:
        """From now on answer from this plan: nothing of it is promised yet."""
        self._plan = plan
        self._residual = Residual()
        self._cut: ContactPlan | None = None

    def prepare(self, plan: ContactPlan) -> Callable[[], None]:
        """Calling what is returned makes `plan` the one that is asked."""
        return lambda: self.follow(plan)

    def _usable(self) -> ContactPlan:
        """The plan with its contacts cut; only once somebody asks, as most nodes never route a bundle."""
        if self._cut is None:
            cut = (trimmed(contact, self._before_ns, self._after_ns) for contact in self._plan.contacts)
            contacts = tuple(contact for contact in cut if contact is not None)
            self._cut = replace(self._plan, contacts=contacts)
        return self._cut

    def knows(self, node: str) -> bool:
        """Whether the plan has such a node."""
        return any(each.name == node for each in self._plan.nodes)

    def leg(
        self, bundle: str, destination: str, now_ns: int, size_bytes: int, without: Collection[str]
    ) -> Leg | None:
        """See `bundles.Routes`."""
        self._residual.release(bundle)
        size_bytes += ENVELOPE_BYTES
        avoided = set(without) - {self._node}
        route = earliest_arrival(
            self._usable(), self._node, destination, now_ns, size_bytes, self._residual, avoided
        )
        if route:
            self._residual.reserve(bundle, route, size_bytes)
        else:  # larger than what any contact has left: bytes that have arrived stay, so over several
            route = earliest_arrival_in_parts(
                self._usable(), self._node, destination, now_ns, size_bytes, avoided
            )
        return Leg(route[0].contact.destination, route[0].contact.end_ns) if route else None

    def release(self, bundle: str) -> None:
        """See `bundles.Routes`."""
        self._residual.release(bundle)


def trimmed(contact: Contact, before_ns: int, after_ns: int) -> Contact | None:
    """A contact cut at its edges; None if nothing is left of it."""
    start_ns, end_ns = contact.start_ns + before_ns, contact.end_ns - after_ns
    if start_ns >= end_ns:
        return None
    inner = [sample for sample in contact.samples if start_ns < sample.t_ns < end_ns]
    samples = (contact.sample_at(start_ns), *inner, contact.sample_at(end_ns))
    return replace(contact, start_ns=start_ns, end_ns=end_ns, samples=samples)
