"""Tables of a run of EMS-FL, from a journal written by hand."""

from __future__ import annotations

from typing import Any

import pytest

from orbitrain.machine import Severity
from orbitrain.results import Entry
from orbitrain.step import Event
from orbitrain.systems.emsfl_results import (
    cycles,
    device_bytes,
    device_compute,
    device_memory,
    gamma,
    owners,
    updates,
)

S = 1_000_000_000
DEVICES = ("d0", "d1")


def entry(node: str, t_s: float, kind: str, **fields: Any) -> Entry:
    return Entry(node, f"{node}-0", Event(round(t_s * S), "emsfl", Severity.ACTIVITY_LO, kind, fields))


def split(t_s: float, epoch: int, ratios: dict[str, float], **fields: Any) -> Entry:
    shares = {"owners": ["a", "b", ""], "unserved": ["c"], "revived": [], "relevance": []}
    return entry("sat", t_s, "split", epoch=epoch, gamma=ratios, **{**shares, **fields})


def test_a_pass_tells_what_was_committed_by_its_end_and_how_good_the_model_is() -> None:
    entries = [
        entry("sat", 5, "pass_ended", cluster="a", cycle=1, uploads=0, gate=False),
        entry("sat", 8, "expert_committed", item="expert/1", version=1, cluster="b", contributors=[]),
        entry("sat", 9, "model_assembled", cluster="b", cycle=1, digest="m1"),
        entry("sat", 10, "gate_committed", item="gate", version=1, cluster="b", cycle=1),
        entry("sat", 11, "model_assembled", cluster="b", cycle=1, digest="m2"),
        entry("sat", 12.5, "pass_ended", cluster="b", cycle=1, uploads=2, gate=True),
    ]
    first, second = cycles(entries, {"m1": 0.25, "m2": 0.5})
    assert first == {
        "cluster": "a",
        "cycle": 1,
        "t_s": 5.0,
        "uploads": 0,
        "gate": False,
        "versions": {},
        "accuracy": None,
    }
    assert second == {
        "cluster": "b",
        "cycle": 1,
        "t_s": 12.5,
        "uploads": 2,
        "gate": True,
        "versions": {"expert/1": 1, "gate": 1},
        "accuracy": 0.5,
    }


def test_owners_are_told_by_epoch_and_gamma_of_the_last_split() -> None:
    entries = [split(3, 1, {"a": 1.0, "b": 1.0}), split(9, 2, {"a": 2.5, "b": 1.5}, revived=[2])]
    assert [one["epoch"] for one in owners(entries)] == [1, 2]
    assert owners(entries)[1] == {
        "epoch": 2,
        "t_s": 9.0,
        "owners": ["a", "b", ""],
        "unserved": ["c"],
        "revived": [2],
    }
    assert gamma(entries) == {
        "by_cluster": {"a": 2.5, "b": 1.5},
        "mean": 2.0,
        "predicted_reduction": 0.5,
    }


@pytest.mark.parametrize("ratios", [{}, {"a": 0.0}])
def test_without_a_ratio_nothing_is_predicted(ratios: dict[str, float]) -> None:
    found = gamma([split(3, 1, ratios)])
    assert found is not None and found["predicted_reduction"] is None


def test_without_a_split_there_is_no_gamma() -> None:
    assert gamma([]) is None


def test_uploads_and_their_items_are_counted_by_what_became_of_them() -> None:
    entries = [
        *(entry("d0", 1, "update_sent", key=key) for key in ("k1", "k2", "k3")),
        entry("d1", 1, "update_sent", key="k1"),
        entry("d0", 2, "update_ended", key="k1", fate="delivered", reason=""),
        entry("d0", 2, "update_ended", key="k2", fate="refused", reason="too big"),
        entry("sat", 2, "update_accepted", device="d0", item="expert/0"),
        entry("sat", 2, "update_refused", device="d0", item="expert/1", reason="not owned"),
        entry("sat", 3, "expert_committed", expert=0, version=1, contributors=[{"device": "d0"}]),
    ]
    assert updates(entries) == {
        "sent": 4,
        "delivered": 1,
        "undelivered": 1,
        "in_flight": 2,
        "accepted": 1,
        "merged": 1,
        "refused": 1,
    }


def test_bytes_are_a_devices_by_who_sent_them() -> None:
    entries = [
        entry("d0", 1, "letter_delivered", to="sat", **{"class": "service", "bytes": 70}),
        entry("d0", 2, "contact_ended", peer="sat", **{"class": "service", "bytes": 5}),
        entry("sat", 1, "letter_undelivered", to="d1", **{"class": "service", "bytes": 40}),
        entry("sat", 1, "letter_delivered", to="d1", **{"class": "feeder", "bytes": 1000}),
        entry("sat", 1, "letter_delivered", to="elsewhere", **{"class": "service", "bytes": 9}),
        entry("sat", 1, "contact_started", peer="d1"),
    ]
    assert device_bytes(entries, DEVICES) == {"d0": {"up": 75, "down": 0}, "d1": {"up": 0, "down": 40}}


def test_memory_is_the_most_and_compute_the_sum_of_a_devices_rounds() -> None:
    def trained(t_s: float, connected: bool, loaded: int, peak: int) -> Entry:
        memory = {"loaded_bytes": loaded, "peak_bytes": peak}
        return entry("d0", t_s, "trained", round=1, connected=connected, seconds=30.0, **memory)

    entries = [trained(40, True, 900, 5000), trained(80, False, 300, 7000), trained(120, False, 300, 6000)]
    assert device_memory(entries, DEVICES) == {
        "d0": {"loaded": 900, "peak": 7000},
        "d1": {"loaded": 0, "peak": 0},
    }
    assert device_compute(entries, DEVICES, 200 * S) == {
        "d0": {"rounds": 3, "in_contact_s": 30.0, "out_of_contact_s": 60.0, "idle_s": 110.0},
        "d1": {"rounds": 0, "in_contact_s": 0.0, "out_of_contact_s": 0.0, "idle_s": 200.0},
    }
