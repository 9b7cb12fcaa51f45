"""ION contact plans: `a contact START STOP FROM TO BYTES_PER_S [CONFIDENCE]`, `a range START STOP A B SECS`.

ionrc(5): times are yyyy/mm/dd-hh:mm:ss (UTC) or +s after the reference time that `@` sets; a rate is in bytes
a second; a range is the light time in whole seconds, and one that names the smaller number first also holds
in the other direction unless that has a range of its own. Contacts from one node to another do not overlap.
The confidence of a contact with times is above 0 and at most 1, which it is where it is not written.

Out and in again gives the same plan, to the last bit, when that plan has: an epoch and edges at whole
seconds, one rate a contact in whole bytes/s, light time that is whole seconds and changes only at whole
seconds, no loss, confidence above 0, the class that the kinds of the two nodes imply, a contact's samples at
its start and at the changes of its light time, nodes without places and orbits, revision 0. What ION cannot
say goes in comments that it does not interpret and the import does: the epoch, the duration, the nodes' names
and kinds, the scenario's digest, and before a contact the margin of its edges.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction

from orbitrain.contacts.contact import PlanError
from orbitrain.contacts.interop import (
    NO_EPOCH,
    NO_SCENARIO_SHA256,
    NS_PER_S,
    Exported,
    Found,
    Imported,
    Losses,
    Numbered,
    Numbering,
    RateUnit,
    Refusals,
    Row,
    count_light_time,
    imported,
    light_time_ns_of,
    rate_bps_of,
    rows,
    unit_doubt,
    unix_ns,
    utc,
    whole_seconds,
)
from orbitrain.contacts.plan import ContactPlan, NodeKind

_ABSOLUTE = re.compile(r"(\d{4})/(\d\d)/(\d\d)-(\d\d):(\d\d):(\d\d)", re.ASCII)
_RELATIVE = re.compile(r"\+(\d{1,12})", re.ASCII)
_NUMBER = re.compile(r"-?\d{1,20}", re.ASCII)
_DECIMAL = re.compile(r"-?\d{1,20}(\.\d{1,20})?", re.ASCII)
_CONFIDENCE = re.compile(r"(\d{1,9}(\.\d{0,999})?|\.\d{1,999})([eE][-+]?\d{1,3})?", re.ASCII)
_MARGIN = re.compile(r"#\s*orbitrain margin_ns (\d{1,19})", re.ASCII)
_TOLD = re.compile(r"#\s*orbitrain (\S+) (.*)")
_NODE = re.compile(r"(\d{1,20}) (\S+) (satellite|ground|device)", re.ASCII)

# Of an ionrc file: what says nothing about contacts and ranges.
_OTHER_COMMANDS = frozenset("?hev1simlr^")


def to_ion(plan: ContactPlan, numbering: Numbering | None = None) -> Exported:
    """The plan's contacts and ranges with absolute times; PlanError for a node without a number."""
    numbering = Numbering.of(plan.nodes) if numbering is None else numbering
    number_of = {node.name: node.number for node in numbering.nodes}
    for node in plan.nodes:
        if node.name not in number_of:
            raise PlanError(f"nodes: {node.name} must have a number")
    losses = Losses()
    first_ns = unix_ns(plan.epoch)
    contacts: list[str] = []
    ranges: dict[tuple[int, int], list[_Range]] = {}
    for row in rows(plan, RateUnit.BYTES_PER_S, first_ns, losses, likely_only=True):
        source, destination = number_of[row.contact.source], number_of[row.contact.destination]
        if row.contact.margin_ns:
            contacts.append(f"# orbitrain margin_ns {row.contact.margin_ns}")
        contacts.append(
            f"a contact {_stamp(row.start_s)} {_stamp(row.end_s)} {source} {destination} {row.rate}"
            + ("" if row.contact.confidence == 1 else f" {Decimal(repr(float(row.contact.confidence))):f}")
        )
        steps = _steps(row, first_ns)
        starts = [one.start_s for one in steps]

        def kept_s(t_ns: int, steps: list[_Range] = steps, starts: list[int] = starts) -> int:
            return steps[max(bisect_right(starts, (t_ns + first_ns) // NS_PER_S) - 1, 0)].light_s

        count_light_time(row.contact, losses, kept_s)
        ranges.setdefault((source, destination), []).extend(steps)
    told = [
        "# orbitrain epoch " + plan.epoch,
        f"# orbitrain duration_ns {plan.duration_ns}",
        "# orbitrain scenario " + plan.scenario_sha256,
        "# orbitrain rates bytes/s",
        *(f"# orbitrain node {node.number} {node.name} {node.kind}" for node in numbering.nodes),
    ]
    lines = [
        f"a range {_stamp(one.start_s)} {_stamp(one.end_s)} {source} {destination} {one.light_s}"
        for (source, destination), some in sorted(ranges.items())
        # ION takes a range from the smaller to the larger number for both directions.
        if source < destination or ranges.get((destination, source)) != some
        for one in some
    ]
    return Exported("\n".join([*told, *contacts, *lines]) + "\n", losses.warnings("bytes/s"))


@dataclass(frozen=True, slots=True)
class _Range:
    start_s: int
    end_s: int
    light_s: int


def _steps(row: Row, first_ns: int) -> list[_Range]:
    """The light time in whole seconds, as it is at each whole second of the contact."""
    contact = row.contact
    least, most = (whole_seconds(f(one.delay_ns for one in contact.samples)) for f in (min, max))
    if least == most:
        return [_Range(row.start_s, row.end_s, least)]
    steps: list[_Range] = []
    for second in range(row.start_s, row.end_s):
        light_s = whole_seconds(contact.delay_ns_at(second * NS_PER_S - first_ns))
        start_s = second
        if steps and steps[-1].light_s == light_s:
            start_s = steps.pop().start_s
        steps.append(_Range(start_s, second + 1, light_s))
    return steps


def _stamp(unix_s: int) -> str:
    return f"{utc(unix_s):%Y/%m/%d-%H:%M:%S}".rjust(19, "0")


# --- in -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Line:
    """A contact or range command: `number` is its rate or its seconds, as written."""

    where: str
    start_ns: int
    end_ns: int
    one: int
    other: int
    number: Fraction
    margin_ns: int = 0
    confidence: float = 1.0


def from_ion(
    text: str,
    *,
    numbering: Numbering | None = None,
    unit: RateUnit | None = None,
    epoch: str | None = None,
    duration_ns: int | None = None,
    scenario_sha256: str | None = None,
    skip_bad: bool = False,
) -> Imported:
    """The plan in an ION file. PlanError says which line is wrong and why.

    What is not given is taken from our own comments; else the epoch is the file's first absolute time (or
    its `@`), or 2000-01-01 where all times are relative, and rates are bytes/s.
    """
    refusals = Refusals(skip_bad)
    told, nodes = _own_comments(text)
    reading = _Reading(epoch or told.get("epoch"))
    contacts, ranges = reading.read(text, refusals)
    warnings = reading.warnings
    chosen, why = _unit(unit, told.get("rates"))
    found = _found(contacts, ranges, chosen, warnings, refusals)
    if numbering is None:
        numbering = Numbering(nodes)
    plan, numbering = imported(
        found,
        epoch=reading.epoch(found),
        epoch_ns=reading.epoch_ns(found),
        duration_ns=_duration_ns(told) if duration_ns is None else duration_ns,
        scenario_sha256=scenario_sha256 or told.get("scenario", NO_SCENARIO_SHA256),
        numbering=numbering,
        refusals=refusals,
    )
    doubt = unit_doubt([one.rate_bps // chosen.bits_per_s for one in found], chosen) if unit is None else None
    if doubt is not None and "rates" not in told:
        warnings.append(doubt)
    return Imported(plan, numbering, f"{chosen} ({why})", tuple(warnings), tuple(refusals.skipped))


def _own_comments(text: str) -> tuple[dict[str, str], tuple[Numbered, ...]]:
    told: dict[str, str] = {}
    nodes: list[Numbered] = []
    for line in text.splitlines():
        match = _TOLD.fullmatch(line.strip())
        if match is None:
            continue
        if match[1] != "node":
            told[match[1]] = match[2].strip()
        elif node := _NODE.fullmatch(match[2].strip()):
            kinds: dict[str, NodeKind] = {"satellite": "satellite", "ground": "ground", "device": "device"}
            nodes.append(Numbered(int(node[1]), node[2], kinds[node[3]]))
    return told, tuple(nodes)


def _duration_ns(told: dict[str, str]) -> int | None:
    if "duration_ns" not in told:
        return None
    if not re.fullmatch(r"[0-9]{1,19}", told["duration_ns"]):
        raise PlanError(f"duration_ns: must be an integer, not {told['duration_ns']!r}")
    return int(told["duration_ns"])


def _unit(unit: RateUnit | None, told: str | None) -> tuple[RateUnit, str]:
    if unit is not None:
        return unit, "as asked for"
    if told is not None:
        if told != RateUnit.BYTES_PER_S:
            raise PlanError(f"rates: must be bytes/s in an ION plan, not {told!r}")
        return RateUnit.BYTES_PER_S, "as the file says"
    return RateUnit.BYTES_PER_S, "ION's unit; the file does not say"


class _Reading:
    """Lines to numbers: all times count from 1970, relative ones by the reference time."""

    def __init__(self, epoch: str | None) -> None:
        self._stated = epoch
        self._reference_ns: int | None = None if epoch is None else unix_ns(epoch)
        self.warnings: list[str] = []
        self._guessed = False

    def read(self, text: str, refusals: Refusals) -> tuple[list[_Line], list[_Line]]:
        contacts: list[_Line] = []
        ranges: list[_Line] = []
        ignored = 0
        margin_ns = 0  # of the contact that comes next
        for number, line in enumerate(text.splitlines(), start=1):
            words = line.split()
            where = f"line {number}"
            if not words or words[0].startswith("#"):
                if match := _MARGIN.fullmatch(line.strip()):
                    margin_ns = int(match[1])
                continue
            try:
                if words[0] == "@" and len(words) == 2:
                    self._reference_ns = self._time_ns(where, words[1])
                elif words[:2] == ["a", "contact"]:
                    margin_ns, margin = 0, margin_ns
                    if self._is_scheduled(where, words):
                        one = self._line(where, words, "rate", at_least=7, at_most=8)
                        confidence = _confidence(where, words[7]) if len(words) == 8 else 1.0
                        contacts.append(replace(one, margin_ns=margin, confidence=confidence))
                elif words[:2] == ["a", "range"]:
                    ranges.append(self._line(where, words, "distance", at_least=7, at_most=7))
                elif words[0] in _OTHER_COMMANDS:
                    ignored += 1
                else:
                    raise PlanError(f"{where}: must be `a contact` or `a range`, not {line.strip()[:40]!r}")
            except PlanError as error:
                refusals.add(error)
        if ignored:
            self.warnings.append(f"{ignored} other ionadmin commands ignored")
        return contacts, ranges

    def epoch(self, found: Sequence[Found]) -> str:
        if self._stated is not None:
            return self._stated
        if self._guessed:
            self.warnings.append(f"the file does not say when it begins: {NO_EPOCH} assumed")
        return f"{utc(self.epoch_ns(found) // NS_PER_S):%Y-%m-%dT%H:%M:%SZ}"

    def epoch_ns(self, found: Sequence[Found]) -> int:
        if self._stated is not None:
            return unix_ns(self._stated)
        if self._reference_ns is not None:
            return min([self._reference_ns, *(one.start_ns for one in found)])
        return min((one.start_ns for one in found), default=0)

    def _is_scheduled(self, where: str, words: list[str]) -> bool:
        if words[2:3] == ["-1"] or words[3:4] == ["0"]:
            kind = "registration" if words[2] == "-1" else "hypothetical"
            self.warnings.append(f"{where}: {kind} contact ignored, it has no times")
            return False
        return True

    def _line(self, where: str, words: list[str], what: str, *, at_least: int, at_most: int) -> _Line:
        if not at_least <= len(words) <= at_most:
            raise PlanError(f"{where}: must be `a {words[1]} START STOP FROM TO {what.upper()}`")
        start_ns, end_ns = self._time_ns(where, words[2]), self._time_ns(where, words[3])
        numbers = []
        for word in words[4:6]:
            if not _NUMBER.fullmatch(word) or int(word) < 1:
                raise PlanError(f"{where}: node must be a number of 1 or more, not {word!r}")
            numbers.append(int(word))
        if not _DECIMAL.fullmatch(words[6]):
            raise PlanError(f"{where}: {what} must be a number, not {words[6]!r}")
        if end_ns <= start_ns:
            raise PlanError(f"{where}: stop must be after start, not {words[3]} after {words[2]}")
        return _Line(where, start_ns, end_ns, numbers[0], numbers[1], Fraction(words[6]))

    def _time_ns(self, where: str, word: str) -> int:
        if match := _ABSOLUTE.fullmatch(word):
            try:
                year, month, day, hour, minute, second = map(int, match.groups())
                instant = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
            except ValueError:
                raise PlanError(f"{where}: must be a time that exists, not {word!r}") from None
            return unix_ns(instant.isoformat())
        if match := _RELATIVE.fullmatch(word):
            if self._reference_ns is None:
                self._reference_ns = unix_ns(NO_EPOCH)
                self._guessed = True
            return self._reference_ns + int(match[1]) * NS_PER_S
        raise PlanError(f"{where}: time must be yyyy/mm/dd-hh:mm:ss or +seconds, not {word!r}")


def _confidence(where: str, word: str) -> float:
    confidence = float(word) if _CONFIDENCE.fullmatch(word) else -1.0
    if not 0 < confidence <= 1:
        raise PlanError(f"{where}: confidence must be above 0 and at most 1, not {word!r}")
    return confidence


def _found(
    contacts: list[_Line], ranges: list[_Line], unit: RateUnit, warnings: list[str], refusals: Refusals
) -> list[Found]:
    of_pair = _ranges_by_pair(ranges, refusals)
    found: list[Found] = []
    without = 0
    for line in contacts:
        inside = _within(of_pair.get((line.one, line.other), []), line)
        if line.one > line.other and not inside:
            inside = _within(of_pair.get((line.other, line.one), []), line)
        try:
            rate_bps = rate_bps_of(f"{line.where}: rate", line.number, unit)
        except PlanError as error:
            refusals.add(error)
            continue
        light_time = [(max(one.start_ns, line.start_ns), int(one.number * NS_PER_S)) for one in inside]
        covered_ns = sum(min(one.end_ns, line.end_ns) - max(one.start_ns, line.start_ns) for one in inside)
        if covered_ns < line.end_ns - line.start_ns:
            without += 1
            if not light_time:
                light_time = [(line.start_ns, 0)]
        found.append(
            Found(
                where=line.where,
                source=line.one,
                destination=line.other,
                start_ns=line.start_ns,
                end_ns=line.end_ns,
                rate_bps=rate_bps,
                light_time=tuple(light_time),
                margin_ns=line.margin_ns,
                confidence=line.confidence,
            )
        )
    if without:
        warnings.append(
            f"{without} contacts have no range for all of their time: the one before it, or 0 s, assumed"
        )
    return found


def _within(ranges: list[_Line], line: _Line) -> list[_Line]:
    first = bisect_right(ranges, line.start_ns, key=lambda one: one.end_ns)
    last = bisect_left(ranges, line.end_ns, key=lambda one: one.start_ns)
    return ranges[first:last]


def _ranges_by_pair(ranges: list[_Line], refusals: Refusals) -> dict[tuple[int, int], list[_Line]]:
    of_pair: dict[tuple[int, int], list[_Line]] = {}
    for line in ranges:
        try:
            light_time_ns_of(f"{line.where}: distance", line.number)
            some = of_pair.setdefault((line.one, line.other), [])
            if some and line.start_ns < some[-1].start_ns:
                raise PlanError(
                    f"{line.where}: must be in time order, but starts before {some[-1].where} "
                    "of the same two nodes"
                )
            if some and line.start_ns < some[-1].end_ns:
                raise PlanError(f"{line.where}: must not overlap {some[-1].where} of the same two nodes")
        except PlanError as error:
            refusals.add(error)
            continue
        some.append(line)
    return of_pair
