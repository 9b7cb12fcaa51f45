"""A device's updates on their way: packed by a job, sent, and over when their message has ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from orbitrain.machine import (
    NEVER_NS,
    Acknowledged,
    Action,
    CancelJob,
    Digest,
    Lane,
    Report,
    Send,
    Severity,
    StartJob,
    Undelivered,
    Withdraw,
)
from orbitrain.protocols.emsfl.terms import SATELLITE_ROLE, once
from orbitrain.v1 import emsfl_pb2 as wire

if TYPE_CHECKING:
    from orbitrain.protocols.emsfl.device import Device


class Uploads:
    """Of one device; what is under way is in the device's state."""

    def __init__(self, device: Device) -> None:
        self._of = device

    # ------------------------------------------------------------------------------------ upload

    def pack(self) -> list[Action]:
        """What has been trained becomes an upload; no more rounds from this model."""
        state, params = self._of.state, self._of.params
        state.outgoing.CopyFrom(state.work)
        state.ClearField("work")
        state.spent = True
        experts = [item for item in sorted(state.outgoing.now) if item in params.experts]
        others = [item for item in sorted(state.outgoing.now) if item not in params.experts]
        actions: list[Action] = []
        for items, rank in ((experts, params.work.rank), (others, None)):
            if items:
                job = self._of.key("pack")
                state.packing.append(job)
                actions.append(self._pack(job, state.outgoing, items, rank))
        return actions

    def _pack(self, job: str, work: wire.Work, items: list[str], rank: int | None) -> StartJob:
        objects: dict[str, Digest] = {}
        for item in items:
            objects[f"base/{item}"] = work.bases[item].digest
            objects[f"now/{item}"] = work.now[item]
            if rank is not None and item in self._of.state.residuals:
                objects[f"residual/{item}"] = self._of.state.residuals[item]
        params: dict[str, Any] = {"items": items, "rank": rank}
        return StartJob(job, "moe.pack", params, objects, self._of.params.times.pack_ns)

    def packed(self, job: str, outputs: Mapping[str, Digest]) -> list[Action]:
        state = self._of.state
        if job == state.shared_job:
            return self._send_shared(outputs)
        if job not in state.packing:
            return []
        state.packing.remove(job)
        for name, digest in outputs.items():
            kind, _, item = name.partition("/")
            kept = state.updates if kind == "update" else state.residuals
            kept[item] = digest
        return [] if state.packing else self._send()

    def _send(self) -> list[Action]:
        """It never expires: what a pass cuts is completed in a later one."""
        state, work = self._of.state, self._of.state.outgoing
        upload = wire.Upload(epoch=work.epoch, model=work.model, rounds=work.rounds, samples=work.samples)
        for item in sorted(state.updates):
            upload.changes.add(item=item, base=work.bases[item].number, digest=state.updates[item])
        state.sending = self._of.key("upload")
        state.sent_in = state.contact
        return self._sent(state.sending, upload, work, NEVER_NS)

    def _sent(
        self, key: str, message: wire.Upload | wire.Shared, work: wire.Work, expires_ns: int
    ) -> list[Action]:
        """A message with its updates, and the report of it."""
        fields = {
            "key": key,
            "epoch": work.epoch,
            "rounds": work.rounds,
            "samples": work.samples,
            "items": [[change.item, change.base, change.digest] for change in message.changes],
        }
        objects = once(change.digest for change in message.changes)
        satellite = self._of.params.satellite
        return [
            Send(satellite, SATELLITE_ROLE, key, message, Lane.UPDATE, objects, expires_ns),
            Report("update_sent", Severity.ACTIVITY_LO, fields),
        ]

    def not_packed(self, job: str, reason: str) -> list[Action]:
        state = self._of.state
        report = Report("packing_failed", Severity.WARNING_HI, {"reason": reason})
        if job == state.shared_job:
            self._clear_shared()
            return [report]
        if job not in state.packing:
            return []
        return [report, *self._drop()]

    def _drop(self) -> list[Action]:
        """The upload is over, whatever of it is under way."""
        state = self._of.state
        actions: list[Action] = [CancelJob(job) for job in state.packing]
        if state.sending:
            actions.append(Withdraw(state.sending))
        self._clear()
        return actions

    def _clear(self) -> None:
        for name in ("outgoing", "packing", "updates", "sending", "sent_in"):
            self._of.state.ClearField(name)

    def ended(self, key: str, item: Acknowledged | Undelivered) -> list[Action]:
        state = self._of.state
        if key == state.shared_key:
            self._clear_shared()
        if not key.startswith(("upload/", "shared/")):
            return []
        if key == state.sending:
            self._clear()
        fate = "delivered" if isinstance(item, Acknowledged) else item.fate.value
        reason = "" if isinstance(item, Acknowledged) else item.reason
        fields = {"key": key, "fate": fate, "reason": reason}
        return [Report("update_ended", Severity.ACTIVITY_LO, fields)]

    # ------------------------------------------------------------------------ what was trained in contact

    def share(self, trained: Mapping[str, Digest], samples: int) -> list[Action]:
        """Gate, and backbone, from the connected round: whole, and for this pass alone."""
        state, model = self._of.state, self._of.state.adopted
        work = wire.Work(model=model.number, epoch=model.epoch, rounds=1, samples=samples, now=trained)
        for item in trained:
            work.bases[item].CopyFrom(model.items[item])
        state.shared.CopyFrom(work)
        state.shared_job = self._of.key("pack")
        return [self._pack(state.shared_job, state.shared, sorted(trained), None)]

    def _send_shared(self, outputs: Mapping[str, Digest]) -> list[Action]:
        state, work = self._of.state, self._of.state.shared
        state.ClearField("shared_job")
        expires_ns = self._of.expires_ns if self._of.end_ns is not None else state.until_ns
        if expires_ns <= self._of.now_ns:
            self._clear_shared()
            return []  # the pass is over
        shared = wire.Shared(model=work.model, samples=work.samples)
        for item in sorted(work.now):
            shared.changes.add(item=item, base=work.bases[item].number, digest=outputs[f"update/{item}"])
        state.shared_key = self._of.key("shared")
        return self._sent(state.shared_key, shared, work, expires_ns)

    def _clear_shared(self) -> None:
        for name in ("shared", "shared_job", "shared_key"):
            self._of.state.ClearField(name)

    # ------------------------------------------------------------------------------------ losses

    def without(self, digest: Digest) -> list[Action]:
        """Leave what needs an object that is lost."""
        state = self._of.state
        actions: list[Action] = []
        under_way = {version.digest for version in state.outgoing.bases.values()}
        under_way = under_way | set(state.outgoing.now.values()) if state.packing else set()
        if digest in under_way | set(state.updates.values()):
            actions += self._drop()
        if state.shared_job and digest in {
            *state.shared.now.values(),
            *(b.digest for b in state.shared.bases.values()),
        }:
            actions.append(CancelJob(state.shared_job))
            self._clear_shared()
        return actions
