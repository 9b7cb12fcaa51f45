"""Another way for a bundle: past missed contacts and refusals, by a new plan, or straight to who turns up."""

from __future__ import annotations

from dataclasses import replace

from orbitrain.machine import Acknowledged, ContactEnded, Fate, PlanUpdated, TimerFired, Undelivered, Withdraw
from tests.unit.protocols.custody import (
    NOW,
    OTHER,
    RELAY,
    S,
    bundle,
    command,
    held,
    letter,
    met,
    node,
    offered,
    reports,
)


def test_a_contact_that_was_missed_sends_it_another_way() -> None:
    machine, _ = node()
    first = letter(machine.handle(command(), NOW))
    assert machine.handle(TimerFired(), RELAY.ends_ns) == [Withdraw(first.key)]
    assert machine.handle(TimerFired(), RELAY.ends_ns + 1) == []  # asked once
    assert machine.deadline_ns() is None
    second = letter(machine.handle(Undelivered(first.key, Fate.WITHDRAWN), RELAY.ends_ns + 2))
    assert (second.to, second.key != first.key) == ("other", True)
    assert machine.deadline_ns() == OTHER.ends_ns


def test_a_withdrawal_that_comes_too_late_is_a_move() -> None:
    machine, _ = node()
    first = letter(machine.handle(command(), NOW))
    machine.handle(TimerFired(), RELAY.ends_ns)
    assert reports(machine.handle(Acknowledged(first.key), RELAY.ends_ns + 1)) == ["custody_moved"]


def test_a_missed_contact_with_no_other_way_leaves_it_where_it_may_still_be_fetched() -> None:
    machine, _ = node(RELAY)
    machine.handle(command(), NOW)
    assert machine.handle(TimerFired(), RELAY.ends_ns) == []
    assert (held(machine)[0].next, machine.deadline_ns()) == ("relay", None)


def test_a_contact_that_ends_early_may_come_back_and_one_that_lasts_is_used() -> None:
    machine, _ = node()
    first = letter(machine.handle(command(), NOW))
    machine.handle(met("relay"), NOW + 1)
    assert machine.handle(ContactEnded("relay"), NOW + 2) == []
    assert machine.deadline_ns() == RELAY.ends_ns
    machine.handle(met("relay"), NOW + 3)
    assert machine.handle(TimerFired(), RELAY.ends_ns) == []
    assert machine.deadline_ns() is None
    assert machine.handle(ContactEnded("relay"), RELAY.ends_ns + 9) == [Withdraw(first.key)]


def test_a_relay_that_refuses_is_gone_round() -> None:
    machine, _ = node()
    first = letter(machine.handle(command(), NOW))
    done = machine.handle(Undelivered(first.key, Fate.REFUSED, "no route to 'far'"), NOW + 1)
    assert reports(done) == ["bundle_refused", "bundle_routed"]
    assert letter(done).to == "other"
    done = machine.handle(Undelivered(letter(done).key, Fate.REFUSED, "full"), NOW + 2)
    assert reports(done) == ["bundle_refused", "bundle_waits"]
    assert len(held(machine)) == 1


def test_a_relay_that_refused_is_asked_again_when_it_is_met_again_and_there_is_no_other() -> None:
    machine, _ = node(RELAY)
    machine.handle(met("relay"), NOW)
    first = letter(machine.handle(command(), NOW))
    machine.handle(Undelivered(first.key, Fate.REFUSED, "full"), NOW + 1)
    machine.handle(ContactEnded("relay"), NOW + 2)
    assert held(machine)[0].key == ""
    again = letter(machine.handle(met("relay"), NOW + 3))
    assert again.to == "relay"
    assert reports(machine.handle(Undelivered(again.key, Fate.REFUSED, "full"), NOW + 4)) == [
        "bundle_refused",
        "bundle_waits",
    ]


def test_an_update_of_the_plan_routes_anew_and_forgets_refusals() -> None:
    machine, ways = node()
    first = letter(machine.handle(command(), NOW))
    second = letter(machine.handle(Undelivered(first.key, Fate.REFUSED, "full"), NOW))
    assert second.to == "other"
    ways.legs["far"] = [replace(OTHER, ends_ns=OTHER.ends_ns + S)]
    assert machine.handle(PlanUpdated(2), NOW) == []
    assert machine.deadline_ns() == OTHER.ends_ns + S
    ways.legs["far"] = [RELAY, OTHER]
    assert machine.handle(PlanUpdated(3), NOW) == [Withdraw(second.key)]
    assert letter(machine.handle(Undelivered(second.key, Fate.WITHDRAWN), NOW)).to == "relay"


def test_an_update_of_the_plan_brings_a_route_to_what_has_none() -> None:
    machine, ways = node()
    ways.legs.clear()
    machine.handle(command(), NOW)
    assert reports(machine.handle(PlanUpdated(2), NOW)) == ["bundle_waits"]
    ways.legs["far"] = [RELAY]
    assert letter(machine.handle(PlanUpdated(3), NOW)).to == "relay"


# ------------------------------------------------------------------------- the destination turns up


def test_an_unannounced_contact_with_the_destination_is_used() -> None:
    machine, ways = node()
    ways.legs.clear()
    machine.handle(command(), NOW)
    assert letter(machine.handle(met("far"), NOW)).to == "far"
    assert machine.handle(met("far"), NOW) == []


def test_what_is_meant_for_a_relay_goes_to_the_destination_that_turns_up() -> None:
    machine, _ = node()
    first = letter(machine.handle(command(), NOW))
    assert machine.handle(met("far"), NOW + 1) == [Withdraw(first.key)]
    second = letter(machine.handle(Undelivered(first.key, Fate.WITHDRAWN), NOW + 1))
    assert second.to == "far"
    assert machine.handle(ContactEnded("far"), NOW + 2) == [Withdraw(second.key)]
    assert letter(machine.handle(Undelivered(second.key, Fate.WITHDRAWN), NOW + 3)).to == "relay"


def test_a_file_is_given_to_its_destination_while_that_is_there() -> None:
    machine, _ = node()
    machine.handle(met("far"), NOW)
    assert letter(machine.handle(command(), NOW)).to == "far"
    assert letter(offered(machine, bundle())).to == "far"
    unknown = bundle(sequence=2, destination="moon")
    machine.handle(met("moon"), NOW)
    assert letter(offered(machine, unknown)).to == "moon"  # no plan has it, and it is here
