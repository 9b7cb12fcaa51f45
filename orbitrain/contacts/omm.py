"""Orbit Mean-Elements Messages (CCSDS 502.0) as JSON, CSV or XML, as CelesTrak and Space-Track publish them.

A record becomes an SGP4 satellite through `sgp4.omm`. Of the standard's fields these must be there: EPOCH,
MEAN_MOTION, ECCENTRICITY, INCLINATION, RA_OF_ASC_NODE, ARG_OF_PERICENTER, MEAN_ANOMALY, BSTAR and
NORAD_CAT_ID. The rest has the usual defaults; what they say of another centre, frame, time or theory than
SGP4's is refused, as its elements would be read wrongly.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from sgp4 import omm
from sgp4.api import Satrec

from orbitrain.contacts.elements import LAST_CATALOGUE_NUMBER, Satellite


class ElementsError(ValueError):
    """Elements that cannot be used; the text is one line: where, field, what is allowed."""


def placed(where: str, name: str) -> str:
    """`where` with the name of what stands there, if it has one that can be shown."""
    short = " ".join(name.split())[:40]
    return f"{where} ({short})" if short and short.isprintable() else where


@dataclass(frozen=True, slots=True)
class OmmRecord:
    """One message: its place in the file, and its fields as they were written."""

    place: str
    fields: Mapping[str, object]

    @property
    def where(self) -> str:
        name = self.fields.get("OBJECT_NAME")
        return placed(self.place, name if isinstance(name, str) else "")


# Field: least, greatest, in words. Mean motion in revolutions a day: 18 is below the ground.
_NUMBERS: Final = {
    "MEAN_MOTION": (1e-3, 18.0, "0.001 to 18 revolutions a day"),
    "ECCENTRICITY": (0.0, 0.999999, "0 to less than 1"),
    "INCLINATION": (0.0, 180.0, "0 to 180 degrees"),
    "RA_OF_ASC_NODE": (-360.0, 360.0, "-360 to 360 degrees"),
    "ARG_OF_PERICENTER": (-360.0, 360.0, "-360 to 360 degrees"),
    "MEAN_ANOMALY": (-360.0, 360.0, "-360 to 360 degrees"),
    "BSTAR": (-10.0, 10.0, "-10 to 10 per Earth radius"),
    "MEAN_MOTION_DOT": (-1e3, 1e3, "-1000 to 1000"),
    "MEAN_MOTION_DDOT": (-1e3, 1e3, "-1000 to 1000"),
}
_DEFAULTS: Final = {
    "CLASSIFICATION_TYPE": "U",
    "OBJECT_ID": "",
    "EPHEMERIS_TYPE": "0",
    "ELEMENT_SET_NO": "0",
    "REV_AT_EPOCH": "0",
    "MEAN_MOTION_DOT": "0",
    "MEAN_MOTION_DDOT": "0",
}
# What SGP4 means when it is not said.
_FIXED: Final = {
    "CENTER_NAME": ("EARTH",),
    "REF_FRAME": ("TEME",),
    "TIME_SYSTEM": ("UTC",),
    "MEAN_ELEMENT_THEORY": ("SGP4", "SGP/SGP4", "SGP"),
}
# Type 4 is SGP4-XP, another theory with the same fields.
_EPHEMERIS_TYPES: Final = ("0", "1", "2", "3")
_LARGEST_NUMBER: Final = 999_999_999
_EPOCH = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(?:Z|\+00:00)?")
_DAY_EPOCH = re.compile(r"(\d{4}-\d{3}T\d\d:\d\d:\d\d)(?:\.(\d+))?Z?")


def json_records(text: str) -> Iterator[OmmRecord]:
    """The records of a JSON list, or of a single object. ElementsError where it is neither."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ElementsError(f"must be JSON: {error}") from None
    records = document if isinstance(document, list) else [document]
    for index, record in enumerate(records):
        if not isinstance(record, dict):
            raise ElementsError(f"record {index + 1}: must be an object, not {json.dumps(record)[:40]}")
        yield OmmRecord(f"record {index + 1}", record)


def csv_records(text: str) -> Iterator[OmmRecord]:
    """The records of a CSV table whose first line names the fields."""
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        for row in reader:
            if None in row:
                raise ElementsError(f"line {reader.line_num}: must have one value for each field of line 1")
            yield OmmRecord(f"line {reader.line_num}", {k: v for k, v in row.items() if v is not None})
    except csv.Error as error:
        raise ElementsError(f"line {reader.line_num}: must be CSV: {error}") from None


def xml_records(text: str) -> Iterator[OmmRecord]:
    """The records of an `omm`, or of the `omm` elements of an `ndm`: one for each segment."""
    if "<!DOCTYPE" in text:  # nothing that publishes elements needs one, and it can define what blows up
        raise ElementsError("must be XML without a DOCTYPE")
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise ElementsError(f"must be XML: {error}") from None
    segments = [element for element in root.iter() if _local(element.tag) == "segment"]
    if not segments:
        raise ElementsError("must have omm segments")
    for index, segment in enumerate(segments):
        fields = {_local(leaf.tag): leaf.text or "" for leaf in segment.iter() if not len(leaf)}
        yield OmmRecord(f"record {index + 1}", fields)


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def satellite_of(record: OmmRecord) -> Satellite:
    """The record's satellite. ElementsError names record and field."""
    try:
        return _satellite(record)
    except ElementsError as error:
        raise ElementsError(f"{record.where}: {error}") from None


def _satellite(record: OmmRecord) -> Satellite:
    written = {str(key).strip().upper(): _text(value) for key, value in record.fields.items()}
    fields = _DEFAULTS | {key: value for key, value in written.items() if value}
    for key, allowed in _FIXED.items():
        if fields.get(key, allowed[0]).upper() not in allowed:
            raise ElementsError(f"{key}: must be {' or '.join(allowed)}, not {fields[key]!r}")
    if fields["EPHEMERIS_TYPE"] not in _EPHEMERIS_TYPES:
        raise ElementsError(
            "EPHEMERIS_TYPE: must be 0 (SGP4; 4 is SGP4-XP, another theory), "
            f"not {fields['EPHEMERIS_TYPE'][:40]!r}"
        )
    for key, (least, greatest, words) in _NUMBERS.items():
        _check_number(fields, key, least, greatest, words)
    for key in ("ELEMENT_SET_NO", "REV_AT_EPOCH"):  # labels: SGP4 does not use them
        fields[key] = fields[key] if re.fullmatch(r"\d{1,9}", fields[key]) else "0"
    number = _required(fields, "NORAD_CAT_ID")
    if not re.fullmatch(r"\d{1,9}", number):
        raise ElementsError(f"NORAD_CAT_ID: must be a number from 0 to {_LARGEST_NUMBER}, not {number!r}")
    # SGP4's own label ends at Alpha-5; nothing is computed from it.
    fields["NORAD_CAT_ID"] = number if int(number) <= LAST_CATALOGUE_NUMBER else "0"
    fields["EPOCH"] = _epoch(_required(fields, "EPOCH"))
    satrec = Satrec()
    omm.initialize(satrec, fields)
    name = " ".join(fields.get("OBJECT_NAME", "").split())
    return Satellite(name or f"norad-{int(number)}", satrec, "omm", int(number))


def _text(value: object) -> str:
    if isinstance(value, str):
        return value.strip()
    return repr(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else ""


def _required(fields: Mapping[str, str], key: str) -> str:
    if key not in fields:
        raise ElementsError(f"{key}: must be there")
    return fields[key]


def _check_number(fields: Mapping[str, str], key: str, least: float, greatest: float, words: str) -> None:
    written = _required(fields, key)
    try:
        number = float(written)
    except ValueError:
        number = math.nan
    if not least <= number <= greatest:
        raise ElementsError(f"{key}: must be {words}, not {written[:40]!r}")


def _epoch(written: str) -> str:
    # In the one form that `sgp4.omm` reads.
    for pattern, form in ((_EPOCH, "%Y-%m-%dT%H:%M:%S"), (_DAY_EPOCH, "%Y-%jT%H:%M:%S")):
        match = pattern.fullmatch(written)
        if match is None:
            continue
        try:
            moment = datetime.strptime(match[1], form).replace(tzinfo=UTC)
        except ValueError:
            break
        if 1957 <= moment.year < 2100:
            return f"{moment:%Y-%m-%dT%H:%M:%S}.{(match[2] or '0')[:6]}"
    raise ElementsError(
        f"EPOCH: must be an instant of UTC from 1957 to 2099 such as 2026-01-01T12:00:00.000000, "
        f"not {written[:40]!r}"
    )
