"""Bytes that rounds of SFFT moved, from journals, beside what they need in closed form.

Expected are values alone: what messages, files and connections add is measured and not expected.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from orbitrain.contacts.plan import ContactPlan
from orbitrain.protocols.sfft.costs import Load, RoundTraffic, round_traffic
from orbitrain.protocols.sfft.ring import Ring
from orbitrain.protocols.sfft.terms import Params
from orbitrain.results import Entry

ROWS: Final = (
    ("gather", "intra_isl", ("block",)),
    ("down", "feeder", ("block",)),
    ("up", "feeder", ("features",)),
    ("reduce", "intra_isl", ("head", "visit")),
)
"""Of a round in all: the quantity, the class of its links, the kinds of its letters."""

EDGE: Final = "edge"
"""Sums of heads over the direction of an edge between planes that most went over."""

Believed = Callable[[int], ContactPlan]
"""The plan that nodes believe at a scenario time, ns."""


@dataclass(slots=True)
class _Round:
    """What the server began last of a round, and what letters moved in all its attempts."""

    begun_ns: int = 0
    attempts: int = 0
    participants: tuple[str, ...] = ()
    merged: bool = False
    """Planes' sums go along a tree."""
    summed: frozenset[str] | None = None
    """Whose heads the commit is of; None until then."""
    moved: dict[str, int] = field(default_factory=dict)
    over: dict[tuple[int, int], int] = field(default_factory=dict)
    """Between planes, by direction."""


def traffic(entries: Sequence[Entry], params: Params, load: Load, believed: Believed) -> list[dict[str, Any]]:
    """By committed round and quantity: bytes measured, expected of one attempt, and how they compare.

    `load` is of a satellite that brings its samples.
    """
    rounds = _rounds(entries, params)
    known: set[str] = set()
    found = []
    for number, one in sorted(rounds.items()):
        if one.summed is None:
            continue
        rings = _rings(params, believed(one.begun_ns), one.participants)
        expected = _expected(params, rings, load, known, merged=one.merged)
        if params.work.cache:
            known |= one.summed
        measured = {name: one.moved.get(name, 0) for name, _, _ in ROWS}
        measured[EDGE] = max(one.over.values(), default=0)
        rows = {name: _compared(measured[name], wanted) for name, wanted in expected.items()}
        found.append({"round": number, "attempts": one.attempts, **rows})
    return found


def _compared(measured: int, expected: int) -> dict[str, Any]:
    ratio = round(measured / expected, 3) if expected else None
    return {"bytes": measured, "expected": expected, "ratio": ratio}


# --- measured -----------------------------------------------------------------------------------------------


def _rounds(entries: Iterable[Entry], params: Params) -> dict[int, _Round]:
    """A letter is of the round that its satellite is in when it ends; a station's is of the server's."""
    rounds: dict[int, _Round] = {}
    at: dict[str, int] = {}
    for entry in entries:
        fields = entry.event.fields
        match entry.event.kind:
            case "round_begun":
                one = rounds.setdefault(fields["round"], _Round())
                one.begun_ns, one.attempts = entry.event.t_ns, fields["attempt"]
                one.participants, one.merged = tuple(fields["participants"]), bool(fields.get("parents"))
                at[params.server] = fields["round"]
            case "committed":
                rounds[fields["round"]].summed = frozenset(fields["participants"])
            case "round_joined" | "head_adopted":
                at[entry.node] = fields["round"]
            case "letter_delivered" | "letter_undelivered" if "class" in fields:
                number = at.get(params.server if entry.node in params.stations else entry.node, 0)
                if number in rounds:
                    _count(rounds[number], entry, params)
    return rounds


def _count(one: _Round, entry: Entry, params: Params) -> None:
    fields = entry.event.fields
    kind, link_class, nbytes = fields["key"].partition("/")[0], fields["class"], fields["bytes"]
    for name, row_class, kinds in ROWS:
        if link_class == row_class and kind in kinds:
            one.moved[name] = one.moved.get(name, 0) + nbytes
    if kind == "sum" and link_class == "inter_isl":
        way = params.plane_of(entry.node), params.plane_of(fields["to"])
        one.over[way] = one.over.get(way, 0) + nbytes


# --- expected -----------------------------------------------------------------------------------------------


def _rings(params: Params, plan: ContactPlan, participants: Collection[str]) -> list[Ring]:
    """As the planes' members form them."""
    found: list[Ring] = []
    for plane in params.planes:
        members = [name for name in plane if name in participants]
        formed = Ring.formed(members, lambda one, other: other in plan.neighbours(one))
        found += formed[:1]
    return found


def _expected(
    params: Params, rings: Sequence[Ring], load: Load, known: Collection[str], *, merged: bool
) -> dict[str, int]:
    """`known`: satellites that keep their features. A head goes once each way over the edge of a tree."""
    heads = 1 if merged else len(rings)
    costs = [_of_plane(params, ring, load, known) for ring in rings]
    return {
        "gather": sum(one.gather_bytes for one in costs),
        "down": sum(one.down_bytes for one in costs),
        "up": sum(one.up_bytes for one in costs),
        "reduce": sum(one.reduce_bytes for one in costs),
        EDGE: heads * load.head_bytes if len(rings) > 1 else 0,
    }


def _of_plane(params: Params, ring: Ring, load: Load, known: Collection[str]) -> RoundTraffic:
    """Each block goes once to each other member, whoever else brings one."""
    bringing = 0 if params.work.on_board else sum(name not in known for name in ring.members)
    whole = round_traffic([ring], load, params.work.gather, params.reduction(ring))
    return replace(
        whole,
        gather_bytes=whole.gather_bytes * bringing // len(ring),
        down_bytes=whole.down_bytes * bringing // len(ring),
        up_bytes=whole.up_bytes * bringing // len(ring),
    )
