"""HDTN contact plans: JSON, {contacts [{contact, source, dest, startTime, endTime, rateBitsPerSec, owlt}]}.

Times are whole seconds, from the start of the run or (when they are a billion and more) from 1970; `owlt` is
the light time in whole seconds; contacts are numbered from 0. Older files have `rate`, in Mbit/s, in the
place of `rateBitsPerSec`; a rate of 0, which HDTN takes for unlimited, is refused.

Out and in again gives the same plan, to the last bit, when the caller hands the import what the format has no
place for (the epoch, the duration, the scenario's digest and the numbering), and the plan has: edges at whole
seconds from its epoch, one rate a contact, light time that is whole seconds and one value a contact, no loss,
no margins, full confidence, the class that the kinds of the two nodes imply, one sample a contact at its
start, nodes without places and orbits, and revision 0.
"""

from __future__ import annotations

import json
from decimal import Decimal
from fractions import Fraction
from typing import Final

from orbitrain.contacts.contact import PlanError
from orbitrain.contacts.interop import (
    NO_EPOCH,
    NO_SCENARIO_SHA256,
    NS_PER_S,
    Exported,
    Found,
    Imported,
    Losses,
    Numbering,
    RateUnit,
    Refusals,
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
from orbitrain.contacts.plan import ContactPlan

# Seconds that are this many are counted from 1970: they would be 32 years of a run.
UNIX_TIMES_FROM_S: Final = 1_000_000_000

_KNOWN_KEYS: Final = frozenset(
    {"contact", "source", "dest", "startTime", "endTime", "rateBitsPerSec", "rate", "owlt"}
)
_RATE_KEYS: Final = {"rateBitsPerSec": RateUnit.BITS_PER_S, "rate": RateUnit.MBITS_PER_S}


def to_hdtn(plan: ContactPlan, numbering: Numbering | None = None) -> Exported:
    """The plan's contacts, a line each; PlanError for a node without a number."""
    numbering = Numbering.of(plan.nodes) if numbering is None else numbering
    number_of = {node.name: node.number for node in numbering.nodes}
    for node in plan.nodes:
        if node.name not in number_of:
            raise PlanError(f"nodes: {node.name} must have a number")
    losses = Losses()
    lines = []
    for index, row in enumerate(rows(plan, RateUnit.BITS_PER_S, 0, losses)):
        losses.margins += row.contact.margin_ns > 0
        losses.confidences += row.contact.confidence < 1
        # The longest: nothing arrives later than the plan says, but for what rounding takes.
        light_s = whole_seconds(max(one.delay_ns for one in row.contact.samples))
        count_light_time(row.contact, losses, lambda _, kept_s=light_s: kept_s)  # type: ignore[misc]
        contact = {
            "contact": index,
            "source": number_of[row.contact.source],
            "dest": number_of[row.contact.destination],
            "startTime": row.start_s,
            "endTime": row.end_s,
            "rateBitsPerSec": row.rate,
            "owlt": light_s,
        }
        lines.append("    " + json.dumps(contact))
    body = "[\n" + ",\n".join(lines) + "\n  ]" if lines else "[]"
    return Exported(f'{{\n  "contacts": {body}\n}}\n', losses.warnings("bits/s"))


def from_hdtn(
    text: str,
    *,
    numbering: Numbering | None = None,
    unit: RateUnit | None = None,
    epoch: str | None = None,
    duration_ns: int | None = None,
    scenario_sha256: str | None = None,
    skip_bad: bool = False,
) -> Imported:
    """The plan in an HDTN file. PlanError says which contact and field is wrong and why.

    `unit` is for `rate` only: `rateBitsPerSec` has its unit in its name.
    """
    refusals = Refusals(skip_bad)
    reading = _Reading(unit)
    found = []
    for index, item in enumerate(_contacts(text)):
        try:
            found.append(reading.contact(f"contacts[{index}]", item))
        except PlanError as error:
            refusals.add(error)
    warnings = [f"{key}: ignored, {count} contacts have it" for key, count in sorted(reading.ignored.items())]
    first_ns = min((one.start_ns for one in found), default=0)
    epoch_ns = 0
    if first_ns >= UNIX_TIMES_FROM_S * NS_PER_S:
        epoch_ns = first_ns if epoch is None else unix_ns(epoch)
        epoch = epoch or f"{utc(first_ns // NS_PER_S):%Y-%m-%dT%H:%M:%SZ}"
        warnings.append(f"times are read as seconds from 1970, the epoch is {epoch}")
    elif epoch is None:
        epoch = NO_EPOCH
        warnings.append(f"the file does not say when it begins: {NO_EPOCH} assumed")
    for chosen, numbers in sorted(reading.numbers.items()):
        doubt = unit_doubt(numbers, chosen) if unit is None else None
        if doubt is not None:
            warnings.append(doubt)
    plan, numbering = imported(
        found,
        epoch=epoch,
        epoch_ns=epoch_ns,
        duration_ns=duration_ns,
        scenario_sha256=scenario_sha256 or NO_SCENARIO_SHA256,
        numbering=Numbering() if numbering is None else numbering,
        refusals=refusals,
    )
    return Imported(plan, numbering, reading.told_unit(), tuple(warnings), tuple(refusals.skipped))


def _contacts(text: str) -> list[object]:
    try:
        document = json.loads(text, parse_float=Decimal)
    except (ValueError, RecursionError) as error:
        raise PlanError(f"plan: must be JSON ({error})") from None
    contacts = document.get("contacts") if isinstance(document, dict) else None
    if not isinstance(contacts, list):
        raise PlanError("contacts: must be a list in an object")
    return contacts


class _Reading:
    def __init__(self, unit: RateUnit | None) -> None:
        self._asked = unit
        self.ignored: dict[str, int] = {}
        self.numbers: dict[RateUnit, list[int]] = {}
        self._keys: set[str] = set()

    def contact(self, where: str, item: object) -> Found:
        if not isinstance(item, dict):
            raise PlanError(f"{where}: must be an object")
        for key in sorted(item.keys() - _KNOWN_KEYS):
            name = key if key.isascii() and key.isprintable() else repr(key)
            self.ignored[name] = self.ignored.get(name, 0) + 1
        start, end = (_number(where, item, key) for key in ("startTime", "endTime"))
        source, destination = (_node(where, item, key) for key in ("source", "dest"))
        times_ns = []
        for key, seconds in (("startTime", start), ("endTime", end)):
            if seconds < 0 or (seconds * NS_PER_S).denominator != 1:
                raise PlanError(f"{where}.{key}: must be seconds of 0 or more, in whole ns")
            times_ns.append(int(seconds * NS_PER_S))
        if end <= start:
            raise PlanError(f"{where}.endTime: must be after startTime ({item['startTime']})")
        light_ns = light_time_ns_of(f"{where}.owlt", _number(where, item, "owlt"))
        return Found(
            where=where,
            source=source,
            destination=destination,
            start_ns=times_ns[0],
            end_ns=times_ns[1],
            rate_bps=self._rate_bps(where, item),
            light_time=((times_ns[0], light_ns),),
        )

    def told_unit(self) -> str:
        if self._keys == {"rateBitsPerSec"}:
            return "bits/s (the key rateBitsPerSec)"
        asked = f"{self._asked or RateUnit.MBITS_PER_S}"
        why = "as asked for" if self._asked else "the older key rate"
        if self._keys == {"rate"}:
            return f"{asked} ({why})"
        return f"bits/s (the key rateBitsPerSec) and {asked} ({why})" if self._keys else "none"

    def _rate_bps(self, where: str, item: dict[str, object]) -> int:
        keys = [key for key in _RATE_KEYS if key in item]
        if not keys:
            raise PlanError(f"{where}.rateBitsPerSec: must be there")
        rates = []
        for key in keys:
            unit = _RATE_KEYS[key]
            if self._asked is not None and unit is not self._asked:
                if key == "rateBitsPerSec":
                    raise PlanError(f"{where}.rateBitsPerSec: is in bits/s by its name, not {self._asked}")
                unit = self._asked
            number = _number(where, item, key)
            rates.append(rate_bps_of(f"{where}.{key}", number, unit))
            self._keys.add(key)
            if number.denominator == 1:
                self.numbers.setdefault(unit, []).append(int(number))
        if len(set(rates)) > 1:
            raise PlanError(
                f"{where}.rate: must agree with rateBitsPerSec, {rates[1]} and {rates[0]} bit/s do not"
            )
        return rates[0]


def _number(where: str, item: dict[str, object], key: str) -> Fraction:
    value = item.get(key)
    if key not in item:
        raise PlanError(f"{where}.{key}: must be there")
    if type(value) is int or (isinstance(value, Decimal) and value.is_finite() and value.adjusted() < 40):
        return Fraction(value)
    raise PlanError(f"{where}.{key}: must be a number")


def _node(where: str, item: dict[str, object], key: str) -> int:
    number = _number(where, item, key)
    if number < 1 or number.denominator != 1:
        raise PlanError(f"{where}.{key}: must be a node number of 1 or more")
    return int(number)
