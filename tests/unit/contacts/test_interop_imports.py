"""Files of ION and HDTN, of another hand: how they are read, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orbitrain.contacts.contact import PlanError
from orbitrain.contacts.interop import Imported, RateUnit
from orbitrain.contacts.interop_hdtn import from_hdtn
from orbitrain.contacts.interop_ion import from_ion
from orbitrain.contacts.plan import PlanNode
from tests.unit.contacts.interop_plans import SECOND


@pytest.mark.parametrize("word", ["0", "0.0", "1.01", "-0.5", "nan", "likely", "1e999", "."])
def test_a_confidence_that_ion_would_not_take_is_refused(word: str) -> None:
    with pytest.raises(PlanError) as refusal:
        from_ion(f"a contact +0 +9 1 2 9600 {word}\n")
    assert str(refusal.value) == f"line 1: confidence must be above 0 and at most 1, not {word!r}"


@pytest.mark.parametrize(("word", "value"), [("1", 1.0), ("1.0", 1.0), (".5", 0.5), ("5e-1", 0.5)])
def test_a_confidence_is_read_as_c_reads_numbers(word: str, value: float) -> None:
    assert from_ion(f"a contact +0 +9 1 2 9600 {word}\n").plan.contacts[0].confidence == value


ION = """\
## begin ionadmin
1 10 ''
s
e 1
@ 2026/01/01-00:00:00
a contact +10 +70 10 20 125000 0.9
a contact +10 +70 20 10 1000
a range +10 +70 10 20 2
a contact -1 0 10 10 0
m horizon +0
"""


def test_an_ion_file_of_another_hand_is_read() -> None:
    found = from_ion(ION)
    plan = found.plan
    assert plan.epoch == "2026-01-01T00:00:00Z" and plan.duration_ns == 70 * SECOND
    assert plan.nodes == (PlanNode("node-10", "satellite"), PlanNode("node-20", "satellite"))
    assert [(c.source, c.start_ns, c.end_ns) for c in plan.contacts] == [
        ("node-10", 10 * SECOND, 70 * SECOND),
        ("node-20", 10 * SECOND, 70 * SECOND),
    ]
    assert [c.rate_bps_at(0) for c in plan.contacts] == [1_000_000, 8_000]
    assert [c.delay_ns_at(0) for c in plan.contacts] == [2 * SECOND] * 2
    assert found.unit == "bytes/s (ION's unit; the file does not say)"
    assert found.warnings == (
        "line 9: registration contact ignored, it has no times",
        "4 other ionadmin commands ignored",
    )


def test_a_range_of_its_own_overrides_that_of_the_other_direction() -> None:
    text = "a contact +0 +9 2 1 8\na contact +0 +9 1 2 8\na range +0 +9 1 2 3\na range +0 +9 2 1 4\n"
    assert [c.delay_ns_at(0) for c in from_ion(text).plan.contacts] == [3 * SECOND, 4 * SECOND]
    text = "a contact +0 +9 1 2 8\na range +0 +9 2 1 4\n"
    found = from_ion(text)
    assert found.plan.contacts[0].delay_ns_at(0) == 0
    assert found.warnings == (
        "1 contacts have no range for all of their time: the one before it, or 0 s, assumed",
        "the file does not say when it begins: 2000-01-01T00:00:00Z assumed",
    )


HDTN = {"contact": 0, "source": 1, "dest": 2, "startTime": 5, "endTime": 9, "rateBitsPerSec": 64, "owlt": 1}


def hdtn(*changes: dict[str, Any]) -> str:
    contacts = [
        {key: value for key, value in {**HDTN, **change}.items() if value is not None} for change in changes
    ]
    return json.dumps({"contacts": contacts})


def test_the_older_rate_of_hdtn_is_in_megabits() -> None:
    found = from_hdtn(hdtn({"rateBitsPerSec": None, "rate": 0.8, "finalDestination": 2}))
    assert found.plan.contacts[0].rate_bps_at(0) == 800_000
    assert found.unit == "Mbit/s (the older key rate)"
    assert found.warnings[0] == "finalDestination: ignored, 1 contacts have it"
    asked = from_hdtn(hdtn({"rateBitsPerSec": None, "rate": 800}), unit=RateUnit.BYTES_PER_S)
    assert (asked.plan.contacts[0].rate_bps_at(0), asked.unit) == (6400, "bytes/s (as asked for)")
    both = from_hdtn(hdtn({"rateBitsPerSec": 2_000_000, "rate": 2}))
    assert both.unit == "bits/s (the key rateBitsPerSec) and Mbit/s (the older key rate)"


def test_times_of_a_billion_seconds_are_counted_from_1970() -> None:
    found = from_hdtn(hdtn({"startTime": 1_767_225_600, "endTime": 1_767_225_660}))
    assert found.plan.epoch == "2026-01-01T00:00:00Z"
    assert (found.plan.contacts[0].start_ns, found.plan.duration_ns) == (0, 60 * SECOND)
    assert found.warnings == ("times are read as seconds from 1970, the epoch is 2026-01-01T00:00:00Z",)


@pytest.mark.parametrize(
    ("rate", "unit", "told", "warned"),
    [
        ("125000", None, "bytes/s (ION's unit; the file does not say)", None),
        (
            "9600",
            None,
            "bytes/s (ION's unit; the file does not say)",
            "rates look like bits/s (such as 9600)",
        ),
        ("9600", RateUnit.BITS_PER_S, "bits/s (as asked for)", None),
        ("1000000", None, "bytes/s (ION's unit; the file does not say)", None),
        ("3000", None, "bytes/s (ION's unit; the file does not say)", None),
    ],
)
def test_an_import_says_which_unit_it_took_and_doubts_a_factor_of_eight(
    rate: str, unit: RateUnit | None, told: str, warned: str | None
) -> None:
    found = from_ion(f"@ 2026/01/01-00:00:00\na contact +0 +9 1 2 {rate}\na range +0 +9 1 2 1\n", unit=unit)
    assert found.unit == told
    assert found.plan.contacts[0].rate_bps_at(0) == int(rate) * (1 if unit else 8)
    assert len(found.warnings) == (warned is not None)
    if warned:
        assert found.warnings[0].startswith(warned)


def test_hdtn_rates_that_are_round_as_bytes_are_doubted() -> None:
    found = from_hdtn(hdtn({"rateBitsPerSec": 125_000}))
    assert found.warnings[-1].startswith("rates look like bytes/s (such as 125000) but are read as bits/s")


# --- refusals ---------------------------------------------------------------------------------------------

GOOD = "a contact +0 +9 1 2 8\n"
BAD_ION = [
    ("a contact +0 +9 1 2 0", "line 2: rate: must be greater than 0, not 0 (0 says unlimited"),
    ("a contact +20 +29 1 2 -8", "line 2: rate: must be greater than 0, not -8"),
    ("a contact +20 +29 1 2 1250000000001", "line 2: rate: 1250000000001 bytes/s cannot be right"),
    ("a contact +20 +29 1 2 0.3", "line 2: rate: must come to whole bits a second, not 0.3 bytes/s"),
    ("a contact +20 +29 1 2 fast", "line 2: rate must be a number, not 'fast'"),
    ("a contact +20 +20 1 2 8", "line 2: stop must be after start, not +20 after +20"),
    ("a contact +8 +12 1 2 8", "line 2: must not overlap line 1 from 1 to 2"),
    ("a contact +20 +29 1 0 8", "line 2: node must be a number of 1 or more, not '0'"),
    ("a contact +20 +29 3 3 8", "line 2: must be between two nodes, not from 3 to itself"),
    ("a contact 20 +29 1 2 8", "line 2: time must be yyyy/mm/dd-hh:mm:ss or +seconds, not '20'"),
    ("a contact 2026/02/30-00:00:00 +29 1 2 8", "line 2: must be a time that exists, not '2026/02/30-"),
    ("a contact +20 +29 1 2", "line 2: must be `a contact START STOP FROM TO RATE`"),
    ("a range +0 +9 1 2 -1", "line 2: distance: must be 0 to 1728000 s of light time, not -1"),
    ("a range +0 +9 1 2 9999999", "line 2: distance: must be 0 to 1728000 s of light time, not 9999999"),
    ("d contact * 1 2", "line 2: must be `a contact` or `a range`, not 'd contact * 1 2'"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "message"), BAD_ION, ids=[message[:50] for _, message in BAD_ION])
def test_a_bad_ion_line_is_refused_in_one_line_and_left_out_where_asked(line: str, message: str) -> None:
    with pytest.raises(PlanError) as refusal:
        from_ion(f"{GOOD}{line}\n")
    assert str(refusal.value).startswith(message)
    assert "\n" not in str(refusal.value)
    kept = from_ion(f"{GOOD}{line}\na contact +50 +59 1 2 8\n", skip_bad=True)
    assert [c.start_ns for c in kept.plan.contacts] == [0, 50 * SECOND]
    assert kept.skipped == (str(refusal.value),)


def test_contacts_and_ranges_out_of_order_are_refused() -> None:
    text = "a contact +20 +29 1 2 8\na contact +0 +9 1 2 8\n"
    with pytest.raises(
        PlanError, match=r"^line 2: must be in time order, but starts before line 1 of the same"
    ):
        from_ion(text)
    text = f"{GOOD}a range +20 +29 1 2 1\na range +0 +9 1 2 1\n"
    with pytest.raises(
        PlanError, match=r"^line 3: must be in time order, but starts before line 2 of the same"
    ):
        from_ion(text)
    text = f"{GOOD}a range +0 +9 1 2 1\na range +5 +9 1 2 1\n"
    with pytest.raises(PlanError, match=r"^line 3: must not overlap line 2 of the same two nodes$"):
        from_ion(text)


def test_what_lies_outside_the_window_is_refused() -> None:
    absolute = "a contact 2026/01/01-00:00:00 2026/01/01-00:01:00 1 2 8\n"
    with pytest.raises(PlanError, match=r"^line 1: must not start before the epoch, 86400 s before it$"):
        from_ion(absolute, epoch="2026-01-02T00:00:00Z")
    with pytest.raises(PlanError, match=r"^line 1: must end by 30 s after the epoch, not 60$"):
        from_ion(absolute, duration_ns=30 * SECOND)
    with pytest.raises(PlanError, match=r"^contacts: must have at least one contact that can be used$"):
        from_ion("# nothing\n")
    with pytest.raises(PlanError, match=r"^epoch: must be a UTC instant such as .*, not 'today'$"):
        from_ion(absolute, epoch="today")


BAD_HDTN = [
    ({"rateBitsPerSec": 0}, "contacts[1].rateBitsPerSec: must be greater than 0, not 0 (0 says unlimited"),
    ({"rateBitsPerSec": -5}, "contacts[1].rateBitsPerSec: must be greater than 0, not -5"),
    ({"rateBitsPerSec": 10**14}, "contacts[1].rateBitsPerSec: 100000000000000 bits/s cannot be right"),
    ({"rateBitsPerSec": None}, "contacts[1].rateBitsPerSec: must be there"),
    ({"rateBitsPerSec": "8"}, "contacts[1].rateBitsPerSec: must be a number"),
    ({"rateBitsPerSec": True}, "contacts[1].rateBitsPerSec: must be a number"),
    ({"rateBitsPerSec": None, "rate": 10**9}, "contacts[1].rate: 1000000000 Mbit/s cannot be right"),
    ({"rate": 8}, "contacts[1].rate: must agree with rateBitsPerSec, 8000000 and 64 bit/s do not"),
    ({"owlt": -1}, "contacts[1].owlt: must be 0 to 1728000 s of light time, not -1"),
    ({"owlt": 10**8}, "contacts[1].owlt: must be 0 to 1728000 s of light time, not 100000000"),
    ({"startTime": 9}, "contacts[1].endTime: must be after startTime (9)"),
    ({"startTime": -1}, "contacts[1].startTime: must be seconds of 0 or more"),
    ({"startTime": None}, "contacts[1].startTime: must be there"),
    ({"startTime": float("nan")}, "contacts[1].startTime: must be a number"),
    ({"source": 0}, "contacts[1].source: must be a node number of 1 or more"),
    ({"source": 2}, "contacts[1]: must be between two nodes, not from 2 to itself"),
    ({}, "contacts[1]: must not overlap contacts[0] from 1 to 2"),
    ({"startTime": 1, "endTime": 3}, "contacts[1]: must be in time order, but starts before contacts[0]"),
]


@pytest.mark.parametrize(("change", "message"), BAD_HDTN, ids=[message[:50] for _, message in BAD_HDTN])
def test_a_bad_hdtn_contact_is_refused_in_one_line_and_left_out_where_asked(
    change: dict[str, Any], message: str
) -> None:
    with pytest.raises(PlanError) as refusal:
        from_hdtn(hdtn({}, change))
    assert str(refusal.value).startswith(message)
    assert "\n" not in str(refusal.value)
    kept = from_hdtn(hdtn({}, change, {"startTime": 50, "endTime": 59}), skip_bad=True)
    assert [c.start_ns for c in kept.plan.contacts] == [5 * SECOND, 50 * SECOND]
    assert kept.skipped == (str(refusal.value),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "plan: must be JSON"),
        ("[]", "contacts: must be a list in"),
        ('{"contacts": 7}', "contacts: must be"),
    ],
)
def test_what_is_not_an_hdtn_file_is_refused(text: str, message: str) -> None:
    with pytest.raises(PlanError, match=f"^{message}"):
        from_hdtn(text)


def test_a_unit_cannot_contradict_the_name_of_a_field() -> None:
    with pytest.raises(
        PlanError, match=r"^contacts\[0\].rateBitsPerSec: is in bits/s by its name, not bytes/s$"
    ):
        from_hdtn(hdtn({}), unit=RateUnit.BYTES_PER_S)


@pytest.mark.parametrize("read", [from_ion, from_hdtn])
@given(text=st.text(max_size=200))
def test_no_text_brings_an_import_down(read: Callable[..., Imported], text: str) -> None:
    for skip_bad in (False, True):
        with pytest.raises(PlanError):
            read(text, skip_bad=skip_bad)
