"""The file of a contact plan: what is in it, that it comes back, and its digest."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from orbitrain.contacts.contact import Contact, Sample
from orbitrain.contacts.plan import ContactPlan, Orbit, PlanNode
from tests.unit.contacts.small_plans import plan_of, plans, small_plan, trusted


@given(plans())
def test_a_plan_survives_its_file_and_gives_the_same_bytes_again(plan: ContactPlan) -> None:
    data = plan.to_json()
    again = ContactPlan.from_json(data)
    assert again == plan
    assert again.sha256 == plan.sha256
    assert again.to_json() == data


@given(plans())
def test_the_digest_is_that_of_the_canonical_json_without_the_digest(plan: ContactPlan) -> None:
    document = json.loads(plan.to_json())
    stated = document.pop("sha256")
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    assert stated == hashlib.sha256(text.encode()).hexdigest()


def test_the_digest_does_not_change_between_versions_of_the_code() -> None:
    assert small_plan().sha256 == "4d12b338f15b15be56eb74794996770bf48dd818f6e91fbb7416777faed66efc"


def test_the_digest_does_not_depend_on_the_order_contacts_were_given_in() -> None:
    plan = small_plan()
    assert replace(plan, contacts=plan.contacts[::-1]) == plan
    assert replace(plan, contacts=plan.contacts[::-1]).sha256 == plan.sha256


def test_the_file_has_one_line_per_contact_and_exactly_the_agreed_keys() -> None:
    data = small_plan().to_json()
    lines = [line for line in data.decode().splitlines() if '"samples"' in line]
    assert len(lines) == 4
    document = json.loads(data)
    assert list(document) == [
        "version", "sha256", "scenario_sha256", "epoch", "duration_ns", "nodes", "contacts",
    ]  # fmt: skip
    assert document["nodes"][2] == {"name": "quito-0", "kind": "device"}
    assert document["contacts"][0] == {
        "source": "sat-0",
        "destination": "quito-0",
        "class": "service",
        "start_ns": 10,
        "end_ns": 30,
        "samples": [
            {"t_ns": 10, "delay_ns": 5, "rate_bps": 1000, "loss": {"mean": 0.01, "burst": 3.5}},
            {"t_ns": 30, "delay_ns": 9, "rate_bps": 1000, "loss": {"mean": 0.01, "burst": 3.5}},
        ],
    }


def test_loss_written_as_integers_reads_as_the_same_plan() -> None:
    lossless = Contact("sat-0", "sat-1", "inter_isl", 0, 9, (Sample(0, 1, 1, 0, 0),))
    plan = plan_of(lossless)
    data = plan.to_json().replace(b"0.0", b"0")
    assert ContactPlan.from_json(data).sha256 == plan.sha256


def test_loading_a_plan_and_its_services_needs_no_numpy() -> None:
    code = (
        "import sys, orbitrain.contacts.plan, orbitrain.contacts.serving;"
        "sys.exit(bool({'numpy', 'sgp4', 'skyfield'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_revision_and_slice_are_in_the_file_only_where_they_say_something() -> None:
    plan = replace(small_plan(), revision=3, for_node="sat-0", of_sha256="cd" * 32)
    document = json.loads(plan.to_json())
    assert list(document)[5:-2] == ["revision", "for_node", "of_sha256"]
    assert ContactPlan.from_json(plan.to_json()) == plan
    stated = document.pop("sha256")
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    assert stated == hashlib.sha256(text.encode()).hexdigest() == plan.sha256
    assert plan.whole_sha256 == "cd" * 32
    assert small_plan().whole_sha256 == small_plan().sha256


def test_what_is_not_known_exactly_is_in_the_file_and_nothing_else_is() -> None:
    document = json.loads(trusted().to_json())
    assert [c.get("margin_ns") for c in document["contacts"]] == [None, 130_000_000, None, None]
    assert [c.get("confidence") for c in document["contacts"]] == [None, None, None, 0.75]
    assert [sorted(node) for node in document["nodes"]] == [
        ["kind", "name", "orbit"],
        ["kind", "name"],
        ["kind", "name", "place"],
    ]
    assert document["nodes"][2]["place"] == {
        "latitude_degrees": -0.18,
        "longitude_degrees": -78.47,
        "altitude_m": 2850.0,
    }
    assert ContactPlan.from_json(trusted().to_json()) == trusted()
    stated = document.pop("sha256")
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    assert stated == hashlib.sha256(text.encode()).hexdigest()


def test_the_digest_of_a_plan_with_all_keys_does_not_change_either() -> None:
    assert trusted().sha256 == "668be95c32feebafb5c92995a103d0782ae4947f6f8f540e9a362000394ff539"


@given(st.data())
def test_an_orbit_comes_back_to_the_last_bit(data: st.DataObject) -> None:
    angle = st.floats(-6.28, 6.28)
    orbit = Orbit(
        data.draw(st.floats(0, 1e5)),
        data.draw(st.floats(-1, 1)),
        data.draw(st.floats(0, 1, exclude_max=True)),
        data.draw(angle),
        data.draw(st.floats(0, 3.14)),
        data.draw(angle),
        data.draw(st.floats(1e-6, 0.1)),
        data.draw(angle),
    )
    plan = replace(plan_of(), nodes=(PlanNode("sat-0", "satellite", orbit=orbit),))
    again = ContactPlan.from_json(plan.to_json())
    assert again == plan and again.sha256 == plan.sha256


def test_equal_plans_have_one_digest_however_their_numbers_are_spelled() -> None:
    plan = trusted()
    whole = replace(plan.contacts[0], confidence=1, samples=(Sample(10, 5, 1000, 0, 1),))
    signed = replace(whole, confidence=1.0, samples=(Sample(10, 5, 1000, -0.0, 1.0),))
    assert whole == signed
    one, other = replace(plan, contacts=(whole,)), replace(plan, contacts=(signed,))
    assert one.sha256 == other.sha256 and one.to_json() == other.to_json()
