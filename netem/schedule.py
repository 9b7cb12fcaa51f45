"""From a contact plan to steps of link states, in time order, made as they are needed.

The plan's delay and rate run linearly between samples; a back end holds values constant between changes.
Stepped, every link that is up is set anew once every step, to its value in the middle of the time until the
next. Adaptive, a link is set anew when its plan has left a stated band around the last value: fewer changes,
a stated error. Edges of contacts are exact to the nanosecond in both.

Times are scenario ns; states are in host units, scaled by the clock's rate r: delays and jitter / r, rates *
r. Pure, standard library only. Memory follows the links that are up at once, not the plan.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from math import ceil
from typing import Final
from zlib import crc32

from netem.link_state import NO_LOSS, QUEUE_NS, Link, LinkState, Loss, Outage, up_state
from orbitrain.contacts.contact import Contact, Sample, interpolated
from orbitrain.contacts.plan import ContactPlan

Piece = tuple[int, int, int, Loss]
"""(first ns, delay ns, rate bit/s, loss), in scenario units; holds until the next piece or the contact's end.
"""

SMALLEST_STEP_NS: Final = 1_000_000
_SECOND_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Stepped:
    """Every link that is up is set anew at each multiple of `step_ns` of scenario time.

    With `turns` sources take turns: the links of one are set together, as much later than the multiple as its
    name says, in that many equal parts of the step. Then no host is told of all its links at one instant.
    """

    step_ns: int = 1_000_000_000
    turns: int = 1

    def __post_init__(self) -> None:
        if self.step_ns < SMALLEST_STEP_NS:
            raise ValueError(f"step_ns: must be {SMALLEST_STEP_NS} or more, not {self.step_ns}")
        if not 1 <= self.turns <= self.step_ns // SMALLEST_STEP_NS:
            raise ValueError(f"turns: must be 1 to one each ms of the step, not {self.turns}")

    def pieces(self, contact: Contact) -> Iterator[Piece]:
        """Ascending, the first at the contact's start; where nothing changes for long there are none."""
        step_ns, start_ns = self.step_ns, contact.start_ns
        turn_ns = crc32(contact.source.encode()) % self.turns * step_ns // self.turns
        samples, after = contact.samples, 0
        left: Sample | None = None
        while start_ns < contact.end_ns:
            end_ns = min(((start_ns - turn_ns) // step_ns + 1) * step_ns + turn_ns, contact.end_ns)
            middle_ns = (start_ns + end_ns) // 2
            # As `contact.sample_at`, which would search the samples and make one each time.
            while after < len(samples) and samples[after].t_ns <= middle_ns:
                after += 1
            before, right = samples[max(after - 1, 0)], samples[min(after, len(samples) - 1)]
            if before is not left:
                left, loss = before, Loss.of(before.loss_mean, before.loss_burst)
            delay_ns = interpolated(middle_ns, left.t_ns, right.t_ns, left.delay_ns, right.delay_ns)
            rate_bps = interpolated(middle_ns, left.t_ns, right.t_ns, left.rate_bps, right.rate_bps)
            yield start_ns, delay_ns, rate_bps, loss
            if after == len(samples):
                return  # the last sample holds to the end
            start_ns = end_ns
            if (left.delay_ns, left.rate_bps) == (right.delay_ns, right.rate_bps):
                # Who takes the pieces one by one has packets to move: hours are not gone through in steps.
                start_ns = max(end_ns, (right.t_ns - turn_ns) // step_ns * step_ns + turn_ns)

    def density_per_s(self, contact: Contact) -> float:
        return 1e9 / self.step_ns


@dataclass(frozen=True, slots=True)
class Adaptive:
    """A link is set anew when the plan is `delay_ns` (scenario) or the fraction `rate` from what is set."""

    delay_ns: int = 100_000
    rate: float = 0.01

    def __post_init__(self) -> None:
        if self.delay_ns < 1:
            raise ValueError(f"delay_ns: must be 1 or more, not {self.delay_ns}")
        if not 0 < self.rate < 1:
            raise ValueError(f"rate: must be more than 0 and less than 1, not {self.rate}")

    def pieces(self, contact: Contact) -> Iterator[Piece]:
        """Ascending, the first at the contact's start; greedy: each as long as the band allows.

        At every whole ns the piece's delay is within `delay_ns` of the plan's, its rate within the fraction
        `rate` (up to the rounding to whole ns and bit/s).
        """
        ratio = (1 + self.rate) / (1 - self.rate)
        knots = _knots(contact)
        start_ns = at_ns = contact.start_ns  # of the piece; the last instant that its band is known to hold
        loss = Loss.of(knots[0].loss_mean, knots[0].loss_burst)
        low_d = high_d = knots[0].delay_ns
        low_r = high_r = knots[0].rate_bps
        for left, right in pairwise(knots):
            span_ns = right.t_ns - left.t_ns
            slope_d = right.delay_ns - left.delay_ns
            slope_r = right.rate_bps - left.rate_bps
            while at_ns < right.t_ns:
                # How far along this line the band can follow.
                reach_ns = right.t_ns
                if slope_d:
                    bound_d = low_d + 2 * self.delay_ns if slope_d > 0 else high_d - 2 * self.delay_ns
                    reach_ns = min(reach_ns, left.t_ns + (bound_d - left.delay_ns) * span_ns // slope_d)
                if slope_r:
                    bound_r = int(low_r * ratio) if slope_r > 0 else ceil(high_r / ratio)
                    reach_ns = min(reach_ns, left.t_ns + (bound_r - left.rate_bps) * span_ns // slope_r)
                at_ns = max(at_ns, reach_ns)
                delay_ns, rate_bps = _on_line(left, right, at_ns)
                low_d, high_d = min(low_d, delay_ns), max(high_d, delay_ns)
                low_r, high_r = min(low_r, rate_bps), max(high_r, rate_bps)
                if at_ns < right.t_ns:
                    yield start_ns, _middle(low_d, high_d), _between(low_r, high_r), loss
                    start_ns = at_ns = at_ns + 1
                    delay_ns, rate_bps = _on_line(left, right, at_ns)
                    low_d = high_d = delay_ns
                    low_r = high_r = rate_bps
            new = Loss.of(right.loss_mean, right.loss_burst)
            if new != loss and right.t_ns < contact.end_ns:
                if start_ns < right.t_ns:
                    yield start_ns, _middle(low_d, high_d), _between(low_r, high_r), loss
                start_ns, loss = right.t_ns, new
                low_d = high_d = right.delay_ns
                low_r = high_r = right.rate_bps
        if start_ns < contact.end_ns:
            yield start_ns, _middle(low_d, high_d), _between(low_r, high_r), loss

    def density_per_s(self, contact: Contact) -> float:
        """No scenario second of the contact needs more changes than this. What jumps within a few ns, as a
        rate does where the modulation changes, is one change or two, not thousands a second.
        """
        counts = []
        for left, right in pairwise(contact.samples):
            changes = abs(right.delay_ns - left.delay_ns) / (2 * self.delay_ns)
            low, high = sorted((left.rate_bps, right.rate_bps))
            changes += (high - low) / (2 * self.rate * low)
            changes = min(changes, right.t_ns - left.t_ns)  # a piece lasts a ns or longer
            changes += (left.loss_mean, left.loss_burst) != (right.loss_mean, right.loss_burst)
            counts.append(changes)
        return _most_in_a_second([sample.t_ns for sample in contact.samples], counts)


def _most_in_a_second(times_ns: Sequence[int], counts: Sequence[float]) -> float:
    """Of what is spread evenly from each time to the next; ascending times, one count fewer."""
    if not counts:
        return 0.0
    spans_ns = [right - left for left, right in pairwise(times_ns)]
    if min(spans_ns) >= _SECOND_NS:  # a second in two of them has no more than one in the denser
        return max(count * _SECOND_NS / span_ns for count, span_ns in zip(counts, spans_ns, strict=True))
    totals = [0.0, *accumulate(counts)]

    def until(t_ns: int) -> float:
        at = bisect_right(times_ns, t_ns) - 1
        if at < 0 or at == len(counts):
            return totals[max(at, 0)]
        return totals[at] + counts[at] * (t_ns - times_ns[at]) / spans_ns[at]

    # The densest second begins or ends at one of the times.
    return max(
        max(until(t_ns + _SECOND_NS) - total, total - until(t_ns - _SECOND_NS))
        for t_ns, total in zip(times_ns, totals, strict=True)
    )


@dataclass(frozen=True, slots=True)
class Change:
    """A link's new state, whole. `new_loss`: the loss model differs from the one before, an outage apart.

    A kernel's chain of losses starts anew when its model is sent, so it is sent only then.
    """

    link: Link
    state: LinkState
    new_loss: bool


@dataclass(frozen=True, slots=True)
class Step:
    """What changes at one instant of scenario time; each link at most once."""

    t_ns: int
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Demand:
    """What a schedule asks of a host, in host units; upper bounds, cheap to compute.

    `peak_rate_bps` of one link; `peak_total_bps` the sum over links that are up at once; `least_delay_ns` the
    smallest delay; `changes_per_s` in the busiest second; `changes_at_once` contacts that begin or end at the
    same instant.
    """

    links: int
    links_at_once: int
    peak_rate_bps: int
    peak_total_bps: int
    least_delay_ns: int
    changes_per_s: float
    changes_at_once: int


@dataclass(frozen=True, slots=True)
class Schedule:
    """A plan's link states at a clock's rate (scenario seconds a host second). ValueError for a bad rate."""

    plan: ContactPlan
    clock_rate: float = 1.0
    how: Stepped | Adaptive = field(default_factory=Stepped)
    outage: Outage = "hold"
    queue_ns: int = QUEUE_NS

    def __post_init__(self) -> None:
        if not 0 < self.clock_rate <= 1e6:
            raise ValueError(f"clock_rate: must be more than 0 and at most 1e6, not {self.clock_rate}")

    def document(self) -> dict[str, object]:
        """What was asked for, for a run's record."""
        how: dict[str, object] = (
            {"step_ns": self.how.step_ns, "turns": self.how.turns}
            if isinstance(self.how, Stepped)
            else {"adaptive": {"delay_ns": self.how.delay_ns, "rate": self.how.rate}}
        )
        return {
            "plan_sha256": self.plan.sha256,
            "revision": self.plan.revision,
            "clock_rate": self.clock_rate,
            **how,
            "outage": self.outage,
            "queue_ns": self.queue_ns,
        }

    def links(self) -> tuple[Link, ...]:
        """Every directed link that is ever up, sorted."""
        return tuple(sorted({(contact.source, contact.destination) for contact in self.plan.contacts}))

    def scaled(self, delay_ns: int, rate_bps: int, loss: Loss = NO_LOSS) -> LinkState:
        """The state on the host of a link with these scenario values."""
        r = self.clock_rate
        if r == 1:
            return up_state(delay_ns, rate_bps, loss, queue_ns=self.queue_ns)
        return up_state(
            round(delay_ns / r), max(1, round(rate_bps * r)), loss, queue_ns=round(self.queue_ns / r)
        )

    def extremes(self) -> Iterator[tuple[Link, LinkState]]:
        """States between which all others of the schedule lie: what holds these holds it. Linear as `demand`.

        ValueError for what is no state on the host at this clock's rate.
        """
        known: set[int] = set()  # many contacts share their samples
        for contact in self.plan.contacts:
            if id(contact.samples) in known:
                continue
            known.add(id(contact.samples))
            rates = {sample.rate_bps for sample in contact.samples}
            most_ns = max(sample.delay_ns for sample in contact.samples)
            losses = {(sample.loss_mean, sample.loss_burst) for sample in contact.samples}
            for rate_bps in {min(rates), max(rates)}:
                for loss in losses:
                    link = contact.source, contact.destination
                    yield link, self.scaled(most_ns, rate_bps, Loss.of(*loss))

    def state_at(self, link: Link, t_ns: int) -> LinkState | None:
        """What the schedule has set the link to at an instant; None while it has no contact."""
        contact = self.plan.active(*link, t_ns)
        if contact is None:
            return None
        found = None
        for piece in self.how.pieces(contact):
            if piece[0] > t_ns:
                break
            found = piece
        assert found is not None
        return self.scaled(*found[1:])

    def steps(self, from_ns: int = 0) -> Iterator[Step]:
        """The first step, at `from_ns`, names all links that are up then; others are down. Then each change.

        A link whose next contact begins as one ends does not go down between them. A change to what already
        is, is left out.
        """
        now: dict[Link, LinkState] = {}
        waiting: dict[int, list[_Course]] = {}  # by their next instant: those of stepped links are the same
        instants: list[int] = []  # of `waiting`, a heap

        def wait(until_ns: int, course: _Course) -> None:
            if until_ns not in waiting:
                waiting[until_ns] = []
                heapq.heappush(instants, until_ns)
            waiting[until_ns].append(course)

        contacts = iter(contact for contact in self.plan.contacts if contact.end_ns > from_ns)
        coming = next(contacts, None)
        first = True
        while instants or coming is not None or first:
            t_ns = from_ns
            if not first:
                times = instants[:1]
                t_ns = min(times + ([coming.start_ns] if coming is not None else []))
            while coming is not None and coming.start_ns <= t_ns:
                wait(t_ns, _Course.of(coming, self.how, t_ns))
                coming = next(contacts, None)
            new: dict[Link, LinkState] = {}
            if instants and instants[0] == t_ns:
                heapq.heappop(instants)
            for course in waiting.pop(t_ns, ()):
                if course.end_ns > t_ns:
                    new[course.link] = self.scaled(*course.piece[1:])
                    wait(course.advance(), course)
                else:
                    # Not where the link's next contact begins at this instant.
                    new.setdefault(course.link, now[course.link].down(self.outage))
            changes = []
            for link in sorted(new):
                before, state = now.get(link), new[link]
                if before != state:
                    changes.append(Change(link, state, before is None or before.loss != state.loss))
                    now[link] = state
            if changes or first:
                yield Step(t_ns, tuple(changes))
            first = False

    def next_edge_ns(self, link: Link, t_ns: int) -> int | None:
        """When the link next comes up or goes down after `t_ns`; None: never again."""
        contact = self.plan.next_contact(*link, t_ns)
        if contact is None:
            return None
        if contact.start_ns > t_ns:
            return contact.start_ns
        while (after := self.plan.active(*link, contact.end_ns)) is not None:
            contact = after
        return contact.end_ns

    def demand(self) -> Demand:
        """Linear in the plan's samples: about a second for 100,000 contacts."""
        r = self.clock_rate
        known: dict[int, tuple[int, int, float]] = {}  # many contacts share their samples
        edges: list[tuple[int, int, int, float]] = []
        at_instant: dict[int, int] = {}
        peak = total = links = most_links = 0
        density = most_density = 0.0
        least: int | None = None
        for contact in self.plan.contacts:
            values = known.get(id(contact.samples))
            if values is None:
                values = known[id(contact.samples)] = (
                    max(sample.rate_bps for sample in contact.samples),
                    min(sample.delay_ns for sample in contact.samples),
                    self.how.density_per_s(contact),
                )
            rate_bps, delay_ns, changes = values
            peak = max(peak, rate_bps)
            least = delay_ns if least is None else min(least, delay_ns)
            edges.append((contact.start_ns, 1, rate_bps, changes))
            edges.append((contact.end_ns, -1, -rate_bps, -changes))
            for edge_ns in (contact.start_ns, contact.end_ns):
                at_instant[edge_ns] = at_instant.get(edge_ns, 0) + 1
        edges.sort()
        most_total = 0
        recent: list[int] = []  # edges in the last host second, as a queue
        oldest = 0
        window_ns = round(1e9 * r)
        for t_ns, link, rate_bps, changes in edges:
            links, total, density = links + link, total + rate_bps, density + changes
            recent.append(t_ns)
            while recent[oldest] <= t_ns - window_ns:
                oldest += 1
            most_links, most_total = max(most_links, links), max(most_total, total)
            most_density = max(most_density, density * r + len(recent) - oldest)
        return Demand(
            links=len(self.links()),
            links_at_once=most_links,
            peak_rate_bps=round(peak * r),
            peak_total_bps=round(most_total * r),
            least_delay_ns=round((least or 0) / r),
            changes_per_s=most_density,
            changes_at_once=max(at_instant.values(), default=0),
        )


class _Course:
    """Where one contact's pieces have come to."""

    __slots__ = ("_after", "_pieces", "end_ns", "link", "piece")

    def __init__(self, contact: Contact, pieces: Iterator[Piece], piece: Piece, after: Piece | None) -> None:
        self.link = contact.source, contact.destination
        self.end_ns = contact.end_ns
        self.piece = piece
        self._pieces = pieces
        self._after = after

    @staticmethod
    def of(contact: Contact, how: Stepped | Adaptive, t_ns: int) -> _Course:
        """At the piece that holds at `t_ns`, or at the first one."""
        pieces = how.pieces(contact)
        piece = next(pieces)
        after = next(pieces, None)
        while after is not None and after[0] <= t_ns:
            piece, after = after, next(pieces, None)
        return _Course(contact, pieces, piece, after)

    def advance(self) -> int:
        """Go to the next piece; its time, or the contact's end."""
        if self._after is None:
            return self.end_ns
        self.piece, self._after = self._after, next(self._pieces, None)
        return self.piece[0]


def _knots(contact: Contact) -> list[Sample]:
    """Samples that cover the contact from its start to its last ns."""
    samples = list(contact.samples)
    if samples[0].t_ns > contact.start_ns:
        samples.insert(0, contact.sample_at(contact.start_ns))
    last_ns = contact.end_ns - 1
    if samples[-1].t_ns < last_ns:
        samples.append(contact.sample_at(last_ns))
    return samples


def _on_line(left: Sample, right: Sample, t_ns: int) -> tuple[int, int]:
    past, span = t_ns - left.t_ns, right.t_ns - left.t_ns
    return (
        left.delay_ns + (2 * (right.delay_ns - left.delay_ns) * past + span) // (2 * span),
        left.rate_bps + (2 * (right.rate_bps - left.rate_bps) * past + span) // (2 * span),
    )


def _middle(low: int, high: int) -> int:
    return (low + high) // 2


def _between(low: int, high: int) -> int:
    """The harmonic mean: as far from `low` as from `high`, as a fraction of each."""
    return low if low == high else round(2 * low * high / (low + high))
