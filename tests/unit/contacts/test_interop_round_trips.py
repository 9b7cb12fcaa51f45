"""What ION and HDTN can say of a plan comes back to the bit."""

from __future__ import annotations

import itertools
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from orbitrain.contacts.interop import Numbered, Numbering
from orbitrain.contacts.interop_hdtn import from_hdtn, to_hdtn
from orbitrain.contacts.interop_ion import from_ion, to_ion
from orbitrain.contacts.plan import ContactPlan
from tests.unit.contacts.interop_plans import GOLDEN, SECOND, contact, doubtful, plan_of
from tests.unit.contacts.small_plans import NODES


def test_confidence_goes_to_ion_and_comes_back() -> None:
    exported = to_ion(doubtful(confidence=0.1, margin_ns=400_000_000))
    assert (
        "# orbitrain margin_ns 400000000\n"
        "a contact 2026/02/28-23:59:00 2026/02/28-23:59:10 1 2 1000 0.1\n"
        "a contact 2026/02/28-23:59:00 2026/02/28-23:59:10 2 1 1000\n"
    ) in exported.text
    assert exported.warnings == ()
    assert from_ion(exported.text).plan == doubtful(confidence=0.1, margin_ns=400_000_000)
    tiny = to_ion(doubtful(confidence=1e-7))
    assert " 1000 0.0000001\n" in tiny.text


@st.composite
def plans_of_whole_seconds(
    draw: st.DrawFn, *, step_bps: int, changes: int, trust: bool = False
) -> ContactPlan:
    contacts = []
    for a, b in itertools.permutations([node.name for node in NODES], 2):
        edges = sorted(draw(st.sets(st.integers(0, 600), max_size=4)))
        for start_s, end_s in itertools.pairwise(edges):
            rate_bps = draw(st.integers(1, 10**6)) * step_bps
            light_s = draw(st.integers(0, 3000))
            states = [(start_s * SECOND, light_s * SECOND, rate_bps)]
            for t_s in sorted(draw(st.sets(st.integers(start_s + 1, end_s), max_size=changes)) - {end_s}):
                if t_s * SECOND - 1 > states[-1][0]:
                    states.append((t_s * SECOND - 1, light_s * SECOND, rate_bps))
                light_s += draw(st.sampled_from([-1, 1])) if light_s else 1
                states.append((t_s * SECOND, light_s * SECOND, rate_bps))
            found = contact(a, b, start_s * SECOND, end_s * SECOND, *states)
            if trust:
                margin_ns = draw(st.sampled_from([0, 1, 2**63 - 1]))
                confidence = draw(st.floats(0, 1, exclude_min=True))
                found = replace(found, margin_ns=margin_ns, confidence=confidence)
            contacts.append(found)
    if not contacts:
        contacts.append(contact("sat-0", "sat-1", 0, SECOND, (0, 0, step_bps)))
    return plan_of(*contacts)


numberings = st.permutations([1, 7, 4_294_967_296]).map(
    lambda numbers: Numbering(
        tuple(Numbered(n, node.name, node.kind) for n, node in zip(numbers, NODES, strict=True))
    )
)


@settings(max_examples=60)
@given(plans_of_whole_seconds(step_bps=8, changes=3, trust=True), numberings)
def test_what_ion_can_say_comes_back_to_the_bit(plan: ContactPlan, numbering: Numbering) -> None:
    exported = to_ion(plan, numbering)
    assert exported.warnings == ()
    back = from_ion(exported.text)
    assert back.plan == plan and back.plan.sha256 == plan.sha256
    assert (back.numbering, back.warnings, back.skipped) == (numbering, (), ())
    assert back.unit == "bytes/s (as the file says)"
    assert to_ion(back.plan, back.numbering) == exported


@settings(max_examples=60)
@given(plans_of_whole_seconds(step_bps=1, changes=0), numberings)
def test_what_hdtn_can_say_comes_back_to_the_bit(plan: ContactPlan, numbering: Numbering) -> None:
    exported = to_hdtn(plan, numbering)
    assert exported.warnings == ()
    back = from_hdtn(
        exported.text,
        numbering=numbering,
        epoch=plan.epoch,
        duration_ns=plan.duration_ns,
        scenario_sha256=plan.scenario_sha256,
    )
    assert back.plan == plan and back.plan.sha256 == plan.sha256
    assert back.unit == "bits/s (the key rateBitsPerSec)"
    assert [w for w in back.warnings if "look like" not in w] == []
    assert to_hdtn(back.plan, back.numbering) == exported


def test_what_was_rounded_once_is_not_rounded_again() -> None:
    for write, read in ((to_ion, from_ion), (to_hdtn, from_hdtn)):
        first = read(write(GOLDEN).text, epoch=GOLDEN.epoch, numbering=Numbering.of(NODES))
        again = write(first.plan, first.numbering)
        assert again.text == write(GOLDEN).text and again.warnings == ()
