"""Letters and their objects over the simulator's links: what goes next, what arrives, what is answered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from orbitrain.flights import (
    Load,
    Passage,
    Piece,
    arrived_bytes,
    choose,
    chunk_of,
    chunk_passage,
    first_bytes,
    passage,
    reconsidered_ns,
    total_bytes,
)
from orbitrain.machine import Delivered, RemoteProtocolError
from orbitrain.mailbox import ENVELOPE_BYTES, Letter, Mark, Outcome, settle
from orbitrain.sim.node import Air, SimNode
from orbitrain.step import Arrival
from orbitrain.transport.expected import Expected

if TYPE_CHECKING:
    from orbitrain.sim.simulation import Simulation

RETRY_NS = 1_000_000_000
"""Scenario time until a letter whose answer did not come is tried again within a contact."""


class Letters:
    """Of all nodes of a simulation, over its true links."""

    def __init__(self, simulation: Simulation) -> None:
        self._sim = simulation

    def cut_off(self, node: SimNode, peer: str) -> None:
        """What is on the link to a peer ends here: what has come of it so far is there."""
        air, there = node.air[peer], self._sim.nodes[peer]
        if there.core is None or air.cut:
            return
        air.cut = True
        nbytes = arrived_bytes(self._sim.links, (node.name, peer), air.begun_ns, self._sim.now_ns)
        for piece in first_bytes(air.pieces, nbytes):
            there.shelf.take(piece.digest, piece.size, piece.end)

    def _lacking(self, node: SimNode, there: SimNode, letter: Letter) -> list[Piece]:
        """What of a letter's objects is neither at the peer nor on its way."""
        core = node.core
        assert core is not None
        if letter.cancelled is not None or letter.expires_at_ns <= self._sim.now_ns or not letter.objects:
            return []  # it is settled, not delivered
        named = (core.incarnation, letter.role, letter.lane, letter.sequence, letter.expires_at_ns)
        there.shelf.expected.expect(Expected(node.name, *named), [digest for digest, _ in letter.objects])
        life, sent = node.sent.get(there.name, (there.life, {}))
        pieces = []
        for digest, size in letter.objects:
            if digest not in there.shelf.holds:
                under_way = sent.get(digest, 0) if life == there.life else 0
                start = max(there.shelf.partial.get(digest, 0), under_way)
                pieces.append(Piece(digest, start, size, size))
        return pieces

    def pump(self, node: SimNode, peer: str) -> None:
        """Start what is to have the link to a peer in contact, if that is free."""
        if node.core is None or peer not in node.contacts or peer in node.air:
            return
        heads = node.core.outbox.heads(peer)
        if not heads:
            return  # which is so after most steps: the plan need not be asked
        ends, end_ns, handling_ns = (node.name, peer), node.contacts[peer], self._sim.settings.handling_ns
        contact = self._sim.links.active(*ends, self._sim.now_ns)
        if contact is None or self._sim.now_ns >= end_ns:
            return
        believed = self._sim.plan.active(*ends, self._sim.now_ns)
        lacking = [self._lacking(node, self._sim.nodes[peer], letter) for letter in heads]
        loads = [
            Load(ENVELOPE_BYTES + len(letter.body), total_bytes(pieces))
            for letter, pieces in zip(heads, lacking, strict=True)
        ]
        chosen = choose(loads, believed, self._sim.now_ns, handling_ns, chunk_of(contact, self._sim.now_ns))
        if chosen is None or chosen.index or not chosen.fits:
            again_ns = reconsidered_ns(believed, end_ns)
            if again_ns is not None:
                self._look_again(node, peer, again_ns)
        if chosen is None:
            return
        letter, pieces = heads[chosen.index], lacking[chosen.index]
        if chosen.ahead_bytes:
            self._launch_chunk(node, peer, letter, first_bytes(pieces, chosen.ahead_bytes))
            return
        size = loads[chosen.index].total_bytes
        course = passage(self._sim.links, ends, self._sim.now_ns, size, handling_ns, end_ns)
        doubted = node.core.outbox.is_in_doubt(letter.identity)
        node.air[peer] = Air(letter, tuple(pieces), self._sim.now_ns, with_letter=True, doubted=doubted)
        fields = {"to": peer, "class": contact.link_class, "bytes": size}
        self._launch(node, peer, letter, course, fields)

    def _look_again(self, node: SimNode, peer: str, t_ns: int) -> None:
        node.again[peer] = min(t_ns, node.again.get(peer, t_ns))
        self._sim.wake(node, t_ns)

    def _launch(
        self, node: SimNode, peer: str, letter: Letter, course: Passage, fields: Mapping[str, Any]
    ) -> None:
        assert node.core is not None
        node.core.outbox.attempted(letter.identity)
        life, there = node.life, self._sim.nodes[peer].life
        if course.arrives_ns is not None:
            pieces = node.air[peer].pieces
            self._sim.at(course.arrives_ns, lambda: self._receive(peer, there, node, life, letter, pieces))
        if course.answered_ns is not None:
            self._sim.at(course.answered_ns, lambda: self._answer(node, life, peer, letter, fields))

    def _launch_chunk(self, node: SimNode, peer: str, letter: Letter, pieces: tuple[Piece, ...]) -> None:
        """Objects go ahead of their letter; the link is free again once they are out."""
        air = Air(letter, pieces, self._sim.now_ns, with_letter=False, doubted=False)
        node.air[peer] = air
        ends, end_ns = (node.name, peer), node.contacts[peer]
        course = chunk_passage(self._sim.links, ends, self._sim.now_ns, total_bytes(pieces), end_ns)
        if course is None:
            return  # nobody can tell before the link is gone
        life, there = node.life, self._sim.nodes[peer].life
        self._sim.at(course[0], lambda: self._is_out(node, life, peer, there, air))
        self._sim.at(course[1], lambda: self._has_come(self._sim.nodes[peer], there, air))

    def _is_out(self, node: SimNode, life: int, peer: str, there: int, air: Air) -> None:
        if node.life != life or node.air.get(peer) is not air:
            return
        del node.air[peer]
        known, sent = node.sent.get(peer, (there, {}))
        if known != there:
            sent = {}
        node.sent[peer] = (there, sent)
        for piece in air.pieces:
            sent[piece.digest] = max(piece.end, sent.get(piece.digest, 0))
        self._look_again(node, peer, self._sim.now_ns)

    def _has_come(self, node: SimNode, life: int, air: Air) -> None:
        if node.core is not None and node.life == life and not air.cut:
            for piece in air.pieces:
                node.shelf.take(piece.digest, piece.size, piece.end)

    def _receive(
        self,
        name: str,
        there: int,
        sender: SimNode,
        life: int,
        letter: Letter,
        pieces: Iterable[Piece],
    ) -> None:
        """A letter has arrived, after its objects. Known ones are answered by their mark, which is there."""
        node = self._sim.nodes[name]
        if node.core is None or node.life != there or sender.core is None or sender.life != life:
            return
        for piece in pieces:
            node.shelf.take(piece.digest, piece.size, piece.end)
        mailbox = (sender.name, sender.core.incarnation, letter.role, letter.lane)
        node.shelf.expected.settled((sender.name, letter.role, letter.lane), letter.sequence)
        if node.core.marks.find(mailbox, letter.sequence) is not None:
            return
        mark = Mark(*mailbox, letter.sequence, Outcome.DELIVERED)
        item = None
        if letter.cancelled is not None:
            mark = replace(mark, outcome=Outcome.CANCELLED)
        elif letter.expires_at_ns <= self._sim.now_ns:
            mark = replace(mark, outcome=Outcome.EXPIRED)
        else:
            digests = tuple(digest for digest, _ in letter.objects)
            try:
                message = node.core.decode(letter.role, letter.lane, letter.kind, letter.body)
                item = Delivered(sender.name, message, digests)
                node.shelf.put(digests)
            except RemoteProtocolError as error:
                mark = replace(mark, outcome=Outcome.REFUSED, reason=str(error))
        self._sim.arrive(
            node,
            Arrival(self._sim.now_ns, sender.name, letter.lane, letter.sequence, letter.role, item, mark),
        )

    def _answer(self, node: SimNode, life: int, peer: str, letter: Letter, fields: Mapping[str, Any]) -> None:
        """The receiver's answer is due: its mark, if it lived to commit one."""
        if node.core is None or node.life != life or peer not in node.air:
            return
        if node.air[peer].letter.identity != letter.identity:
            return
        del node.air[peer]
        receiver = self._sim.nodes[peer].core
        mailbox = (node.name, node.core.incarnation, letter.role, letter.lane)
        mark = None if receiver is None else receiver.marks.find(mailbox, letter.sequence)
        if mark is None:
            self._sim.at(self._sim.now_ns + RETRY_NS, lambda: self.pump(node, peer))
            return
        node.core.outbox.settling(letter.identity)
        current = node.core.outbox.find(letter.sender_role, letter.key) or letter
        self._sim.arrive(
            node,
            Arrival(
                self._sim.now_ns,
                peer,
                letter.lane,
                letter.sequence,
                letter.sender_role,
                settle(current, mark.outcome, mark.reason),
                settles=letter.identity,
                fields=fields,
            ),
        )
