"""What a run comes to, counted from hand-made journals."""

from __future__ import annotations

from typing import Any

import pytest

from orbitrain.machine import Severity
from orbitrain.results import (
    UPDATE_ENDS,
    Entry,
    Progress,
    accuracy,
    aggregates,
    count_bytes,
    count_carries,
    count_updates,
    lineage,
    summarise,
)
from orbitrain.step import Event


def entry(kind: str, node: str, t_ns: int = 0, store: str = "s1", **fields: Any) -> Entry:
    return Entry(node, f"{node}-{store}", Event(t_ns, "role", Severity.ACTIVITY_LO, kind, fields))


def sent(key: str = "k1", number: int = 1, device: str = "d0", to: str = "sat", store: str = "s1") -> Entry:
    return entry("update_sent", device, store=store, region="r", round=number, digest="u", key=key, to=to)


def ended(fate: str, key: str = "k1", device: str = "d0") -> Entry:
    return entry("update_ended", device, region="r", key=key, fate=fate, reason="")


def said(what: str, number: int = 1, device: str = "d0", satellite: str = "sat") -> Entry:
    return entry(f"update_{what}", satellite, region="r", round=number, digest="u", device=device)


def adopted(number: int = 1, *devices: str, digest: str = "", node: str = "d1", region: str = "r") -> Entry:
    parts = [[device, number, 10] for device in devices]
    return entry(
        "model_adopted",
        node,
        region=region,
        round=number,
        digest=digest or f"m{number}",
        parents=[],
        contributors=parts,
    )


def reborn() -> Entry:
    """The device speaks from a new store: the old one, and what waited in it, is gone."""
    return entry("contact_started", "d0", store="s2", peer="sat")


@pytest.mark.parametrize(
    ("journal", "end"),
    [
        ([sent(), said("accepted"), ended("delivered"), adopted(1, "d0")], "aggregated"),
        ([sent(), said("accepted"), adopted(1, "d0")], "aggregated"),
        ([sent(), ended("delivered"), adopted(1, "d0")], "aggregated"),
        ([sent(), said("duplicate"), ended("delivered"), adopted(1, "d0")], "duplicates_dropped"),
        ([sent(), said("late"), ended("delivered"), adopted(1, "d0")], "late"),
        ([sent(), said("late")], "late"),
        ([sent(), said("refused"), ended("delivered")], "refused"),
        ([sent(), said("accepted"), said("refused"), ended("delivered")], "refused"),
        ([sent(), said("accepted"), said("refused"), ended("delivered"), adopted(2, "d0")], "refused"),
        ([sent(), ended("refused")], "refused"),
        ([sent(), ended("expired")], "expired"),
        ([sent(), ended("expired"), adopted(1, "d0")], "expired"),
        ([sent(), ended("withdrawn")], "superseded"),
        ([sent(), ended("superseded")], "superseded"),
        ([sent()], "in_flight"),
        ([sent(), adopted(1, "d0")], "in_flight"),
        ([sent(), said("accepted"), ended("delivered")], "in_flight"),
        ([sent(), ended("delivered")], "in_flight"),
        ([sent(), reborn()], "in_flight"),
        ([sent(), reborn(), adopted(1, "d0")], "superseded"),
        ([sent(), reborn(), adopted(1, "d9")], "lost"),
        ([sent(), said("accepted"), ended("delivered"), adopted(1, "d9")], "lost"),
        ([sent(), ended("delivered"), adopted(2, "d0")], "lost"),
    ],
)
def test_each_sending_ends_in_one_way(journal: list[Entry], end: str) -> None:
    expected = {"sent": 1, **dict.fromkeys(UPDATE_ENDS, 0), end: 1}
    assert count_updates(journal) == expected


def test_of_several_sendings_of_one_update_one_is_aggregated() -> None:
    journal = [
        sent("k1", to="sat"),
        said("accepted"),
        ended("delivered", "k1"),
        sent("k2", to="sat-2"),
        said("accepted", satellite="sat-2"),
        ended("delivered", "k2"),
        sent("k3", to="sat-3"),
        ended("expired", "k3"),
        adopted(1, "d0"),
    ]
    counts = count_updates(journal)
    assert (counts["sent"], counts["aggregated"], counts["superseded"], counts["expired"]) == (3, 1, 1, 1)


def test_the_words_of_a_satellite_are_taken_in_their_order() -> None:
    """The first service blamed the update and refused it again; the next one accepted it."""
    journal = [sent("k1"), said("accepted"), said("refused"), ended("delivered", "k1")]
    journal += [sent("k2"), said("refused"), ended("delivered", "k2")]
    journal += [sent("k3"), said("accepted"), ended("delivered", "k3"), adopted(1, "d0")]
    counts = count_updates(journal)
    assert (counts["sent"], counts["refused"], counts["aggregated"]) == (3, 2, 1)


def test_a_key_used_by_two_stores_of_a_device_names_two_sendings() -> None:
    journal = [sent("k1"), ended("expired", "k1"), sent("k1", store="s2"), adopted(1, "d0")]
    counts = count_updates(journal)
    assert (counts["sent"], counts["expired"], counts["in_flight"]) == (2, 1, 1)


def test_the_ends_sum_up_to_what_was_sent() -> None:
    journal: list[Entry] = []
    fates = ["delivered", "expired", "refused", "withdrawn", ""]
    verdicts = ["accepted", "late", "duplicate", "refused", ""]
    for n, (fate, verdict) in enumerate((f, v) for f in fates for v in verdicts):
        journal.append(sent(f"k{n}", n, f"d{n % 3}"))
        journal += [said(verdict, n, f"d{n % 3}")] if verdict else []
        journal += [ended(fate, f"k{n}", f"d{n % 3}")] if fate else []
        journal += [adopted(n, f"d{n % 3}")] if n % 2 else []
    counts = count_updates(journal)
    assert counts["sent"] == 25 == sum(counts[end] for end in UPDATE_ENDS)


def test_a_lineage_knows_what_was_counted_and_where_it_forks() -> None:
    journal = [
        adopted(1, "d0", "d1"),
        adopted(1, "d0", "d1", node="d0"),
        adopted(2, "d0", digest="x"),
        adopted(2, "d0", digest="y", node="d0"),
        adopted(1, "e0", region="s"),
    ]
    known = lineage(journal)
    assert sorted(known.counted) == [("d0", 1), ("d0", 2), ("d1", 1), ("e0", 1)]
    assert known.rounds == {"r": 2, "s": 1}
    assert known.forks == [("r", 2)]


def carry(what: str, number: int, region: str = "r") -> Entry:
    return entry(what, "sat", region=region, round=number, digest="c")


def test_carries_are_counted_and_late_ones_are_those_a_region_waited_for() -> None:
    journal = [
        carry("carry_picked_up", 2),
        carry("carry_picked_up", 2),
        carry("carry_picked_up", 4),
        carry("round_starved", 4),
        carry("round_starved", 4),
        carry("carry_mixed", 4),
        carry("carry_mixed", 4),
        carry("carry_mixed", 6),
        carry("round_starved", 8),
        carry("carry_expired", 2),
    ]
    assert count_carries(journal) == {"picked_up": 3, "mixed": 2, "late": 1, "expired": 1}
    assert count_carries([]) == {"picked_up": 0, "mixed": 0, "late": 0, "expired": 0}


def test_bytes_are_counted_by_link_class() -> None:
    journal = [
        entry("letter_delivered", "sat", **{"class": "service", "bytes": 100}),
        entry("letter_undelivered", "sat", **{"class": "service", "bytes": 20}),
        entry("letter_delivered", "sat", **{"class": "feeder", "bytes": 7}),
        entry("letter_undelivered", "sat", bytes=0, to="d0"),
        entry("contact_started", "sat", **{"class": "service", "peer": "d0"}),
        entry("letter_delivered", "sat", **{"class": "warp", "bytes": 1}),
    ]
    assert count_bytes(journal) == {
        "service": 120,
        "feeder": 7,
        "intra_isl": 0,
        "inter_isl": 0,
        "backhaul": 0,
    }


def aggregated(number: int, region: str, t_ns: int = 0) -> Entry:
    name = f"{region}{number}"
    return entry(
        "aggregated", "sat", t_ns, region=region, round=number, digest=name, pre=f"{name}-pre", parents=[]
    )


def journal_of(**rounds: int) -> list[Entry]:
    found = []
    for region, last in rounds.items():
        for number in range(1, last + 1):
            found.append(aggregated(number, region, number))
            found.append(adopted(number, digest=f"{region}{number}", region=region))
    return found


def test_accuracy_is_that_of_the_last_cycle_of_each_region() -> None:
    scores = {"a3": 0.2, "a4": 0.4, "a4-pre": 0.1, "b3": 0.6, "b4": 0.9, "b2": 0.5, "b2-pre": 0.3, "a1": 1.0}
    assert accuracy(journal_of(a=4, b=3), scores, ["a", "b"], 2) == {
        "mean": round((0.3 + 0.55) / 2, 6),
        "worst": 0.3,
        "by_region": {"a": 0.3, "b": 0.55},
        "pre_mix": 0.2,
        "post_mix": 0.45,
    }


def test_there_is_no_accuracy_while_a_region_has_none() -> None:
    assert accuracy(journal_of(a=2), {"a1": 0.5, "a2": 0.5}, ["a", "b"], 2) is None
    assert accuracy(journal_of(a=2, b=2), {"a2": 0.5}, ["a", "b"], 2) is None
    assert accuracy([], {}, ["a"], 2) is None


def test_before_the_first_mixing_there_is_no_accuracy_of_mixing() -> None:
    found = accuracy(journal_of(a=1), {"a1": 0.5}, ["a"], 2)
    assert found is not None
    assert (found["mean"], found["pre_mix"], found["post_mix"]) == (0.5, None, None)


def test_of_a_model_aggregated_twice_the_first_time_counts() -> None:
    journal = [aggregated(1, "a", 5), aggregated(1, "a", 9)]
    assert aggregates(journal) == {("a", 1): ("a1", "a1-pre", 5)}


def test_a_run_is_finished_when_every_device_has_the_last_model() -> None:
    progress = Progress(2, {"d0": "r", "d1": "r", "e0": "s"})
    for node, number in (("d0", 1), ("d0", 2), ("d1", 1), ("e0", 2), ("sat", 9)):
        progress.see(adopted(number, node=node).event, node)
    assert progress.rounds() == {"r": 2, "s": 2}
    assert not progress.finished
    progress.see(adopted(2, node="d1").event, "d1")
    assert progress.finished


def test_the_summary_has_a_number_for_every_region() -> None:
    journal = [*journal_of(a=2), entry("overrun", "sat")]
    found = summarise(journal, {}, ["a", "b"], 2)
    assert found["rounds"] == {"a": 2, "b": 0}
    assert found["model_sha256"] == {"a": "a2"}
    assert found["overruns"] == 1
    assert found["accuracy"] is None


def test_an_event_is_one_line_of_json() -> None:
    line = entry("kind", "node", 5, what="x").json_line()
    assert line == (
        '{"t_ns":5,"node":"node","incarnation":"node-s1","role":"role","severity":"activity_lo",'
        '"kind":"kind","fields":{"what":"x"}}'
    )
