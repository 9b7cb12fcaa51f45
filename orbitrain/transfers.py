"""What is under way on a node, as its operator is shown it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from orbitrain.contacts.plan import ContactPlan
from orbitrain.machine import Digest
from orbitrain.mailbox import Letter
from orbitrain.protocols.bundles import ROLE, bundles_held
from orbitrain.transport.expected import Expected
from orbitrain.v1 import operator_pb2 as wire


def listed(
    plan: ContactPlan,
    node: str,
    now_ns: int,
    outgoing: Iterable[wire.Transfer],
    incoming: Iterable[wire.Transfer],
) -> wire.TransferList:
    """Transfers with the contact that each waits for, or is in, by the plan that the node believes."""
    transfers = [*outgoing, *incoming]
    windows = {one.peer: plan.windows(node, one.peer) if one.peer else () for one in transfers}
    for one in transfers:
        waited = next((window for window in windows[one.peer] if window[1] > now_ns), None)
        if waited is not None:
            one.contact_start_ns, one.contact_end_ns = waited
    transfers.sort(key=lambda one: (not one.outgoing, one.peer, one.lane, one.role, one.key, one.digest))
    return wire.TransferList(now_ns=now_ns, transfers=transfers)


def outgoing(
    letters: Iterable[Letter], lacking: Mapping[tuple[str, Digest], int], bundles: bytes
) -> Iterator[wire.Transfer]:
    """Letters with objects; `lacking` are the bytes that a peer is known to lack of an object.

    `bundles` is the snapshot of the custodian: files that have no route have no letter either.
    """
    held = bundles_held(bundles)
    destinations = {(ROLE, each.key): each.bundle.destination for each in held if each.key}
    for letter in letters:
        destination = destinations.get((letter.sender_role, letter.key), "")
        # A file stays in custody until its peer has said what became of a letter that was taken back.
        if not letter.objects or (letter.cancelled is not None and not destination):
            continue
        known = [lacking.get((letter.destination, digest)) for digest, _ in letter.objects]
        size = sum(nbytes for _, nbytes in letter.objects)
        done = -1 if None in known else size - sum(nbytes for nbytes in known if nbytes is not None)
        yield wire.Transfer(
            outgoing=True,
            peer=letter.destination,
            role=letter.role,
            lane=letter.lane,
            key=letter.key,
            size=size,
            done=done,
            expires_at_ns=letter.expires_at_ns,
            destination=destination,
        )
    for each in held:
        if not each.key:
            yield wire.Transfer(
                outgoing=True,
                role=ROLE,
                lane=each.bundle.lane,
                key=each.bundle.name,
                size=each.bundle.size,
                expires_at_ns=each.bundle.expires_at_ns,
                destination=each.bundle.destination,
            )


def incoming(
    parts: Iterable[tuple[Digest, int, int]], letters: Iterable[tuple[Digest, Expected]]
) -> Iterator[wire.Transfer]:
    """Partial objects, as (digest, bytes, bytes on disk), with the letters that they are expected for."""
    waiting: dict[Digest, list[Expected]] = {}
    for digest, letter in letters:
        waiting.setdefault(digest, []).append(letter)
    for digest, size, done in parts:
        if digest not in waiting:
            yield wire.Transfer(digest=digest, size=size, done=done)
        for letter in waiting.get(digest, ()):
            yield wire.Transfer(
                peer=letter.source,
                role=letter.role,
                lane=letter.lane,
                digest=digest,
                size=size,
                done=done,
                expires_at_ns=letter.expires_at_ns,
            )
