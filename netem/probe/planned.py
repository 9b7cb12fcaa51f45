"""What the plan says of a link at an instant, in host units, and when its links come up and go down. Pure.

Computed from the plan itself and not from the back end's schedule: a wrong schedule must show.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from netem.link_state import QUEUE_NS, Link, Loss, queue_limits
from orbitrain.contacts.plan import ContactPlan

IP_UDP_BYTES: Final = 28


@dataclass(frozen=True, slots=True)
class Expected:
    """A link that is up: `queue_ns` is how long a packet waits in a queue that is just full."""

    delay_ns: int
    rate_bps: int
    loss: Loss
    queue_ns: int

    def sending_ns(self, layer2_bytes: int) -> int:
        return -(-layer2_bytes * 8_000_000_000 // self.rate_bps)


def expected(plan: ContactPlan, link: Link, t_ns: int, clock_rate: float) -> Expected | None:
    """At scenario time `t_ns`; None while the link has no contact."""
    contact = plan.active(*link, t_ns)
    if contact is None:
        return None
    sample = contact.sample_at(t_ns)
    delay_ns, rate_bps = round(sample.delay_ns / clock_rate), max(1, round(sample.rate_bps * clock_rate))
    limit_bytes, _ = queue_limits(delay_ns, rate_bps, round(QUEUE_NS / clock_rate))
    queue_ns = limit_bytes * 8_000_000_000 // rate_bps
    return Expected(delay_ns, rate_bps, _loss(sample.loss_mean, sample.loss_burst), queue_ns)


@lru_cache(maxsize=4096)
def _loss(mean: float, burst: float) -> Loss:
    return Loss.of(mean, burst)


class Passes:
    """Where a link is in the plan, as time goes on: contacts that touch are one pass. Scenario ns.

    `current` is (start, end) of the pass that is, or the next; None: never again. `since_ns`: the end of the
    one before, or where this object began.
    """

    __slots__ = ("_coming", "current", "since_ns")

    def __init__(self, plan: ContactPlan, link: Link, t_ns: int) -> None:
        self._coming = _merged(plan, link, t_ns)
        self.since_ns = t_ns
        self.current = next(self._coming, None)

    def seek(self, t_ns: int) -> bool:
        """Go on to `t_ns`, never back; whether the link is up then."""
        while self.current is not None and self.current[1] <= t_ns:
            self.since_ns = self.current[1]
            self.current = next(self._coming, None)
        return self.current is not None and self.current[0] <= t_ns


def _merged(plan: ContactPlan, link: Link, t_ns: int) -> Iterator[tuple[int, int]]:
    now: tuple[int, int] | None = None
    for contact in plan.from_instant(*link, t_ns):
        if now is not None and now[1] == contact.start_ns:
            now = now[0], contact.end_ns
            continue
        if now is not None:
            yield now
        now = contact.start_ns, contact.end_ns
    if now is not None:
        yield now
