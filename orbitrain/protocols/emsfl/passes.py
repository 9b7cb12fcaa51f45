"""The satellite's passes: who is in contact, what is waited for, models down, and the end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from orbitrain.machine import Action, Lane, Report, Send, Severity
from orbitrain.protocols.emsfl.checks import loaded_items, sent_objects
from orbitrain.protocols.emsfl.rules import Clock, Decision, first_step, second_step
from orbitrain.protocols.emsfl.terms import DEVICE_ROLE, Shared, expiry_ns, once, owned
from orbitrain.v1 import emsfl_pb2 as wire

if TYPE_CHECKING:
    from orbitrain.protocols.emsfl.satellite import Satellite


class Passes:
    """Of one satellite, in whose state they are."""

    def __init__(self, satellite: Satellite) -> None:
        self._of = satellite

    # ---------------------------------------------------------------------------------- contacts

    def _guest(self, device: str) -> tuple[str, wire.Session, wire.Guest]:
        """In the pass of its cluster, which begins if there is none. RemoteProtocolError for no device."""
        name = self._of.params.cluster_of(device).name
        if name not in self._of.state.sessions:
            session = self._of.state.sessions[name]
            session.begun_ns = session.heard_ns = self._of.now_ns
        session = self._of.state.sessions[name]
        return name, session, session.guests[device]

    def _is_device(self, peer: str) -> bool:
        return any(peer in cluster.devices for cluster in self._of.params.clusters)

    def meet(self, peer: str, end_ns: int | None) -> None:
        """A contact began, or goes on after this node was away."""
        if not self._is_device(peer):
            return
        self._of.contacts[peer] = end_ns or 0
        name, _, guest = self._guest(peer)
        guest.there = True
        self._bound(name)

    def leave(self, peer: str) -> None:
        self._of.contacts.pop(peer, None)
        for name, session in self._of.state.sessions.items():
            if peer in session.guests:
                session.guests[peer].there = False
                self._bound(name)

    def follow(self) -> None:
        """By an updated plan contacts may end at another time."""
        if self._of.windows is None:
            return
        for peer in self._of.contacts:
            self._of.contacts[peer] = self._of.windows.end_ns(peer, self._of.now_ns) or 0
        for name in self._of.state.sessions:
            self._bound(name)

    def _bound(self, name: str) -> None:
        """When the pass ends, from what is known of its contacts: with the last of them."""
        of = self._of
        ends_ns = [
            of.contacts[peer] for peer in of.params.cluster_of_name(name).devices if peer in of.contacts
        ]
        if ends_ns:
            of.state.sessions[name].end_ns = max(ends_ns) if all(ends_ns) else 0

    def part(self) -> None:
        """Contacts that ended while this node was away: they did not begin anew in time."""
        for session in self._of.state.sessions.values():
            if self._of.now_ns >= self._unsure_until_ns(session):
                for device, guest in session.guests.items():
                    guest.there = guest.there and device in self._of.contacts

    def _unsure_until_ns(self, session: wire.Session) -> int:
        """Until then a contact that was there before this node was away may go on."""
        known_ns = max(session.heard_ns, self._of.back_ns or 0)
        return session.end_ns or known_ns + self._of.params.pace.wait_ns

    # ---------------------------------------------------------------------------------- messages

    def greeted(self, device: str, hello: wire.Hello) -> None:
        _, session, guest = self._guest(device)
        session.heard_ns = self._of.now_ns
        guest.there = guest.heard = True
        guest.ready = hello.ready
        guest.held.clear()
        guest.held.MergeFrom(hello.held)
        session.is_cycle = session.is_cycle or self._of.is_training
        has_lost = hello.model < guest.model and device not in self._of.state.letters
        # A letter whose steps came to nothing may not have ended here.
        if guest.model and (has_lost or (guest.stepped and hello.failed == guest.stepped)):
            _is_to_get(guest)

    def uploaded(self, device: str, model: int, taken: int) -> None:
        name = self._of.params.cluster_of(device).name
        if name not in self._of.state.sessions:
            return
        _, session, guest = self._guest(device)
        guest.came = True
        if self._of.params.synchronous and model == guest.model:
            guest.answered = True
        session.uploads += bool(taken)
        if taken and not session.first_ns:
            session.first_ns = self._of.now_ns

    def answered(self, device: str, model: int) -> tuple[wire.Session | None, str]:
        """The pass in which an answer to a model counts, or why it does not."""
        name = self._of.params.cluster_of(device).name
        sessions = self._of.state.sessions
        if name not in sessions or device not in sessions[name].guests:
            return None, "its pass is over"
        session = sessions[name]
        guest = session.guests[device]
        if model != guest.model or not guest.asked:
            return None, "it is from another model than this pass gave out"
        if session.gated or session.answers or guest.answered:
            return None, "the gate has been merged"
        guest.answered = True
        if not session.first_ns:
            session.first_ns = self._of.now_ns
        return session, ""

    def ended(self, key: str) -> None:
        """A model's letter has ended."""
        letters = self._of.state.letters
        for device in [device for device, last in letters.items() if last == key]:
            del letters[device]

    # ---------------------------------------------------------------------------------- the steps

    def _clock(self, session: wire.Session) -> Clock:
        return Clock(self._of.now_ns, session.begun_ns, session.first_ns, session.end_ns)

    def _first(self, name: str) -> Decision:
        of = self._of
        members = {
            device: of.state.members[device]
            for device in of.params.cluster_of_name(name).devices
            if device in of.state.members
        }
        session = of.state.sessions[name]
        received = len(of.received(name))
        return first_step(of.params, session, members, received, self._clock(session))[0]

    def _second(self, name: str) -> Decision:
        of = self._of
        session = of.state.sessions[name]
        return second_step(of.params, session, len(of.answers(name)), self._clock(session))[0]

    @property
    def is_merging(self) -> bool:
        """Updates of experts are being merged, or wait for the last to come."""
        of = self._of
        return of.is_training and any(
            session.job or (of.received(name) and self._first(name) in (Decision.WAIT, Decision.MERGE))
            for name, session in of.state.sessions.items()
        )

    def anew(self) -> None:
        """Experts have been given out: whoever is in contact gets a model of this epoch."""
        for session in self._of.state.sessions.values():
            for guest in session.guests.values():
                _is_to_get(guest)

    def advance(self, name: str) -> list[Action]:
        """Do what can be done in a pass now."""
        of = self._of
        session = of.state.sessions[name]
        if session.job:
            return []
        actions = self._fetch(session)
        if of.is_training:
            first = self._first(name)
            if first is Decision.MERGE:
                return actions + of.commits.start(name, answers=False)
            if first is not Decision.WAIT:
                actions += self._give(name)
                if self._second(name) is Decision.MERGE:
                    return actions + of.commits.start(name, answers=True)
        is_over = of.now_ns >= session.end_ns  # a contact may come back before: a peer was restarted
        if is_over and not any(guest.there for guest in session.guests.values()):
            actions += self._close(name)
        return actions

    def _give(self, name: str) -> list[Action]:
        """Models to those who have none of this pass, and no update that is still to come."""
        session = self._of.state.sessions[name]
        actions: list[Action] = []
        for device, guest in sorted(session.guests.items()):
            if guest.there and guest.heard and not guest.model and (guest.came or not guest.ready):
                actions += self._model(name, device, guest)
        return actions

    def _model(self, name: str, device: str, guest: wire.Guest) -> list[Action]:
        of, params = self._of, self._of.params
        owners, cycle = of.ownership.owners, of.cycle(name)
        tuned = params.is_tuned(cycle)
        shared = params.work.shared
        gate = params.synchronous or tuned or shared is not Shared.NONE
        masked = bool(params.work.masked and not params.synchronous and not tuned and owned(owners, name))
        model = wire.Model(
            number=of.state.edition,
            epoch=of.state.epoch,
            cycle=cycle,
            owners=owners,
            gate=gate,
            backbone=shared is Shared.GATE_AND_BACKBONE,
            masked=masked,
        )
        for item in loaded_items(params, owners, name, masked):
            stands = of.state.items[item]
            if stands.lost:
                return []
            model.items[item].CopyFrom(stands.version)
            if stands.step and item in guest.held and guest.held[item] == stands.version.number - 1:
                model.steps[item] = stands.step
        guest.model, guest.asked, guest.answered = model.number, gate, False
        guest.stepped = model.number if model.steps else 0
        for item in sorted(set(guest.held) - set(model.items)):
            del guest.held[item]  # it is left behind when this model is adopted
        of.state.sessions[name].is_cycle = True
        key = of.key(f"model/{device}")
        before = of.state.letters.get(device)
        of.state.letters[device] = key
        objects = sent_objects(model)
        return [
            Send(
                device, DEVICE_ROLE, key, model, Lane.UPDATE, objects, self._expires_ns(device, name), before
            )
        ]

    def gate(self, name: str, items: list[str]) -> list[Action]:
        """Gate, and backbone, as committed, to those in contact."""
        of = self._of
        message = wire.Gate()
        for item in sorted(items):
            message.items[item].CopyFrom(of.state.items[item].version)
        objects = once(message.items[item].digest for item in sorted(items))
        return [
            Send(
                device,
                DEVICE_ROLE,
                of.key(f"gate/{device}"),
                message,
                Lane.UPDATE,
                objects,
                self._expires_ns(device, name),
            )
            for device, guest in sorted(of.state.sessions[name].guests.items())
            if guest.there and guest.model
        ]

    def _expires_ns(self, device: str, name: str) -> int:
        """With the contact."""
        end_ns = self._of.contacts.get(device, self._of.state.sessions[name].end_ns)
        return expiry_ns(end_ns, self._of.now_ns)

    def _fetch(self, session: wire.Session) -> list[Action]:
        """Ask those in contact for items that are lost here, each once in a pass."""
        of = self._of
        actions: list[Action] = []
        for item in sorted(name for name, item in of.state.items.items() if item.lost):
            for device, guest in sorted(session.guests.items()):
                if guest.there and guest.heard and item not in guest.fetched:
                    guest.fetched.append(item)
                    message = wire.Fetch(item=item, digest=of.state.items[item].version.digest)
                    name = of.params.cluster_of(device).name
                    key, expires_ns = of.key(f"fetch/{device}"), self._expires_ns(device, name)
                    actions.append(Send(device, DEVICE_ROLE, key, message, Lane.CONTROL, (), expires_ns))
        return actions

    # ------------------------------------------------------------------------------------ the end

    def _close(self, name: str) -> list[Action]:
        of, state = self._of, self._of.state
        session = state.sessions[name]
        heard = {device for device, guest in session.guests.items() if guest.heard}
        fields = {
            "cluster": name,
            "cycle": of.cycle(name),
            "uploads": session.uploads,
            "gate": session.tuned,
        }
        actions: list[Action] = [
            of.refused(entry.device, entry.item, "it was not merged in its pass") for entry in session.shared
        ]
        is_cycle = session.is_cycle
        del state.sessions[name]
        if not heard:
            return actions
        for device in of.params.cluster_of_name(name).devices:
            if device in state.members:
                state.members[device].missing = device not in heard
        if not is_cycle or not of.is_training:
            return actions
        state.edition += 1  # what the next pass gives out may differ in what is to be trained
        state.clusters[name].passes += 1
        actions.append(Report("pass_ended", Severity.ACTIVITY_HI, fields))
        if all(standing.passes >= of.params.work.cycles for standing in state.clusters.values()):
            state.finished = True
            actions.append(Report("finished", Severity.ACTIVITY_HI, {"cycles": of.params.work.cycles}))
        return actions

    def instants(self) -> Iterator[int]:
        """When `part` or `advance` may do more."""
        pace = self._of.params.pace
        for session in self._of.state.sessions.values():
            yield (session.first_ns or session.begun_ns) + pace.wait_ns
            if session.end_ns:
                yield session.end_ns - pace.margin_ns
                yield session.end_ns
            if any(
                guest.there and device not in self._of.contacts for device, guest in session.guests.items()
            ):
                yield self._unsure_until_ns(session)


def _is_to_get(guest: wire.Guest) -> None:
    """A model, whatever it was sent in this pass."""
    guest.model, guest.asked, guest.answered, guest.stepped = 0, False, False, 0
