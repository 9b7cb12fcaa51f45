"""What roles take from their peers: bounds of every field, before anything is changed.

Nothing that is kept of a message is larger than the clusters and the model make it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from google.protobuf.message import Message

from orbitrain.machine import Digest, RemoteProtocolError
from orbitrain.protocols.emsfl.terms import BACKBONE, GATE, Params, once, owned
from orbitrain.v1 import emsfl_pb2 as wire

SAMPLES_MAX = 1_000_000_000
"""Samples a device may claim: keeps one peer from outweighing a cluster by an absurd count."""

DIGEST_LENGTH = 64


def check_at_satellite(
    params: Params, state: wire.SatelliteState, source: str, message: Message, objects: tuple[Digest, ...]
) -> None:
    """Raises RemoteProtocolError for what no honest device sends. Fields unknown here are dropped."""
    message.DiscardUnknownFields()
    params.cluster_of(source)
    match message:
        case wire.Hello():
            _check_hello(params, state, message, objects)
        case wire.Upload():
            _check_between("epoch", message.epoch, 1, state.epoch)
            _check_between("model", message.model, 1, state.edition)
            _check_between("rounds", message.rounds, 1, params.pace.rounds_max)
            _check_between("samples", message.samples, 1, SAMPLES_MAX)
            allowed = (*params.experts, *(params.shared_items if params.synchronous else ()))
            _check_changes(message.changes, allowed, state, objects)
        case wire.Shared():
            _check_between("model", message.model, 1, state.edition)
            _check_between("samples", message.samples, 1, SAMPLES_MAX)
            _check_changes(message.changes, () if params.synchronous else params.shared_items, state, objects)
        case wire.Found():
            if message.item not in state.items:
                raise RemoteProtocolError(f"item: there is no {message.item[:64]!r}")
            if objects != (message.digest,):
                raise RemoteProtocolError("digest: must be that of the one object")


def _check_hello(
    params: Params, state: wire.SatelliteState, hello: wire.Hello, objects: tuple[Digest, ...]
) -> None:
    model = params.model
    _check_between("epoch", hello.epoch, 0, state.epoch)
    _check_between("model", hello.model, 0, state.edition)
    _check_held(params, state, hello)
    if objects:
        raise RemoteProtocolError(f"objects: must be none, not {len(objects)}")
    if not hello.surveyed:
        if hello.counts or hello.samples:
            raise RemoteProtocolError("counts: must be none before they are made")
        return
    _check_between("samples", hello.samples, 0, SAMPLES_MAX)
    if len(hello.counts) != model.layers * model.experts:
        raise RemoteProtocolError(
            f"counts: must be {model.layers} times {model.experts}, not {len(hello.counts)}"
        )
    if any(not 0 <= count <= hello.samples for count in hello.counts):
        raise RemoteProtocolError(f"counts: must each be 0 to {hello.samples}")
    for layer in range(model.layers):
        total = sum(hello.counts[layer * model.experts : (layer + 1) * model.experts])
        if total != hello.samples * model.top_k:
            raise RemoteProtocolError(
                f"counts: must be {model.top_k} for each of {hello.samples} samples, not {total} in all"
            )


def _check_held(params: Params, state: wire.SatelliteState, hello: wire.Hello) -> None:
    if params.work.rank is None and (hello.held or hello.failed):
        raise RemoteProtocolError("held, failed: must be none without a rank")
    _check_between("failed", hello.failed, 0, state.edition)
    for item in sorted(hello.held):
        if item not in params.experts:
            raise RemoteProtocolError(f"held: {item[:64]!r} is no expert")
        _check_between("held", hello.held[item], 0, state.items[item].version.number)


def _check_changes(
    changes: Sequence[wire.Change],
    allowed: Sequence[str],
    state: wire.SatelliteState,
    objects: tuple[Digest, ...],
) -> None:
    _check_between("changes", len(changes), 1, max(1, len(allowed)))
    items = [change.item for change in changes]
    for item in items:
        if item not in allowed:
            raise RemoteProtocolError(f"item: {item[:64]!r} is none that is sent so")
    if len(set(items)) < len(items):
        raise RemoteProtocolError("item: must be there once")
    for change in changes:
        _check_between("base", change.base, 0, state.items[change.item].version.number)
        _check_digest(change.digest)
    if objects != once(change.digest for change in changes):
        raise RemoteProtocolError("digest: must be those of the objects, in their order")


def check_at_device(
    params: Params,
    name: str,
    state: wire.DeviceState,
    source: str,
    message: Message,
    objects: tuple[Digest, ...],
) -> None:
    """Raises RemoteProtocolError for what the satellite would not send. Fields unknown here are dropped."""
    message.DiscardUnknownFields()
    if source != params.satellite:
        raise RemoteProtocolError(f"source: must be {params.satellite}, not {source[:64]}")
    match message:
        case wire.Model():
            _check_model(params, name, state, message)
            _check_steps(params, message)
            _check_versions(message.items, state)
            _check_objects(objects, sent_objects(message))
        case wire.Gate():
            unknown = sorted(set(message.items) - set(params.shared_items))
            if unknown or not message.items:
                raise RemoteProtocolError(
                    f"items: must be some of {', '.join(params.shared_items) or 'none'}"
                )
            if not state.adopted.number:
                raise RemoteProtocolError("items: must come after a model")
            _check_versions(message.items, state)
            _check_objects(objects, once(message.items[item].digest for item in sorted(message.items)))
        case wire.Fetch():
            if objects:
                raise RemoteProtocolError(f"objects: must be none, not {len(objects)}")
            here = state.adopted.items
            if message.item not in here or here[message.item].digest != message.digest:
                raise RemoteProtocolError(f"item: this {message.item[:64]!r} is not here")


def loaded_items(params: Params, owners: Sequence[str], cluster: str, masked: bool) -> tuple[str, ...]:
    """What a device of the cluster loads, ascending."""
    experts = owned(owners, cluster) if masked else params.experts
    return tuple(sorted((BACKBONE, GATE, *experts)))


def sent_objects(model: wire.Model) -> tuple[Digest, ...]:
    """That go with a model: of each item its step, where there is one, else the item."""
    return once(model.steps.get(item, model.items[item].digest) for item in sorted(model.items))


def _check_model(params: Params, name: str, state: wire.DeviceState, model: wire.Model) -> None:
    cluster = params.cluster_of(name).name
    known = state.arriving if state.arriving.number else state.adopted
    if model.number < max(1, known.number):
        raise RemoteProtocolError(f"number: must be {max(1, known.number)} or more, not {model.number}")
    if model.epoch < max(1, known.epoch):
        raise RemoteProtocolError(f"epoch: must be {max(1, known.epoch)} or more, not {model.epoch}")
    if model.cycle < 1:
        raise RemoteProtocolError(f"cycle: must be 1 or more, not {model.cycle}")
    if len(model.owners) != params.model.experts:
        raise RemoteProtocolError(f"owners: must be {params.model.experts}, not {len(model.owners)}")
    names = {"", *(one.name for one in params.clusters)}
    for owner in model.owners:
        if owner not in names:
            raise RemoteProtocolError(f"owners: there is no cluster {owner[:64]!r}")
    if model.epoch == known.epoch and model.owners != known.owners:
        raise RemoteProtocolError(f"owners: others are known of epoch {model.epoch}")
    if (model.gate and GATE not in params.shared_items) or (
        model.backbone and BACKBONE not in params.shared_items
    ):
        raise RemoteProtocolError("gate, backbone: must not be trained")
    if model.masked and (params.synchronous or not owned(model.owners, cluster)):
        raise RemoteProtocolError("masked: must be unset without own experts")
    wanted = loaded_items(params, model.owners, cluster, model.masked)
    if tuple(sorted(model.items)) != wanted:
        raise RemoteProtocolError(f"items: must be {', '.join(wanted)[:80]}")


def _check_steps(params: Params, model: wire.Model) -> None:
    if model.steps and params.work.rank is None:
        raise RemoteProtocolError("steps: must be none without a rank")
    for item in sorted(model.steps):
        if item not in params.experts or item not in model.items:
            raise RemoteProtocolError(f"steps: {item[:64]!r} is none that comes so")
        _check_digest(model.steps[item])
        if model.items[item].number < 1:
            raise RemoteProtocolError(f"steps: no step leads to version {model.items[item].number}")


def _check_versions(items: Mapping[str, wire.Version], state: wire.DeviceState) -> None:
    """Neither older than what is here or about to be, nor another of the same number."""
    for item in sorted(items):
        version = items[item]
        _check_digest(version.digest)
        if version.number < 0:
            raise RemoteProtocolError(f"{item}: version must be 0 or more, not {version.number}")
        for known in (state.adopted.items, state.arriving.items):
            if item not in known:
                continue
            before = known[item]
            if version.number < before.number:
                raise RemoteProtocolError(
                    f"{item}: version {version.number} is older than {before.number} here"
                )
            if version.number == before.number and version.digest != before.digest:
                raise RemoteProtocolError(f"{item}: another version {version.number} is here")


def _check_objects(objects: tuple[Digest, ...], wanted: tuple[Digest, ...]) -> None:
    if objects != wanted:
        raise RemoteProtocolError("items: must have their objects, in the order of their names")


def _check_between(what: str, number: int, least: int, most: int) -> None:
    if not least <= number <= most:
        raise RemoteProtocolError(f"{what}: must be {least} to {most}, not {number}")


def _check_digest(digest: str) -> None:
    if len(digest) != DIGEST_LENGTH:
        raise RemoteProtocolError(f"digest: must have {DIGEST_LENGTH} digits, not {len(digest)}")
