"""The contact plan's compact file: columns instead of JSON, for plans of hundreds of thousands of contacts.

It holds the same plan as the JSON file, to the last bit, under the same `sha256`. All integers are
little-endian.

    8 bytes   "ORBPLAN" and the format's number, 2
    32 bytes  SHA-256 of everything after these 32 bytes
    4 bytes   length of the header
    header    zlib of JSON: the plan's top-level keys of the JSON file without `contacts`, and `contacts` and
              `profiles` (how many), `columns` and `blocks` (compressed lengths in bytes, in file order)
    columns   zlib each, one number a contact in plan order: start_ns, end_ns, source, destination (indices of
              `nodes`), class (index of LINK_CLASSES), profile, margin_ns, confidence (a float); of the last
              two one has no bytes at all where every contact has what it has when nothing is said (0, 1.0)
    blocks    zlib each, of `PROFILES_A_BLOCK` profiles (the last may have fewer)

A profile is the samples of a contact; contacts with the same samples (the two directions of a pass, the
devices of one site) share it. A block is the number of samples of each of its profiles, and then of all its
samples t_ns, delay_ns, rate_bps, loss mean, loss burst. `contacts.columns` says how columns are written.

Loading reads the columns and checks the digest of the file: that is for damage. A block is read when one of
its contacts is asked for, and a contact is held to the plan's rules then; `plan()` reads and checks
everything, the plan's own `sha256` included.

Standard library only.
"""

from __future__ import annotations

import gc
import hashlib
import json
import struct
import zlib
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from typing import Final, NamedTuple

from orbitrain.contacts.columns import (
    WORD_BYTES,
    Block,
    block_out,
    fractions_in,
    fractions_out,
    integers_in,
    integers_out,
    unpacked,
)
from orbitrain.contacts.contact import LINK_CLASSES, Contact, LinkClass, PlanError, Sample, check_contact
from orbitrain.contacts.plan import NODE_KINDS, ActiveIndex, ContactPlan, PlanNode

MAGIC: Final = b"ORBPLAN\x02"
PROFILES_A_BLOCK: Final = 64  # some 20 kB: read in a third of a millisecond, enough for zlib to learn from

# What a file may make its reader set aside, whatever its header says: some thirty million contacts.
LARGEST_COLUMN_BYTES: Final = 1 << 28
_LARGEST_HEADER_BYTES: Final = 1 << 26

_BLOCKS_KEPT: Final = 1024  # read blocks that a `CompactPlan` keeps, about 100 MB with all samples made
_HEAD: Final = struct.Struct("<8s32sI")
_COLUMNS: Final = (
    *("start_ns", "end_ns", "source", "destination", "class", "profile"),
    *("margin_ns", "confidence"),
)
_HEADER_KEYS: Final = {"contacts", "profiles", "columns", "blocks"}


class Link(NamedTuple):
    """A contact without its samples."""

    source: str
    destination: str
    link_class: LinkClass
    start_ns: int
    end_ns: int
    margin_ns: int = 0
    confidence: float = 1.0


def is_compact(data: bytes) -> bool:
    """Whether a file's bytes are of this format (and not the JSON one)."""
    return data.startswith(MAGIC[:-1])


# --- writing ------------------------------------------------------------------------------------------------


def read_plan(data: bytes) -> ContactPlan:
    """The plan of a file of either form, JSON or compact. Raises PlanError."""
    return CompactPlan(data).plan() if is_compact(data) else ContactPlan.from_json(data)


def compact(plan: ContactPlan) -> bytes:
    """The plan's compact file; same plan, same bytes (with the same zlib)."""
    number_of = {node.name: index for index, node in enumerate(plan.nodes)}
    class_of = {name: index for index, name in enumerate(LINK_CLASSES)}
    profiles: dict[tuple[Sample, ...], int] = {}
    seen: dict[int, int] = {}  # most shared profiles are one object: no need to hash its samples again
    profile_of = array("q")
    for contact in plan.contacts:
        profile = seen.get(id(contact.samples))
        if profile is None:
            profile = seen[id(contact.samples)] = profiles.setdefault(contact.samples, len(profiles))
        profile_of.append(profile)
    columns = [
        array("q", [contact.start_ns for contact in plan.contacts]),
        array("q", [contact.end_ns for contact in plan.contacts]),
        array("q", [number_of[contact.source] for contact in plan.contacts]),
        array("q", [number_of[contact.destination] for contact in plan.contacts]),
        array("q", [class_of[contact.link_class] for contact in plan.contacts]),
        profile_of,
    ]
    packed = [zlib.compress(integers_out(column)) for column in columns]
    margins_ns = array("q", [contact.margin_ns for contact in plan.contacts])
    packed.append(zlib.compress(integers_out(margins_ns)) if any(margins_ns) else b"")
    confidences = array("d", [contact.confidence for contact in plan.contacts])
    unsure = any(map((1.0).__ne__, confidences))
    packed.append(zlib.compress(fractions_out(confidences)) if unsure else b"")
    every = list(profiles)
    blocks = [
        zlib.compress(block_out(every[first : first + PROFILES_A_BLOCK]))
        for first in range(0, len(every), PROFILES_A_BLOCK)
    ]
    # The top-level keys as the JSON file has them, those that are there only sometimes included.
    head = json.loads(_without_contacts(plan).to_json())
    head.update(
        sha256=plan.sha256,
        contacts=len(plan.contacts),
        profiles=len(every),
        columns=[len(data) for data in packed],
        blocks=[len(data) for data in blocks],
    )
    header = zlib.compress(json.dumps(head, separators=(",", ":")).encode("ascii"))
    body = b"".join([struct.pack("<I", len(header)), header, *packed, *blocks])
    return MAGIC + hashlib.sha256(body).digest() + body


def _without_contacts(plan: ContactPlan) -> ContactPlan:
    return ContactPlan(
        version=plan.version,
        scenario_sha256=plan.scenario_sha256,
        epoch=plan.epoch,
        duration_ns=plan.duration_ns,
        nodes=plan.nodes,
        contacts=(),
        revision=plan.revision,
        for_node=plan.for_node,
        of_sha256=plan.of_sha256,
    )


# --- reading ------------------------------------------------------------------------------------------------


class CompactPlan:
    """A plan read from its compact file, with the queries of `ContactPlan`; a contact is made when asked for.

    PlanError when the bytes are not such a file, or are damaged.
    """

    def __init__(self, data: bytes) -> None:
        head, at = _head_of(data)
        self._data = memoryview(data)
        self._empty = _plan_without_contacts(head)
        self.sha256 = self._empty_sha256(head)
        self.count = _count(head, "contacts")
        self._profiles = _count(head, "profiles")
        lengths = _lengths(head, "columns", len(_COLUMNS))
        blocks = _lengths(head, "blocks", -(-self._profiles // PROFILES_A_BLOCK))
        integers: dict[str, array[int]] = {}
        self._confidences: array[float] | None = None  # as margins: none where all have the default
        for name, length in zip(_COLUMNS, lengths, strict=True):
            packed = self._data[at : at + length]
            at += length
            if name == "confidence" and length:
                self._confidences = fractions_in(self._column(name, packed))
            elif name != "confidence" and (length or name != "margin_ns"):
                integers[name] = integers_in(self._column(name, packed))
        self._starts_ns, self._ends_ns = integers["start_ns"], integers["end_ns"]
        self._sources, self._destinations = integers["source"], integers["destination"]
        self._classes, self._profile_of = integers["class"], integers["profile"]
        self._margins_ns = integers.get("margin_ns")
        self._check_columns()
        self._block_at = list(accumulate(blocks, initial=at))
        if self._block_at[-1] != len(data):
            raise PlanError(f"plan: must end after {self._block_at[-1]} bytes, not {len(data)}")
        self._blocks: dict[int, Block] = {}
        self._ids = self._grouped()
        self._names = [node.name for node in self.nodes]
        self._number_of = {name: index for index, name in enumerate(self._names)}
        self._checked = bytearray(self.count)  # 1 where a contact was made before and keeps the rules
        self._active: dict[int, ActiveIndex] = {}
        self._pairs: dict[int, dict[int, list[int]]] = {}

    # --- header ---------------------------------------------------------------------------------------------

    @property
    def version(self) -> int:
        return self._empty.version

    @property
    def scenario_sha256(self) -> str:
        return self._empty.scenario_sha256

    @property
    def epoch(self) -> str:
        return self._empty.epoch

    @property
    def duration_ns(self) -> int:
        return self._empty.duration_ns

    @property
    def nodes(self) -> tuple[PlanNode, ...]:
        return self._empty.nodes

    @property
    def revision(self) -> int:
        return self._empty.revision

    @property
    def for_node(self) -> str | None:
        return self._empty.for_node

    @property
    def of_sha256(self) -> str | None:
        return self._empty.of_sha256

    @property
    def whole_sha256(self) -> str:
        return self.of_sha256 or self.sha256

    # --- queries --------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Contact]:
        """All contacts, in plan order."""
        return (self._contact(index) for index in range(self.count))

    def links_at(self, node: str, t_ns: int) -> list[Link]:
        """What `active_of` answers, without samples, and so without reading a block: microseconds."""
        number = self._number_of.get(node)
        if number is None:
            return []
        ids = self._ids[number]
        found = [ids[position] for position in self._index_of(number).at(t_ns)]
        if self._margins_ns is not None or self._confidences is not None:
            return [self._link(index) for index in found]
        names, sources, destinations = self._names, self._sources, self._destinations
        classes, starts_ns, ends_ns = self._classes, self._starts_ns, self._ends_ns
        return [
            Link(
                names[sources[index]],
                names[destinations[index]],
                LINK_CLASSES[classes[index]],
                starts_ns[index],
                ends_ns[index],
            )
            for index in found
        ]

    def links(self) -> Iterator[Link]:
        """All contacts in plan order, without samples; they are not held to the plan's rules."""
        return map(self._link, range(self.count))

    def active_of(self, node: str, t_ns: int) -> tuple[Contact, ...]:
        """The node's contacts, in either direction, with start_ns <= t_ns < end_ns, in plan order."""
        number = self._number_of.get(node)
        if number is None:
            return ()
        ids = self._ids[number]
        return tuple([self._contact(ids[position]) for position in self._index_of(number).at(t_ns)])

    def contacts_of(self, node: str) -> tuple[Contact, ...]:
        """Contacts that the node is source or destination of, in plan order."""
        number = self._number_of.get(node)
        return () if number is None else tuple([self._contact(index) for index in self._ids[number]])

    def between(self, source: str, destination: str) -> tuple[Contact, ...]:
        """Contacts of one directed pair, in time order."""
        return tuple([self._contact(index) for index in self._pair(source, destination)])

    def active(self, source: str, destination: str, t_ns: int) -> Contact | None:
        """The contact with start_ns <= t_ns < end_ns, if there is one."""
        found = self.next_contact(source, destination, t_ns)
        return found if found is not None and found.start_ns <= t_ns else None

    def next_contact(self, source: str, destination: str, t_ns: int) -> Contact | None:
        """The contact active at `t_ns`, else the first one that starts later."""
        ids = self._pair(source, destination)
        position = bisect_right(ids, t_ns, key=self._ends_ns.__getitem__)
        return self._contact(ids[position]) if position < len(ids) else None

    def neighbours(self, node: str) -> tuple[str, ...]:
        """Names of all nodes that the node ever has a contact with, in either direction, sorted."""
        number = self._number_of.get(node)
        if number is None:
            return ()
        both = {self._sources[index] for index in self._ids[number]}
        both |= {self._destinations[index] for index in self._ids[number]}
        return tuple(sorted(self.nodes[other].name for other in both - {number}))

    def plan(self) -> ContactPlan:
        """Everything, checked as the JSON file would be. PlanError names the contact that breaks a rule."""
        # As for the JSON: a million small objects and no cycle.
        collecting = gc.isenabled()
        gc.disable()
        try:
            plan = ContactPlan(
                version=self.version,
                scenario_sha256=self.scenario_sha256,
                epoch=self.epoch,
                duration_ns=self.duration_ns,
                nodes=self.nodes,
                contacts=tuple(self),
                revision=self.revision,
                for_node=self.for_node,
                of_sha256=self.of_sha256,
            )
            if plan.sha256 != self.sha256:
                raise PlanError(
                    f"sha256: must be the digest of the plan ({plan.sha256}), not {self.sha256!r}"
                )
        finally:
            if collecting:
                gc.enable()
        return plan

    # --- inside ---------------------------------------------------------------------------------------------

    def _empty_sha256(self, head: dict[str, object]) -> str:
        sha256 = head["sha256"]
        if not isinstance(sha256, str) or len(sha256) != 64 or not set(sha256) <= set("0123456789abcdef"):
            raise PlanError("sha256: must be 64 lower-case hex digits")
        return sha256

    def _column(self, name: str, packed: memoryview) -> bytes:
        return unpacked(packed, self.count * WORD_BYTES, f"columns.{name}")

    def _check_columns(self) -> None:
        # Only what would make a query fail somewhere else; a contact is held to the rules when it is made.
        starts_ns = self._starts_ns
        for name, column, limit in (
            ("source", self._sources, len(self.nodes)),
            ("destination", self._destinations, len(self.nodes)),
            ("class", self._classes, len(LINK_CLASSES)),
            ("profile", self._profile_of, self._profiles),
        ):
            if column and not (min(column) >= 0 and max(column) < limit):
                raise PlanError(f"columns.{name}: must be 0 to {limit - 1} throughout")
        if any(map(int.__gt__, starts_ns, starts_ns[1:])):
            raise PlanError("columns.start_ns: must not descend")

    def _grouped(self) -> list[array[int]]:
        ids = [array("q") for _ in self.nodes]
        add = [one.append for one in ids]
        for index, (source, destination) in enumerate(zip(self._sources, self._destinations, strict=True)):
            add[source](index)
            add[destination](index)
        return ids

    def _index_of(self, number: int) -> ActiveIndex:
        index = self._active.get(number)
        if index is None:
            ids = self._ids[number]
            index = self._active[number] = ActiveIndex(
                array("q", [self._starts_ns[one] for one in ids]),
                array("q", [self._ends_ns[one] for one in ids]),
            )
        return index

    def _pair(self, source: str, destination: str) -> list[int]:
        number, other = self._number_of.get(source), self._number_of.get(destination)
        if number is None or other is None:
            return []
        pairs = self._pairs.get(number)
        if pairs is None:
            pairs = self._pairs[number] = {}
            for index in self._ids[number]:
                if self._sources[index] == number:
                    pairs.setdefault(self._destinations[index], []).append(index)
        return pairs.get(other, [])

    def _link(self, index: int) -> Link:
        return Link(
            self._names[self._sources[index]],
            self._names[self._destinations[index]],
            LINK_CLASSES[self._classes[index]],
            self._starts_ns[index],
            self._ends_ns[index],
            0 if self._margins_ns is None else self._margins_ns[index],
            1.0 if self._confidences is None else self._confidences[index],
        )

    def _contact(self, index: int) -> Contact:
        source, destination, link_class, start_ns, end_ns, margin_ns, confidence = self._link(index)
        samples = self._samples(self._profile_of[index])
        contact = Contact(source, destination, link_class, start_ns, end_ns, samples, margin_ns, confidence)
        if not self._checked[index]:
            check_contact(f"contacts[{index}]", contact, self._number_of.keys(), self.duration_ns)
            self._checked[index] = 1
        return contact

    def _samples(self, profile: int) -> tuple[Sample, ...]:
        number, within = divmod(profile, PROFILES_A_BLOCK)
        block = self._blocks.get(number)
        if block is None:
            packed = self._data[self._block_at[number] : self._block_at[number + 1]]
            profiles = min(PROFILES_A_BLOCK, self._profiles - number * PROFILES_A_BLOCK)
            block = Block(packed, profiles, f"blocks[{number}]")
            if len(self._blocks) >= _BLOCKS_KEPT:
                del self._blocks[next(iter(self._blocks))]
            self._blocks[number] = block
        return block.samples(within)


def _head_of(data: bytes) -> tuple[dict[str, object], int]:
    """The header, and where the columns begin."""
    if len(data) < _HEAD.size or not is_compact(data):
        raise PlanError("plan: must be a compact plan file")
    magic, digest, length = _HEAD.unpack_from(data)
    if magic != MAGIC:
        raise PlanError(f"plan: must be of compact format {MAGIC[-1]}, not {magic[-1]}")
    if hashlib.sha256(memoryview(data)[len(MAGIC) + len(digest) :]).digest() != digest:
        raise PlanError("plan: is damaged, its bytes do not have the digest that it states")
    packed = memoryview(data)[_HEAD.size : _HEAD.size + length]
    try:
        head = json.loads(unpacked(packed, None, "header", _LARGEST_HEADER_BYTES))
    except (ValueError, RecursionError):
        head = None
    if not isinstance(head, dict) or not head.keys() >= _HEADER_KEYS | {"sha256"}:
        raise PlanError("header: must be an object with the keys of a compact plan")
    return head, _HEAD.size + length


def _plan_without_contacts(head: dict[str, object]) -> ContactPlan:
    # By the JSON reader, so that one place says what a header may hold; its digest is of other contents.
    document = {key: value for key, value in head.items() if key not in _HEADER_KEYS}
    nodes = document.get("nodes")
    if isinstance(nodes, list):
        kinds = set(NODE_KINDS)
        for index, node in enumerate(nodes):
            if not isinstance(node, dict) or node.get("kind") not in kinds:
                raise PlanError(f"nodes[{index}]: must be an object with a name and a kind")
    return ContactPlan.from_document({**document, "contacts": []}, digest_stated=False)


def _count(head: dict[str, object], key: str) -> int:
    value = head[key]
    if type(value) is not int or not 0 <= value <= LARGEST_COLUMN_BYTES // WORD_BYTES:
        raise PlanError(f"{key}: must be 0 to {LARGEST_COLUMN_BYTES // WORD_BYTES}")
    return value


def _lengths(head: dict[str, object], key: str, count: int) -> list[int]:
    values = head[key]
    if not isinstance(values, list) or len(values) != count:
        raise PlanError(f"{key}: must be {count} lengths")
    if not all(type(value) is int and value >= 0 for value in values):
        raise PlanError(f"{key}: must be lengths in bytes")
    return values
