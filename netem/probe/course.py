"""One link's timers: when it gets which probes, by the plan on the run's clock at the moment of sending."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from netem.probe.budget import EDGE_WINDOW_NS, EDGES_AT_ONCE, PAYLOAD_BYTES, Train
from netem.probe.ledger import TRAIN_KNOWN, EdgeWatch, Kind, LinkLedger, Sent, TrainWatch, Unjudged
from netem.probe.planned import Expected, Passes, expected
from orbitrain.runtime.clock import SECOND_NS, monotonic_ns

if TYPE_CHECKING:
    from netem.probe.prober import Prober

HEADER: Final = struct.Struct("=8sII")
"""Which prober, link, number."""

_SOON_NS: Final = 100_000_000
_STEADY_NS: Final = SECOND_NS  # scenario time: links are set anew that often


class Course:
    """One link's three timers."""

    __slots__ = (
        "_ahead",
        "_edge",
        "_free_ns",
        "_index",
        "_ledger",
        "_prober",
        "_spacing_ns",
        "_state",
        "_unjudged",
        "_watch",
        "passes",
    )

    def __init__(self, prober: Prober, index: int, ledger: LinkLedger, t_ns: int) -> None:
        self.passes = Passes(prober.plan, ledger.link, t_ns)
        self._ahead = Passes(prober.plan, ledger.link, t_ns)
        self._prober = prober
        self._index = index
        self._ledger = ledger
        self._free_ns = 0  # when the link's transmitter is done with our probes, by the plan
        self._edge: tuple[int, bool] | None = None  # host ns, whether up; the one that comes
        self._watch: EdgeWatch | None = None
        self._state: Expected | None = None
        self._spacing_ns = 0
        self._unjudged: Unjudged = "late"  # why the edge that comes has no watch

    # --- single probes --------------------------------------------------------------------------------------

    def single(self, now_ns: int) -> int | None:
        prober, budget, host = self._prober, self._prober.budget, self._prober.timeline.monotonic_of
        t_ns = prober.timeline.scenario_of(now_ns)
        up = self.passes.seek(t_ns)
        now_pass = self.passes.current
        chance = 0.5 + prober.random.random()
        if not up:
            if now_ns < (clear_ns := host(self.passes.since_ns) + EDGE_WINDOW_NS):
                return clear_ns
            next_ns = now_ns + round(chance * budget.down_interval_ns(len(prober.ledgers) - prober.links_up))
            if now_pass is None:
                self._send(Kind.DOWN, None)
                return next_ns
            start_ns = host(now_pass[0])
            if now_ns > start_ns - EDGE_WINDOW_NS:
                return start_ns + EDGE_WINDOW_NS
            self._send(Kind.DOWN, None)
            return min(next_ns, start_ns + EDGE_WINDOW_NS)
        assert now_pass is not None
        if now_ns < (clear_ns := host(now_pass[0]) + EDGE_WINDOW_NS):
            return clear_ns
        if self._free_ns > now_ns:
            return self._free_ns
        state = self._expected(t_ns)
        end_ns = host(now_pass[1])
        if self._survives_ns(now_ns, state) > end_ns - EDGE_WINDOW_NS:
            return end_ns + EDGE_WINDOW_NS
        self._send(Kind.SINGLE, state)
        return now_ns + round(chance * budget.interval_ns(state.rate_bps, prober.links_up))

    # --- trains ---------------------------------------------------------------------------------------------

    def train(self, now_ns: int) -> int | None:
        prober, budget, host = self._prober, self._prober.budget, self._prober.timeline.monotonic_of
        t_ns = prober.timeline.scenario_of(now_ns)
        up = self.passes.seek(t_ns)
        now_pass = self.passes.current
        if now_pass is None:
            return None
        start_ns, end_ns = host(now_pass[0]), host(now_pass[1])
        if not up:
            return start_ns + EDGE_WINDOW_NS + round(prober.random.random() * SECOND_NS)
        state = self._expected(t_ns)
        train = budget.train(state)
        later_ns = now_ns + SECOND_NS + round(prober.random.random() * SECOND_NS)
        if train is None:
            return later_ns
        gap_ns = budget.train_gap_ns(train)
        done_ns = self._survives_ns(now_ns + train.lasts_ns, state)
        if end_ns - start_ns < gap_ns or done_ns > end_ns - EDGE_WINDOW_NS or not self._steady(t_ns):
            return later_ns
        if not prober.traffic[self._ledger.link[0]].quiet:
            return later_ns  # it would be in the way, and not count
        if now_ns < start_ns + EDGE_WINDOW_NS or prober.edges_watched or self._free_ns > now_ns:
            return max(now_ns + _SOON_NS, self._free_ns)
        self._send_train(train, state)
        return now_ns + round(gap_ns * (0.9 + 0.2 * prober.random.random()))

    def _send_train(self, train: Train, state: Expected) -> None:
        size = self._prober.budget.layer2_bytes(train.payload)
        watch = TrainWatch(
            self._ledger.next_number,
            train.packets,
            size,
            state.rate_bps,
            lost_take_time=self._prober.lost_take_time,
        )
        for position in range(train.packets):
            if position and self._free_ns <= monotonic_ns():
                watch.starved = True
            self._send(Kind.TRAIN, state, watch, train.payload)

    def _steady(self, t_ns: int) -> bool:
        """The plan's rate does not change just now: the back end may set it some time earlier or later."""
        around = [
            expected(self._prober.plan, self._ledger.link, t_ns + step_ns, self._prober.timeline.rate)
            for step_ns in (-_STEADY_NS, 0, _STEADY_NS)
        ]
        rates = [state.rate_bps for state in around if state is not None]
        return max(rates) <= min(rates) * (1 + TRAIN_KNOWN)

    # --- edges ----------------------------------------------------------------------------------------------

    def next_edge(self, now_ns: int) -> int | None:
        """When the next edge's probes begin; remembers which edge it is."""
        prober = self._prober
        t_ns = prober.timeline.scenario_of(now_ns) if self._edge is None else self._edge_t_ns()
        up = self._ahead.seek(t_ns)
        if self._ahead.current is None:
            self._edge = None
            return None
        start_t_ns, end_t_ns = self._ahead.current
        at_ns = prober.timeline.monotonic_of(end_t_ns if up else start_t_ns)
        self._edge = at_ns, not up
        state = self._expected(end_t_ns - 1 if up else start_t_ns)
        self._state = state
        spacing_ns = prober.budget.edge_spacing_ns(
            state, prober.timeline.monotonic_of(end_t_ns) - prober.timeline.monotonic_of(start_t_ns)
        )
        self._spacing_ns = spacing_ns or 0
        self._unjudged = "late" if spacing_ns else "small"
        return self._center_ns() - EDGE_WINDOW_NS

    def edge(self, now_ns: int) -> int | None:
        prober = self._prober
        assert self._edge is not None and self._state is not None
        center_ns = self._center_ns()
        if now_ns > center_ns + EDGE_WINDOW_NS:
            return self._leave_edge(now_ns)
        if self._watch is None:
            late = now_ns > center_ns - EDGE_WINDOW_NS // 2
            crowded = prober.edges_watched >= EDGES_AT_ONCE
            if not self._spacing_ns or late or crowded:
                if self._spacing_ns and not late:
                    self._unjudged = "crowded"
                self._spacing_ns = 0
                return center_ns + EDGE_WINDOW_NS + 1
            prober.edges_watched += 1
            at_ns, up = self._edge
            delay_ns = 0 if up else self._state.delay_ns
            other_rule_ns = delay_ns if prober.outage == "hold" else -delay_ns
            self._watch = EdgeWatch(at_ns, self._state.loss, up=up, other_rule_ns=other_rule_ns)
        self._send(Kind.EDGE, self._state, self._watch)
        return now_ns + self._spacing_ns

    def _leave_edge(self, now_ns: int) -> int | None:
        prober = self._prober
        assert self._edge is not None
        if self._watch is None:
            self._ledger.not_judged(self._unjudged)
        else:
            self._watch.closed = True
            self._watch = None
            prober.edges_watched -= 1
        prober.links_up += 1 if self._edge[1] else -1
        return self.next_edge(now_ns)

    def _edge_t_ns(self) -> int:
        """Scenario time of the edge that was the next until now."""
        assert self._edge is not None and self._ahead.current is not None
        return self._ahead.current[0 if self._edge[1] else 1]

    def _center_ns(self) -> int:
        """When a probe is sent that just makes it, or just does not."""
        assert self._edge is not None and self._state is not None
        at_ns, up = self._edge
        return at_ns if up else at_ns - (self._survives_ns(0, self._state))

    # --- all ------------------------------------------------------------------------------------------------

    def _expected(self, t_ns: int) -> Expected:
        state = expected(self._prober.plan, self._ledger.link, t_ns, self._prober.timeline.rate)
        assert state is not None
        return state

    def _survives_ns(self, sent_ns: int, state: Expected) -> int:
        """Until when the link must be up for a probe sent then to arrive."""
        leaves_ns = sent_ns + state.sending_ns(self._prober.budget.layer2_bytes(PAYLOAD_BYTES))
        return leaves_ns if self._prober.outage == "hold" else leaves_ns + state.delay_ns

    def _send(
        self,
        kind: Kind,
        state: Expected | None,
        group: EdgeWatch | TrainWatch | None = None,
        payload: int = PAYLOAD_BYTES,
    ) -> None:
        ledger, prober = self._ledger, self._prober
        number = ledger.next_number
        sent_ns, certain = prober.send(self._index, number, bytes(payload - HEADER.size))
        due_ns = sent_ns
        if isinstance(group, EdgeWatch):
            if not group.up and state is not None:
                due_ns = self._survives_ns(sent_ns, state)
        elif state is not None:
            certain = certain and self._free_ns <= sent_ns
            sending_ns = state.sending_ns(prober.budget.layer2_bytes(payload))
            self._free_ns = max(self._free_ns, sent_ns) + sending_ns
            due_ns = self._free_ns + state.delay_ns
        ledger.sent(Sent(number, kind, sent_ns, due_ns, state, certain=certain, group=group))
