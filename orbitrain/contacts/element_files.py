"""Files of published elements: OMM as JSON, CSV or XML, and TLE.

Functions take bytes and a name for errors; reading files is their caller's. What cannot be used is told in
one line (file, line or record, field, what is allowed). The first such line is raised, or, with `skip_bad`,
all are collected and the other satellites are unaffected.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from sgp4.api import SGP4_ERRORS

from orbitrain.contacts import omm, tle
from orbitrain.contacts.elements import Satellite
from orbitrain.contacts.omm import ElementsError, OmmRecord
from orbitrain.contacts.tle import TleRecord

__all__ = ["ElementFile", "ElementsError", "as_nodes", "read_elements"]


@dataclass(frozen=True, slots=True)
class ElementFile:
    """The satellites of a file in its order, with distinct names, and one line for each that is left out."""

    satellites: tuple[Satellite, ...]
    errors: tuple[str, ...]


def read_elements(data: bytes, file: str, *, skip_bad: bool = False) -> ElementFile:
    """The satellites of an element file; the format is told from its content (CSV also by its name).

    Satellites of one name are told apart by their catalogue number; a number twice is an error of the second.
    Raises ElementsError: for the file as a whole, and without `skip_bad` for the first bad record.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ElementsError(f"{file}: must be text in UTF-8 (byte {error.start})") from None
    satellites: list[Satellite] = []
    errors: list[str] = []
    seen: dict[int | None, str] = {}
    try:
        for record in _records(text, file):
            try:
                satellites.append(_satellite(record, seen))
            except ElementsError as error:
                if not skip_bad:
                    raise
                errors.append(f"{file}: {error}")
    except ElementsError as error:
        raise ElementsError(f"{file}: {error}") from None
    if not satellites and not errors:
        raise ElementsError(f"{file}: must hold at least one element set")
    return ElementFile(_distinct(satellites), tuple(errors))


def _records(text: str, file: str) -> Iterator[OmmRecord | TleRecord | ElementsError]:
    start = text.lstrip()
    head = start.partition("\n")[0].upper()
    if start[:1] in ("[", "{"):
        return omm.json_records(start)
    if start[:1] == "<":
        return omm.xml_records(start)
    if "," in head and ("EPOCH" in head or "OBJECT_NAME" in head or file.lower().endswith(".csv")):
        return omm.csv_records(text)
    return tle.tle_records(text)


def _satellite(record: OmmRecord | TleRecord | ElementsError, seen: dict[int | None, str]) -> Satellite:
    if isinstance(record, ElementsError):
        raise record
    satellite = omm.satellite_of(record) if isinstance(record, OmmRecord) else tle.satellite_of(record)
    where, number = record.where, satellite.catalogue_number
    if not satellite.name.isprintable():
        raise ElementsError(f"{where}: name: must be printable")
    # SGP4 itself at the epoch: it says no to elements that no field rules out, and its numbers must be ones.
    code, position_km, velocity = satellite.satrec.sgp4_tsince(0.0)
    if code:
        raise ElementsError(f"{where}: SGP4 refuses these elements at their epoch: {SGP4_ERRORS[code]}")
    if not all(math.isfinite(value) for value in (*position_km, *velocity)):
        raise ElementsError(f"{where}: SGP4 makes no numbers of these elements")
    if number in seen:
        raise ElementsError(f"{where}: catalogue number: must differ, {number} is that of {seen[number]}")
    seen[number] = where
    return satellite


def _distinct(satellites: Sequence[Satellite]) -> tuple[Satellite, ...]:
    times = Counter(satellite.name for satellite in satellites)
    return tuple(
        replace(s, name=f"{s.name} [{s.catalogue_number}]") if times[s.name] > 1 else s for s in satellites
    )


def as_nodes(satellites: Sequence[Satellite]) -> tuple[Satellite, ...]:
    """The satellites under names that nodes may have: lower-case letters, digits and hyphens, at most 64.

    ISS (ZARYA) becomes iss-zarya; where two would be the same, both end in their catalogue number.
    """
    short = [re.sub(r"[^a-z0-9]+", "-", s.name.lower()).strip("-")[:50].rstrip("-") for s in satellites]
    times = Counter(short)
    return tuple(
        replace(s, name=name if name and times[name] == 1 else f"{name or 'norad'}-{s.catalogue_number}")
        for s, name in zip(satellites, short, strict=True)
    )
