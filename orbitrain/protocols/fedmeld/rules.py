"""The decisions of FedMeld as pure functions that also return why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import count
from typing import Any, Protocol

from orbitrain.machine import Digest, RemoteProtocolError
from orbitrain.v1 import fedmeld_pb2 as wire

SATELLITE_ROLE = "fedmeld.satellite"
DEVICE_ROLE = "fedmeld.device"

CARRIES_MAX = 16
"""Models a satellite carries at once: a few regions, each with the copy it is early for and the next."""

SAMPLES_MAX = 1_000_000_000
"""Samples a device may claim: keeps one peer from outweighing a region by an absurd count."""


class Service(Protocol):
    """One satellite's turn at a region: [start_ns, end_ns)."""

    @property
    def satellite(self) -> str: ...
    @property
    def start_ns(self) -> int: ...
    @property
    def end_ns(self) -> int: ...


class Carriage(Protocol):
    """A designation: who picks up where, and delivers where."""

    @property
    def satellite(self) -> str: ...
    @property
    def pickup(self) -> Service: ...
    @property
    def delivery(self) -> Service: ...


class Orbits(Protocol):
    """What a role asks the contact plan. All are pure functions of it."""

    def serving(self, region: str, t_ns: int) -> Service | None:
        """The one satellite that serves the region at t."""
        ...

    def next_change_ns(self, region: str, t_ns: int) -> int | None:
        """The next instant after t at which `serving` answers otherwise."""
        ...

    def next_service(self, region: str, satellite: str, t_ns: int) -> Service | None:
        """The satellite's service of the region in progress at t, or its next."""
        ...

    def carrier(self, source: str, target: str, ready_ns: int) -> Carriage | None:
        """The earliest carriage of something that `source` has from `ready_ns` on."""
        ...


@dataclass(frozen=True, slots=True)
class Region:
    name: str
    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Params:
    """`regions` in ring order: each melds the model of the one before it.

    `delta`: rounds between mixings, and the lag of what is mixed. `alpha`: weight of the carried model.
    `carry`: "post" carries the model after mixing, "pre" the aggregate before it. `initial` is the digest of
    the common first model. `task` is handed to training jobs as it is.
    """

    regions: tuple[Region, ...]
    rounds: int
    delta: int
    alpha: float
    carry: str
    seed: int
    train_ns: int
    aggregate_ns: int
    initial: Digest
    task: Mapping[str, Any]

    def devices_of(self, region: str) -> tuple[str, ...]:
        """Raises RemoteProtocolError for a region that is not in the ring."""
        for candidate in self.regions:
            if candidate.name == region:
                return candidate.devices
        raise RemoteProtocolError(f"there is no region {region[:64]!r}")

    def _neighbour(self, region: str, step: int) -> str | None:
        names = [candidate.name for candidate in self.regions]
        return None if len(names) == 1 else names[(names.index(region) + step) % len(names)]

    def upstream(self, region: str) -> str | None:
        return self._neighbour(region, -1)

    def downstream(self, region: str) -> str | None:
        return self._neighbour(region, +1)


def initial_record(params: Params, region: str) -> wire.ModelRecord:
    """Round 0: the common initial model."""
    return wire.ModelRecord(region=region, round=0, digest=params.initial, pre_digest=params.initial)


def is_mixing_round(params: Params, round_number: int) -> bool:
    """I_dE of eq. (2), in rounds: the rounds at which a model is taken along, and all but the first mix."""
    return len(params.regions) > 1 and round_number > 0 and round_number % params.delta == 0


def carried_round(params: Params, round_number: int) -> int | None:
    """The upstream round whose model is mixed at this round, if any (eq. (2): lag delta)."""
    if is_mixing_round(params, round_number) and round_number >= 2 * params.delta:
        return round_number - params.delta
    return None


def carried_digest(params: Params, record: wire.ModelRecord) -> Digest:
    """What of a mixing round's model is carried: c of eq. (2)."""
    return record.digest if params.carry == "post" else record.pre_digest


class Decision(StrEnum):
    POLL = "poll"
    FINISHED = "finished"
    STARVED = "starved"
    OPEN = "open"


def newest(records: Iterable[wire.ModelRecord]) -> wire.ModelRecord:
    """The region's model: the highest round any of its devices has adopted."""
    return max(records, key=lambda record: (record.round, record.digest))


def decide(
    params: Params,
    region: str,
    statuses: Mapping[str, wire.Status],
    base: wire.ModelRecord | None,
    carries: Sequence[wire.Carry],
) -> tuple[Decision, str]:
    """What a serving satellite does next, and why. `base` is the newest model it knows, if any."""
    silent = [device for device in params.devices_of(region) if device not in statuses]
    if silent or base is None:
        return Decision.POLL, f"no answer yet from {', '.join(silent)}"
    if base.round >= params.rounds:
        return Decision.FINISHED, f"round {base.round} of {params.rounds} is done"
    wanted = carried_round(params, base.round + 1)
    if wanted is not None and find_carry(params, region, wanted, carries) is None:
        upstream = params.upstream(region)
        return Decision.STARVED, f"round {base.round + 1} mixes round {wanted} of {upstream}, not on board"
    return Decision.OPEN, f"round {base.round + 1}"


def find_carry(
    params: Params, region: str, round_number: int, carries: Sequence[wire.Carry]
) -> wire.Carry | None:
    """The carried model of `round_number` of the region upstream."""
    for carry in carries:
        if (
            carry.target == region
            and carry.record.region == params.upstream(region)
            and carry.record.round == round_number
        ):
            return carry
    return None


def designated(
    params: Params, orbits: Orbits, record: wire.ModelRecord, now_ns: int
) -> tuple[str | None, str]:
    """The satellite that takes a mixing round's model along at this time, and why.

    The plan designates the one that reaches the next region first. Should it be lost, nobody can tell: so of
    the services that begin after its delivery, the one whose satellite arrives first takes a copy, and so on
    for as long as the region keeps the model. A satellite thus knows at the beginning of its service whether
    it is the one. Copies end at arrival.
    """
    target = params.downstream(record.region)
    if target is None:
        return None, "a single region mixes with nobody"
    if record.round + params.delta > params.rounds:
        return None, f"no round of {target} would mix it"
    carriage = orbits.carrier(record.region, target, record.created_ns)
    if carriage is None:
        return None, f"no satellite of the plan goes from {record.region} to {target}"
    why = "is the first to arrive"
    for copy in count(2):
        delivered_ns = carriage.delivery.end_ns
        going_on = orbits.serving(record.region, delivered_ns)
        following = orbits.carrier(
            record.region, target, delivered_ns if going_on is None else going_on.end_ns
        )
        if following is None or now_ns < following.pickup.start_ns:
            break
        carriage, why = following, f"carries copy {copy}"
    return carriage.satellite, f"{carriage.satellite} {why}"
