"""What the exchange formats of other tools (`interop_ion`, `interop_hdtn`) have in common.

Both formats number their nodes, count whole seconds and give a contact one rate. What is lost on the way out
and guessed on the way in is told as text beside the result, never printed.

Out: edges are rounded inwards, so that no contact is claimed that is not there; a rate that varies becomes
the mean over the contact, rounded down, so that no volume is claimed that is not there; light time is rounded
to the nearest second. In: a number's unit is the one that the caller states, else the one that the format
states, and `unit` says which; a factor of 8 is the usual mistake.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from fractions import Fraction
from typing import Final

from orbitrain.contacts.contact import LARGEST_INTEGER, Contact, LinkClass, PlanError, Sample
from orbitrain.contacts.plan import NODE_KINDS, PLAN_VERSION, ContactPlan, NodeKind, PlanNode

NS_PER_S: Final = 1_000_000_000

# Ten times what any radio or laser has sent to or from space; more is a wrong unit.
LARGEST_RATE_BPS: Final = 10**13
# Twenty times the light time to Voyager; more is a wrong unit.
LARGEST_LIGHT_TIME_S: Final = 20 * 86_400

NO_SCENARIO_SHA256: Final = "0" * 64  # of an imported plan, unless the caller says which scenario it is of
NO_EPOCH: Final = "2000-01-01T00:00:00Z"  # of a plan imported from relative times, unless the caller knows


class RateUnit(StrEnum):
    """What a number that stands for a rate counts."""

    BYTES_PER_S = "bytes/s"
    BITS_PER_S = "bits/s"
    MBITS_PER_S = "Mbit/s"

    @property
    def bits_per_s(self) -> int:
        return {RateUnit.BYTES_PER_S: 8, RateUnit.BITS_PER_S: 1, RateUnit.MBITS_PER_S: 1_000_000}[self]


@dataclass(frozen=True, slots=True)
class Numbered:
    """A node and its number (1 or more) in the other tool's plan."""

    number: int
    name: str
    kind: NodeKind


@dataclass(frozen=True, slots=True)
class Numbering:
    """Which number stands for which node; numbers and names are unique, or PlanError."""

    nodes: tuple[Numbered, ...] = ()

    def __post_init__(self) -> None:
        for index, node in enumerate(self.nodes):
            if node.number < 1:
                raise PlanError(f"nodes[{index}].number: must be 1 or more, not {node.number}")
        for what in ("number", "name"):
            seen = set()
            for index, node in enumerate(self.nodes):
                value = getattr(node, what)
                if value in seen:
                    raise PlanError(f"nodes[{index}].{what}: must be unique, {value!r} is there already")
                seen.add(value)

    @staticmethod
    def of(nodes: Sequence[PlanNode]) -> Numbering:
        """The default: 1, 2, 3 and so on in the plan's order."""
        return Numbering(
            tuple(Numbered(number, node.name, node.kind) for number, node in enumerate(nodes, start=1))
        )

    def to_json(self) -> bytes:
        """The file for people and `from_json`: {nodes [{number, name, kind}]}, a line a node."""
        lines = [
            json.dumps({"number": node.number, "name": node.name, "kind": node.kind}) for node in self.nodes
        ]
        return ('{"nodes": [\n  ' + ",\n  ".join(lines) + "\n]}\n").encode("ascii")

    @staticmethod
    def from_json(data: bytes) -> Numbering:
        try:
            document = json.loads(data.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise PlanError(f"nodes: must be JSON in UTF-8 ({error})") from None
        if not isinstance(document, dict) or not isinstance(document.get("nodes"), list):
            raise PlanError('nodes: must be {"nodes": [{"number", "name", "kind"}, ...]}')
        nodes = []
        for index, item in enumerate(document["nodes"]):
            if not isinstance(item, dict) or item.keys() != {"number", "name", "kind"}:
                raise PlanError(f"nodes[{index}]: must have number, name and kind")
            number, name, kind = item["number"], item["name"], item["kind"]
            if type(number) is not int or not isinstance(name, str) or kind not in NODE_KINDS:
                raise PlanError(
                    f"nodes[{index}]: number must be an integer, name a text, kind one of "
                    f"{', '.join(NODE_KINDS)}"
                )
            nodes.append(Numbered(number, name, kind))
        return Numbering(tuple(nodes))


@dataclass(frozen=True, slots=True)
class Exported:
    text: str
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Imported:
    """`unit` says how rates were read, and why; `skipped` has a line for each thing that was left out."""

    plan: ContactPlan
    numbering: Numbering
    unit: str
    warnings: tuple[str, ...]
    skipped: tuple[str, ...]


# --- out ----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Losses:
    """What an export could not say, counted."""

    edges: int = 0
    too_short: int = 0
    too_slow: int = 0
    varying: int = 0
    remainder: int = 0
    light_times: int = 0
    most_light_time_ns: int = 0
    random: int = 0
    margins: int = 0
    confidences: int = 0
    unlikely: int = 0
    positions: int = 0

    def warnings(self, unit: str) -> tuple[str, ...]:
        told = (
            (self.too_short, "contacts left out: no whole second lies in them"),
            (self.too_slow, f"contacts left out: their rate is below 1 {unit}"),
            (self.unlikely, "contacts left out: their confidence is 0"),
            (self.edges, "contacts shortened to whole seconds"),
            (self.varying, "contacts got one mean rate for one that varies"),
            (self.remainder, f"contacts had a rate rounded down to whole {unit}"),
            (
                self.light_times,
                "contacts lost light time, rounded to whole seconds "
                f"(by up to {self.most_light_time_ns / 1e9:.6f} s)",
            ),
            (self.random, "contacts lost their packet loss, which the format does not have"),
            (self.margins, "contacts lost the margin of their edges, which the format does not have"),
            (self.confidences, "contacts lost their confidence, which the format does not have"),
            (self.positions, "nodes lost their place or orbit, which the format does not have"),
        )
        return tuple(f"{count} {text}" for count, text in told if count)


@dataclass(frozen=True, slots=True)
class Row:
    """A contact as an exchange format can say it: whole seconds (of the plan's), one rate in the unit."""

    contact: Contact
    start_s: int
    end_s: int
    rate: int


def rows(
    plan: ContactPlan, unit: RateUnit, first_ns: int, losses: Losses, *, likely_only: bool = False
) -> list[Row]:
    """The plan's contacts that the format can say, in plan order; second 0 is `first_ns` before the epoch.

    With `likely_only` those of confidence 0 are left out.
    """
    losses.positions = sum(node.place is not None or node.orbit is not None for node in plan.nodes)
    found = []
    for contact in plan.contacts:
        start_s = -(-(contact.start_ns + first_ns) // NS_PER_S)
        end_s = (contact.end_ns + first_ns) // NS_PER_S
        if start_s >= end_s:
            losses.too_short += 1
            continue
        if likely_only and contact.confidence == 0:
            losses.unlikely += 1
            continue
        start_ns, end_ns = start_s * NS_PER_S - first_ns, end_s * NS_PER_S - first_ns
        mean_bps = contact.volume_bit_e9(start_ns, end_ns) / (end_ns - start_ns)
        rate, remainder = divmod(mean_bps, unit.bits_per_s)
        if rate == 0:
            losses.too_slow += 1
            continue
        losses.edges += (start_ns, end_ns) != (contact.start_ns, contact.end_ns)
        varies = len({sample.rate_bps for sample in contact.samples}) > 1
        losses.varying += varies
        losses.remainder += bool(remainder) and not varies
        losses.random += any(sample.loss_mean > 0 for sample in contact.samples)
        found.append(Row(contact, start_s, end_s, rate))
    return found


def whole_seconds(light_time_ns: int) -> int:
    """To the nearest second, half up."""
    return (2 * light_time_ns + NS_PER_S) // (2 * NS_PER_S)


def count_light_time(contact: Contact, losses: Losses, kept_s: Callable[[int], int]) -> None:
    """Note what a contact's light time loses; `kept_s` says what the format has at an instant (ns)."""
    lost_ns = max(abs(one.delay_ns - kept_s(one.t_ns) * NS_PER_S) for one in contact.samples)
    if lost_ns:
        losses.light_times += 1
        losses.most_light_time_ns = max(losses.most_light_time_ns, lost_ns)


# --- in -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Found:
    """A contact of an imported file; times in ns of the file's own, `light_time` as (from_ns, delay_ns)."""

    where: str
    source: int
    destination: int
    start_ns: int
    end_ns: int
    rate_bps: int
    light_time: tuple[tuple[int, int], ...]
    margin_ns: int = 0
    confidence: float = 1.0


@dataclass(slots=True)
class Refusals:
    """Bad lines: the first one ends the import, or with `skip_bad` each is noted and left out."""

    skip_bad: bool
    skipped: list[str] = field(default_factory=list)

    def add(self, error: PlanError) -> None:
        if not self.skip_bad:
            raise error
        self.skipped.append(str(error))


def rate_bps_of(where: str, number: Fraction, unit: RateUnit) -> int:
    """The rate in bit/s; PlanError where it cannot be one in this unit."""
    if number <= 0:
        raise PlanError(
            f"{where}: must be greater than 0, not {_plain(number)}"
            + (" (0 says unlimited to some tools: give the link's rate)" if number == 0 else "")
        )
    rate_bps = number * unit.bits_per_s
    if rate_bps > LARGEST_RATE_BPS:
        raise PlanError(
            f"{where}: {_plain(number)} {unit} cannot be right, more than "
            f"{LARGEST_RATE_BPS // 10**12} Tbit/s; state the unit that it is in"
        )
    if rate_bps.denominator != 1:
        raise PlanError(f"{where}: must come to whole bits a second, not {_plain(number)} {unit}")
    return int(rate_bps)


def light_time_ns_of(where: str, seconds: Fraction) -> int:
    if not 0 <= seconds <= LARGEST_LIGHT_TIME_S:
        raise PlanError(
            f"{where}: must be 0 to {LARGEST_LIGHT_TIME_S} s of light time, not {_plain(seconds)}"
        )
    if (seconds * NS_PER_S).denominator != 1:
        raise PlanError(f"{where}: must be whole nanoseconds, not {_plain(seconds)} s")
    return int(seconds * NS_PER_S)


def unit_doubt(numbers: Sequence[int], unit: RateUnit) -> str | None:
    """A warning when all numbers are round in another unit and not in the one that they are read in.

    People choose round rates, of one or two digits before the zeros: 9600 is round, the 76800 that it comes
    to as bytes is not; 125000 is not round, the 1000000 that it comes to as bytes is.
    """
    eightfold = [8 * number for number in numbers]
    if unit is RateUnit.BYTES_PER_S and _round(numbers) and not any(_round([n]) for n in eightfold):
        return f"rates look like bits/s (such as {numbers[0]}) but are read as bytes/s, 8 times as fast"
    if unit is RateUnit.BITS_PER_S and _round(eightfold) and not any(_round([n]) for n in numbers):
        return f"rates look like bytes/s (such as {numbers[0]}) but are read as bits/s, an eighth as fast"
    return None


def imported(
    found: Sequence[Found],
    *,
    epoch: str,
    epoch_ns: int,
    duration_ns: int | None,
    scenario_sha256: str,
    numbering: Numbering,
    refusals: Refusals,
) -> tuple[ContactPlan, Numbering]:
    """The plan of what was found; `epoch_ns` is the epoch in the file's time.

    Numbers that `numbering` does not know become satellites named `node-NUMBER`. Contacts of a directed pair
    must come in order and must not overlap.
    """
    known = {node.number: node for node in numbering.nodes}
    last: dict[tuple[int, int], Found] = {}
    contacts: list[tuple[Found, int, int]] = []
    for one in found:
        try:
            start_ns, end_ns = one.start_ns - epoch_ns, one.end_ns - epoch_ns
            _check_found(one, start_ns, end_ns, duration_ns, last.get((one.source, one.destination)))
        except PlanError as error:
            refusals.add(error)
            continue
        last[one.source, one.destination] = one
        contacts.append((one, start_ns, end_ns))
    if not contacts:
        raise PlanError("contacts: must have at least one contact that can be used")
    used = {number for one, _, _ in contacts for number in (one.source, one.destination)}
    unknown = sorted(used - known.keys())
    for number in unknown:
        known[number] = Numbered(number, f"node-{number}", "satellite")
    nodes = [*numbering.nodes, *(known[number] for number in unknown)]
    whole = Numbering(tuple(nodes))
    plan = ContactPlan(
        version=PLAN_VERSION,
        scenario_sha256=scenario_sha256,
        epoch=epoch,
        duration_ns=duration_ns if duration_ns is not None else max(end_ns for _, _, end_ns in contacts),
        nodes=tuple(PlanNode(node.name, node.kind) for node in nodes),
        contacts=tuple(
            Contact(
                source=known[one.source].name,
                destination=known[one.destination].name,
                link_class=link_class(known[one.source].kind, known[one.destination].kind),
                start_ns=start_ns,
                end_ns=end_ns,
                samples=_samples(one, start_ns, epoch_ns),
                margin_ns=one.margin_ns,
                confidence=one.confidence,
            )
            for one, start_ns, end_ns in contacts
        ),
    )
    return plan, whole


def link_class(source: NodeKind, destination: NodeKind) -> LinkClass:
    """The class that the kinds of two nodes make most likely; which plane a satellite is in is not known."""
    if source == destination == "satellite":
        return "inter_isl"
    if source == destination == "ground":
        return "backhaul"
    return "service" if "device" in (source, destination) else "feeder"


def _check_found(
    one: Found, start_ns: int, end_ns: int, duration_ns: int | None, before: Found | None
) -> None:
    if one.source == one.destination:
        raise PlanError(f"{one.where}: must be between two nodes, not from {one.source} to itself")
    if end_ns <= start_ns:
        raise PlanError(f"{one.where}: must end after it starts")
    if start_ns < 0:
        early_s = _plain(Fraction(-start_ns, NS_PER_S))
        raise PlanError(f"{one.where}: must not start before the epoch, {early_s} s before it")
    limit_ns = LARGEST_INTEGER if duration_ns is None else duration_ns
    if end_ns > limit_ns:
        raise PlanError(
            f"{one.where}: must end by {_plain(Fraction(limit_ns, NS_PER_S))} s after the epoch, "
            f"not {_plain(Fraction(end_ns, NS_PER_S))}"
        )
    if before is not None and one.start_ns < before.start_ns:
        raise PlanError(
            f"{one.where}: must be in time order, but starts before {before.where} of the same two nodes"
        )
    if before is not None and one.start_ns < before.end_ns:
        raise PlanError(
            f"{one.where}: must not overlap {before.where} from {one.source} to {one.destination}"
        )


def _samples(one: Found, start_ns: int, epoch_ns: int) -> tuple[Sample, ...]:
    samples: list[Sample] = []
    for from_ns, delay_ns in one.light_time:
        t_ns = max(from_ns - epoch_ns, start_ns)
        if samples and samples[-1].delay_ns == delay_ns:
            continue
        if samples and samples[-1].t_ns < t_ns - 1:
            # Light time is a step in the file and runs straight between samples here.
            samples.append(Sample(t_ns - 1, samples[-1].delay_ns, one.rate_bps, 0.0, 1.0))
        samples.append(Sample(t_ns, delay_ns, one.rate_bps, 0.0, 1.0))
    return tuple(samples)


def _round(numbers: Sequence[int]) -> bool:
    return bool(numbers) and all(len(str(number).rstrip("0")) <= 2 for number in numbers)


def _plain(number: Fraction) -> str:
    return str(number.numerator) if number.denominator == 1 else f"{float(number):g}"


# --- time ---------------------------------------------------------------------------------------------------

_UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def unix_ns(epoch: str) -> int:
    """ns from 1970 to an ISO instant with Z; PlanError where it is none."""
    try:
        instant = datetime.fromisoformat(epoch)
        since = instant - _UNIX_EPOCH
    except (ValueError, TypeError):
        raise PlanError(f"epoch: must be a UTC instant such as {NO_EPOCH}, not {epoch!r}") from None
    return since // timedelta(microseconds=1) * 1000


def utc(unix_s: int) -> datetime:
    """PlanError beyond the year 9999."""
    try:
        return _UNIX_EPOCH + timedelta(seconds=unix_s)
    except OverflowError:
        raise PlanError(f"time: must be before the year 10000, not {unix_s} s after 1970") from None
