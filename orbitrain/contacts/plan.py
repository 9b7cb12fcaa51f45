"""The contact plan: the one file that says which node can talk to which, when, how far and how fast.

It is computed once, offline; daemons, link shaping and simulator read the same bytes. Times are integer
nanoseconds of scenario time (0 at the plan's epoch), rates are integer bit/s at the link layer, delays
integer nanoseconds one way.

Its file is JSON (`contacts.plan_file`); plans of hundreds of thousands of contacts have a binary file beside
that one (`contacts.compact`).

Standard library only: a daemon that only carries loads this and no numpy.
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from orbitrain.contacts.contact import LARGEST_INTEGER, Contact, PlanError, check_contact
from orbitrain.contacts.node import NODE_KINDS, NodeKind, Orbit, Place, PlanNode, check_node

__all__ = [
    "NODE_KINDS",
    "PLAN_VERSION",
    "ActiveIndex",
    "ContactPlan",
    "NodeKind",
    "Orbit",
    "Place",
    "PlanNode",
    "Window",
    "intersected",
]

PLAN_VERSION: Final = 1

Window = tuple[int, int]

_SHA256 = re.compile(r"[0-9a-f]{64}")
_EPOCH = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.(\d{3}|\d{6}))?Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Pair:
    starts_ns: list[int]
    contacts: list[Contact]


class ActiveIndex:
    """Which of many half-open intervals hold an instant; they may overlap, and are given by ascending start.

    Every so often along the starts it is written down which earlier intervals still go on, so that a query
    looks at those and at the few starts since: about as many as the answer has, plus a constant, however long
    some of the intervals are.
    """

    __slots__ = ("_carried", "_ends_ns", "_marks", "_starts_ns")

    _LEAST_BETWEEN_MARKS = 8  # starts that a query looks at where few intervals go on; more would be slower

    def __init__(self, starts_ns: Sequence[int], ends_ns: Sequence[int]) -> None:
        self._starts_ns = starts_ns
        self._ends_ns = ends_ns
        self._marks: list[int] = []
        self._carried: list[list[int]] = []
        going_on: list[int] = []
        mark = 0
        while mark < len(starts_ns):
            going_on = [position for position in going_on if ends_ns[position] > starts_ns[mark]]
            self._marks.append(mark)
            self._carried.append(going_on)
            # As far apart as there are intervals to write down: the marks stay as large as the intervals.
            after = min(mark + max(self._LEAST_BETWEEN_MARKS, len(going_on)), len(starts_ns))
            going_on = [*going_on, *range(mark, after)]
            mark = after

    def at(self, t_ns: int) -> list[int]:
        """Positions of the intervals with start <= t_ns < end, ascending."""
        started = bisect_right(self._starts_ns, t_ns)
        if started == 0:
            return []
        ends_ns = self._ends_ns
        section = bisect_right(self._marks, started - 1) - 1
        found = [position for position in self._carried[section] if ends_ns[position] > t_ns]
        found += [position for position in range(self._marks[section], started) if ends_ns[position] > t_ns]
        return found


@dataclass(frozen=True, slots=True)
class ContactPlan:
    """All contacts of a scenario from 0 to `duration_ns`, with an index; immutable, safe to share.

    `epoch` is the UTC instant of scenario time 0, ISO 8601 with a final Z. Contacts may be given in any order
    and are kept sorted by (start_ns, source, destination); contacts of one directed pair never overlap. A
    broken rule raises PlanError. A query about a name the plan does not know answers that there is nothing.

    `revision` grows with every update of the plan of a running scenario. A plan with `for_node` is a slice:
    it holds what that node needs, and knows the whole only by its digest, `of_sha256`.
    """

    version: int
    scenario_sha256: str
    epoch: str
    duration_ns: int
    nodes: tuple[PlanNode, ...]
    contacts: tuple[Contact, ...]
    revision: int = 0
    for_node: str | None = None
    of_sha256: str | None = None
    _sha256: str | None = field(default=None, init=False, repr=False, compare=False)
    _pairs: dict[tuple[str, str], _Pair] = field(default_factory=dict, init=False, repr=False, compare=False)
    _of_node: dict[str, list[Contact]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _neighbours: dict[str, tuple[str, ...]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _active: dict[str, ActiveIndex] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "nodes", tuple(self.nodes))
        object.__setattr__(self, "contacts", tuple(sorted(self.contacts, key=contact_order)))
        self._check_header()
        self._index_contacts()

    # --- identity and file ----------------------------------------------------------------------------------

    # The file's module is imported where it is needed, as it is about this class.

    @property
    def sha256(self) -> str:
        """64 hex digits that name this plan: of its canonical JSON without the key `sha256`."""
        if self._sha256 is None:
            from orbitrain.contacts.plan_file import canonical_pieces

            digest = hashlib.sha256()
            for piece in canonical_pieces(self):
                digest.update(piece.encode("ascii"))
            object.__setattr__(self, "_sha256", digest.hexdigest())
        assert self._sha256 is not None
        return self._sha256

    @property
    def whole_sha256(self) -> str:
        """The digest of the whole plan: of itself, or of what it is a slice of."""
        return self.of_sha256 or self.sha256

    def to_json(self) -> bytes:
        """The plan's file: a line per top-level key, node and contact, ASCII; same plan, same bytes."""
        from orbitrain.contacts.plan_file import written

        return written(self)

    @staticmethod
    def from_json(data: bytes) -> ContactPlan:
        """The plan in a file's bytes; PlanError says in one line which field is wrong and what is allowed."""
        from orbitrain.contacts.plan_file import read

        return read(data)

    @staticmethod
    def from_document(document: object, *, digest_stated: bool = True) -> ContactPlan:
        """The plan in a parsed JSON document; without `digest_stated` its `sha256` is not compared."""
        from orbitrain.contacts.plan_file import read_document

        return read_document(document, digest_stated=digest_stated)

    # --- queries --------------------------------------------------------------------------------------------

    def contacts_of(self, node: str) -> tuple[Contact, ...]:
        """Contacts that the node is source or destination of, in plan order."""
        return tuple(self._of_node.get(node, ()))

    def between(self, source: str, destination: str) -> tuple[Contact, ...]:
        """Contacts of one directed pair, in time order."""
        pair = self._pairs.get((source, destination))
        return tuple(pair.contacts) if pair else ()

    def active(self, source: str, destination: str, t_ns: int) -> Contact | None:
        """The contact with start_ns <= t_ns < end_ns, if there is one."""
        pair = self._pairs.get((source, destination))
        if pair is None:
            return None
        index = bisect_right(pair.starts_ns, t_ns) - 1
        if index < 0 or pair.contacts[index].end_ns <= t_ns:
            return None
        return pair.contacts[index]

    def active_of(self, node: str, t_ns: int) -> tuple[Contact, ...]:
        """The node's contacts, in either direction, with start_ns <= t_ns < end_ns, in plan order."""
        contacts = self._of_node.get(node)
        if contacts is None:
            return ()
        index = self._active.get(node)
        if index is None:
            index = self._active[node] = ActiveIndex(
                [contact.start_ns for contact in contacts], [contact.end_ns for contact in contacts]
            )
        return tuple([contacts[position] for position in index.at(t_ns)])

    def from_instant(self, source: str, destination: str, t_ns: int) -> Iterator[Contact]:
        """Contacts of one directed pair that end after `t_ns`, in time order."""
        pair = self._pairs.get((source, destination))
        if pair is not None:
            index = bisect_right(pair.starts_ns, t_ns)
            if index > 0 and pair.contacts[index - 1].end_ns > t_ns:
                index -= 1
            for position in range(index, len(pair.contacts)):
                yield pair.contacts[position]

    def back_from_instant(self, source: str, destination: str, t_ns: int) -> Iterator[Contact]:
        """Contacts of one directed pair that start at or before `t_ns`, the latest first."""
        pair = self._pairs.get((source, destination))
        if pair is not None:
            for position in range(bisect_right(pair.starts_ns, t_ns) - 1, -1, -1):
                yield pair.contacts[position]

    def volume_bytes(self, source: str, destination: str, from_ns: int, to_ns: int) -> int:
        """Whole bytes that can leave `source` for `destination` between two instants, contact by contact."""
        volume = 0
        for contact in self.from_instant(source, destination, from_ns):
            if contact.start_ns >= to_ns:
                break
            volume += contact.volume_bytes(from_ns, to_ns)
        return volume

    def next_contact(self, source: str, destination: str, t_ns: int) -> Contact | None:
        """The contact active at `t_ns`, else the first one that starts later."""
        pair = self._pairs.get((source, destination))
        if pair is None:
            return None
        index = bisect_right(pair.starts_ns, t_ns)
        if index > 0 and pair.contacts[index - 1].end_ns > t_ns:
            index -= 1
        return pair.contacts[index] if index < len(pair.contacts) else None

    def neighbours(self, node: str) -> tuple[str, ...]:
        """Names of all nodes that the node ever has a contact with, in either direction, sorted."""
        return self._neighbours.get(node, ())

    def windows(self, a: str, b: str) -> tuple[Window, ...]:
        """Disjoint (start_ns, end_ns), ascending, with both directions active; windows that touch are one."""
        return intersected(_merged(self.between(a, b)), _merged(self.between(b, a)))

    def shifted(self, offset_ns: int) -> ContactPlan:
        """The plan with every contact `offset_ns` later (earlier when negative), the duration unchanged.

        What leaves [0, duration_ns] is cut off: a contact across the edge is clipped, one outside is gone.
        """
        moved = (_moved(contact, offset_ns, self.duration_ns) for contact in self.contacts)
        return replace(self, contacts=tuple(contact for contact in moved if contact is not None))

    # --- rules ----------------------------------------------------------------------------------------------

    def _check_header(self) -> None:
        if self.version != PLAN_VERSION:
            raise PlanError(f"version: must be {PLAN_VERSION}, not {self.version}")
        if not _SHA256.fullmatch(self.scenario_sha256):
            raise PlanError("scenario_sha256: must be 64 lower-case hex digits")
        _check_epoch(self.epoch)
        if not 1 <= self.duration_ns <= LARGEST_INTEGER:
            raise PlanError(f"duration_ns: must be 1 to {LARGEST_INTEGER}, not {self.duration_ns}")
        names: set[str] = set()
        for index, node in enumerate(self.nodes):
            check_node(f"nodes[{index}]", node)
            if node.name in names:
                raise PlanError(f"nodes[{index}].name: must be unique, {node.name!r} is there already")
            names.add(node.name)
        if not 0 <= self.revision <= LARGEST_INTEGER:
            raise PlanError(f"revision: must be 0 to {LARGEST_INTEGER}, not {self.revision}")
        if (self.for_node is None) != (self.of_sha256 is None):
            missing = "for_node" if self.for_node is None else "of_sha256"
            raise PlanError(f"{missing}: must be there, as a slice has both for_node and of_sha256")
        if self.for_node is not None and self.for_node not in names:
            raise PlanError(f"for_node: must be the name of a node, not {self.for_node!r}")
        if self.of_sha256 is not None and not _SHA256.fullmatch(self.of_sha256):
            raise PlanError("of_sha256: must be 64 lower-case hex digits")

    def _index_contacts(self) -> None:
        names = {node.name for node in self.nodes}
        partners: dict[str, set[str]] = {}
        for index, contact in enumerate(self.contacts):
            check_contact(f"contacts[{index}]", contact, names, self.duration_ns)
            source, destination = contact.source, contact.destination
            pair = self._pairs.get((source, destination))
            if pair is None:
                pair = self._pairs[source, destination] = _Pair([], [])
                partners.setdefault(source, set()).add(destination)
                partners.setdefault(destination, set()).add(source)
            elif contact.start_ns < pair.contacts[-1].end_ns:
                raise PlanError(
                    f"contacts[{index}].start_ns: must not be before the end ({pair.contacts[-1].end_ns}) of "
                    f"the earlier contact from {source} to {destination}, not {contact.start_ns}"
                )
            pair.starts_ns.append(contact.start_ns)
            pair.contacts.append(contact)
            self._of_node.setdefault(source, []).append(contact)
            self._of_node.setdefault(destination, []).append(contact)
        self._neighbours.update({name: tuple(sorted(others)) for name, others in partners.items()})


def intersected(a: tuple[Window, ...], b: tuple[Window, ...]) -> tuple[Window, ...]:
    """The instants in both of two ascending, disjoint sequences of (start_ns, end_ns)."""
    common: list[Window] = []
    i = j = 0
    while i < len(a) and j < len(b):
        start_ns, end_ns = max(a[i][0], b[j][0]), min(a[i][1], b[j][1])
        if start_ns < end_ns:
            common.append((start_ns, end_ns))
        if a[i][1] < b[j][1]:
            i += 1
        else:
            j += 1
    return tuple(common)


def _merged(contacts: tuple[Contact, ...]) -> tuple[Window, ...]:
    windows: list[Window] = []
    for contact in contacts:
        if windows and windows[-1][1] == contact.start_ns:
            windows[-1] = (windows[-1][0], contact.end_ns)
        else:
            windows.append((contact.start_ns, contact.end_ns))
    return tuple(windows)


def _moved(contact: Contact, offset_ns: int, duration_ns: int) -> Contact | None:
    start_ns = max(contact.start_ns + offset_ns, 0)
    end_ns = min(contact.end_ns + offset_ns, duration_ns)
    if start_ns >= end_ns:
        return None
    samples = [replace(sample, t_ns=sample.t_ns + offset_ns) for sample in contact.samples]
    if samples[0].t_ns < start_ns:
        cut = replace(contact.sample_at(start_ns - offset_ns), t_ns=start_ns)
        samples = [cut, *(sample for sample in samples if sample.t_ns > start_ns)]
    if samples[-1].t_ns > end_ns:
        cut = replace(contact.sample_at(end_ns - offset_ns), t_ns=end_ns)
        samples = [*(sample for sample in samples if sample.t_ns < end_ns), cut]
    return replace(contact, start_ns=start_ns, end_ns=end_ns, samples=tuple(samples))


def contact_order(contact: Contact) -> tuple[int, str, str]:
    """The key that the contacts of a plan are sorted by."""
    return contact.start_ns, contact.source, contact.destination


def _check_epoch(epoch: str) -> None:
    try:
        if _EPOCH.fullmatch(epoch):
            datetime.fromisoformat(epoch)
            return
    except ValueError:
        pass
    raise PlanError(f"epoch: must be a UTC instant such as 2026-01-01T00:00:00Z, not {epoch!r}")
