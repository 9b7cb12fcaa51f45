"""Whether SFFT can ever end a round over a contact plan."""

from __future__ import annotations

from collections.abc import Sequence

from orbitrain.contacts.plan import ContactPlan


def why_no_round(plan: ContactPlan, planes: Sequence[Sequence[str]], stations: Sequence[str]) -> str | None:
    """The reason why not, in one line; None where it can."""
    for number, members in enumerate(planes):
        if not any(plan.windows(name, station) for name in members for station in stations):
            return f"stations: must see plane {number} at some time; {members[0]} and its plane never are"
        apart = [
            (a, b)
            for a, b in zip(members, [*members[1:], members[0]], strict=True)
            if a != b and not plan.windows(a, b)
        ]
        if len(members) > 1 and len(apart) > 1:  # one gap leaves a chain
            a, b = apart[0]
            return f"links.intra_isl: neighbours of plane {number} must see each other; {a} and {b} never do"
    joined, waiting = {0}, [0]
    while waiting:
        one = waiting.pop()
        for other, members in enumerate(planes):
            if other not in joined and _meet(plan, planes[one], members):
                joined.add(other)
                waiting.append(other)
    if len(joined) < len(planes):
        alone = min(set(range(len(planes))) - joined)
        return f"links.inter_isl: must join all planes; plane {alone} has no way to plane 0"
    return None


def _meet(plan: ContactPlan, some: Sequence[str], others: Sequence[str]) -> bool:
    return any(set(plan.neighbours(name)) & set(others) for name in some)
