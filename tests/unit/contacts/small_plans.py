"""Plans of 100 ns between two satellites and a device, by hand and by hypothesis."""

from __future__ import annotations

import itertools
from dataclasses import replace

from hypothesis import strategies as st

from orbitrain.contacts.contact import Contact, Sample
from orbitrain.contacts.plan import ContactPlan, Orbit, Place, PlanNode

NODES = (PlanNode("sat-0", "satellite"), PlanNode("sat-1", "satellite"), PlanNode("quito-0", "device"))
NAMES = tuple(node.name for node in NODES)
DURATION_NS = 100


def sample(t_ns: int, delay_ns: int = 5, rate_bps: int = 1000) -> Sample:
    return Sample(t_ns, delay_ns, rate_bps, 0.01, 3.5)


def contact(source: str, destination: str, start_ns: int, end_ns: int) -> Contact:
    return Contact(source, destination, "service", start_ns, end_ns, (sample(start_ns), sample(end_ns, 9)))


def plan_of(*contacts: Contact) -> ContactPlan:
    return ContactPlan(1, "ab" * 32, "2026-01-01T00:00:00Z", DURATION_NS, NODES, contacts)


def small_plan() -> ContactPlan:
    return plan_of(
        contact("sat-0", "quito-0", 10, 30),
        contact("quito-0", "sat-0", 12, 35),
        contact("sat-1", "quito-0", 20, 60),
        contact("sat-0", "quito-0", 50, 70),
    )


@st.composite
def plans(draw: st.DrawFn) -> ContactPlan:
    contacts = []
    for source, destination in itertools.permutations(NAMES, 2):
        edges = sorted(draw(st.sets(st.integers(0, DURATION_NS), max_size=8)))
        for start_ns, end_ns in itertools.pairwise(edges):
            if not draw(st.booleans()):
                continue
            times = draw(st.sets(st.integers(start_ns, end_ns), min_size=1, max_size=4))
            samples = tuple(
                Sample(
                    t,
                    draw(st.integers(0, 50)),
                    draw(st.integers(1, 10**10)),
                    draw(st.floats(0, 1)),
                    draw(st.floats(1, 9)),
                )
                for t in sorted(times)
            )
            margin_ns = draw(st.sampled_from([0, 0, 7, 2**63 - 1]))
            confidence = draw(st.sampled_from([1.0, 1.0, 0.0, 0.1, 1 / 3]))
            contacts.append(
                Contact(source, destination, "service", start_ns, end_ns, samples, margin_ns, confidence)
            )
    return plan_of(*draw(st.permutations(contacts)))


PLACE = Place(-0.18, -78.47, 2850.0)
ORBIT = Orbit(27_758.123456789, 1.5e-5, 0.001, 4.0, 0.925, -1.25, 0.0657, 6.28)


def trusted() -> ContactPlan:
    contacts = list(small_plan().contacts)
    contacts[1] = replace(contacts[1], margin_ns=130_000_000)
    contacts[3] = replace(contacts[3], confidence=0.75)
    nodes = (replace(NODES[0], orbit=ORBIT), NODES[1], replace(NODES[2], place=PLACE))
    return replace(small_plan(), nodes=nodes, contacts=tuple(contacts))
