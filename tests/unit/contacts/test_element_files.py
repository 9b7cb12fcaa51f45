"""Element files: OMM in its three forms and TLE, what is refused and how; how far elements are trusted."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sgp4
from hypothesis import given
from hypothesis import strategies as st
from sgp4.api import Satrec

from orbitrain.contacts import tle
from orbitrain.contacts.element_files import ElementsError, as_nodes, read_elements
from orbitrain.contacts.elements import Satellite, Shell, satellites_of
from orbitrain.contacts.plan import PlanNode
from orbitrain.contacts.validity import (
    age_days,
    along_track_error_km,
    confidence,
    edge_margin_s,
    outside_validity,
)

# Public element sets from CelesTrak: the ISS of 2008-09-20 (of Wikipedia's article on two-line elements), and
# MARIO of 2023-04-25 and VANGUARD 1 of 2020-10-13 (of the sgp4 package's tests).
ISS = """\
ISS (ZARYA)
1 25544U 98067A   08264.51782528 -.00002182  00000-0 -11606-4 0  2927
2 25544  51.6416 247.4627 0006703 130.5360 325.0288 15.72125391563537
"""
VANGUARD = """\
0 VANGUARD 1
1 00005U 58002B   20287.20333880 -.00000016  00000-0 -22483-4 0  9998
2 00005  34.2443 225.5254 1845686 162.2516 205.2356 10.84869164218149
"""
MARIO: dict[str, Any] = {
    "OBJECT_NAME": "MARIO",
    "OBJECT_ID": "1998-067UQ",
    "EPOCH": "2023-04-25T10:45:30.642912",
    "MEAN_MOTION": 15.99081912,
    "ECCENTRICITY": 0.0014649,
    "INCLINATION": 51.6242,
    "RA_OF_ASC_NODE": 216.293,
    "ARG_OF_PERICENTER": 331.8976,
    "MEAN_ANOMALY": 28.1241,
    "EPHEMERIS_TYPE": 0,
    "CLASSIFICATION_TYPE": "U",
    "NORAD_CAT_ID": 55123,
    "ELEMENT_SET_NO": 999,
    "REV_AT_EPOCH": 1839,
    "BSTAR": 0.001568,
    "MEAN_MOTION_DOT": 0.00787702,
    "MEAN_MOTION_DDOT": 0.00029408,
}
MARIO_TLE = """\
MARIO
1 55123U 98067UQ  23115.44827133  .00787702  29408-3  15680-2 0  9999
2 55123  51.6242 216.2930 0014649 331.8976  28.1241 15.99081912 18396
"""
XML = """\
<?xml version="1.0" encoding="UTF-8"?>
<ndm xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
{}
</ndm>
"""
METADATA = ("OBJECT_NAME", "OBJECT_ID")
MEAN = ("EPOCH", "MEAN_MOTION", "ECCENTRICITY", "INCLINATION", "RA_OF_ASC_NODE", "ARG_OF_PERICENTER")


def as_json(*records: dict[str, Any]) -> bytes:
    return json.dumps(list(records)).encode()


def as_csv(*records: dict[str, Any]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(MARIO))
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue().encode()


def as_xml(*records: dict[str, Any]) -> bytes:
    def tags(record: dict[str, Any], keys: Any) -> str:
        return "".join(f"<{key}>{record[key]}</{key}>" for key in keys if key in record)

    omms = [
        '<omm id="CCSDS_OMM_VERS" version="2.0"><header><CREATION_DATE/></header><body><segment>'
        f"<metadata>{tags(r, METADATA)}<REF_FRAME>TEME</REF_FRAME></metadata><data><meanElements>"
        f"{tags(r, (*MEAN, 'MEAN_ANOMALY'))}</meanElements><tleParameters>"
        f"{tags(r, [k for k in r if k not in (*METADATA, *MEAN, 'MEAN_ANOMALY')])}"
        "</tleParameters></data></segment></body></omm>"
        for r in records
    ]
    return XML.format("\n".join(omms)).encode()


FORMS: dict[str, Callable[..., bytes]] = {"json": as_json, "csv": as_csv, "xml": as_xml}


def with_checksum(line: str) -> str:
    return line[:68] + str(sum(int(c) if c.isdigit() else c == "-" for c in line[:68]) % 10)


def changed(text: str, line: int, first: int, new: str) -> str:
    """The text with columns of a line (both counted from 1) replaced, and its checksum right again."""
    lines = text.splitlines()
    old = lines[line - 1]
    lines[line - 1] = with_checksum(old[: first - 1] + new + old[first - 1 + len(new) :])
    return "\n".join(lines) + "\n"


def one_line(data: bytes, file: str = "file", **options: Any) -> str:
    with pytest.raises(ElementsError) as caught:
        read_elements(data, file, **options)
    text = str(caught.value)
    assert "\n" not in text and len(text) < 300
    return text


# --- what is read -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_an_omm_is_the_satellite_of_the_same_two_lines(form: str) -> None:
    (ours,) = read_elements(FORMS[form](MARIO), f"gp.{form}").satellites
    (legacy,) = read_elements(MARIO_TLE.encode(), "gp.tle").satellites
    assert (ours.name, ours.source, ours.catalogue_number) == ("MARIO", "omm", 55123)
    assert (legacy.name, legacy.source, legacy.catalogue_number) == ("MARIO", "tle", 55123)
    assert abs(ours.epoch - datetime(2023, 4, 25, 10, 45, 30, 642_912, tzinfo=UTC)) < timedelta(
        microseconds=2
    )
    for minutes in (0.0, 60.0, 1440.0):
        assert ours.satrec.sgp4_tsince(minutes)[1] == pytest.approx(
            legacy.satrec.sgp4_tsince(minutes)[1], abs=1e-4
        )


def test_space_tracks_strings_and_extra_keys_are_celestraks_numbers() -> None:
    strings = {key: str(value) for key, value in MARIO.items()}
    extra = {"CCSDS_OMM_VERS": "3.0", "CENTER_NAME": "EARTH", "REF_FRAME": "TEME", "TIME_SYSTEM": "UTC"}
    extra |= {"MEAN_ELEMENT_THEORY": "SGP4", "DECAY_DATE": None, "TLE_LINE1": "1 55123U"}
    (theirs,) = read_elements(as_json({**strings, **extra}), "gp").satellites
    (ours,) = read_elements(as_json(MARIO), "gp").satellites
    assert theirs.satrec.sgp4_tsince(100.0) == ours.satrec.sgp4_tsince(100.0)
    (single,) = read_elements(b"\xef\xbb\xbf" + json.dumps(MARIO).encode(), "gp").satellites
    assert single.satrec.sgp4_tsince(100.0) == ours.satrec.sgp4_tsince(100.0)


@pytest.mark.parametrize(
    ("written", "second"),
    [
        ("2023-04-25T10:45:30", 30.0),
        ("2023-04-25T10:45:30.5Z", 30.5),
        ("2023-04-25T10:45:30.12345678", 30.123456),
        ("2023-115T10:45:30.25", 30.25),
    ],
)
def test_epochs_are_read_in_the_standards_spellings(written: str, second: float) -> None:
    (satellite,) = read_elements(as_json({**MARIO, "EPOCH": written}), "gp").satellites
    expected = datetime(2023, 4, 25, 10, 45, tzinfo=UTC) + timedelta(seconds=second)
    assert abs(satellite.epoch - expected) < timedelta(microseconds=2)


def test_fields_that_sgp4_does_not_need_may_be_absent() -> None:
    bare = {k: v for k, v in MARIO.items() if k in (*MEAN, "MEAN_ANOMALY", "BSTAR", "NORAD_CAT_ID")}
    (satellite,) = read_elements(as_json(bare), "gp").satellites
    (whole,) = read_elements(as_json(MARIO), "gp").satellites
    assert satellite.name == "norad-55123"
    assert satellite.satrec.sgp4_tsince(100.0) == whole.satrec.sgp4_tsince(100.0)


@pytest.mark.parametrize("number", [100_000, 339_999, 340_000, 799_500_123])
def test_catalogue_numbers_beyond_five_digits_are_kept(number: int) -> None:
    (satellite,) = read_elements(as_json({**MARIO, "NORAD_CAT_ID": number}), "gp").satellites
    assert satellite.catalogue_number == number
    assert all(map(math.isfinite, satellite.satrec.sgp4_tsince(10.0)[1]))


def test_two_and_three_lines_with_and_without_the_zero_and_comments_are_read() -> None:
    two = "\r\n".join(ISS.splitlines()[1:])
    text = f"# a comment\n\n{VANGUARD}{two}\r\n\n"
    first, second = read_elements(text.encode(), "mixed.txt").satellites
    assert (first.name, second.name) == ("VANGUARD 1", "norad-25544")
    assert first.epoch.date().isoformat() == "2020-10-13"


def test_alpha_5_numbers_are_numbers() -> None:
    text = changed(changed(ISS, 2, 3, "T0001"), 3, 3, "T0001")
    (satellite,) = read_elements(text.encode(), "iss").satellites
    assert satellite.catalogue_number == 270_001


def test_satellites_of_one_name_are_told_apart_and_a_number_twice_is_refused() -> None:
    other = {**MARIO, "NORAD_CAT_ID": 6}
    names = [s.name for s in read_elements(as_json(MARIO, other), "gp").satellites]
    assert names == ["MARIO [55123]", "MARIO [6]"]
    assert one_line(as_json(MARIO, MARIO)) == (
        "file: record 2 (MARIO): catalogue number: must differ, 55123 is that of record 1 (MARIO)"
    )


def test_names_of_satellites_become_names_of_nodes() -> None:
    records = [{**MARIO, "NORAD_CAT_ID": n, "OBJECT_NAME": name} for n, name in enumerate(
        ("ISS (ZARYA)", "Fengyun 1C Deb", "FENGYUN-1C DEB", "(**)", "x" * 90), start=1
    )]  # fmt: skip
    nodes = as_nodes(read_elements(as_json(*records), "gp").satellites)
    names = [node.name for node in nodes]
    assert names[:4] == ["iss-zarya", "fengyun-1c-deb-2", "fengyun-1c-deb-3", "norad-4"]
    assert len(set(names)) == 5
    for name in names:
        assert len(PlanNode(name, "satellite").name) <= 64


# --- SGP4's own verification ------------------------------------------------------------------------------


def test_the_verification_vectors_of_sgp4_are_reproduced_to_a_millimetre() -> None:
    folder = Path(sgp4.__file__).parent
    lines = [line for line in (folder / "SGP4-VER.TLE").read_text().splitlines() if line[:1] in "12"]
    blocks: list[list[list[str]]] = []
    for line in (folder / "tcppver.out").read_text().splitlines():
        fields = line.split()
        if fields and fields[-1] == "xx":
            blocks.append([])
        elif fields:
            blocks[-1].append(fields)
    assert len(lines) == 2 * len(blocks) == 66
    worst_km, vectors, checksums = 0.0, 0, 0
    for first, second, block in zip(lines[::2], lines[1::2], blocks, strict=True):
        # Three of the 33 have checksums that are wrong, and the columns beyond 69 are the test's own.
        pair = [first[:69], second[:69]]
        checksums += [with_checksum(line) for line in pair] == pair
        text = "\n".join(with_checksum(line) for line in pair)
        (record,) = tle.tle_records(text)
        assert isinstance(record, tle.TleRecord)
        satellite = tle.satellite_of(record)  # one of them fails at its epoch, as it should
        for fields in block:
            code, position_km, _ = satellite.satrec.sgp4_tsince(float(fields[0]))
            if code:
                continue
            expected = np.array([float(value) for value in fields[1:4]])
            worst_km = max(worst_km, float(np.abs(np.array(position_km) - expected).max()))
            vectors += 1
    assert worst_km < 1e-6
    assert vectors >= 660
    assert checksums == 30


# --- what is refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("key", [*MEAN, "MEAN_ANOMALY", "BSTAR", "NORAD_CAT_ID"])
def test_a_missing_field_is_named(form: str, key: str) -> None:
    record = {k: v for k, v in MARIO.items() if k != key}
    where = "line 2" if form == "csv" else "record 1"
    assert one_line(FORMS[form](record), f"gp.{form}") == f"gp.{form}: {where} (MARIO): {key}: must be there"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"MEAN_MOTION": 0}, "MEAN_MOTION: must be 0.001 to 18 revolutions a day, not '0'"),
        ({"MEAN_MOTION": "fast"}, "MEAN_MOTION: must be 0.001 to 18 revolutions a day, not 'fast'"),
        ({"ECCENTRICITY": 1.0}, "ECCENTRICITY: must be 0 to less than 1, not '1.0'"),
        ({"ECCENTRICITY": math.nan}, "ECCENTRICITY: must be 0 to less than 1, not 'nan'"),
        ({"INCLINATION": -1}, "INCLINATION: must be 0 to 180 degrees, not '-1'"),
        ({"MEAN_ANOMALY": math.inf}, "MEAN_ANOMALY: must be -360 to 360 degrees, not 'inf'"),
        ({"BSTAR": None}, "BSTAR: must be there"),
        ({"EPOCH": "yesterday"}, "EPOCH: must be an instant of UTC from 1957 to 2099 such as"),
        ({"EPOCH": "2023-02-30T00:00:00"}, "EPOCH: must be an instant of UTC"),
        ({"NORAD_CAT_ID": -5}, "NORAD_CAT_ID: must be a number from 0 to 999999999, not '-5'"),
        ({"REF_FRAME": "ICRF"}, "REF_FRAME: must be TEME, not 'ICRF'"),
        ({"TIME_SYSTEM": "TAI"}, "TIME_SYSTEM: must be UTC, not 'TAI'"),
        ({"MEAN_ELEMENT_THEORY": "DSST"}, "MEAN_ELEMENT_THEORY: must be SGP4 or SGP/SGP4 or SGP, not 'DSST'"),
        ({"EPHEMERIS_TYPE": 4}, "EPHEMERIS_TYPE: must be 0 (SGP4; 4 is SGP4-XP, another theory), not '4'"),
        ({"OBJECT_NAME": "a\u0007b"}, "record 1: name: must be printable"),
        ({"MEAN_MOTION": 17.9}, "SGP4 refuses these elements at their epoch: mrt is less than 1.0"),
        ({"ECCENTRICITY": 0.9999, "MEAN_MOTION": 15.0}, "SGP4 refuses these elements at their epoch"),
    ],
)
def test_an_omm_that_cannot_be_says_its_record_and_field(change: dict[str, Any], message: str) -> None:
    text = one_line(as_json({**MARIO, **change}), "gp.json")
    assert text.startswith("gp.json: record 1")
    assert message in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ISS.replace("2927", "2928"), "line 2 (ISS (ZARYA)): checksum: must be 7, the last digit of the sum"),
        (ISS.replace("563537", "563530"), "line 3 (ISS (ZARYA)): checksum: must be 7"),
        (ISS.replace("51.6416", "51.641 "), "line 3 (ISS (ZARYA)): inclination: must be 0.0000 to 180.0000"),
        (changed(ISS, 3, 9, "181.6416"), "inclination: must be 0.0000 to 180.0000 degrees, not '181.6416'"),
        (changed(ISS, 3, 18, "361.0000"), "right ascension of the node: must be 0.0000 to 360.0000"),
        (changed(ISS, 2, 19, "08367.51782528"), "epoch: must be YYDDD.DDDDDDDD, the day from 001 to 366"),
        (changed(ISS, 2, 63, "4"), "ephemeris type: must be 0 (SGP4; 4 is SGP4-XP, another theory), not '4'"),
        (
            changed(ISS, 2, 3, "I5544"),
            "catalogue number: must be five digits, or a letter (no I, O) and four",
        ),
        (
            changed(ISS, 3, 3, "25545"),
            "line 3 (ISS (ZARYA)): catalogue number: must be that of line 1, '25544'",
        ),
        (changed(ISS, 2, 18, "x"), "line 2 (ISS (ZARYA)): column 18: must be blank, not 'x'"),
        (changed(ISS, 3, 53, "00.00000000"), "line 2 (ISS (ZARYA)): SGP4 "),
        (ISS.replace("2927", "29"), "line 2 (ISS (ZARYA)): must have 69 columns, not 67"),
        ("\n".join(ISS.splitlines()[:2]), "line 2: must be followed by line 2 of its elements"),
        ("\n".join(ISS.splitlines()[::2]), "line 2: must follow line 1 of its elements"),
        (ISS + "ISS again\n", "line 4: must be elements, or the name before them"),
        ("No GP data found", "line 1: must be elements, or the name before them"),
        ("", "must hold at least one element set"),
        ("[]", "must hold at least one element set"),
        ("[1]", "record 1: must be an object, not 1"),
        ("[{", "must be JSON: "),
        ("<ndm></ndm>", "must have omm segments"),
        ("<ndm>", "must be XML: "),
        ("<!DOCTYPE x [<!ENTITY a 'b'>]><x/>", "must be XML without a DOCTYPE"),
        ("OBJECT_NAME,EPOCH\nMARIO,2023-04-25T10:45:30,17\n", "line 2: must have one value for each field"),
    ],
)
def test_a_file_that_cannot_be_says_its_line_and_field(text: str, message: str) -> None:
    found = one_line(text.encode(), "iss.txt")
    assert found.startswith("iss.txt: ")
    assert message in found


def test_bytes_that_are_no_text_are_refused() -> None:
    assert one_line(b"\xff\xfe1 ") == "file: must be text in UTF-8 (byte 0)"


def test_skip_bad_keeps_the_rest_and_tells_each_one_left_out() -> None:
    bad = [{**MARIO, "NORAD_CAT_ID": 2, "BSTAR": ""}, {**MARIO, "NORAD_CAT_ID": 3, "ECCENTRICITY": 2}]
    for form, make in FORMS.items():
        found = read_elements(make(bad[0], MARIO, bad[1]), form, skip_bad=True)
        assert [s.catalogue_number for s in found.satellites] == [55123]
        assert len(found.errors) == 2
        assert "BSTAR: must be there" in found.errors[0]
        assert "ECCENTRICITY: must be 0 to less than 1" in found.errors[1]
    text = ISS.replace("2927", "2928") + VANGUARD + "2 00005  34.2443\n" + MARIO_TLE
    found = read_elements(text.encode(), "three", skip_bad=True)
    assert [s.name for s in found.satellites] == ["VANGUARD 1", "MARIO"]
    assert [error.split(":")[1] for error in found.errors] == [" line 2 (ISS (ZARYA))", " line 7"]
    assert one_line(as_json(MARIO)[:-1], skip_bad=True).startswith("file: must be JSON")


@given(st.binary(max_size=200))
def test_any_bytes_give_satellites_or_one_line(data: bytes) -> None:
    try:
        read_elements(data, "any")
    except ElementsError as error:
        assert "\n" not in str(error)


@given(st.integers(len("ISS (ZARYA)"), len(ISS) - 1), st.characters(codec="ascii"))
def test_any_change_of_a_digit_or_blank_is_noticed_or_harmless(place: int, new: str) -> None:
    text = ISS[:place] + new + ISS[place + 1 :]
    found = read_elements(text.encode(), "any", skip_bad=True)
    for satellite in found.satellites:
        assert all(map(math.isfinite, satellite.satrec.sgp4_tsince(0.0)[1]))


# --- validity ---------------------------------------------------------------------------------------------


def iss() -> Satellite:
    return read_elements(ISS.encode(), "iss").satellites[0]


def test_age_becomes_a_margin_of_four_tenths_of_a_second_a_day() -> None:
    satellite = iss()
    assert age_days(satellite, satellite.epoch + timedelta(days=2)) == pytest.approx(2.0)
    assert along_track_error_km(0.0) == 1.0
    assert along_track_error_km(-2.0) == along_track_error_km(2.0) == 7.0
    margins = [edge_margin_s(satellite, satellite.epoch + timedelta(days=d)) for d in (0, 1, 11)]
    assert margins[0] == pytest.approx(0.13, abs=0.005)
    assert margins[2] - margins[1] == pytest.approx(10 * 0.39, abs=0.05)


def test_deep_space_starts_worse_and_our_own_elements_never_age() -> None:
    record = {**MARIO, "MEAN_MOTION": 2.0056, "ECCENTRICITY": 0.01, "BSTAR": 0.0}
    (gps,) = read_elements(as_json(record), "gps").satellites
    assert edge_margin_s(gps, gps.epoch) == pytest.approx(10.0 / 3.87, rel=0.01)
    (own,) = satellites_of(Shell("own", 550.0, 53.0, 1), datetime(2026, 1, 1, tzinfo=UTC))
    assert edge_margin_s(own, datetime(2027, 1, 1, tzinfo=UTC)) == 0.0
    assert outside_validity([own], datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)) == {}


@pytest.mark.parametrize(
    ("contact_s", "margin_s", "expected"),
    [(600.0, 0.0, 1.0), (600.0, 30.0, 0.9), (60.0, 30.0, 0.0), (60.0, 300.0, 0.0), (0.0, 1.0, 0.0)],
)
def test_confidence_is_the_part_of_a_contact_that_stays(
    contact_s: float, margin_s: float, expected: float
) -> None:
    assert confidence(contact_s, margin_s) == pytest.approx(expected)


def test_elements_far_from_the_window_are_told() -> None:
    satellite = iss()
    day = timedelta(days=1)
    assert outside_validity([satellite], satellite.epoch, satellite.epoch + 30 * day) == {}
    late = outside_validity([satellite], satellite.epoch, satellite.epoch + 31 * day)
    assert late == {
        0: "satellite 'ISS (ZARYA)': epoch 2008-09-20T12:25:40Z: must be within 30 days of the whole window, "
        "not 31.0 days before its end"
    }
    early = outside_validity([satellite], satellite.epoch - 40 * day, satellite.epoch)
    assert early[0].endswith("not 40.0 days after its start")
    assert isinstance(satellite.satrec, Satrec)
