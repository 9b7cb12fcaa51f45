"""The satellite: aggregates the region it serves and, where designated, stores, carries and mixes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from google.protobuf.message import Message

from orbitrain.machine import (
    NEVER_NS,
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
)
from orbitrain.protocols.fedmeld.carrying import Carrying
from orbitrain.protocols.fedmeld.checks import check
from orbitrain.protocols.fedmeld.rules import (
    DEVICE_ROLE,
    Decision,
    Orbits,
    Params,
    carried_digest,
    carried_round,
    decide,
    find_carry,
    is_mixing_round,
    newest,
)
from orbitrain.v1 import fedmeld_pb2 as wire


class Satellite:
    schema = 1
    accepts: tuple[type[Message], ...] = (wire.Status, wire.Update, wire.Found)

    def __init__(self, params: Params, orbits: Orbits, name: str) -> None:
        self.params = params
        self.orbits = orbits
        self.name = name
        self._region_of = {device: region.name for region in params.regions for device in region.devices}
        self.state = wire.SatelliteState()
        self._carrying = Carrying(self)
        self._contacts: set[str] = set()
        self._wake_ns = 0

    def deadline_ns(self) -> int | None:
        return None if self._wake_ns == NEVER_NS else self._wake_ns

    def snapshot(self) -> tuple[bytes, frozenset[Digest]]:
        state = self.state
        named = {carry.digest for carry in state.carries}
        for session in state.sessions.values():
            named.update(session.held)
            named.update(update.digest for update in session.accepted.values())
        return state.SerializeToString(deterministic=True), frozenset(named)

    def restore(self, state: bytes, schema: int) -> None:
        if schema != self.schema:
            raise LocalProtocolError(f"snapshot schema {schema}, this version reads {self.schema}")
        self.state = wire.SatelliteState.FromString(state)
        self._contacts = set()
        self._wake_ns = 0

    def handle(self, item: Input, now_ns: int) -> list[Action]:
        if isinstance(item, Delivered):
            check(self.params, self.state.sessions, item)
        actions = self._turn(now_ns)
        match item:
            case ContactStarted(peer=peer):
                self._contacts.add(peer)
                actions += self._greet(peer)
            case ContactEnded(peer=peer):
                self._contacts.discard(peer)
                self._forget(peer)
            case Delivered(source=source, message=wire.Status() as status):
                actions += self._answered(source, status, now_ns)
            case Delivered(source=source, message=wire.Found() as found):
                actions += self._found(found, now_ns)
            case Delivered(source=source, message=wire.Update() as update):
                actions += self._collect(source, update)
            case JobDone(job=job, objects=outputs):
                actions += self._aggregated(job, outputs, now_ns)
            case JobFailed(job=job, reason=reason):
                actions += self._not_aggregated(job, reason)
            case ObjectLost(digest=digest):
                actions += self._lost(digest)
            case PlanUpdated():
                actions += self._redesignate(now_ns)
        return actions

    # ------------------------------------------------------------------------------- services

    def _turn(self, now_ns: int) -> list[Action]:
        """End the sessions whose service is over, begin those whose service has come."""
        actions: list[Action] = []
        wake_ns = NEVER_NS
        for region in self.params.regions:
            service = self.orbits.serving(region.name, now_ns)
            mine = service is not None and service.satellite == self.name
            if region.name in self.state.sessions:
                session = self.state.sessions[region.name]
                if service is None or not mine or service.start_ns != session.start_ns:
                    actions += self._end(region.name, session)
                    del self.state.sessions[region.name]
                elif service.end_ns != session.end_ns:
                    actions += self._move_end(region.name, service.end_ns)
            if service is not None and mine:
                if region.name not in self.state.sessions:
                    self.state.sessions[region.name].start_ns = service.start_ns
                    self.state.sessions[region.name].end_ns = service.end_ns
                    for device in region.devices:
                        if device in self._contacts:
                            actions += self._poll(region.name, device)
                wake_ns = min(wake_ns, service.end_ns)
            else:
                following = self.orbits.next_service(region.name, self.name, now_ns)
                if following is not None:
                    wake_ns = min(wake_ns, following.start_ns)
        self._wake_ns = wake_ns
        return actions

    def _move_end(self, region: str, end_ns: int) -> list[Action]:
        """An update of the plan moved the end of the service in progress.

        Letters expire with the service that they were sent in: if that goes on for longer, devices are asked
        anew, and get what has not reached them once more.
        """
        session = self.state.sessions[region]
        longer = end_ns > session.end_ns
        session.end_ns = end_ns
        actions: list[Action] = []
        for device in self.params.devices_of(region) if longer else ():
            if device in self._contacts:
                actions += self._greet(device)
        return actions

    def _redesignate(self, now_ns: int) -> list[Action]:
        """By an updated plan this satellite may be the one to take a model along."""
        actions: list[Action] = []
        for region in self.params.regions:
            if region.name in self.state.sessions:
                actions += self._carrying.take_along(region.name, now_ns)
        return actions

    def _end(self, region: str, session: wire.Session) -> list[Action]:
        actions: list[Action] = [CancelJob(session.job)] if session.job else []
        if session.accepted:
            fields = {
                "region": region,
                "round": session.base.round + 1,
                "accepted": sorted(session.accepted),
            }
            actions.append(Report("round_abandoned", Severity.ACTIVITY_HI, fields))
        return actions

    def _key(self, what: str) -> str:
        self.state.serial += 1
        return f"{what}/{self.state.serial}"

    def _send(
        self, region: str, device: str, message: Message, lane: Lane, objects: tuple[Digest, ...] = ()
    ) -> Send:
        end_ns = self.state.sessions[region].end_ns
        key = self._key(message.DESCRIPTOR.name.lower())
        return Send(device, DEVICE_ROLE, key, message, lane, objects, expires_at_ns=end_ns)

    def _poll(self, region: str, device: str) -> list[Action]:
        return [self._send(region, device, wire.Poll(region=region), Lane.CONTROL)]

    def _greet(self, device: str) -> list[Action]:
        """A contact began, or began again: what the device holds must be asked anew."""
        self._forget(device)
        region = self._region_of.get(device)
        if region is None or region not in self.state.sessions:
            return []
        return self._poll(region, device)

    def _forget(self, device: str) -> None:
        region = self._region_of.get(device)
        if region is None or region not in self.state.sessions:
            return
        session = self.state.sessions[region]
        session.statuses.pop(device, None)
        for told in (session.opened, session.updated):
            if device in told:
                told.remove(device)
        session.ClearField("fetching")

    # ------------------------------------------------------------------------- what devices say

    def _answered(self, device: str, status: wire.Status, now_ns: int) -> list[Action]:
        region = status.region
        if region not in self.state.sessions:
            return []
        session = self.state.sessions[region]
        session.statuses[device].CopyFrom(status)
        if len(session.statuses) < len(self.params.devices_of(region)):
            return []
        latest = newest(answer.model for answer in session.statuses.values())
        if not session.HasField("base"):
            self.state.seen[region] = 0  # devices that lost their disks may have gone back
        self._see(region, latest.round)
        actions: list[Action] = []
        if not session.HasField("base") or latest.round > session.base.round:
            if session.job:
                actions.append(CancelJob(session.job))
            kept = wire.Session(start_ns=session.start_ns, end_ns=session.end_ns)
            for name, answer in session.statuses.items():
                kept.statuses[name].CopyFrom(answer)
            kept.base.CopyFrom(latest)
            session.CopyFrom(kept)
        return actions + self._carrying.take_along(region, now_ns) + self.advance(region)

    def _see(self, region: str, round_number: int) -> None:
        """Some device of the region is known to have the model of this round."""
        self.state.seen[region] = max(round_number, self.state.seen.get(region, 0))

    def _found(self, found: wire.Found, now_ns: int) -> list[Action]:
        if found.region not in self.state.sessions:
            return []
        session = self.state.sessions[found.region]
        if found.digest == session.fetching:
            session.ClearField("fetching")
        known = set(self._model_objects(session.base))
        for status in session.statuses.values():
            known.update(carried_digest(self.params, record) for record in status.mixing)
        if found.digest not in known:
            return []  # of no use any more, or never asked for
        if found.digest not in session.held:
            session.held.append(found.digest)
        return self._carrying.take_along(found.region, now_ns) + self.advance(found.region)

    def fetch(self, region: str, digest: Digest, holders: Sequence[str]) -> list[Action]:
        """Ask one device for an object; one at a time."""
        session = self.state.sessions[region]
        if session.fetching or not holders:
            return []
        session.fetching = digest
        return [self._send(region, holders[0], wire.Fetch(region=region, digest=digest), Lane.CONTROL)]

    # ------------------------------------------------------------------------------- the round

    def _model_objects(self, record: wire.ModelRecord) -> tuple[Digest, ...]:
        """What a device must hold of a model: in a mixing round also what a satellite may pick up."""
        if is_mixing_round(self.params, record.round):
            return tuple(dict.fromkeys((record.digest, carried_digest(self.params, record))))
        return (record.digest,)

    def advance(self, region: str) -> list[Action]:
        """Open the next round if it can be, and bring every device to the region's model."""
        session, params = self.state.sessions[region], self.params
        decision, reason = decide(params, region, session.statuses, session.base, self.state.carries)
        if decision is Decision.POLL:
            return []
        actions: list[Action] = []
        session.open = decision is Decision.OPEN
        if decision is Decision.STARVED and not session.starved:
            session.starved = True
            fields = {"region": region, "round": session.base.round + 1, "reason": reason}
            actions.append(Report("round_starved", Severity.WARNING_LO, fields))
        objects = self._model_objects(session.base)
        behind = [
            device
            for device in params.devices_of(region)
            if session.statuses[device].model.round < session.base.round
        ]
        missing = [digest for digest in objects if digest not in session.held]
        if behind and missing:
            holders = [device for device in params.devices_of(region) if device not in behind]
            actions += self.fetch(region, missing[0], holders)
        for device in params.devices_of(region):
            lacks = device in behind and device not in session.updated
            opens = session.open and device not in session.opened
            if (lacks and missing) or not (lacks or opens):
                continue
            if lacks:
                session.updated.append(device)
            if opens:
                session.opened.append(device)
            message = wire.Model(record=session.base, opens_round=session.open)
            actions.append(self._send(region, device, message, Lane.UPDATE, objects if lacks else ()))
        return actions

    def _collect(self, device: str, update: wire.Update) -> list[Action]:
        region, params = update.region, self.params
        # `get` of a protobuf map would make a session where there is none.
        serving = region in self.state.sessions
        session = self.state.sessions[region] if serving else wire.Session()
        fields = {
            "region": region,
            "round": update.round,
            "digest": update.digest,
            "device": device,
        }
        if not session.HasField("base") or update.round <= session.base.round:
            return [Report("update_late", Severity.WARNING_LO, fields)]
        if device in session.accepted:
            return [Report("update_duplicate", Severity.ACTIVITY_LO, fields)]
        if device in session.refused:
            return [Report("update_refused", Severity.WARNING_LO, {**fields, "reason": "refused before"})]
        session.accepted[device].CopyFrom(update)
        actions: list[Action] = [Report("update_accepted", Severity.ACTIVITY_LO, fields)]
        self._see(region, session.base.round)
        actions += self._carrying.drop(region)
        if set(session.accepted) == set(params.devices_of(region)):
            actions += self._aggregate(region)
        return actions

    def _aggregate(self, region: str) -> list[Action]:
        """Eq. (2): the weighted mean in the order of device names, mixed where the round is one of mixing."""
        session, params = self.state.sessions[region], self.params
        round_number = session.base.round + 1
        devices = sorted(session.accepted)
        inputs = {f"update/{n}": session.accepted[device].digest for n, device in enumerate(devices)}
        job_params: dict[str, object] = {
            "n_samples": [session.accepted[device].samples for device in devices]
        }
        wanted = carried_round(params, round_number)
        carry = None if wanted is None else find_carry(params, region, wanted, self.state.carries)
        if carry is not None:
            inputs["carried"] = carry.digest
            job_params["alpha"] = params.alpha
        session.job = f"aggregate/{region}/{round_number}"
        return [StartJob(session.job, "aggregate", job_params, inputs, params.aggregate_ns)]

    def _aggregated(self, job: str, outputs: Mapping[str, Digest], now_ns: int) -> list[Action]:
        region = next((name for name, session in self.state.sessions.items() if session.job == job), None)
        if region is None:
            return []
        session, params = self.state.sessions[region], self.params
        round_number = session.base.round + 1
        wanted = carried_round(params, round_number)
        carry = None if wanted is None else find_carry(params, region, wanted, self.state.carries)
        parents = [session.base.digest] + ([carry.digest] if carry is not None else [])
        record = wire.ModelRecord(
            region=region,
            round=round_number,
            digest=outputs["model"],
            pre_digest=outputs.get("pre", outputs["model"]),
            parents=parents,
            contributors=[
                wire.Contribution(device=device, round=round_number, samples=session.accepted[device].samples)
                for device in sorted(session.accepted)
            ],
            satellite=self.name,
            created_ns=now_ns,
        )
        actions: list[Action] = self._report_model(record, carry)
        # The carried model stays until a device is known to have the mixed one: if the service ends before,
        # the round is collected once more.
        fresh = wire.Session(start_ns=session.start_ns, end_ns=session.end_ns, base=record)
        for name, answer in session.statuses.items():
            fresh.statuses[name].CopyFrom(answer)
        fresh.held.extend(dict.fromkeys((record.digest, record.pre_digest)))
        session.CopyFrom(fresh)
        return actions + self._carrying.take_along(region, now_ns) + self.advance(region)

    def _report_model(self, record: wire.ModelRecord, carry: wire.Carry | None) -> list[Action]:
        fields = {
            "region": record.region,
            "round": record.round,
            "digest": record.digest,
            "pre": record.pre_digest,
            "parents": list(record.parents),
            "contributors": [[part.device, part.round, part.samples] for part in record.contributors],
        }
        objects = tuple(dict.fromkeys((record.digest, record.pre_digest)))
        actions: list[Action] = [Report("aggregated", Severity.ACTIVITY_HI, fields, objects)]
        if carry is not None:
            mixed = {
                "region": record.region,
                "round": record.round,
                "digest": carry.digest,
                "source": carry.record.region,
                "source_round": carry.record.round,
                "satellite": self.name,
            }
            actions.append(Report("carry_mixed", Severity.ACTIVITY_HI, mixed))
        return actions

    def _not_aggregated(self, job: str, reason: str) -> list[Action]:
        """Put aside the update that the worker blames; its region waits for the next service otherwise."""
        for region, session in self.state.sessions.items():
            if session.job != job:
                continue
            session.ClearField("job")
            blamed = [
                device
                for n, device in enumerate(sorted(session.accepted))
                if f"update/{n}:" in reason or f"update/{n} " in reason
            ]
            actions: list[Action] = []
            for device in blamed[:1]:
                fields = {
                    "region": region,
                    "round": session.base.round + 1,
                    "device": device,
                    "digest": session.accepted[device].digest,
                    "reason": reason,
                }
                del session.accepted[device]
                session.refused.append(device)
                actions.append(Report("update_refused", Severity.WARNING_HI, fields))
            return actions
        return []

    # ------------------------------------------------------------------------------------ losses

    def _lost(self, digest: Digest) -> list[Action]:
        """Forget what is gone; a service that was at work on it begins anew, by polling."""
        actions: list[Action] = [Report("object_lost", Severity.WARNING_HI, {"digest": digest})]
        targets = {carry.target for carry in self.state.carries if carry.digest == digest}
        kept = [carry for carry in self.state.carries if carry.digest != digest]
        del self.state.carries[:]
        self.state.carries.extend(kept)
        for region in sorted(self.state.sessions):
            session = self.state.sessions[region]
            accepted = {update.digest for update in session.accepted.values()}
            if digest not in accepted and digest not in session.held and region not in targets:
                continue
            if session.job:
                actions.append(CancelJob(session.job))
            session.CopyFrom(wire.Session(start_ns=session.start_ns, end_ns=session.end_ns))
            for device in self.params.devices_of(region):
                if device in self._contacts:
                    actions += self._poll(region, device)
        return actions
