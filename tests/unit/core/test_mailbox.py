"""Mailboxes: letters end once, in order, and only he ends one who can know."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orbitrain.contacts.contact import Contact, Sample
from orbitrain.contacts.plan import ContactPlan, PlanNode
from orbitrain.flights import Passage, believed_end_ns, flight, is_begun, passage, reconsidered_ns
from orbitrain.machine import NEVER_NS, Acknowledged, Fate, Lane, LocalProtocolError, Undelivered
from orbitrain.mailbox import (
    Letter,
    Mark,
    Marks,
    Outbox,
    Outcome,
    settle,
)


def letter(
    key: str,
    sequence: int = 1,
    *,
    to: str = "far",
    role: str = "r",
    lane: Lane = Lane.CONTROL,
    expires_at_ns: int = NEVER_NS,
) -> Letter:
    return Letter("me", key, to, role, int(lane), sequence, "kind", b"", (), expires_at_ns)


def outbox(*letters: Letter) -> Outbox:
    box = Outbox()
    for one in letters:
        box.post(one)
    return box


def test_the_letters_of_a_mailbox_leave_one_at_a_time_and_in_order() -> None:
    box = outbox(letter("a", 1), letter("b", 2), letter("c", 3))
    order = []
    while heads := box.heads("far"):
        assert len(heads) == 1
        order.append(heads[0].key)
        box.remove(heads[0].identity)
    assert order == ["a", "b", "c"]


def test_lanes_share_a_contact_by_priority_and_roles_by_name() -> None:
    box = outbox(
        letter("bulk", lane=Lane.BULK),
        letter("update-z", role="z", lane=Lane.UPDATE),
        letter("update-a", role="a", lane=Lane.UPDATE),
        letter("control", lane=Lane.CONTROL),
        letter("elsewhere", to="other"),
    )
    assert [one.key for one in box.heads("far")] == ["control", "update-a", "update-z", "bulk"]


def test_a_letter_whose_end_waits_for_its_commit_is_not_tried_again_nor_overtaken() -> None:
    box = outbox(letter("a", 1), letter("b", 2))
    box.settling(letter("a", 1).identity)
    assert box.heads("far") == []


def test_a_mailbox_shows_its_letters_in_order_up_to_one_that_ends_here() -> None:
    box = outbox(*(letter(str(n), n) for n in range(1, 6)), letter("x", role="other"))
    box.attempted(letter("2", 2).identity)
    box.cancel(letter("2", 2).identity, Fate.WITHDRAWN)
    assert [each.key for each in box.queue(("far", "r", int(Lane.CONTROL)))] == ["1", "2", "3", "4", "5"]
    box.cancel(letter("4", 4).identity, Fate.WITHDRAWN)
    assert [each.key for each in box.queue(("far", "r", int(Lane.CONTROL)))] == ["1", "2", "3"]
    box.settling(letter("1").identity)
    assert list(box.queue(("far", "r", int(Lane.CONTROL)))) == []
    assert list(box.queue(("nobody", "r", 0))) == []


def test_a_mark_is_not_put_over_an_end_that_the_sender_may_not_know_of() -> None:
    def mark(sequence: int, outcome: Outcome = Outcome.DELIVERED, incarnation: str = "i") -> Mark:
        return Mark("far", incarnation, "r", 0, sequence, outcome)

    refused = mark(4, Outcome.REFUSED)
    assert Marks.forgets(refused, mark(5), 4) and Marks.forgets(refused, mark(6), 2)
    assert not Marks.forgets(refused, mark(5), 5)  # it comes after: the sender knows
    assert not Marks.forgets(mark(4), mark(5), 4)
    assert not Marks.forgets(refused, mark(5, incarnation="reborn"), 1)
    assert not Marks.forgets(None, mark(5), 1)


def test_numbers_go_on_within_a_mailbox_and_are_its_own() -> None:
    box = Outbox((), [("far", "r", int(Lane.CONTROL), 41)])
    assert box.next_sequence("far", "r", int(Lane.CONTROL)) == 42
    assert box.next_sequence("far", "r", int(Lane.BULK)) == 1
    box.post(letter("a", 42))
    box.remove(letter("a", 42).identity)
    assert box.next_sequence("far", "r", int(Lane.CONTROL)) == 43


def test_a_key_cannot_be_used_again_before_its_letter_has_ended() -> None:
    box = outbox(letter("a", 1))
    with pytest.raises(LocalProtocolError, match="a message with the key 'a' has not ended yet"):
        box.post(letter("a", 2))
    box.post(replace(letter("a", 2), sender_role="another"))
    box.remove(letter("a", 1).identity)
    box.post(letter("a", 3))


def test_a_letter_never_attempted_is_ended_by_its_sender_when_cancelled() -> None:
    box = outbox(letter("a"))
    cancelled = box.cancel(letter("a").identity, Fate.SUPERSEDED)
    assert box.certain_ends(0) == [(cancelled, Undelivered("a", Fate.SUPERSEDED))]


def test_a_letter_never_attempted_is_ended_by_its_sender_when_it_expires() -> None:
    one = letter("a", expires_at_ns=10)
    box = outbox(one)
    assert box.next_expiry_ns() == 10
    assert box.certain_ends(9) == []
    assert box.certain_ends(10) == [(one, Undelivered("a", Fate.EXPIRED))]


def test_a_cancelled_letter_never_attempted_is_due_at_once() -> None:
    """Or its end would wait for whatever happens next on this node."""
    box = outbox(letter("a", expires_at_ns=1_000))
    box.cancel(letter("a").identity, Fate.WITHDRAWN)
    assert box.next_expiry_ns() == 0


def test_an_attempted_letter_is_in_doubt_whatever_becomes_of_it_here() -> None:
    one = letter("a", expires_at_ns=10)
    box = outbox(one)
    box.attempted(one.identity)
    box.cancel(one.identity, Fate.WITHDRAWN)
    assert box.certain_ends(11) == []
    assert box.next_expiry_ns() is None
    assert [head.cancelled for head in box.heads("far")] == [Fate.WITHDRAWN]


def test_a_letter_read_back_from_the_store_is_in_doubt() -> None:
    one = letter("a", expires_at_ns=10)
    box = Outbox([one], [("far", "r", 0, 1)])
    assert box.certain_ends(11) == []
    assert box.heads("far") == [one]


def test_letters_read_back_in_any_order_leave_in_theirs() -> None:
    box = Outbox([letter("c", 10), letter("a", 2), letter("b", 9)])
    assert [one.key for one in box] == ["a", "b", "c"]
    assert box.heads("far")[0].key == "a"


def test_an_end_that_waits_for_its_commit_is_not_found_a_second_time() -> None:
    one = letter("a", expires_at_ns=10)
    box = outbox(one)
    box.settling(one.identity)
    assert box.certain_ends(11) == []
    assert box.next_expiry_ns() is None


@pytest.mark.parametrize(
    ("outcome", "cancelled", "told"),
    [
        (Outcome.DELIVERED, None, Acknowledged("a")),
        (Outcome.DELIVERED, Fate.WITHDRAWN, Acknowledged("a")),
        (Outcome.REFUSED, None, Undelivered("a", Fate.REFUSED, "why")),
        (Outcome.EXPIRED, None, Undelivered("a", Fate.EXPIRED, "why")),
        (Outcome.CANCELLED, Fate.SUPERSEDED, Undelivered("a", Fate.SUPERSEDED, "why")),
        (Outcome.CANCELLED, Fate.WITHDRAWN, Undelivered("a", Fate.WITHDRAWN, "why")),
        (Outcome.CANCELLED, None, Undelivered("a", Fate.WITHDRAWN, "why")),
    ],
)
def test_the_receivers_word_decides(outcome: Outcome, cancelled: Fate | None, told: object) -> None:
    assert settle(replace(letter("a"), cancelled=cancelled), outcome, "why") == told


BOX = ("near", "store-1", "r", 0)


@pytest.mark.parametrize("outcome", list(Outcome))
def test_a_repeated_letter_gets_the_answer_of_the_first_time(outcome: Outcome) -> None:
    mark = Mark(*BOX, 7, outcome, "why")
    assert Marks([mark]).find(BOX, 7) == mark


def test_an_older_letter_than_the_last_is_a_repeat_and_a_newer_one_is_new() -> None:
    marks = Marks()
    assert marks.find(BOX, 1) is None
    marks.put(Mark(*BOX, 7, Outcome.REFUSED, "why"))
    assert marks.find(BOX, 6) == Mark(*BOX, 6, Outcome.DELIVERED)
    assert marks.find(BOX, 8) is None


@pytest.mark.parametrize(
    "other", [("else", "store-1", "r", 0), ("near", "store-2", "r", 0), ("near", "store-1", "s", 0)]
)
def test_a_mark_speaks_for_its_own_mailbox_only(other: tuple[str, str, str, int]) -> None:
    assert Marks([Mark(*BOX, 7, Outcome.DELIVERED)]).find(other, 7) is None


def test_the_marks_of_a_source_do_not_pile_up_with_its_stores() -> None:
    marks = Marks([Mark(*BOX, 7, Outcome.DELIVERED)])
    again = ("near", "store-2", "r", 0)
    marks.put(Mark(*again, 1, Outcome.DELIVERED))
    assert marks.find(again, 1) is not None
    assert marks.find(BOX, 7) is None


def contact(end_ns: int) -> Contact:
    return Contact("a", "b", "service", 0, end_ns, (Sample(0, 5, 8_000_000_000, 0.0, 1.0),))


def test_a_flight_is_what_the_link_takes_and_handling_both_ways() -> None:
    times = flight(contact(10_000), 100, size_bytes=50, handling_ns=7)
    assert times is not None
    assert (times.sent_ns, times.arrives_ns, times.answered_ns) == (150, 162, 174)


def test_what_will_not_be_answered_before_loss_of_signal_is_not_begun() -> None:
    assert flight(contact(174), 100, 50, 7) is not None
    assert flight(contact(173), 100, 50, 7) is None
    assert flight(contact(120), 100, 50, 7) is None


# ------------------------------------------------------------------------- believed and true links


def links(*windows: tuple[int, int], back: tuple[tuple[int, int], ...] | None = None) -> ContactPlan:
    """Contacts of a and b at a byte a nanosecond and 5 ns."""
    contacts = []
    for ends, chosen in ((("a", "b"), windows), (("b", "a"), windows if back is None else back)):
        for start_ns, end_ns in chosen:
            samples = (Sample(start_ns, 5, 8_000_000_000, 0.0, 1.0),)
            contacts.append(Contact(*ends, "service", start_ns, end_ns, samples))
    nodes = (PlanNode("a", "satellite"), PlanNode("b", "device"))
    return ContactPlan(1, "0" * 64, "2026-01-01T00:00:00Z", 10_000, nodes, tuple(contacts))


def test_a_letter_is_begun_by_what_is_believed_and_without_a_belief_anyway() -> None:
    assert is_begun(contact(174), 100, 50, 7)
    assert not is_begun(contact(173), 100, 50, 7)
    assert is_begun(None, 100, 50, 7)


def test_a_letter_that_is_not_begun_is_looked_at_again_at_the_believed_end_if_the_link_outlasts_it() -> None:
    assert reconsidered_ns(contact(173), 500) == 173
    assert reconsidered_ns(contact(173), 173) is None
    assert reconsidered_ns(contact(173), 150) is None
    assert reconsidered_ns(None, 500) is None


@pytest.mark.parametrize(
    ("end_ns", "what"),
    [
        (1000, Passage(162, 174)),
        (175, Passage(162, 174)),
        (174, Passage(162, None)),  # at the instant of its end the contact is over
        (163, Passage(162, None)),
        (162, Passage(None, None)),
        (149, Passage(None, None)),
    ],
)
def test_the_true_contact_decides_whether_a_letter_arrives_and_its_answer(end_ns: int, what: Passage) -> None:
    assert passage(links((0, end_ns)), ("a", "b"), 100, 50, 7, end_ns) == what


def test_a_letter_goes_on_over_contacts_that_touch_and_not_over_a_gap() -> None:
    assert passage(links((0, 120), (120, 400)), ("a", "b"), 100, 50, 7, 400) == Passage(162, 174)
    assert passage(links((0, 120), (121, 400)), ("a", "b"), 100, 50, 7, 120) == Passage(None, None)


def test_the_end_of_a_window_is_that_of_both_directions() -> None:
    one_way = links((0, 400), back=((0, 165),))
    assert passage(one_way, ("a", "b"), 100, 50, 7, 165) == Passage(162, None)
    assert believed_end_ns(one_way, "a", "b", 100) == 165
    assert believed_end_ns(one_way, "a", "b", 165) is None
    assert believed_end_ns(links((0, 120), (120, 400)), "a", "b", 10) == 400


def test_beyond_a_letter_that_is_landing_the_next_of_its_mailbox_is_the_first() -> None:
    first, second, other = letter("first", 1), letter("second", 2), letter("other", lane=Lane.BULK)
    box = outbox(first, second, other)
    assert [one.key for one in box.heads("far")] == ["first", "other"]
    assert [one.key for one in box.heads("far", {first.identity})] == ["second", "other"]
    assert [one.key for one in box.heads("far", {other.identity})] == ["first"]
    assert list(box.queue(first.mailbox, {first.identity})) == [second]
