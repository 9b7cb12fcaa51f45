"""The contact plan: the one file that says which node can talk to which, when, how far and how fast.

It is computed once, offline; daemons, link shaping and simulator read the same bytes. Times are integer
nanoseconds of scenario time (0 at the plan's epoch), rates are integer bit/s at the link layer, delays
integer nanoseconds one way.

The file is JSON: {version, sha256, scenario_sha256, epoch, duration_ns, nodes [{name, kind}], contacts
[{source, destination, class, start_ns, end_ns, samples [{t_ns, delay_ns, rate_bps, loss {mean, burst}}]}]}.
Three more keys are there only where they say something: `revision` (1 or more: a later issue of the plan, see
`contacts.updates`), and `for_node` with `of_sha256` (a slice for one node, and the digest of the whole plan
it was cut from, see `contacts.slices`). `version` is that of this format.
`sha256` is taken of the document without that key, as `json.dumps(sort_keys=True, separators=(",", ":"),
ensure_ascii=True)` writes it, with the two loss numbers as floats.

Standard library only: a daemon that only carries loads this and no numpy. Plans of hundreds of thousands of
contacts have a binary file beside this one, `contacts.compact`.
"""

from __future__ import annotations

import gc
import hashlib
import json
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, Literal, NoReturn

from orbitrain.contacts.contact import (
    LARGEST_INTEGER,
    LINK_CLASSES,
    Contact,
    LinkClass,
    PlanError,
    Sample,
    check_contact,
    choices,
)

PLAN_VERSION: Final = 1
NODE_KINDS: Final = ("satellite", "ground", "device")


NodeKind = Literal["satellite", "ground", "device"]
Window = tuple[int, int]

_NAME = re.compile(r"[!-~]{1,64}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_EPOCH = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.(\d{3}|\d{6}))?Z", re.ASCII)
_NS_PER_S: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class PlanNode:
    """A node of the scenario; `kind` is satellite, ground or device."""

    name: str
    kind: NodeKind


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
        object.__setattr__(self, "contacts", tuple(sorted(self.contacts, key=_contact_order)))
        self._check_header()
        self._index_contacts()

    # --- identity and file ----------------------------------------------------------------------------------

    @property
    def sha256(self) -> str:
        """64 hex digits that name this plan: of its canonical JSON without the key `sha256`."""
        if self._sha256 is None:
            digest = hashlib.sha256()
            for piece in _canonical_pieces(self):
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
        head = {
            "version": self.version,
            "sha256": self.sha256,
            "scenario_sha256": self.scenario_sha256,
            "epoch": self.epoch,
            "duration_ns": self.duration_ns,
            **_optional_keys(self),
        }
        lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in head.items()]
        lines.append(_json_list("nodes", [json.dumps(_node_document(node)) for node in self.nodes]))
        lines.append(
            _json_list("contacts", [json.dumps(_contact_document(contact)) for contact in self.contacts])
        )
        return ("{\n" + ",\n".join(lines) + "\n}\n").encode("ascii")

    @staticmethod
    def from_json(data: bytes) -> ContactPlan:
        """The plan in a file's bytes; PlanError says in one line which field is wrong and what is allowed."""
        # Loading makes a million small objects and no cycle: the collector would walk the growing heap again
        # and again, which is half of the time.
        collecting = gc.isenabled()
        gc.disable()
        try:
            return _read_plan(_parsed(data))
        finally:
            if collecting:
                gc.enable()

    @staticmethod
    def from_document(document: object, *, digest_stated: bool = True) -> ContactPlan:
        """The plan in a parsed JSON document; without `digest_stated` its `sha256` is not compared."""
        return _read_plan(document, digest_stated=digest_stated)

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
            if not _NAME.fullmatch(node.name):
                raise PlanError(
                    f"nodes[{index}].name: must be 1 to 64 printable ASCII characters without spaces, "
                    f"not {node.name!r}"
                )
            if node.kind not in NODE_KINDS:
                raise PlanError(f"nodes[{index}].kind: must be {choices(NODE_KINDS)}, not {node.kind!r}")
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


def _contact_order(contact: Contact) -> tuple[int, str, str]:
    return contact.start_ns, contact.source, contact.destination


# --- rules for values ---------------------------------------------------------------------------------------


def _check_epoch(epoch: str) -> None:
    try:
        if _EPOCH.fullmatch(epoch):
            datetime.fromisoformat(epoch)
            return
    except ValueError:
        pass
    raise PlanError(f"epoch: must be a UTC instant such as 2026-01-01T00:00:00Z, not {epoch!r}")


# --- JSON ---------------------------------------------------------------------------------------------------

_PLAN_KEYS = frozenset({"version", "sha256", "scenario_sha256", "epoch", "duration_ns", "nodes", "contacts"})
_OPTIONAL_PLAN_KEYS = frozenset({"revision", "for_node", "of_sha256"})
_NODE_KEYS = frozenset({"name", "kind"})
_CONTACT_KEYS = frozenset({"source", "destination", "class", "start_ns", "end_ns", "samples"})
_SAMPLE_KEYS = frozenset({"t_ns", "delay_ns", "rate_bps", "loss"})
_LOSS_KEYS = frozenset({"mean", "burst"})


def _canonical_pieces(plan: ContactPlan) -> Iterable[str]:
    # What json.dumps(document, sort_keys=True, separators=(",", ":")) gives, which a test holds it to,
    # written out because sorting the keys of half a million samples is most of the time of loading a plan,
    # and in pieces because the whole of a large plan is a gigabyte. Everything but names is a number or was
    # checked against a pattern without characters to escape.
    yield '{"contacts":['
    # "contacts" sorts before every other key.
    for first in range(0, len(plan.contacts), 1000):
        some = plan.contacts[first : first + 1000]
        yield ("," if first else "") + ",".join([_canonical_contact(contact) for contact in some])
    yield "]"
    nodes = ",".join([f'{{"kind":"{node.kind}","name":{json.dumps(node.name)}}}' for node in plan.nodes])
    document = {
        **_optional_keys(plan),
        "duration_ns": plan.duration_ns,
        "epoch": plan.epoch,
        "nodes": None,
        "scenario_sha256": plan.scenario_sha256,
        "version": plan.version,
    }
    for key in sorted(document):
        yield f',"{key}":' + (f"[{nodes}]" if key == "nodes" else json.dumps(document[key]))
    yield "}"


def _canonical_contact(contact: Contact) -> str:
    samples = ",".join(
        [
            f'{{"delay_ns":{s.delay_ns},'
            f'"loss":{{"burst":{float(s.loss_burst)!r},"mean":{float(s.loss_mean)!r}}},'
            f'"rate_bps":{s.rate_bps},"t_ns":{s.t_ns}}}'
            for s in contact.samples
        ]
    )
    return (
        f'{{"class":"{contact.link_class}","destination":{json.dumps(contact.destination)},'
        f'"end_ns":{contact.end_ns},"samples":[{samples}],"source":{json.dumps(contact.source)},'
        f'"start_ns":{contact.start_ns}}}'
    )


def _optional_keys(plan: ContactPlan) -> dict[str, object]:
    values = {"revision": plan.revision or None, "for_node": plan.for_node, "of_sha256": plan.of_sha256}
    return {key: value for key, value in values.items() if value is not None}


def _node_document(node: PlanNode) -> dict[str, object]:
    return {"name": node.name, "kind": node.kind}


def _contact_document(contact: Contact) -> dict[str, object]:
    return {
        "source": contact.source,
        "destination": contact.destination,
        "class": contact.link_class,
        "start_ns": contact.start_ns,
        "end_ns": contact.end_ns,
        "samples": [
            {
                "t_ns": sample.t_ns,
                "delay_ns": sample.delay_ns,
                "rate_bps": sample.rate_bps,
                "loss": {"mean": float(sample.loss_mean), "burst": float(sample.loss_burst)},
            }
            for sample in contact.samples
        ],
    }


def _json_list(key: str, lines: list[str]) -> str:
    if not lines:
        return f'  "{key}": []'
    return f'  "{key}": [\n    ' + ",\n    ".join(lines) + "\n  ]"


def _parsed(data: bytes) -> object:
    try:
        return json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # also UnicodeDecodeError
        raise PlanError(f"plan: must be JSON in UTF-8 ({error})") from None


def _read_plan(value: object, *, digest_stated: bool = True) -> ContactPlan:
    document = _object(value, "", _PLAN_KEYS, _OPTIONAL_PLAN_KEYS)
    version = _integer(document["version"], "version")
    if version != PLAN_VERSION:  # first: the rest of another version may look quite different
        raise PlanError(f"version: must be {PLAN_VERSION}, not {version}")
    stated_sha256 = _text(document["sha256"], "sha256")
    nodes = tuple(_read_node(item, f"nodes[{i}]") for i, item in enumerate(_list(document["nodes"], "nodes")))
    contacts = tuple(
        _read_contact(item, f"contacts[{i}]")
        for i, item in enumerate(_list(document["contacts"], "contacts"))
    )
    for index in range(1, len(contacts)):
        if _contact_order(contacts[index]) < _contact_order(contacts[index - 1]):
            raise PlanError(f"contacts[{index}]: must be in the order of start_ns, source, destination")
    plan = ContactPlan(
        version=version,
        scenario_sha256=_text(document["scenario_sha256"], "scenario_sha256"),
        epoch=_text(document["epoch"], "epoch"),
        duration_ns=_integer(document["duration_ns"], "duration_ns"),
        nodes=nodes,
        contacts=contacts,
        revision=_read_revision(document),
        for_node=_text(document["for_node"], "for_node") if "for_node" in document else None,
        of_sha256=_text(document["of_sha256"], "of_sha256") if "of_sha256" in document else None,
    )
    if digest_stated and plan.sha256 != stated_sha256:
        raise PlanError(f"sha256: must be the digest of the plan ({plan.sha256}), not {stated_sha256!r}")
    return plan


def _read_revision(document: dict[str, object]) -> int:
    if "revision" not in document:
        return 0
    revision = _integer(document["revision"], "revision")
    if revision == 0:  # one plan, one text
        raise PlanError("revision: must be 1 or more, or not be there")
    return revision


def _read_node(value: object, where: str) -> PlanNode:
    document = _object(value, where, _NODE_KEYS)
    return PlanNode(
        _text(document["name"], f"{where}.name"), _kind(_text(document["kind"], f"{where}.kind"), where)
    )


def _read_contact(value: object, where: str) -> Contact:
    document = _object(value, where, _CONTACT_KEYS)
    items = _list(document["samples"], f"{where}.samples")
    return Contact(
        source=_text(document["source"], f"{where}.source"),
        destination=_text(document["destination"], f"{where}.destination"),
        link_class=_link_class(_text(document["class"], f"{where}.class"), where),
        start_ns=_integer(document["start_ns"], f"{where}.start_ns"),
        end_ns=_integer(document["end_ns"], f"{where}.end_ns"),
        samples=tuple([_read_sample(item, where, i) for i, item in enumerate(items)]),
    )


def _read_sample(value: object, where: str, index: int) -> Sample:
    # The one hot spot of loading (ten samples a contact): plain type tests, and the path is only spelled out
    # to refuse.
    if type(value) is dict and value.keys() == _SAMPLE_KEYS:
        loss = value["loss"]
        if type(loss) is dict and loss.keys() == _LOSS_KEYS:
            t_ns, delay_ns, rate_bps = value["t_ns"], value["delay_ns"], value["rate_bps"]
            mean, burst = loss["mean"], loss["burst"]
            integers = type(t_ns) is int and type(delay_ns) is int and type(rate_bps) is int
            if integers and type(mean) is float and type(burst) is float:
                return Sample(t_ns, delay_ns, rate_bps, mean, burst)
    return _read_sample_slowly(value, f"{where}.samples[{index}]")


def _read_sample_slowly(value: object, where: str) -> Sample:
    document = _object(value, where, _SAMPLE_KEYS)
    loss = _object(document["loss"], f"{where}.loss", _LOSS_KEYS)
    return Sample(
        t_ns=_integer(document["t_ns"], f"{where}.t_ns"),
        delay_ns=_integer(document["delay_ns"], f"{where}.delay_ns"),
        rate_bps=_integer(document["rate_bps"], f"{where}.rate_bps"),
        loss_mean=_number(loss["mean"], f"{where}.loss.mean"),
        loss_burst=_number(loss["burst"], f"{where}.loss.burst"),
    )


def _object(
    value: object, where: str, keys: frozenset[str], optional: frozenset[str] = frozenset()
) -> dict[str, object]:
    if not isinstance(value, dict):
        raise PlanError(f"{where or 'plan'}: must be an object, not {_kind_of(value)}")
    if value.keys() != keys:
        prefix = f"{where}." if where else ""
        unknown, missing = sorted(value.keys() - keys - optional), sorted(keys - value.keys())
        if unknown:
            key = unknown[0] if _NAME.fullmatch(unknown[0]) else repr(unknown[0])
            raise PlanError(f"{prefix}{key}: unknown key, allowed are {', '.join(sorted(keys | optional))}")
        if missing:
            raise PlanError(f"{prefix}{missing[0]}: must be there")
    return value


def _list(value: object, where: str) -> list[object]:
    if not isinstance(value, list):
        raise PlanError(f"{where}: must be a list, not {_kind_of(value)}")
    return value


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        _refuse_type(where, "a string", value)
    return value


def _integer(value: object, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        _refuse_type(where, "an integer", value)
    return value


def _number(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        _refuse_type(where, "a number", value)
    try:
        return float(value)
    except OverflowError:
        raise PlanError(f"{where}: must be a number of ordinary size") from None


def _kind(value: str, where: str) -> NodeKind:
    for kind in ("satellite", "ground", "device"):
        if value == kind:
            return kind
    raise PlanError(f"{where}.kind: must be {choices(NODE_KINDS)}, not {value!r}")


def _link_class(value: str, where: str) -> LinkClass:
    for link_class in ("service", "feeder", "intra_isl", "inter_isl"):
        if value == link_class:
            return link_class
    raise PlanError(f"{where}.class: must be {choices(LINK_CLASSES)}, not {value!r}")


def _refuse_type(where: str, wanted: str, value: object) -> NoReturn:
    raise PlanError(f"{where}: must be {wanted}, not {_kind_of(value)}")


def _kind_of(value: object) -> str:
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    names = {dict: "an object", list: "a list", str: "a string", int: "an integer", float: "a fraction"}
    return names.get(type(value), type(value).__name__)
