"""The device of a region: holds the region's model, trains it when a satellite opens a round."""

from __future__ import annotations

from google.protobuf.message import Message

from orbitrain.machine import (
    Acknowledged,
    Action,
    CancelJob,
    Delivered,
    Digest,
    Input,
    JobDone,
    JobFailed,
    Lane,
    LocalProtocolError,
    ObjectLost,
    RemoteProtocolError,
    Report,
    Send,
    Severity,
    StartJob,
    Undelivered,
    Withdraw,
)
from orbitrain.protocols.fedmeld.rules import (
    SATELLITE_ROLE,
    Orbits,
    Params,
    carried_digest,
    initial_record,
    is_mixing_round,
)
from orbitrain.v1 import fedmeld_pb2 as wire

TRAIN_FAILURES_MAX = 3
"""Tries of one round's training before the device waits for the next time the round is opened."""


class Device:
    schema = 1
    accepts: tuple[type[Message], ...] = (wire.Poll, wire.Model, wire.Fetch)

    def __init__(self, params: Params, orbits: Orbits, name: str, region: str) -> None:
        self._params = params
        self._orbits = orbits
        self._name = name
        self._region = region
        self._state = wire.DeviceState(model=initial_record(params, region))

    def deadline_ns(self) -> int | None:
        return None

    def snapshot(self) -> tuple[bytes, frozenset[Digest]]:
        state = self._state
        named = {state.model.digest, state.update.digest, self._params.initial}
        named.update(carried_digest(self._params, record) for record in state.mixing)
        return state.SerializeToString(deterministic=True), frozenset(named - {""})

    def restore(self, state: bytes, schema: int) -> None:
        if schema != self.schema:
            raise LocalProtocolError(f"snapshot schema {schema}, this version reads {self.schema}")
        self._state = wire.DeviceState.FromString(state)

    def handle(self, item: Input, now_ns: int) -> list[Action]:
        match item:
            case Delivered(source=source, message=wire.Poll() as poll):
                return self._polled(source, poll, now_ns)
            case Delivered(source=source, message=wire.Model() as model, objects=objects):
                return self._told(source, model, objects, now_ns)
            case Delivered(source=source, message=wire.Fetch() as fetch):
                return self._asked(source, fetch, now_ns)
            case JobDone(result=result, objects=outputs):
                return self._trained(int(result["n_samples"]), outputs["update"], now_ns)
            case JobFailed(reason=reason):
                return self._failed(reason)
            case Acknowledged(key=key) | Undelivered(key=key):
                return self._update_ended(key, item)
            case ObjectLost(digest=digest):
                return self._lost(digest)
        return []

    # ------------------------------------------------------------------------------- messages

    def _service_end_ns(self, source: str, region: str, now_ns: int) -> int:
        """Raises RemoteProtocolError unless `source` serves this device's region now."""
        if region != self._region:
            raise RemoteProtocolError(f"this device belongs to {self._region}, not to {region[:64]!r}")
        service = self._orbits.serving(self._region, now_ns)
        if service is None or service.satellite != source:
            raise RemoteProtocolError(f"{source} does not serve {self._region} now")
        return service.end_ns

    def _key(self, what: str) -> str:
        self._state.serial += 1
        return f"{what}/{self._state.serial}"

    def _polled(self, source: str, poll: wire.Poll, now_ns: int) -> list[Action]:
        end_ns = self._service_end_ns(source, poll.region, now_ns)
        status = wire.Status(region=self._region, model=self._state.model, mixing=self._state.mixing)
        key = self._key("status")
        return [Send(source, SATELLITE_ROLE, key, status, Lane.CONTROL, expires_at_ns=end_ns)]

    def _asked(self, source: str, fetch: wire.Fetch, now_ns: int) -> list[Action]:
        end_ns = self._service_end_ns(source, fetch.region, now_ns)
        if fetch.digest not in self.snapshot()[1]:
            raise RemoteProtocolError(f"no object {fetch.digest[:64]!r} here")
        found = wire.Found(region=self._region, digest=fetch.digest)
        key = self._key("found")
        return [Send(source, SATELLITE_ROLE, key, found, Lane.UPDATE, (fetch.digest,), expires_at_ns=end_ns)]

    def _told(self, source: str, model: wire.Model, objects: tuple[Digest, ...], now_ns: int) -> list[Action]:
        state, record = self._state, model.record
        self._service_end_ns(source, record.region, now_ns)
        if not 0 <= record.round <= self._params.rounds:
            raise RemoteProtocolError(f"round {record.round} is not one of 0..{self._params.rounds}")
        if record.round == state.model.round and record.digest != state.model.digest:
            raise RemoteProtocolError(f"another model of round {record.round} was adopted here")
        if record.round > state.model.round and not self._complete(record, objects):
            raise RemoteProtocolError(f"the model of round {record.round} came without its object")
        actions: list[Action] = []
        if record.round > state.model.round:
            actions += self._adopt(record)
        if model.opens_round and record.round == state.model.round:
            actions += self._open(source, now_ns)
        return actions

    def _complete(self, record: wire.ModelRecord, objects: tuple[Digest, ...]) -> bool:
        needed = {record.digest}
        if is_mixing_round(self._params, record.round):
            needed.add(carried_digest(self._params, record))
        return needed <= set(objects)

    # ------------------------------------------------------------------------------- the round

    def _adopt(self, record: wire.ModelRecord) -> list[Action]:
        state = self._state
        state.model.CopyFrom(record)
        actions: list[Action] = []
        if is_mixing_round(self._params, record.round):
            # The ring lets a region get ahead of the next by at most one cycle less than it has regions.
            state.mixing.append(record)
            del state.mixing[: -len(self._params.regions)]
        actions += self._stop()
        contributors = [[part.device, part.round, part.samples] for part in record.contributors]
        fields = {
            "region": record.region,
            "round": record.round,
            "digest": record.digest,
            "parents": list(record.parents),
            "contributors": contributors,
            "satellite": record.satellite,
        }
        actions.append(Report("model_adopted", Severity.ACTIVITY_HI, fields, (record.digest,)))
        return actions

    def _stop(self) -> list[Action]:
        """Leave the work on the next round, of which the model is not the adopted one any more."""
        state = self._state
        actions: list[Action] = []
        if state.job:
            actions.append(CancelJob(state.job))
        if state.sending:
            actions.append(Withdraw(state.sending))
        for name in ("update", "server", "job", "failures", "sending"):
            state.ClearField(name)
        return actions

    def _open(self, source: str, now_ns: int) -> list[Action]:
        state = self._state
        state.server = source
        if state.HasField("update"):
            return self._offer(now_ns)
        if state.job:
            return []
        state.failures = 0
        return self._train()

    def _train(self) -> list[Action]:
        state, params = self._state, self._params
        round_number = state.model.round + 1
        state.job = f"train/{round_number}/{state.failures}"
        job_params = {
            "task": dict(params.task),
            "device": self._name,
            "round": round_number,
            "seed": params.seed,
        }
        return [StartJob(state.job, "train", job_params, {"model": state.model.digest}, params.train_ns)]

    def _trained(self, samples: int, digest: Digest, now_ns: int) -> list[Action]:
        state = self._state
        state.ClearField("job")
        update = wire.Update(
            region=self._region,
            round=state.model.round + 1,
            base=state.model.digest,
            digest=digest,
            samples=samples,
        )
        state.update.CopyFrom(update)
        fields = {"region": self._region, "round": update.round, "digest": digest, "samples": samples}
        return [Report("update_trained", Severity.ACTIVITY_LO, fields), *self._offer(now_ns)]

    def _failed(self, reason: str) -> list[Action]:
        state = self._state
        state.ClearField("job")
        state.failures += 1
        fields = {"region": self._region, "round": state.model.round + 1, "reason": reason}
        report = Report("training_failed", Severity.WARNING_HI, fields)
        return [report, *(self._train() if state.failures < TRAIN_FAILURES_MAX else [])]

    def _offer(self, now_ns: int) -> list[Action]:
        """Send the update to the satellite that opened the round, if it still serves the region."""
        state = self._state
        service = self._orbits.serving(self._region, now_ns)
        if service is None or service.satellite != state.server:
            return []
        actions: list[Action] = []
        if state.sending:
            # Whoever opens a round has not got the update: what is under way is of an earlier service, or of
            # this one and in doubt. The satellite takes it once in any case.
            actions.append(Withdraw(state.sending))
        update = wire.Update()
        update.CopyFrom(state.update)
        state.sending = self._key(f"update/{service.satellite}")
        lane, expiry = Lane.UPDATE, service.end_ns
        actions.append(
            Send(
                service.satellite,
                SATELLITE_ROLE,
                state.sending,
                update,
                lane,
                (update.digest,),
                expires_at_ns=expiry,
            )
        )
        fields = {
            "region": self._region,
            "round": update.round,
            "digest": update.digest,
            "key": state.sending,
            "to": service.satellite,
        }
        actions.append(Report("update_sent", Severity.ACTIVITY_LO, fields))
        return actions

    def _update_ended(self, key: str, item: Acknowledged | Undelivered) -> list[Action]:
        if not key.startswith("update/"):
            return []
        if key == self._state.sending:
            self._state.ClearField("sending")
        fate = "delivered" if isinstance(item, Acknowledged) else item.fate.value
        reason = "" if isinstance(item, Acknowledged) else item.reason
        fields = {"region": self._region, "key": key, "fate": fate, "reason": reason}
        return [Report("update_ended", Severity.ACTIVITY_LO, fields)]

    def _lost(self, digest: Digest) -> list[Action]:
        """Forget what is gone: the region's other devices, or training again, bring it back."""
        state = self._state
        actions: list[Action] = [Report("object_lost", Severity.WARNING_HI, {"digest": digest})]
        if digest == state.model.digest and digest != self._params.initial:
            state.model.CopyFrom(initial_record(self._params, self._region))
            actions += self._stop()
        if digest == state.update.digest:
            actions += self._stop()
        kept = [record for record in state.mixing if carried_digest(self._params, record) != digest]
        del state.mixing[:]
        state.mixing.extend(kept)
        return actions
