"""What differs between two plans: contacts that appeared, vanished or moved, and nodes.

Contacts are matched within each directed pair, one to one: of all overlapping ones the two that share the
most time first (a tie goes to the earlier). A pass that moved by more than its length vanished and appeared.
Plans of different epochs are compared at the same instants of UTC; times are told in the first plan's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from orbitrain.contacts.contact import Contact
from orbitrain.contacts.plan import ContactPlan, PlanNode

_NS_PER_US = 1_000


@dataclass(frozen=True, slots=True)
class Move:
    """A contact of both plans that is not the same in both; changes are the second plan's minus the first's.

    `delay_change_ns` and `rate_change_bps` are the greatest ones (signed) while both contacts last; of two
    equally great ones the earlier. `volume_change_bytes` is of all that can be sent over the whole contact;
    it goes with other changes and is none by itself.
    """

    before: Contact
    after: Contact
    start_shift_ns: int
    end_shift_ns: int
    delay_change_ns: int
    rate_change_bps: int
    volume_change_bytes: int
    margin_change_ns: int
    confidence_change: float
    loss_changed: bool
    class_changed: bool


@dataclass(frozen=True, slots=True)
class PlanDifference:
    """What `diff` found: contacts in plan order, times in the first plan's; `other` is told as lines.

    `nodes_changed` are those that both plans have under one name and kind, as (before, after): at another
    place or on another orbit.
    """

    other: tuple[str, ...]
    nodes_appeared: tuple[PlanNode, ...]
    nodes_vanished: tuple[PlanNode, ...]
    nodes_changed: tuple[tuple[PlanNode, PlanNode], ...]
    appeared: tuple[Contact, ...]
    vanished: tuple[Contact, ...]
    moved: tuple[Move, ...]
    unchanged: int

    def __bool__(self) -> bool:
        return bool(
            self.other
            or self.nodes_appeared
            or self.nodes_vanished
            or self.nodes_changed
            or self.appeared
            or self.vanished
            or self.moved
        )

    def lines(self) -> tuple[str, ...]:
        """One line a difference, and a last one that counts; times in seconds."""
        nodes = [f"+ {node.kind} {node.name}" for node in self.nodes_appeared]
        nodes += [f"- {node.kind} {node.name}" for node in self.nodes_vanished]
        nodes += [_told_node(before, after) for before, after in self.nodes_changed]
        contacts = [(_order(contact), "+ " + _told(contact)) for contact in self.appeared]
        contacts += [(_order(contact), "- " + _told(contact)) for contact in self.vanished]
        contacts += [(_order(move.before), "~ " + _told_move(move)) for move in self.moved]
        counts = (
            f"{len(self.appeared)} appeared, {len(self.vanished)} vanished, {len(self.moved)} moved, "
            f"{self.unchanged} unchanged"
        )
        return (*self.other, *nodes, *(line for _, line in sorted(contacts)), counts)


def diff(a: ContactPlan, b: ContactPlan) -> PlanDifference:
    """What became of `a` in `b`."""
    offset_ns = _ns_between(a.epoch, b.epoch)
    in_a = {(node.name, node.kind): node for node in a.nodes}
    in_b = {(node.name, node.kind): node for node in b.nodes}
    appeared: list[Contact] = []
    vanished: list[Contact] = []
    moved: list[Move] = []
    unchanged = 0
    after = _by_pair([_shifted(contact, offset_ns) for contact in b.contacts])
    before = _by_pair(list(a.contacts))
    for pair in sorted(before.keys() | after.keys()):
        matches = _matched(before.get(pair, []), after.get(pair, []))
        for one, other in matches:
            if one is None:
                assert other is not None
                appeared.append(other)
            elif other is None:
                vanished.append(one)
            elif one == other:
                unchanged += 1
            else:
                move = _move(one, other)
                if move is None:
                    unchanged += 1  # the same states, spelled with other samples
                else:
                    moved.append(move)
    return PlanDifference(
        other=tuple(_other(a, b)),
        nodes_appeared=tuple(node for key, node in in_b.items() if key not in in_a),
        nodes_vanished=tuple(node for key, node in in_a.items() if key not in in_b),
        nodes_changed=tuple((node, in_b[key]) for key, node in in_a.items() if in_b.get(key, node) != node),
        appeared=tuple(sorted(appeared, key=_order)),
        vanished=tuple(sorted(vanished, key=_order)),
        moved=tuple(sorted(moved, key=lambda move: _order(move.before))),
        unchanged=unchanged,
    )


def _other(a: ContactPlan, b: ContactPlan) -> list[str]:
    lines = []
    for field in ("scenario_sha256", "epoch", "duration_ns", "revision", "for_node"):
        one, other = getattr(a, field), getattr(b, field)
        if one != other:
            lines.append(f"{field}: {one} -> {other}")
    return lines


def _ns_between(a: str, b: str) -> int:
    apart: timedelta = datetime.fromisoformat(b) - datetime.fromisoformat(a)
    return apart // timedelta(microseconds=1) * _NS_PER_US


def _shifted(contact: Contact, offset_ns: int) -> Contact:
    if offset_ns == 0:
        return contact
    samples = tuple(replace(sample, t_ns=sample.t_ns + offset_ns) for sample in contact.samples)
    return replace(
        contact,
        start_ns=contact.start_ns + offset_ns,
        end_ns=contact.end_ns + offset_ns,
        samples=samples,
    )


def _by_pair(contacts: list[Contact]) -> dict[tuple[str, str], list[Contact]]:
    pairs: dict[tuple[str, str], list[Contact]] = {}
    for contact in contacts:
        pairs.setdefault((contact.source, contact.destination), []).append(contact)
    return pairs


def _matched(before: list[Contact], after: list[Contact]) -> list[tuple[Contact | None, Contact | None]]:
    overlaps: list[tuple[int, int, int]] = []
    i = j = 0
    while i < len(before) and j < len(after):
        shared_ns = min(before[i].end_ns, after[j].end_ns) - max(before[i].start_ns, after[j].start_ns)
        if shared_ns > 0:
            overlaps.append((-shared_ns, i, j))
        if before[i].end_ns <= after[j].end_ns:
            i += 1
        else:
            j += 1
    to: dict[int, int] = {}
    taken: set[int] = set()
    for _, one, other in sorted(overlaps):
        if one not in to and other not in taken:
            to[one] = other
            taken.add(other)
    matches: list[tuple[Contact | None, Contact | None]] = [
        (contact, after[to[index]] if index in to else None) for index, contact in enumerate(before)
    ]
    matches += [(None, contact) for index, contact in enumerate(after) if index not in taken]
    return matches


def _move(before: Contact, after: Contact) -> Move | None:
    start_ns, end_ns = max(before.start_ns, after.start_ns), min(before.end_ns, after.end_ns)
    # Between two knots of either contact both run straight: differences are greatest at a knot.
    knots = {start_ns, end_ns}
    knots.update(sample.t_ns for contact in (before, after) for sample in contact.samples)
    delay_change_ns = rate_change_bps = 0
    loss_changed = False
    for t_ns in sorted(knot for knot in knots if start_ns <= knot <= end_ns):
        one, other = before.sample_at(t_ns), after.sample_at(t_ns)
        delay_change_ns = max(delay_change_ns, other.delay_ns - one.delay_ns, key=abs)
        rate_change_bps = max(rate_change_bps, other.rate_bps - one.rate_bps, key=abs)
        loss_changed |= (one.loss_mean, one.loss_burst) != (other.loss_mean, other.loss_burst)
    move = Move(
        before=before,
        after=after,
        start_shift_ns=after.start_ns - before.start_ns,
        end_shift_ns=after.end_ns - before.end_ns,
        delay_change_ns=delay_change_ns,
        rate_change_bps=rate_change_bps,
        volume_change_bytes=_volume_bytes(after) - _volume_bytes(before),
        margin_change_ns=after.margin_ns - before.margin_ns,
        confidence_change=after.confidence - before.confidence,
        loss_changed=loss_changed,
        class_changed=before.link_class != after.link_class,
    )
    changes: tuple[object, ...] = (
        move.start_shift_ns,
        move.end_shift_ns,
        move.delay_change_ns,
        move.rate_change_bps,
        # Not the volume: rates that are the same to the bit/s may add up to a few bytes more or less.
        move.margin_change_ns,
        move.confidence_change,
        move.loss_changed,
        move.class_changed,
    )
    return move if any(changes) else None


def _volume_bytes(contact: Contact) -> int:
    return contact.volume_bytes(contact.start_ns, contact.end_ns)


# --- text ---------------------------------------------------------------------------------------------------


def _order(contact: Contact) -> tuple[int, str, str]:
    return contact.start_ns, contact.source, contact.destination


def _told(contact: Contact) -> str:
    return (
        f"{contact.source} -> {contact.destination} {contact.link_class} "
        f"{_seconds(contact.start_ns)} to {_seconds(contact.end_ns)} s"
    )


def _told_move(move: Move) -> str:
    changes = []
    if move.start_shift_ns:
        changes.append(f"start {_seconds(move.start_shift_ns, sign=True)} s")
    if move.end_shift_ns:
        changes.append(f"end {_seconds(move.end_shift_ns, sign=True)} s")
    if move.delay_change_ns:
        changes.append(f"delay {move.delay_change_ns / 1e6:+.6f} ms")
    if move.rate_change_bps:
        changes.append(f"rate {move.rate_change_bps:+d} bit/s")
    if move.volume_change_bytes and (move.start_shift_ns or move.end_shift_ns or move.rate_change_bps):
        changes.append(f"volume {move.volume_change_bytes:+d} bytes")
    if move.margin_change_ns:
        changes.append(f"margin {_seconds(move.margin_change_ns, sign=True)} s")
    if move.confidence_change:
        changes.append(f"confidence {move.before.confidence:.4g} -> {move.after.confidence:.4g}")
    if move.loss_changed:
        changes.append("loss changed")
    if move.class_changed:
        changes.append(f"class now {move.after.link_class}")
    return f"{_told(move.before)}: {', '.join(changes)}"


def _told_node(before: PlanNode, after: PlanNode) -> str:
    changes = [what for what in ("place", "orbit") if getattr(before, what) != getattr(after, what)]
    return f"~ {after.kind} {after.name}: another {' and '.join(changes)}"


def _seconds(t_ns: int, *, sign: bool = False) -> str:
    """Exact where milliseconds are, else to the ns."""
    whole, rest = divmod(abs(t_ns), 1_000_000_000)
    fraction = f"{rest // 1_000_000:03d}" if rest % 1_000_000 == 0 else f"{rest:09d}"
    mark = "-" if t_ns < 0 else "+" if sign else ""
    return f"{mark}{whole}.{fraction}"
