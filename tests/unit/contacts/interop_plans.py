"""Plans of ten minutes, as they are taken to ION and HDTN and back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from orbitrain.contacts.contact import Contact, Sample
from orbitrain.contacts.plan import ContactPlan, PlanNode
from tests.unit.contacts.small_plans import NODES

SECOND = 10**9
MINUTE = 60 * SECOND


def plan_of(
    *contacts: Contact, nodes: tuple[PlanNode, ...] = NODES, epoch: str = "2026-02-28T23:59:00Z"
) -> ContactPlan:
    return ContactPlan(1, "ab" * 32, epoch, 10 * MINUTE, nodes, contacts)


def contact(
    source: str, destination: str, start_ns: int, end_ns: int, *states: tuple[int, int, int]
) -> Contact:
    """States are (t_ns, delay_ns, rate_bps)."""
    link_class = "service" if "quito-0" in (source, destination) else "inter_isl"
    samples = tuple(Sample(*state, 0.0, 1.0) for state in states)
    return Contact(source, destination, link_class, start_ns, end_ns, samples)  # type: ignore[arg-type]


# 1 Mbit/s is 125,000 bytes/s; a pass from 12.25 to 200.75 s; Mars-like 240 s and then 241 s of light time.
GOLDEN = plan_of(
    contact("sat-0", "quito-0", 12_250_000_000, 200_750_000_000, (12_250_000_000, 4_000_000, 1_000_000)),
    contact("quito-0", "sat-0", 12_250_000_000, 200_750_000_000, (12_250_000_000, 4_000_000, 1_000_000)),
    contact(
        "sat-1", "sat-0", MINUTE, 3 * MINUTE,
        (MINUTE, 240 * SECOND, 9604), (2 * MINUTE - 1, 240 * SECOND, 9604), (2 * MINUTE, 241 * SECOND, 9604),
    ),
)  # fmt: skip


def doubtful(**changes: Any) -> ContactPlan:
    sure = contact("sat-0", "sat-1", 0, 10 * SECOND, (0, 0, 8000))
    return plan_of(replace(sure, **changes), replace(sure, source="sat-1", destination="sat-0"))
