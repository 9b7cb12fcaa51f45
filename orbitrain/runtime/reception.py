"""What peers ask of a node over the link: its `LinkHandler`. Letters come in here and wait for a commit."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from orbitrain.contacts.contact import Contact
from orbitrain.machine import Delivered, RemoteProtocolError, Severity
from orbitrain.mailbox import Mark, Outcome
from orbitrain.runtime.clock import SECOND_NS
from orbitrain.step import Arrival, Step
from orbitrain.v1 import link_pb2 as wire

if TYPE_CHECKING:
    from orbitrain.runtime.driver import Driver

CLOCK_SLACK_S = 0.5
"""Wall seconds by which a peer may be early or late at the edges of a contact."""

REFUSALS_MAX = 1_000
"""Refusals of one caller that are reported in one life: a hostile peer must not fill the journal."""

INBOX_MAX = 10_000
"""Waiting inputs; beyond it peers are refused until the node has caught up."""

OUTCOMES = {
    Outcome.DELIVERED: wire.OUTCOME_DELIVERED,
    Outcome.REFUSED: wire.OUTCOME_REFUSED,
    Outcome.EXPIRED: wire.OUTCOME_EXPIRED,
    Outcome.CANCELLED: wire.OUTCOME_CANCELLED,
}


class Reception:
    """Admits callers by the plan that links follow, takes their letters, answers once they are committed.

    Where links are real, who comes through is in contact.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._answers: dict[tuple[tuple[str, str, str, int], int], asyncio.Future[Mark | None]] = {}
        """Of letters that wait for their step; None for one that it left alone."""
        self._refusals: Counter[str] = Counter()
        self.peers: Collection[str] = ()
        """Who may call at all."""

    def committed(self, step: Step) -> None:
        """Answer the letters that a step has settled, or left alone."""
        for mark in step.marks:
            self._answer(mark, mark)
        for mark in step.left_alone:
            self._answer(mark, None)

    def _answer(self, letter: Mark, known: Mark | None) -> None:
        answer = self._answers.pop((letter.mailbox, letter.sequence), None)
        if answer is not None and not answer.done():
            answer.set_result(known)

    def close(self) -> None:
        for answer in self._answers.values():
            answer.cancel()

    # ---------------------------------------------------------------------------------- LinkHandler

    def admits(self, source: str) -> str | None:
        """Why a caller is turned away, or None."""
        driver = self._driver
        if source not in self.peers:
            return f"{source[:64]!r} is not a peer of {driver.core.node}"
        if driver.draining:
            return f"{driver.core.node} is draining"
        if driver.inbox_length > INBOX_MAX:
            return f"{driver.core.node} has {INBOX_MAX} inputs waiting"
        if not driver.has_real_links and self._contact_from(source) is None:
            return f"the plan has no contact from {source} to {driver.core.node} now"
        return None

    def _contact_from(self, source: str) -> Contact | None:
        """The contact from a peer now, give or take what clocks may differ by."""
        driver = self._driver
        now_ns = driver.clock.now_ns()
        slack_ns = int(CLOCK_SLACK_S * driver.clock.rate * SECOND_NS)
        for instant in (now_ns, now_ns + slack_ns, now_ns - slack_ns):
            contact = driver.links.active(source, driver.core.node, instant)
            if contact is not None:
                return contact
        return None

    def refused(self, source: str, reason: str) -> None:
        """A caller was turned away. Of each caller the first REFUSALS_MAX are reported."""
        caller = source if source in self.peers else ""
        self._refusals[caller] += 1
        if self._refusals[caller] > REFUSALS_MAX:
            return
        fields = {"source": source[:64], "reason": reason[:500]}
        if self._refusals[caller] == REFUSALS_MAX:
            fields["reason"] = "more refusals of this caller are not reported"
        self._driver.note("message_refused", Severity.WARNING_LO, fields)

    async def ping(self, request: wire.PingRequest) -> wire.PingReply:
        driver = self._driver
        driver.contacts.reborn(request.source, request.incarnation)
        return wire.PingReply(
            node=driver.core.node, incarnation=driver.core.incarnation, now_ns=driver.clock.now_ns()
        )

    def make_room(self) -> None:
        """Of bytes that came for letters which have expired, none are kept when others need their place."""
        driver = self._driver
        now_ns = max(driver.clock.now_ns(), driver.latest_ns)
        driver.blobs.collect_partial(driver.blobs.expected(now_ns, linger_ns=0))

    def settles(self, letter: wire.Letter) -> bool:
        """Cancelled, or expired by the time it is due; over real links its sender's clock says so, as it has
        said to the sender."""
        return bool(letter.cancelled) or letter.expires_at_ns <= letter.due_ns

    async def deliver(self, letter: wire.Letter) -> wire.Receipt:
        """Answered once the step that consumed the letter is committed."""
        (receipt,) = await self.hand([letter])
        return receipt

    async def hand(self, letters: Sequence[wire.Letter]) -> list[wire.Receipt]:
        """Answered once the step that consumed the letters is committed; they are of one mailbox, in order.

        Only the end of the last letter of a mailbox is remembered, and that those before it were delivered.
        So the first that is not is the last that is taken: were the answer lost, its end could not be told
        again.
        """
        receipts: list[wire.Receipt] = []
        while not receipts:  # the first may have been left alone by the step of a call that the link cut
            waiting, refusal = self._take(letters)
            for answer in waiting:
                known = await asyncio.shield(answer)
                if known is None:
                    break
                receipts.append(self._receipt(OUTCOMES[known.outcome], known.reason))
                if known.outcome is not Outcome.DELIVERED:
                    break
            else:
                if refusal is not None:
                    # Refused by its form: no mark is needed to refuse it again.
                    self.refused(letters[0].source, refusal)
                    receipts.append(self._receipt(wire.OUTCOME_REFUSED, refusal))
        return receipts

    def _receipt(self, outcome: wire.Outcome, reason: str) -> wire.Receipt:
        return wire.Receipt(outcome=outcome, reason=reason, incarnation=self._driver.core.incarnation)

    def _take(self, letters: Sequence[wire.Letter]) -> tuple[list[asyncio.Future[Mark | None]], str | None]:
        """What tells how the letters end, in one step if they are new, up to one that is not delivered.

        And why the letter after those is refused, if that is for its form.
        """
        core, loop = self._driver.core, asyncio.get_running_loop()
        waiting: list[asyncio.Future[Mark | None]] = []
        for letter in letters:
            mailbox = (letter.source, letter.incarnation, letter.role, letter.lane)
            place = (mailbox, letter.sequence)
            answer = self._answers.get(place)
            # A mark whose answer still waits is not committed yet: wait with it.
            known = None if answer is not None else core.marks.find(mailbox, letter.sequence)
            if known is not None:
                answer = loop.create_future()
                answer.set_result(known)
            elif answer is None:
                try:
                    arrival = self._arrival(letter, mailbox)
                except RemoteProtocolError as error:
                    return waiting, str(error)
                known = arrival.mark
                answer = self._answers[place] = loop.create_future()
                arrival = replace(arrival, since=letters[0].sequence)
                if self._driver.has_real_links:
                    self._driver.take(arrival)
                else:
                    self._driver.arrive(arrival, "letter")
            waiting.append(answer)
            if known is not None and known.outcome is not Outcome.DELIVERED:
                break
        return waiting, None

    def _due_ns(self, letter: wire.Letter) -> int:
        """The modelled instant of a letter's arrival. Raises RemoteProtocolError."""
        contact = self._contact_from(letter.source)
        latest_ns = contact.end_ns if contact is not None else self._driver.clock.now_ns()
        if letter.due_ns > latest_ns:
            # What arrives does so within its contact; a letter that waits longer would only fill the inbox.
            raise RemoteProtocolError("a letter due after the end of its contact")
        return max(letter.due_ns, 0)

    def _arrival(self, letter: wire.Letter, mailbox: tuple[str, str, str, int]) -> Arrival:
        """Raises RemoteProtocolError for a letter that no machine here could read."""
        core = self._driver.core
        if letter.destination != core.node:
            raise RemoteProtocolError(f"a letter for {letter.destination[:64]!r}, this is {core.node}")
        message = core.decode(letter.role, letter.lane, letter.kind, letter.body)
        mark = Mark(*mailbox, letter.sequence, Outcome.DELIVERED)
        due_ns = self._driver.clock.now_ns() if self._driver.has_real_links else self._due_ns(letter)
        item = None
        if letter.cancelled:
            mark = replace(mark, outcome=Outcome.CANCELLED)
        elif letter.expires_at_ns <= letter.due_ns:
            mark = replace(mark, outcome=Outcome.EXPIRED)
        else:
            digests = tuple(name.digest for name in letter.objects)
            item = Delivered(letter.source, message, digests)
        return Arrival(due_ns, letter.source, letter.lane, letter.sequence, letter.role, item, mark)
