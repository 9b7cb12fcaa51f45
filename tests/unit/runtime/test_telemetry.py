"""What a node counts and publishes of itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orbitrain.machine import Severity
from orbitrain.runtime.telemetry import Telemetry, resident_bytes
from orbitrain.step import Event


class Heard:
    def __init__(self) -> None:
        self.news: list[tuple[str, dict[str, Any]]] = []

    def publish(self, kind: str, fields: Mapping[str, Any]) -> None:
        self.news.append((kind, dict(fields)))


def event(kind: str, severity: Severity, **fields: Any) -> Event:
    return Event(5, "", severity, kind, fields)


def test_bytes_of_every_event_add_up() -> None:
    telemetry = Telemetry("sat-0")
    telemetry.event(event("contact_started", Severity.DIAGNOSTIC, peer="a", bytes=900))
    telemetry.event(event("letter_delivered", Severity.DIAGNOSTIC, to="a", bytes=100))
    telemetry.event(event("update_late", Severity.WARNING_LO))
    assert telemetry.sample()["moved_bytes"] == 1000.0


def test_a_contact_counts_from_its_confirmation_to_its_end() -> None:
    telemetry = Telemetry("sat-0")
    telemetry.contact("a", True)
    telemetry.contact("b", True)
    telemetry.contact("b", True)
    assert telemetry.sample()["contacts"] == 2.0
    telemetry.event(event("contact_ended", Severity.DIAGNOSTIC, peer="a"))
    assert telemetry.sample()["contacts"] == 1.0


def test_the_last_duration_of_each_kind_of_job_is_a_metric() -> None:
    telemetry = Telemetry("sat-0")
    telemetry.job("train", 0.5)
    telemetry.job("train", 0.25)
    assert telemetry.sample()["train_wall_s"] == 0.25


def test_diagnostics_stay_in_the_journal() -> None:
    heard = Heard()
    telemetry = Telemetry("sat-0", heard)
    telemetry.event(event("letter_delivered", Severity.DIAGNOSTIC, bytes=1))
    telemetry.event(event("aggregated", Severity.ACTIVITY_HI, region="quito"))
    fields = {"node": "sat-0", "t_ns": 5, "event": "aggregated", "fields": {"region": "quito"}}
    assert heard.news == [("event", fields)]


def test_a_process_takes_some_memory() -> None:
    assert 1_000_000 < resident_bytes() < 1 << 40
