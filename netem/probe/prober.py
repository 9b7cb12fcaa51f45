"""Sends the probes when they are due and collects what arrives: one process, one thread, a heap of timers.

Each link has three timers (`Course`): single probes (while the plan has it up, and seldom while it is down),
trains, and edges.
"""

from __future__ import annotations

import gc
import heapq
import os
import select
from collections.abc import Callable, Sequence
from random import Random
from typing import Final

from netem import syscalls
from netem.link_state import Outage
from netem.probe.budget import Budget
from netem.probe.course import HEADER, Course
from netem.probe.endpoints import Endpoint, LinksGone, realtime_offset_ns
from netem.probe.ledger import (
    CERTAIN_NS,
    LAST_NS,
    LinkLedger,
)
from netem.probe.traffic import TICK_NS, Traffic
from netem.replay import Timeline
from orbitrain.contacts.plan import ContactPlan
from orbitrain.runtime.clock import SECOND_NS, monotonic_ns

Timer = Callable[[int], int | None]
"""Called at or after its monotonic instant; answers the next one, None for never again."""

_FIRST_TRAINS_NS: Final = 100_000_000  # a link, from the start: trains do not come all at once
PRIORITY: Final = 5
"""Of the real-time scheduler: below the relay's (10), so that probing does not delay packets."""


class Prober:
    """`run` until `stop`, or until the links are gone; `ledgers` is what was found."""

    def __init__(
        self,
        plan: ContactPlan,
        timeline: Timeline,
        endpoints: Sequence[Endpoint],
        baseline_ns: int,
        budget: Budget,
        outage: Outage,
        seed: int = 0,
        *,
        lost_take_time: bool = True,
    ) -> None:
        self.plan = plan
        self.timeline = timeline
        self.budget = budget
        self.outage = outage
        self.lost_take_time = lost_take_time
        self.random = Random(seed)
        self.endpoints = {endpoint.node: endpoint for endpoint in endpoints}
        self.traffic = {endpoint.node: Traffic() for endpoint in endpoints}
        for endpoint in endpoints:
            self.traffic[endpoint.node].add(endpoint.opened_ns, endpoint.opened_bytes)
        links = sorted({(contact.source, contact.destination) for contact in plan.contacts})
        self.ledgers = [LinkLedger(link, self.traffic[link[0]], baseline_ns) for link in links]
        self.links_up = 0
        self.edges_watched = 0
        self.sent_packets = self.sent_bytes = 0
        self.gone = False
        self._token = os.urandom(8)
        self._epoll = select.epoll()
        self._of_fd = {endpoint.socket.fileno(): endpoint for endpoint in endpoints}
        for fd in self._of_fd:
            self._epoll.register(fd, select.EPOLLIN)
        self._watched: dict[int, Callable[[], None]] = {}
        self._heap: list[tuple[int, int, Timer]] = []
        self._timers = 0
        self._stopping = False

    # --- for whoever runs it --------------------------------------------------------------------------------

    def at(self, due_ns: int, timer: Timer) -> None:
        self._timers += 1
        heapq.heappush(self._heap, (due_ns, self._timers, timer))

    def watch(self, fd: int, callback: Callable[[], None]) -> None:
        """Call back when it can be read; a plain file is not watched."""
        try:
            self._epoll.register(fd, select.EPOLLIN)
        except PermissionError:
            return
        self._watched[fd] = callback

    def stop(self) -> None:
        self._stopping = True

    def run(self) -> None:
        """Starts all links' probes, and goes on."""
        now_ns = monotonic_ns()
        t_ns = self.timeline.scenario_of(now_ns)
        for index, ledger in enumerate(self.ledgers):
            course = Course(self, index, ledger, t_ns)
            self.links_up += course.passes.seek(t_ns)
            self.at(now_ns + round(self.random.random() * 0.2 * SECOND_NS), course.single)
            spread_ns = min(10 * SECOND_NS, _FIRST_TRAINS_NS * (len(self.ledgers) + 5))
            self.at(now_ns + 2 * TICK_NS + round(self.random.random() * spread_ns), course.train)
            if (due_ns := course.next_edge(now_ns)) is not None:
                self.at(due_ns, course.edge)
        self.at(now_ns, self._tick)
        gc.collect()
        gc.freeze()
        gc.disable()
        try:
            self._loop()
            self._tick(monotonic_ns() + LAST_NS)
        except LinksGone:
            self.gone = True
        finally:
            gc.enable()
            gc.unfreeze()

    def close(self) -> None:
        self._epoll.close()

    # --- the loop -------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        heap = self._heap
        while not self._stopping:
            now_ns = monotonic_ns()
            while heap and heap[0][0] <= now_ns:
                timer = heapq.heappop(heap)[2]
                next_ns = timer(now_ns)
                if next_ns is not None:
                    self.at(next_ns, timer)
                now_ns = monotonic_ns()
                if self._stopping:
                    return
            wait_ns = heap[0][0] - now_ns if heap else SECOND_NS
            if wait_ns > 0 and not select.select((self._epoll,), (), (), wait_ns / 1e9)[0]:
                continue
            events = self._epoll.poll(0)
            offset_ns = realtime_offset_ns()
            for fd, _ in events:
                endpoint = self._of_fd.get(fd)
                if endpoint is None:
                    self._watched[fd]()
                else:
                    self._receive(endpoint, offset_ns)

    def _receive(self, endpoint: Endpoint, offset_ns: int) -> None:
        size, token, ledgers = HEADER.size, self._token, self.ledgers
        for data, at_ns in endpoint.receive(offset_ns):
            if len(data) >= size:
                whose, index, number = HEADER.unpack_from(data)
                if whose == token and index < len(ledgers):
                    ledgers[index].arrived(number, at_ns)

    def _tick(self, now_ns: int) -> int:
        """Counters, then what can be settled with them."""
        for node, endpoint in self.endpoints.items():
            self.traffic[node].add(monotonic_ns(), endpoint.sent_bytes())
        for ledger in self.ledgers:
            ledger.settle(now_ns)
        return now_ns + TICK_NS

    @property
    def overflowed(self) -> int:
        return sum(endpoint.overflowed for endpoint in self.endpoints.values())

    # --- sending --------------------------------------------------------------------------------------------

    def send(self, index: int, number: int, padding: bytes) -> tuple[int, bool]:
        """(When it was sent, whether that is known well). LinksGone."""
        source, destination = self.ledgers[index].link
        endpoint = self.endpoints[source]
        data = HEADER.pack(self._token, index, number) + padding
        place = self.endpoints[destination].place
        before_ns = monotonic_ns()
        endpoint.send(data, place)
        certain = monotonic_ns() - before_ns <= CERTAIN_NS
        self.sent_packets += 1
        self.sent_bytes += len(data)
        self.traffic[source].own_bytes += self.budget.layer2_bytes(len(data)) - self.budget.overhead_bytes
        return before_ns, certain


def take_priority() -> None:
    """Be woken before ordinary programs, after the relay, as far as the host allows."""
    syscalls.set_timer_slack(1)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    except OSError:
        try:
            os.setpriority(os.PRIO_PROCESS, 0, -PRIORITY)
        except OSError:
            return
