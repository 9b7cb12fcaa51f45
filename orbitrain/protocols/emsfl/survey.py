"""A device's survey: which experts its trial samples choose. The samples stay where they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from orbitrain.machine import Action, Report, Severity, StartJob

if TYPE_CHECKING:
    from orbitrain.protocols.emsfl.device import Device

SURVEY: Final = "survey"

SURVEY_FAILURES_MAX = 3
"""Tries of counting before the device says that it has no trial samples."""


class Survey:
    """Of one device; its counts are in the device's state."""

    def __init__(self, device: Device) -> None:
        self._of = device

    @property
    def is_wanted(self) -> bool:
        """It has not been made; the baseline needs none."""
        return not self._of.params.synchronous and not self._of.state.surveyed

    def begin(self) -> list[Action]:
        """With the model that all start from, which every device has from the beginning."""
        of = self._of
        of.state.surveying = True
        params = {"task": dict(of.params.task), "device": of.name}
        objects = dict(of.params.model.items)
        return [StartJob(SURVEY, "moe.counts", params, objects, of.params.times.survey_ns)]

    def done(self, result: Mapping[str, Any]) -> list[Action]:
        counts = [int(count) for layer in result["counts"] for count in layer]
        return self._take(counts, int(result["samples"]))

    def _take(self, counts: list[int], samples: int) -> list[Action]:
        state = self._of.state
        state.surveyed, state.surveying, state.samples = True, False, samples
        state.counts[:] = counts
        report = Report("surveyed", Severity.ACTIVITY_LO, {"samples": samples, "counts": counts})
        return [report, *(self._of.greet() if self._of.end_ns is not None else [])]

    def failed(self) -> list[Action]:
        of = self._of
        of.state.surveying = False
        of.state.survey_failures += 1
        if of.state.survey_failures < SURVEY_FAILURES_MAX:
            return []
        return self._take([0] * (of.params.model.layers * of.params.model.experts), 0)
