"""What holds of every run, whatever happened in it."""

from __future__ import annotations

from collections import Counter

from orbitrain.machine import Digest
from orbitrain.results import count_updates, lineage
from tests.trace.world import World


def check(world: World, *, updates: bool = False) -> None:
    """Nothing counted twice, nothing lost, no fork, no way back, no machine that failed.

    With `updates` of the plan a letter may have been sent within a service that has ended meanwhile.
    """
    entries = world.simulation.entries()
    known = lineage(entries)
    assert not known.forks
    twice = [part for part, times in Counter(known.counted).items() if times > 1]
    assert not twice
    for region in world.params.regions:
        for number in range(1, known.rounds.get(region.name, 0) + 1):
            everyone = [(device, number) for device in sorted(region.devices)]
            assert sorted(known.contributors.get((region.name, number), everyone)) == everyone
    counts = count_updates(entries)
    assert counts["lost"] == 0, counts
    assert counts["sent"] == sum(n for end, n in counts.items() if end != "sent"), counts
    adopted: dict[tuple[str, str], int] = {}
    for entry in entries:
        if entry.event.kind == "model_adopted":
            store, number = (entry.node, entry.incarnation), entry.event.fields["round"]
            assert number > adopted.get(store, 0), f"{store} went from {adopted[store]} to {number}"
            adopted[store] = number
    failed = [entry.event.fields for entry in entries if entry.event.kind == "dead_letter"]
    assert world.simulation.dead_letters == 0, failed
    refused = [entry.event.fields["reason"] for entry in entries if entry.event.kind == "message_refused"]
    if updates:
        refused = [why for why in refused if "does not serve" not in why]
    if len({entry.incarnation for entry in entries}) == len({entry.node for entry in entries}):
        assert not refused, "honest nodes that lose nothing refuse each other nothing"
    # What was under way to a node that lost its disk may count on what was there.
    assert all("came without its object" in why or "no object" in why for why in refused), refused


def final_models(world: World) -> dict[str, Digest]:
    known = lineage(world.simulation.entries())
    return {region: known.digests[region, number] for region, number in known.rounds.items()}
