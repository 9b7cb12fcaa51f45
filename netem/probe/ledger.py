"""One directed link's probes, from sent to settled: what each of them says about the link. Pure.

Numbers of a link run on over all kinds of probes. A probe is settled, in order of its number, when it must
have arrived or be lost and it is known what else its node sent meanwhile:

- Quiet (nothing else was sent): everything counts, and packets that came directly after each other on the
  link tell how long runs of losses are.
- Light (less than half of the link's rate): a probe may wait behind others, but not all do: of each eight in
  a row the one that waited least counts for the delay. For the loss all count, apart, but for those next to
  a probe that waited as if the queue were half full: there a missing one may be a queue drop.
- Busy: as light for the loss; for the delay only what arrived too early.

Probes whose instant of sending is not known well, as this process was interrupted in the call, or that
waited behind other probes, do not count for the delay.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, Literal

from netem.link_state import Link, Loss
from netem.probe.budget import EDGE_WINDOW_NS
from netem.probe.estimators import Edge, Losses, Spread, edge, plausible_run, train_bps
from netem.probe.planned import Expected
from netem.probe.traffic import LOOK_BACK_NS, TICK_NS, Load, Traffic

CERTAIN_NS: Final = 500_000
"""A send call that took longer than this says too little about when the packet left."""

IN_A_ROW: Final = 8
GRACE_NS: Final = 3 * TICK_NS
LAST_NS: Final = GRACE_NS - 200_000_000
TRAIN_KNOWN: Final = 0.01
"""A train is counted where the planned rate stays within this share around it."""


Unjudged = Literal["small", "late", "crowded", "traffic", "losses"]
"""Why an edge was not judged: the link is too slow, or the pass too short, for probes as dense as that takes;
the probe began too late, or paused; too many edges at once; other packets queued before an end; the plan's
own runs of losses may be longer than the bound.
"""


class Kind(Enum):
    SINGLE = "single"
    DOWN = "down"
    EDGE = "edge"
    TRAIN = "train"


class Sent:
    """A probe. `due_ns`: when it should arrive, by the plan and behind earlier probes of this link."""

    __slots__ = (
        "arrived_ns",
        "certain",
        "due_ns",
        "group",
        "kind",
        "number",
        "sent_ns",
        "settle_ns",
        "state",
    )

    def __init__(
        self,
        number: int,
        kind: Kind,
        sent_ns: int,
        due_ns: int,
        state: Expected | None,
        *,
        certain: bool = True,
        group: EdgeWatch | TrainWatch | None = None,
    ) -> None:
        self.number = number
        self.kind = kind
        self.sent_ns = sent_ns
        self.due_ns = due_ns
        self.state = state
        self.certain = certain
        self.group = group
        self.arrived_ns: int | None = None
        on_the_way_ns = 0 if state is None else state.queue_ns + state.delay_ns
        self.settle_ns = max(due_ns, sent_ns) + on_the_way_ns + GRACE_NS


class EdgeWatch:
    """The probes around one edge at host instant `at_ns`. `other_rule_ns`: for an end, what to add to a
    probe's instant to judge it by the other in-flight rule.
    """

    __slots__ = ("at_ns", "closed", "expects", "loads", "loss", "other_rule_ns", "probes", "up")

    def __init__(self, at_ns: int, loss: Loss, *, up: bool, other_rule_ns: int) -> None:
        self.at_ns = at_ns
        self.up = up
        self.loss = loss
        self.other_rule_ns = other_rule_ns
        self.probes: list[tuple[int, bool]] = []
        self.loads: set[Load] = set()
        self.expects = 0
        self.closed = False

    def result(self) -> tuple[Edge, Edge] | None:
        """By the run's in-flight rule and by the other; None where other traffic queued before an end."""
        if not self.up and self.loads != {Load.QUIET}:
            return None
        run = plausible_run(self.loss)
        as_it_is = edge(self.probes, self.at_ns, up=self.up, run=run)
        shifted = [(instant_ns + self.other_rule_ns, arrived) for instant_ns, arrived in self.probes]
        other = edge(shifted, self.at_ns, up=self.up, run=run)
        return None if as_it_is is None or other is None else (as_it_is, other)


class TrainWatch:
    """`starved`: it was sent with gaps, so that its spacing says nothing.

    `lost_take_time`: whether a lost packet leaves a gap as long as itself, which the back end decides.
    """

    __slots__ = (
        "arrived",
        "expects",
        "first_number",
        "lost_take_time",
        "packet_bytes",
        "planned_bps",
        "quiet",
        "starved",
    )

    def __init__(
        self,
        first_number: int,
        packets: int,
        packet_bytes: int,
        planned_bps: int,
        *,
        lost_take_time: bool = True,
    ) -> None:
        self.lost_take_time = lost_take_time
        self.first_number = first_number
        self.expects = packets
        self.packet_bytes = packet_bytes
        self.planned_bps = planned_bps
        self.starved = False
        self.quiet = True
        self.arrived: list[tuple[int, int]] = []


class LinkLedger:
    """Everything that is known of one link; `baseline_ns` is taken off every delay."""

    __slots__ = (
        "_before",
        "_before_number",
        "_crowded",
        "_gap",
        "_latest",
        "_light",
        "_open",
        "_traffic",
        "baseline_ns",
        "delays",
        "down_arrived",
        "down_sent",
        "edges",
        "edges_unjudged",
        "late",
        "link",
        "losses",
        "losses_in_traffic",
        "next_number",
        "planned_delay_ns",
        "rates",
        "reordered",
        "set_aside",
        "waited",
    )

    def __init__(self, link: Link, traffic: Traffic, baseline_ns: int) -> None:
        self.link = link
        self.baseline_ns = baseline_ns
        self.delays = Spread()
        """Host ns beyond the plan."""
        self.planned_delay_ns = 0
        """Sum over `delays`."""
        self.losses = Losses()
        """While nothing else was sent."""
        self.losses_in_traffic = Losses()
        """While other packets may have filled the queue; `set_aside` ones are left out."""
        self.rates: list[float] = []
        """Measured over planned, less 1, of each train."""
        self.edges: list[tuple[EdgeWatch, Edge, Edge]] = []
        self.edges_unjudged: dict[Unjudged, int] = {}
        """Beside `edges`, which may not tell either."""
        self.reordered = 0
        self.late = 0
        self.down_sent = 0
        self.down_arrived = 0
        self.waited = 0
        """Probes that do not count for the delay, as they may have waited behind other traffic."""
        self.set_aside = 0
        """Lost ones that do not count, as they may have been queue drops."""
        self.next_number = 0
        self._traffic = traffic
        self._open: dict[int, Sent] = {}
        self._latest = -1
        self._before: tuple[Loss, bool] | None = (
            None  # planned loss of the packet before, whether it was lost
        )
        self._before_number = -2
        self._light: list[int] = []
        self._crowded = False
        self._gap: list[Sent] = []

    def not_judged(self, why: Unjudged) -> None:
        """Another edge has passed."""
        self.edges_unjudged[why] = self.edges_unjudged.get(why, 0) + 1

    def sent(self, one: Sent) -> None:
        """Numbers ascend, as given by `next_number`."""
        self._open[one.number] = one
        self.next_number = one.number + 1
        if one.group is not None and isinstance(one.group, EdgeWatch):
            one.group.expects += 1

    def arrived(self, number: int, at_ns: int) -> None:
        if number < self._latest:
            self.reordered += 1
        else:
            self._latest = number
        one = self._open.get(number)
        if one is None:
            self.late += 1
        elif one.arrived_ns is None:
            one.arrived_ns = at_ns

    def settle(self, now_ns: int) -> None:
        """All that can be; at the end, when counters are fresh, with a `now_ns` later by `LAST_NS`."""
        while self._open:
            one = next(iter(self._open.values()))
            if one.settle_ns > now_ns:
                return
            del self._open[one.number]
            self._settle(one)

    def _settle(self, one: Sent) -> None:
        if one.kind is Kind.DOWN:
            self.down_sent += 1
            self.down_arrived += one.arrived_ns is not None
            return
        if one.state is None:
            return
        look_back_ns = max(LOOK_BACK_NS, one.state.queue_ns)
        until_ns = max(one.sent_ns, one.due_ns - one.state.delay_ns)
        load = self._traffic.load(one.sent_ns - look_back_ns, until_ns, one.state.rate_bps)
        if isinstance(one.group, EdgeWatch):
            self._settle_edge(one, one.group, load)
            return
        self._count_loss(one, one.state, load)
        if isinstance(one.group, TrainWatch):
            self._settle_train(one, one.group, load)
        elif one.arrived_ns is not None:
            self._count_delay(one, one.state, one.arrived_ns, load)

    def _settle_edge(self, one: Sent, watch: EdgeWatch, load: Load) -> None:
        watch.probes.append((one.due_ns, one.arrived_ns is not None))
        watch.loads.add(load)
        watch.expects -= 1
        if watch.closed and not watch.expects:
            result = watch.result()
            if result is None:
                self.not_judged("traffic")
            else:
                self.edges.append((watch, *result))

    def _settle_train(self, one: Sent, watch: TrainWatch, load: Load) -> None:
        watch.quiet = watch.quiet and load is Load.QUIET
        watch.expects -= 1
        if one.arrived_ns is not None:
            place = one.number - watch.first_number if watch.lost_take_time else len(watch.arrived)
            watch.arrived.append((place, one.arrived_ns))
        if watch.expects or watch.starved or not watch.quiet:
            return
        measured = train_bps(watch.arrived, watch.packet_bytes)
        if measured is not None:
            self.rates.append(measured / watch.planned_bps - 1.0)

    def _count_delay(self, one: Sent, state: Expected, arrived_ns: int, load: Load) -> None:
        if not one.certain:
            return
        error_ns = arrived_ns - one.due_ns - self.baseline_ns
        if load is Load.QUIET:
            self._add_delay(error_ns, state)
            return
        if load is Load.LIGHT:
            self._light.append(error_ns)
            if len(self._light) == IN_A_ROW:
                self._add_delay(min(self._light), state)
                self._light.clear()
                self.waited += IN_A_ROW - 1
            return
        self._light.clear()
        if error_ns < -CERTAIN_NS:
            self._add_delay(error_ns, state)
        else:
            self.waited += 1

    def _add_delay(self, error_ns: int, state: Expected) -> None:
        self.delays.add(error_ns)
        self.planned_delay_ns += state.delay_ns

    def _count_loss(self, one: Sent, state: Expected, load: Load) -> None:
        lost = one.arrived_ns is None
        if load is Load.QUIET:
            self._close_gap(crowded=self._crowded)
            self._crowded = False
            before = self._before if self._before_number == one.number - 1 else None
            self.losses.add(state.loss, lost=lost, before=before)
            self._before, self._before_number = (state.loss, lost), one.number
            return
        if one.kind is Kind.TRAIN:  # itself fills the queue
            return
        if one.arrived_ns is None:
            self._gap.append(one)
            return
        crowded = one.arrived_ns - one.due_ns > state.queue_ns // 2
        self._close_gap(crowded=crowded or self._crowded)
        self._crowded = crowded
        if not crowded:
            self.losses_in_traffic.add(state.loss, lost=False, before=None)

    def _close_gap(self, *, crowded: bool) -> None:
        for one in self._gap:
            if crowded:
                self.set_aside += 1
            elif one.state is not None:
                self.losses_in_traffic.add(one.state.loss, lost=True, before=None)
        self._gap.clear()


def window_of(at_ns: int) -> tuple[int, int]:
    """When an edge at `at_ns` is probed."""
    return at_ns - EDGE_WINDOW_NS, at_ns + EDGE_WINDOW_NS
