"""Two-line element sets, with or without a line of the name before them: the format before OMM.

Every column is checked, as SGP4's own reader makes numbers of anything. Catalogue numbers from 100000 to
339999 have a letter for their first two digits (Alpha-5, without I and O).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from sgp4.api import Satrec

from orbitrain.contacts.elements import Satellite
from orbitrain.contacts.omm import ElementsError, placed

COLUMNS: Final = 69

_BLANKS: Final = {1: (2, 9, 18, 33, 44, 53, 62, 64), 2: (2, 8, 17, 26, 34, 43, 52)}
_NUMBER: Final = r"[0-9A-HJ-NP-Z ][0-9 ]{3}[0-9]", "five digits, or a letter (no I, O) and four"
_DAY: Final = r"(?:[ 0]{2}[1-9]|[ 0][1-9][0-9]|[12][0-9]{2}|3[0-5][0-9]|36[0-6])"
_SCALED: Final = r"[+\- ][0-9 ]{5}[+\- ][0-9]"
_ANGLE: Final = r"(?:[ 0-2][ 0-9][0-9]|3[0-5][0-9])\.[0-9]{4}|360\.0000", "0.0000 to 360.0000 degrees"
_HALF_TURN: Final = (
    r"(?:[ 0][ 0-9][0-9]|1[0-7][0-9])\.[0-9]{4}|180\.0000",
    "0.0000 to 180.0000 degrees",
)
# Of each line: field, first and last column (counted from 1), its form, and the form in words.
_FIELDS: Final = {
    1: (
        ("catalogue number", 3, 7, *_NUMBER),
        ("classification", 8, 8, r"[A-Z ]", "a letter"),
        ("epoch", 19, 32, rf"[0-9]{{2}}{_DAY}\.[0-9]{{8}}", "YYDDD.DDDDDDDD, the day from 001 to 366"),
        ("first derivative of mean motion", 34, 43, r"[+\- 0]\.[0-9]{8}", "a fraction such as -.00002182"),
        ("second derivative of mean motion", 45, 52, _SCALED, "a number such as 00000-0"),
        ("bstar", 54, 61, _SCALED, "a number such as -11606-4"),
        ("ephemeris type", 63, 63, r"[0-3 ]", "0 (SGP4; 4 is SGP4-XP, another theory)"),
    ),
    2: (
        ("catalogue number", 3, 7, *_NUMBER),
        ("inclination", 9, 16, *_HALF_TURN),
        ("right ascension of the node", 18, 25, *_ANGLE),
        ("eccentricity", 27, 33, r"[0-9 ]{6}[0-9]", "seven digits after the point"),
        ("argument of perigee", 35, 42, *_ANGLE),
        ("mean anomaly", 44, 51, *_ANGLE),
        ("mean motion", 53, 63, r"(?:[ 0][0-9]|1[0-8])\.[0-9]{8}", "0 to 18.99999999 revolutions a day"),
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class TleRecord:
    """The two lines of one set with their numbers in the file, and the name before them if there was one."""

    name: str
    lines: tuple[str, str]
    numbers: tuple[int, int]

    @property
    def where(self) -> str:
        return placed(f"line {self.numbers[0]}", self.name)


def tle_records(text: str) -> Iterator[TleRecord | ElementsError]:
    """The sets of a file, and in their places what is none. Blank lines and lines with # are passed over."""
    name, name_line = "", 0
    first, first_line = "", 0
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.rstrip()
        if not line or line.startswith("#"):
            continue
        if first:
            if line.startswith("2 "):
                yield TleRecord(name, (first, line), (first_line, number))
                name, first = "", ""
                continue
            yield ElementsError(f"line {number}: must be line 2 of the elements of line {first_line}")
            name, first = "", ""
        if re.match(r"1 [0-9A-Z ]{5}", line):
            first, first_line = line, number
        elif re.match(r"2 [0-9A-Z ]{5} ", line):
            yield ElementsError(f"line {number}: must follow line 1 of its elements")
            name = ""
        else:
            if name:
                yield ElementsError(f"line {name_line}: must be elements, or the name before them")
            name, name_line = " ".join(line.removeprefix("0 ").split()), number
    if first:
        yield ElementsError(f"line {first_line}: must be followed by line 2 of its elements")
    elif name:
        yield ElementsError(f"line {name_line}: must be elements, or the name before them")


def satellite_of(record: TleRecord) -> Satellite:
    """The record's satellite. ElementsError names line and field."""
    for which, (number, line) in enumerate(zip(record.numbers, record.lines, strict=True), start=1):
        wrong = _wrong(which, line)
        if wrong:
            raise ElementsError(f"{placed(f'line {number}', record.name)}: {wrong}")
    first, second = record.lines
    if first[2:7] != second[2:7]:
        where = placed(f"line {record.numbers[1]}", record.name)
        raise ElementsError(
            f"{where}: catalogue number: must be that of line 1, {first[2:7]!r}, not {second[2:7]!r}"
        )
    satrec = Satrec.twoline2rv(first, second)
    return Satellite(record.name or f"norad-{satrec.satnum}", satrec, "tle", int(satrec.satnum))


def _wrong(which: int, line: str) -> str | None:
    if len(line) != COLUMNS:
        return f"must have {COLUMNS} columns, not {len(line)}"
    for field, first, last, form, words in _FIELDS[which]:
        if not re.fullmatch(form, line[first - 1 : last]):
            return f"{field}: must be {words}, not {line[first - 1 : last]!r}"
    for column in _BLANKS[which]:
        if line[column - 1] != " ":
            return f"column {column}: must be blank, not {line[column - 1]!r}"
    # Last, as a digit out of its place is better told by its field.
    expected = sum(int(c) if c in "0123456789" else c == "-" for c in line[:-1]) % 10
    if line[-1] != str(expected):
        return f"checksum: must be {expected}, the last digit of the sum of digits, not {line[-1]!r}"
    return None
