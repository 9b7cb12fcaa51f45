"""The device of a cluster: says what its data are for, adopts models, trains, uploads on the pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from google.protobuf.message import Message

from orbitrain.machine import (
    Acknowledged,
    Action,
    CancelJob,
    ContactEnded,
    ContactStarted,
    Delivered,
    Digest,
    Input,
    JobDone,
    JobFailed,
    Lane,
    LocalProtocolError,
    ObjectLost,
    PlanUpdated,
    Report,
    Send,
    Severity,
    StartJob,
    Undelivered,
)
from orbitrain.protocols.emsfl.arrivals import Arrivals
from orbitrain.protocols.emsfl.checks import check_at_device
from orbitrain.protocols.emsfl.survey import SURVEY, Survey
from orbitrain.protocols.emsfl.terms import (
    BACKBONE,
    GATE,
    SATELLITE_ROLE,
    Params,
    Windows,
    expiry_ns,
    numbers,
    owned,
)
from orbitrain.protocols.emsfl.uploads import Uploads
from orbitrain.v1 import emsfl_pb2 as wire

TRAIN_FAILURES_MAX = 3
"""Tries of one round's training before the device waits for another model."""

NANOSECONDS: Final = 1_000_000_000


class Device:
    schema = 1
    accepts: tuple[type[Message], ...] = (wire.Model, wire.Gate, wire.Fetch)

    def __init__(self, params: Params, name: str, windows: Windows | None = None) -> None:
        """Without `windows` the end of a contact is what was believed at its beginning."""
        self.params = params
        self.name = name
        self.cluster = params.cluster_of(name).name
        self.state = wire.DeviceState()
        self.now_ns = 0
        self.end_ns: int | None = None
        """Of the contact in progress, as it is believed; 0: not known; None: there is no contact."""
        self.survey = Survey(self)
        self.uploads = Uploads(self)
        self.arrivals = Arrivals(self)
        self._windows = windows
        self._was_early = False
        """A model came before word of the contact."""
        self._awaited = False
        """The satellite was told in this contact that an upload is to come."""

    def snapshot(self) -> tuple[bytes, frozenset[Digest]]:
        state = self.state
        named = {version.digest for version in state.adopted.items.values()}
        for work in (state.work, state.outgoing, state.shared):
            named.update(version.digest for version in work.bases.values())
            named.update(work.now.values())
        named.update(state.updates.values())
        named.update(state.residuals.values())
        named |= self.arrivals.named()
        if self.survey.is_wanted:
            named.update(self.params.model.items.values())
        return state.SerializeToString(deterministic=True), frozenset(named)

    def restore(self, state: bytes, schema: int) -> None:
        if schema != self.schema:
            raise LocalProtocolError(f"snapshot schema {schema}, this version reads {self.schema}")
        self.state = wire.DeviceState.FromString(state)
        self.end_ns = None
        self._was_early = self._awaited = False

    def deadline_ns(self) -> int | None:
        if self.survey.is_wanted and not self.state.surveying:
            return 0
        if self.params.synchronous or not self._has_work:
            return None
        if not self.state.calling:
            return self.state.due_ns
        return max(self.state.due_ns, self.state.contact_until_ns) if self.end_ns is None else None

    def handle(self, item: Input, now_ns: int) -> list[Action]:
        if isinstance(item, Delivered):
            check_at_device(self.params, self.name, self.state, item.source, item.message, item.objects)
        self.now_ns = now_ns
        actions: list[Action] = []
        match item:
            case ContactStarted(peer=peer, end_ns=end_ns) if peer == self.params.satellite:
                actions += self._met(end_ns or 0)
            case ContactEnded(peer=peer) if peer == self.params.satellite:
                self.end_ns, self._was_early, self._awaited = None, False, False
                self.state.contact_until_ns, self.state.calling, self.state.in_pass = 0, False, False
            case Delivered(message=wire.Model() as model):
                actions += self._take(model)
            case Delivered(message=wire.Gate() as gate):
                self._tune(gate)
            case Delivered(message=wire.Fetch() as fetch):
                actions.append(self._hand_over(fetch))
            case JobDone(job=job, result=result, objects=outputs):
                actions += self._done(job, result, outputs)
            case JobFailed(job=job, reason=reason):
                actions += self._failed(job, reason)
            case Acknowledged(key=key) | Undelivered(key=key):
                actions += self._ended(key, item)
            case ObjectLost(digest=digest):
                actions += self._lost(digest)
            case PlanUpdated():
                self._follow()
        return actions + self._go_on()

    def key(self, what: str) -> str:
        self.state.serial += 1
        return f"{what}/{self.state.serial}"

    @property
    def own(self) -> tuple[str, ...]:
        """Items that this device trains in every round."""
        if not self.state.adopted.number:
            return ()
        if self.params.synchronous:
            backbone = (BACKBONE,) if self.state.adopted.backbone else ()
            return (*self.params.experts, *backbone, GATE)
        return owned(self.state.adopted.owners, self.cluster)

    # ------------------------------------------------------------------------------ what is next

    def _go_on(self) -> list[Action]:
        """Begin whatever can be begun."""
        state = self.state
        actions: list[Action] = []
        if self.survey.is_wanted and not state.surveying:
            actions += self.survey.begin()
        if state.work.rounds and not state.job and self._is_to_pack:
            actions += self.uploads.pack()
        if self._has_work and not self._calls and self._is_due:
            actions += self._train()
        if self._awaited and not self.is_ready:
            actions += self.greet()  # what the satellite waits for does not come
        return actions

    @property
    def _is_to_pack(self) -> bool:
        if self.params.synchronous:
            return self.state.work.rounds >= self.params.pace.rounds_max
        return self._calls

    @property
    def _has_work(self) -> bool:
        """There is a round to train, and nothing under way of an earlier model."""
        state = self.state
        if state.job or state.outgoing.rounds or state.spent or self.arrivals.is_under_way:
            return False
        if state.failures >= TRAIN_FAILURES_MAX or state.work.rounds >= self.params.pace.rounds_max:
            return False
        return bool(self.own) or (state.fresh and self._tunes)

    @property
    def _tunes(self) -> bool:
        """The next round is the connected one, and trains the gate (or backbone) beside experts."""
        adopted = self.state.adopted
        return not self.params.synchronous and adopted.number > 0 and adopted.gate and self._in_its_pass

    @property
    def _in_its_pass(self) -> bool:
        """The contact in which the model came goes on, as far as is known after this node was away."""
        known = self.end_ns is not None or self._was_early or self.now_ns < self.state.until_ns
        return self.state.in_pass and known

    @property
    def _calls(self) -> bool:
        """In a contact whose model has not come yet: what is trained goes up, nothing new is begun."""
        state = self.state
        return state.calling and (self.end_ns is not None or self.now_ns < state.contact_until_ns)

    @property
    def _is_due(self) -> bool:
        if self.params.synchronous:
            return self.end_ns is not None and self._in_its_pass
        return self.state.due_ns <= self.now_ns

    # ---------------------------------------------------------------------------------- contacts

    @property
    def is_ready(self) -> bool:
        """An upload is under way, or follows what has been trained."""
        state = self.state
        return bool(state.outgoing.rounds) or (self._calls and bool(state.work.rounds or state.job))

    def _met(self, end_ns: int) -> list[Action]:
        """A contact begins, or goes on after this node was away: what came in it is not to be sent back."""
        state = self.state
        state.contact += 1
        self.end_ns = state.contact_until_ns = end_ns
        if self._was_early:
            state.until_ns = end_ns
        else:
            state.in_pass = self.now_ns < state.until_ns
        if not state.in_pass:
            state.failures = 0
            state.calling = not self.params.synchronous
        self._was_early = False
        return self.greet()

    def _follow(self) -> None:
        """By an updated plan the contact may end at another time."""
        if self.end_ns is None or self._windows is None:
            return
        self.end_ns = self._windows.end_ns(self.params.satellite, self.now_ns) or 0
        self.state.contact_until_ns = self.end_ns
        if self.state.in_pass:
            self.state.until_ns = self.end_ns

    def greet(self) -> list[Action]:
        """Say what is here; it takes the place of what was said before."""
        state = self.state
        hello = wire.Hello(
            epoch=state.adopted.epoch,
            model=self.arrivals.number,
            ready=self.is_ready,
            held=self.arrivals.held(),
            failed=state.failed,
        )
        if state.surveyed and not state.told:
            hello.surveyed, hello.samples = True, state.samples
            hello.counts.extend(state.counts)
        self._awaited = hello.ready
        before, state.hello = state.hello, self.key("counts" if hello.surveyed else "hello")
        return [
            Send(
                self.params.satellite,
                SATELLITE_ROLE,
                state.hello,
                hello,
                Lane.CONTROL,
                expires_at_ns=self.expires_ns,
                supersedes=before or None,
            )
        ]

    @property
    def expires_ns(self) -> int:
        """With the contact."""
        return expiry_ns(self.end_ns or 0, self.now_ns)

    def _ended(self, key: str, item: Acknowledged | Undelivered) -> list[Action]:
        state = self.state
        if key == state.hello:
            state.ClearField("hello")
        if key.startswith("counts/") and isinstance(item, Acknowledged):
            state.told = True
        if key.startswith("upload/") and isinstance(item, Acknowledged) and state.sent_in == state.contact:
            self._awaited = False  # the satellite knows that it has come
        return self.uploads.ended(key, item)

    def _hand_over(self, fetch: wire.Fetch) -> Send:
        found = wire.Found(item=fetch.item, digest=fetch.digest)
        key = self.key("found")
        objects = (fetch.digest,)
        return Send(self.params.satellite, SATELLITE_ROLE, key, found, Lane.UPDATE, objects, self.expires_ns)

    # ------------------------------------------------------------------------------------- model

    def _take(self, model: wire.Model) -> list[Action]:
        """The model of this contact has come, even if some of it has to be made first."""
        if self.arrivals.knows(model):
            return []
        state = self.state
        state.until_ns, state.in_pass, state.calling = state.contact_until_ns, True, False
        self._was_early = self.end_ns is None
        return self.arrivals.take(model)

    def is_left_without(self) -> None:
        """The model of this contact came to nothing."""
        self.state.until_ns, self.state.in_pass, self._was_early = 0, False, False

    def adopt(self, model: wire.Model) -> list[Action]:
        """What was trained from the last model goes up first, unless the own experts are as they were."""
        state = self.state
        before = {item: state.work.bases[item].number for item in state.work.bases}
        state.adopted.CopyFrom(model)
        state.ClearField("failed")
        fields = {
            "device": self.name,
            "number": model.number,
            "epoch": model.epoch,
            "versions": {item: model.items[item].number for item in sorted(model.items)},
        }
        actions: list[Action] = [Report("model_adopted", Severity.ACTIVITY_HI, fields)]
        own = {item: model.items[item].number for item in self.own}
        if state.work.rounds and before == own and not self.params.synchronous:
            return actions
        if state.job:
            actions.append(CancelJob(state.job))
            state.ClearField("job")
        if state.work.rounds and not self.params.synchronous:
            actions += self.uploads.pack()
        state.ClearField("work")
        state.spent = False
        state.fresh, state.failures, state.due_ns = True, 0, self.now_ns
        for item in [item for item in state.residuals if item not in self.own]:
            del state.residuals[item]
        return actions

    def _tune(self, gate: wire.Gate) -> None:
        for item, version in gate.items.items():
            self.state.adopted.items[item].CopyFrom(version)
            if self.arrivals.is_under_way:
                self.state.arriving.items[item].CopyFrom(version)

    # ---------------------------------------------------------------------------------- training

    def _train(self) -> list[Action]:
        state, params, model = self.state, self.params, self.state.adopted
        tunes = state.fresh and self._tunes
        state.connected = self._in_its_pass if state.fresh else self.end_ns is not None
        state.due_ns = self.now_ns + params.pace.slot_ns
        if not state.work.rounds:
            state.work.CopyFrom(wire.Work(model=model.number, epoch=model.epoch))
            for item in self.own:
                state.work.bases[item].CopyFrom(model.items[item])
        state.job = self.key("train")
        settings = {
            "task": dict(params.task),
            "device": self.name,
            "round": state.round + 1,
            "seed": params.seed,
            "experts": numbers(self.own),
            "gate": tunes or GATE in self.own,
            "backbone": (tunes and model.backbone) or BACKBONE in self.own,
            "masked": model.masked,
        }
        objects = {item: version.digest for item, version in sorted(model.items.items())}
        objects |= dict(state.work.now)
        return [StartJob(state.job, "moe.train", settings, objects, params.times.train_ns)]

    def _done(self, job: str, result: Mapping[str, Any], outputs: Mapping[str, Digest]) -> list[Action]:
        if job == SURVEY:
            return self.survey.done(result)
        if job == self.state.job:
            return self._trained(result, outputs)
        if job == self.state.applying:
            return self.arrivals.applied(outputs)
        return self.uploads.packed(job, outputs)

    def _trained(self, result: Mapping[str, Any], outputs: Mapping[str, Digest]) -> list[Action]:
        state = self.state
        state.ClearField("job")
        state.fresh, state.failures = False, 0
        state.round += 1
        samples = int(result["n_samples"])
        own = self.own
        if own:
            state.work.rounds += 1
            state.work.samples = samples
            for item in own:
                state.work.now[item] = outputs[item]
        fields = {
            "device": self.name,
            "round": state.round,
            "connected": state.connected,
            "experts": numbers(own),
            "loaded_bytes": int(result.get("loaded_bytes", 0)),
            "peak_bytes": int(result.get("peak_bytes", 0)),
            "seconds": self.params.times.train_ns / NANOSECONDS,
        }
        actions: list[Action] = [Report("trained", Severity.ACTIVITY_LO, fields)]
        shared = {item: digest for item, digest in outputs.items() if item not in own}
        if shared and self._in_its_pass and not self.arrivals.is_under_way:
            actions += self.uploads.share(shared, samples)
        return actions

    def _failed(self, job: str, reason: str) -> list[Action]:
        state = self.state
        if job == SURVEY:
            return self.survey.failed()
        if job == state.applying:
            return self.arrivals.failed(reason)
        if job != state.job:
            return self.uploads.not_packed(job, reason)
        state.ClearField("job")
        state.failures += 1
        state.due_ns = self.now_ns
        fields = {"round": state.round + 1, "reason": reason}
        return [Report("training_failed", Severity.WARNING_HI, fields)]

    # ------------------------------------------------------------------------------------ losses

    def _lost(self, digest: Digest) -> list[Action]:
        """Forget what is gone: a model comes again, what was trained from it has to be trained anew."""
        state = self.state
        actions: list[Action] = [Report("object_lost", Severity.WARNING_HI, {"digest": digest})]
        for item in [item for item, left in state.residuals.items() if left == digest]:
            del state.residuals[item]
        actions += self.uploads.without(digest)
        incomplete = self.arrivals.without(digest)
        actions += incomplete
        in_work = {version.digest for version in state.work.bases.values()} | set(state.work.now.values())
        in_model = {version.digest for version in state.adopted.items.values()}
        if digest in in_work | in_model:
            if state.job:
                actions.append(CancelJob(state.job))
                state.ClearField("job")
            state.ClearField("work")
        if digest in in_model:
            # The satellite gives it out again to a device that says it has none.
            state.adopted.number = 0
            state.adopted.items.clear()
        elif digest in in_work:
            state.due_ns = self.now_ns
        if (incomplete or digest in in_model) and self.end_ns is not None:
            actions += self.greet()
        return actions
