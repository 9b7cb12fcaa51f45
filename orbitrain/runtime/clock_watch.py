"""Whether this node's clock agrees with its peers', and that its operator is told if it does not.

A node whose clock is off transfers all the same: over real links a contact is with whom answers. What it
plans is wrong, though: when contacts come, where bundles go, when they expire. Which of two clocks errs the
two do not show; that several peers disagree in the same way does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from orbitrain.machine import Severity
from orbitrain.runtime.clock import SECOND_NS

if TYPE_CHECKING:
    from orbitrain.runtime.driver import Driver

CHANGE: Final = 0.5
"""A difference is told again once it is another by this part of it: clocks drift while they are watched."""


class ClockWatch:
    """Compares clocks by the answers to pings."""

    def __init__(self, driver: Driver, error_ns: int) -> None:
        """`error_ns` is how far a clock may be off without anybody being told."""
        self._driver = driver
        self._error_ns = error_ns
        self._told: dict[str, int] = {}

    def heard(self, peer: str, its_ns: int, sent_ns: int, back_ns: int) -> None:
        """A peer's time in an answer to a ping, and ours when that was sent and when the answer was here.

        The difference is known to half of the round trip. All scenario time.
        """
        off_ns = (sent_ns + back_ns) // 2 - its_ns
        known_ns = (back_ns - sent_ns) // 2
        if abs(off_ns) <= 2 * self._error_ns + known_ns:  # either clock may err
            if self._told.pop(peer, None) is not None:
                self._driver.note("clocks_agree", Severity.ACTIVITY_HI, {"peer": peer})
            return
        told_ns = self._told.get(peer)
        if told_ns is not None and abs(off_ns - told_ns) <= CHANGE * abs(told_ns):
            return
        self._told[peer] = off_ns
        fields = {
            "peer": peer,
            "ahead_s": round(off_ns / SECOND_NS, 3),
            "known_to_s": round(known_ns / SECOND_NS, 3),
            "allowed_s": self._error_ns / SECOND_NS,
        }
        self._driver.note("clock_differs", Severity.WARNING_HI, fields)
