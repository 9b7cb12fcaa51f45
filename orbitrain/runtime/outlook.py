"""What the believed plan says of a node's links with its peers, as of now: when, how far, how fast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from orbitrain.contacts.contact import Contact
from orbitrain.contacts.plan import ContactPlan, Window
from orbitrain.runtime.clock import SECOND_NS

if TYPE_CHECKING:
    from orbitrain.runtime.driver import Driver


@dataclass(frozen=True, slots=True)
class Road:
    """The worst that the plan says of the links between two nodes, scenario units."""

    delay_s: float = 0.3
    rate_bps: int = 100_000
    """By default of a pair that no plan has heard of: the delay of a geostationary link, a slow rate."""
    link_class: str = ""

    @staticmethod
    def of(plan: ContactPlan, a: str, b: str) -> Road:
        contacts = (*plan.between(a, b), *plan.between(b, a))
        samples = [sample for contact in contacts for sample in contact.samples]
        if not samples:
            kinds = sorted(node.kind for node in plan.nodes if node.name in (a, b))
            return Road(link_class=_CLASSES.get((kinds[0], kinds[-1]), "") if kinds else "")
        return Road(
            max(sample.delay_ns for sample in samples) / SECOND_NS,
            min(sample.rate_bps for sample in samples),
            contacts[0].link_class,
        )

    def trip_s(self, nbytes: int) -> float:
        """There and back, with so many bytes in all."""
        return 2 * self.delay_s + 8 * nbytes / self.rate_bps


_CLASSES: Final = {
    ("device", "satellite"): "service",
    ("ground", "satellite"): "feeder",
    ("ground", "ground"): "backhaul",
    ("satellite", "satellite"): "inter_isl",
}


@dataclass(frozen=True, slots=True)
class RealLinks:
    """What a node is told of links that carry or do not, whatever a plan says."""

    planned: bool = True
    """A plan says what they are like; else it is to be measured."""
    flows: int = 1
    """Connections that an object goes over at once."""
    clock_error_ns: int = 0
    """How far this node's clock may be off."""


class Outlook:
    """Asks the plan that the driver believes; `relink` when that is another one."""

    def __init__(self, driver: Driver, real: RealLinks, acquisition_ns: int) -> None:
        self._driver = driver
        self._acquisition_ns = acquisition_ns
        self.real = real
        self._trips_s: dict[str, float] = {}
        self._windows: dict[str, tuple[Window, ...]] = {}
        self._roads: dict[str, Road] = {}
        self._relinked_ns = 0

    def relink(self, at_ns: int) -> None:
        """Another plan is believed from `at_ns` on."""
        self._relinked_ns = at_ns
        self._windows.clear()
        self._roads.clear()

    def now_ns(self) -> int:
        return max(self._driver.clock.now_ns(), self._driver.latest_ns)

    def windows(self, peer: str) -> tuple[Window, ...]:
        """(start_ns, end_ns) with both directions active, ascending."""
        found = self._windows.get(peer)
        if found is None:
            found = self._windows[peer] = self._driver.plan.windows(self._driver.core.node, peer)
        return found

    def announced(self, peer: str) -> Window | None:
        """The window that is open now."""
        now_ns = self.now_ns()
        return next((window for window in self.windows(peer) if window[0] <= now_ns < window[1]), None)

    def opens_wall_s(self, peer: str) -> float:
        """Wall seconds until the next window opens; infinite for never."""
        now_ns = self.now_ns()
        start_ns = next((start_ns for start_ns, _ in self.windows(peer) if start_ns > now_ns), None)
        return float("inf") if start_ns is None else self._driver.clock.wall_s_until(start_ns)

    def over_ns(self, peer: str) -> int:
        """When the last window before now ended; 0 for never."""
        now_ns = self.now_ns()
        return max((end_ns for _, end_ns in self.windows(peer) if end_ns <= now_ns), default=0)

    def acquired_ns(self, window: Window) -> int:
        """When a contact in an announced window begins at the earliest, as where links are modelled.

        A node that comes up within it, or hears of it only then, needs as long to acquire the signal.
        """
        due_ns = max(window[0], self._driver.boot_ns) + self._acquisition_ns
        return due_ns if due_ns >= self._relinked_ns else self._relinked_ns + self._acquisition_ns

    def contact(self, peer: str) -> Contact | None:
        """The contact towards a peer that is going on now."""
        return self._driver.plan.active(self._driver.core.node, peer, self.now_ns())

    def road(self, peer: str) -> Road:
        found = self._roads.get(peer)
        if found is None:
            found = self._roads[peer] = Road.of(self._driver.plan, self._driver.core.node, peer)
        return found

    def took(self, peer: str, wall_s: float) -> None:
        """An answer came after so long. The shortest is the link's own."""
        self._trips_s[peer] = min(wall_s, self._trips_s.get(peer, wall_s))

    def expected_trip_s(self, peer: str, nbytes: int) -> float:
        """As `trip_wall_s`; without a plan what was measured, once it was."""
        if not self.real.planned and peer in self._trips_s:
            return self._trips_s[peer]
        return self.trip_wall_s(peer, nbytes)

    def trip_wall_s(self, peer: str, nbytes: int) -> float:
        """Wall seconds there and back, with so many bytes in all."""
        return self.road(peer).trip_s(nbytes) / self._driver.clock.rate
