"""Small plans by hand and by hypothesis."""

from __future__ import annotations

from hypothesis import strategies as st

from orbitrain.contacts.contact import Contact, Sample
from orbitrain.contacts.plan import ContactPlan, PlanNode

S = 1_000_000_000
MS = 1_000_000


def contact(
    source: str, destination: str, start_ns: int, end_ns: int, *samples: tuple[int, ...], loss: float = 0.0
) -> Contact:
    """Samples are (t_ns, delay_ns, rate_bps) and, if wanted, loss mean and burst."""
    made = tuple(Sample(*one[:3], *(one[3:] or (loss, 1.0))) for one in samples)  # type: ignore[call-arg]
    return Contact(source, destination, "service", start_ns, end_ns, made)


def steady(source: str, destination: str, delay_ms: float, mbps: float, *loss: float) -> Contact:
    """A contact of one state for 900 s."""
    values = (0, round(delay_ms * MS), round(mbps * 1e6), *loss)
    return contact(source, destination, 0, 900 * S, values)  # type: ignore[arg-type]


def plan_of(*contacts: Contact, duration_ns: int = 1000 * S) -> ContactPlan:
    names = sorted({name for one in contacts for name in (one.source, one.destination)} | {"a", "b"})
    return ContactPlan(
        version=1,
        scenario_sha256="0" * 64,
        epoch="2026-01-01T00:00:00Z",
        duration_ns=duration_ns,
        nodes=tuple(PlanNode(name, "satellite") for name in names),
        contacts=contacts,
    )


@st.composite
def contacts(draw: st.DrawFn, source: str, destination: str, start_ns: int) -> Contact:
    """One contact of 1 ms to 200 s with up to six samples."""
    end_ns = start_ns + draw(st.integers(MS, 200 * S))
    times = draw(st.lists(st.integers(start_ns, end_ns), min_size=1, max_size=6, unique=True))
    samples = [
        (
            t_ns,
            draw(st.integers(0, 400 * MS)),
            draw(st.integers(9_600, 100_000_000)),
            draw(st.sampled_from([0.0, 0.0, 0.05, 0.4])),
            draw(st.sampled_from([1.0, 5.0])),
        )
        for t_ns in sorted(times)
    ]
    return contact(source, destination, start_ns, end_ns, *samples)


@st.composite
def plans(draw: st.DrawFn) -> ContactPlan:
    """Up to four links of up to three contacts, with gaps of 0 ns to 20 s."""
    found = []
    for source, destination in draw(
        st.lists(st.sampled_from([("a", "b"), ("b", "a"), ("a", "c"), ("c", "b")]), unique=True, max_size=4)
    ):
        at_ns = draw(st.integers(0, 10 * S))
        for _ in range(draw(st.integers(1, 3))):
            one = draw(contacts(source, destination, at_ns))
            found.append(one)
            at_ns = one.end_ns + draw(st.sampled_from([0, 1, 20 * S]))
    return plan_of(*found)
