"""Models whose experts come as steps: made by a job from the versions that are here, and adopted after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from orbitrain.machine import Action, CancelJob, Digest, Report, Severity, StartJob
from orbitrain.v1 import emsfl_pb2 as wire

if TYPE_CHECKING:
    from orbitrain.protocols.emsfl.device import Device


class Arrivals:
    """Of one device; what is arriving is in the device's state.

    `arriving.steps` are those that are to be applied, so each of its other items is here.
    """

    def __init__(self, device: Device) -> None:
        self._of = device

    @property
    def is_under_way(self) -> bool:
        return self._of.state.arriving.number > 0

    @property
    def number(self) -> int:
        """Of the model that is here, or is about to be; 0: none."""
        return self._of.state.arriving.number or self._of.state.adopted.number

    def named(self) -> set[Digest]:
        """Objects of it, beside those of the adopted model."""
        arriving = self._of.state.arriving
        return {arriving.steps.get(item, version.digest) for item, version in arriving.items.items()}

    def held(self) -> dict[str, int]:
        """Experts that steps may be sent for, by version: none without a rank, or after steps have failed."""
        state, params = self._of.state, self._of.params
        if params.work.rank is None or state.failed:
            return {}
        here = state.adopted.items
        return {item: here[item].number for item in params.experts if item in here}

    def knows(self, model: wire.Model) -> bool:
        """It has come before. One that comes whole need not wait for the steps of the same."""
        state = self._of.state
        return model.number == state.adopted.number or (
            model.number == state.arriving.number and bool(model.steps)
        )

    def take(self, model: wire.Model) -> list[Action]:
        """Adopt it, at once if all of it is here. It takes the place of one that is arriving."""
        state, params = self._of.state, self._of.params
        actions = self._leave()
        here, arriving = state.adopted.items, wire.Model()
        arriving.CopyFrom(model)
        for item in model.steps:
            if item in here and here[item] == model.items[item]:
                del arriving.steps[item]
        if not arriving.steps:
            return actions + self._of.adopt(arriving)
        state.arriving.CopyFrom(arriving)
        items = sorted(arriving.steps)
        baseless = [
            item for item in items if item not in here or here[item].number != model.items[item].number - 1
        ]
        if baseless:
            return actions + self._incomplete(baseless, "the version before is not here") + self._greet()
        state.applying = self._of.key("apply")
        whole: dict[str, Any] = {"weights": [1.0], "clips": [None], "rank": None}
        objects = {f"base/{item}": here[item].digest for item in items}
        objects |= {f"update/{item}/0": model.steps[item] for item in items}
        settings = {"items": {item: dict(whole) for item in items}}
        return [*actions, StartJob(state.applying, "moe.merge", settings, objects, params.times.merge_ns)]

    def applied(self, outputs: Mapping[str, Digest]) -> list[Action]:
        """What the job has made is adopted if it is what the model names."""
        state = self._of.state
        state.ClearField("applying")
        arriving = state.arriving
        others = [item for item in sorted(arriving.steps) if outputs.get(item) != arriving.items[item].digest]
        if others:
            return self._incomplete(others, "its step made another object") + self._greet()
        model = wire.Model()
        model.CopyFrom(arriving)
        model.ClearField("steps")
        state.ClearField("arriving")
        return self._of.adopt(model)

    def failed(self, reason: str) -> list[Action]:
        state = self._of.state
        state.ClearField("applying")
        return self._incomplete(sorted(state.arriving.steps), reason) + self._greet()

    def without(self, digest: Digest) -> list[Action]:
        """An object is lost: nothing if what arrives does without it."""
        state = self._of.state
        if not self.is_under_way:
            return []
        bases = {version.digest for version in state.adopted.items.values()}
        if digest not in self.named() | bases:
            return []
        return self._incomplete(sorted(state.arriving.steps), "an object of it is lost")

    def _incomplete(self, items: Sequence[str], reason: str) -> list[Action]:
        """It comes again, whole, to a device that says so."""
        state = self._of.state
        state.failed = state.arriving.number
        fields = {"number": state.failed, "items": list(items), "reason": reason}
        self._of.is_left_without()
        return [*self._leave(), Report("model_incomplete", Severity.WARNING_HI, fields)]

    def _leave(self) -> list[Action]:
        """What is arriving is over, as is the job."""
        state = self._of.state
        actions: list[Action] = [CancelJob(state.applying)] if state.applying else []
        state.ClearField("arriving")
        state.ClearField("applying")
        return actions

    def _greet(self) -> list[Action]:
        return self._of.greet() if self._of.end_ns is not None else []
