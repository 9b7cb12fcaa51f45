"""Plans written for ION and HDTN: goldens computed by hand, and what is told to be lost."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction

from orbitrain.contacts.contact import Sample
from orbitrain.contacts.interop import Numbering, whole_seconds
from orbitrain.contacts.interop_hdtn import to_hdtn
from orbitrain.contacts.interop_ion import to_ion
from orbitrain.contacts.plan import Orbit, Place
from tests.unit.contacts.interop_plans import GOLDEN, SECOND, contact, doubtful, plan_of
from tests.unit.contacts.small_plans import NODES

GOLDEN_ION = """\
# orbitrain epoch 2026-02-28T23:59:00Z
# orbitrain duration_ns 600000000000
# orbitrain scenario abababababababababababababababababababababababababababababababab
# orbitrain rates bytes/s
# orbitrain node 1 sat-0 satellite
# orbitrain node 2 sat-1 satellite
# orbitrain node 3 quito-0 device
a contact 2026/02/28-23:59:13 2026/03/01-00:02:20 3 1 125000
a contact 2026/02/28-23:59:13 2026/03/01-00:02:20 1 3 125000
a contact 2026/03/01-00:00:00 2026/03/01-00:02:00 2 1 1200
a range 2026/02/28-23:59:13 2026/03/01-00:02:20 1 3 0
a range 2026/03/01-00:00:00 2026/03/01-00:01:00 2 1 240
a range 2026/03/01-00:01:00 2026/03/01-00:02:00 2 1 241
"""

GOLDEN_HDTN = """\
{
  "contacts": [
    {"contact": 0, "source": 3, "dest": 1, "startTime": 13, "endTime": 200, "rateBitsPerSec": 1000000, "owlt": 0},
    {"contact": 1, "source": 1, "dest": 3, "startTime": 13, "endTime": 200, "rateBitsPerSec": 1000000, "owlt": 0},
    {"contact": 2, "source": 2, "dest": 1, "startTime": 60, "endTime": 180, "rateBitsPerSec": 9604, "owlt": 241}
  ]
}
"""  # noqa: E501


def test_an_ion_plan_is_the_golden_one_to_the_byte() -> None:
    exported = to_ion(GOLDEN)
    assert exported.text == GOLDEN_ION
    assert exported.warnings == (
        "2 contacts shortened to whole seconds",
        "1 contacts had a rate rounded down to whole bytes/s",
        "2 contacts lost light time, rounded to whole seconds (by up to 0.004000 s)",
    )


def test_an_hdtn_plan_is_the_golden_one_to_the_byte() -> None:
    exported = to_hdtn(GOLDEN)
    assert exported.text == GOLDEN_HDTN
    assert exported.warnings == (
        "2 contacts shortened to whole seconds",
        "3 contacts lost light time, rounded to whole seconds (by up to 1.000000 s)",
    )


def test_a_varying_rate_becomes_its_mean_and_what_does_not_fit_is_left_out() -> None:
    plan = plan_of(
        contact("sat-0", "sat-1", 0, 10 * SECOND, (0, 0, 1000), (10 * SECOND, 0, 3001)),
        contact("sat-1", "sat-0", 1, SECOND + 5, (1, 0, 1000)),
        contact("sat-0", "quito-0", 0, 9 * SECOND, (0, 0, 7)),
        replace(
            contact("quito-0", "sat-0", 0, 9 * SECOND, (0, 600_000_000, 800)),
            samples=(Sample(0, 600_000_000, 800, 0.1, 2.0),),
        ),
    )
    exported = to_ion(plan, Numbering.of(plan.nodes))
    assert "a contact 2026/02/28-23:59:00 2026/02/28-23:59:10 1 2 250\n" in exported.text
    assert "a range 2026/02/28-23:59:00 2026/02/28-23:59:09 3 1 1\n" in exported.text
    assert exported.warnings == (
        "1 contacts left out: no whole second lies in them",
        "1 contacts left out: their rate is below 1 bytes/s",
        "1 contacts got one mean rate for one that varies",
        "1 contacts lost light time, rounded to whole seconds (by up to 0.400000 s)",
        "1 contacts lost their packet loss, which the format does not have",
    )


def test_a_contact_of_no_confidence_is_left_out_of_ion() -> None:
    exported = to_ion(doubtful(confidence=0.0))
    assert exported.text.count("a contact") == 1
    assert exported.warnings == ("1 contacts left out: their confidence is 0",)


def test_what_a_format_has_no_place_for_is_told() -> None:
    plan = doubtful(confidence=0.5, margin_ns=1)
    orbit = Orbit(27_758.1, 1e-5, 0.001, 4.0, 0.925, -1.25, 0.0657, 6.28)
    nodes = (replace(NODES[0], orbit=orbit), NODES[1], replace(NODES[2], place=Place(0.0, 0.0, 0.0)))
    plan = replace(plan, nodes=nodes)
    assert to_ion(plan).warnings == ("2 nodes lost their place or orbit, which the format does not have",)
    assert to_hdtn(plan).warnings == (
        "1 contacts lost the margin of their edges, which the format does not have",
        "1 contacts lost their confidence, which the format does not have",
        "2 nodes lost their place or orbit, which the format does not have",
    )


def test_light_time_is_rounded_half_up() -> None:
    assert [whole_seconds(t) for t in (0, 499_999_999, 500_000_000, 1_499_999_999)] == [0, 0, 1, 1]


def test_the_exact_mean_of_a_rate_that_varies_promises_no_more_than_there_is() -> None:
    ramp = contact("sat-0", "sat-1", 0, 3 * SECOND, (0, 0, 10), (3 * SECOND, 0, 21))
    rate = json.loads(to_hdtn(plan_of(ramp)).text)["contacts"][0]["rateBitsPerSec"]
    assert rate == 15 <= ramp.volume_bit_e9(0, 3 * SECOND) / (3 * SECOND) == Fraction(31, 2)
