"""Moves packets between nodes' TUN devices, each over the `Fifo` of its directed link; one thread and loop.

A packet's link is that of the node whose device it was read from and the node whose address it is for. It is
written to that node's device at its arrival. What is for no known link is counted and dropped, as are packets
that a device refuses. Every packet is dropped here, never by a refused write or a full device: the sender
sees no ENOBUFS.

The loop waits in select() on the epoll descriptor, as epoll's own timeout is in whole milliseconds.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import heapq
import os
import select
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from netem import syscalls
from netem.histogram import Histogram
from netem.link_state import MTU_BYTES, Link
from netem.loop import Timer
from netem.schedule import Change
from netem.tun.device import Device
from netem.tun.fifo import ETHERNET_BYTES, Fifo
from orbitrain.runtime.clock import monotonic_ns

READ_AT_ONCE: Final = 16
"""Packets read of one device before the others get their turn: some 0.1 ms."""

BULK_BYTES: Final = 1_000
"""After a packet as long as that another one likely waits; after a short one it is rarely worth the call."""

PRIORITY: Final = 10
"""Of the real-time scheduler: above every ordinary program, below what a host runs at higher ones."""

NICENESS: Final = -10


class Lane:
    """A directed link in the relay: its model, and the device at its end."""

    __slots__ = ("due_ns", "fd", "fifo", "number")

    def __init__(self, fifo: Fifo, fd: int, number: int) -> None:
        self.fifo = fifo
        self.fd = fd
        self.number = number
        self.due_ns = (
            0  # arrival of the first packet in flight, 0 for none; other entries of the heap are stale
        )


class Relay:
    """A `Backend`: `add` every node, then `run` until `stop`."""

    def __init__(self, seed: int = 0, overhead_bytes: int = ETHERNET_BYTES) -> None:
        """`seed`: of all links' losses, each link's from it and the two names."""
        self.lateness = Histogram()
        """Of packets: written to the receiver's device, after the instant that was computed."""
        self.unread = Histogram()
        """Of rounds of the loop: how long no device was looked at."""
        self.stray = 0
        self.refused = 0
        self._seed = seed
        self._overhead_bytes = overhead_bytes
        self._epoll = select.epoll()
        self._devices: dict[str, Device] = {}
        self._addresses: dict[str, bytes] = {}
        self._routes: dict[
            int, dict[bytes, Lane]
        ] = {}  # by the sender's descriptor and the receiver's address
        self._lanes: dict[Link, Lane] = {}
        self._heap: list[tuple[int, int, Lane]] = []
        self._timers: list[tuple[int, int, Timer]] = []
        self._timer_count = 0
        self._watched: dict[int, Callable[[], None]] = {}
        self._largest_packet = MTU_BYTES
        self._stopping = False

    def add(self, node: str, device: Device, address: bytes, mtu: int = MTU_BYTES) -> None:
        """A node, with its address (4 bytes). The device stays the caller's to close."""
        self._devices[node] = device
        self._addresses[node] = address
        self._routes[device.fd] = {}
        self._largest_packet = max(self._largest_packet, mtu)
        self._epoll.register(device.fd, select.EPOLLIN)

    def prepare(self, changes: Sequence[Change]) -> None:
        """Nothing: a change is a handful of assignments."""

    def apply(self, changes: Sequence[Change], now_ns: int) -> None:
        """KeyError for a node that was not added."""
        for change in changes:
            lane = self._lanes.get(change.link) or self._new_lane(change.link)
            lane.fifo.apply(change.state, now_ns)
            self._schedule(lane)

    def survey(self) -> Iterator[None]:
        """Nothing: what is counted is here."""
        return iter(())

    def measured(self) -> dict[str, object]:
        links = {
            f"{source} {destination}": {
                "offered": lane.fifo.offered,
                "offered_bytes": lane.fifo.offered_bytes,
                "delivered": lane.fifo.delivered,
                "delivered_bytes": lane.fifo.delivered_bytes,
                "lost": lane.fifo.lost,
                "overflow": lane.fifo.overflow,
                "down": lane.fifo.down,
                "in_flight": len(lane.fifo.flight),
            }
            for (source, destination), lane in self._lanes.items()
        }
        return {**self.totals(), "links": links}

    def totals(self) -> dict[str, object]:
        """Of all links, and of the relay itself; drops in the kernel mean that it did not keep up."""
        fifos = [lane.fifo for lane in self._lanes.values()]
        return {
            "offered": sum(fifo.offered for fifo in fifos),
            "delivered": sum(fifo.delivered for fifo in fifos),
            "lost": sum(fifo.lost for fifo in fifos),
            "overflow": sum(fifo.overflow for fifo in fifos),
            "down": sum(fifo.down for fifo in fifos),
            "stray": self.stray,
            "refused": self.refused,
            "kernel_drops": self._kernel_drops(),
            "lateness": self.lateness.document(),
            "unread": self.unread.document(),
        }

    def at(self, due_ns: int, timer: Timer) -> None:
        """Call the timer at a monotonic instant, from inside the loop."""
        self._timer_count += 1
        heapq.heappush(self._timers, (due_ns, self._timer_count, timer))

    def watch(self, fd: int, callback: Callable[[], None]) -> bool:
        """Call back whenever `fd` can be read or its other end is gone; False for a plain file."""
        try:
            self._epoll.register(fd, select.EPOLLIN)
        except PermissionError:
            return False
        self._watched[fd] = callback
        return True

    def stop(self) -> None:
        """`run` returns after this round."""
        self._stopping = True

    def close(self) -> None:
        self._epoll.close()

    def run(self) -> None:
        """Until `stop`. What timers and callbacks raise comes out here."""
        gc.collect()
        gc.freeze()  # the collector would walk the plan in the middle of a packet; the loop makes no cycles
        gc.disable()
        try:
            self._loop()
        finally:
            gc.enable()
            gc.unfreeze()

    def _loop(self) -> None:
        # The hot path: everything in local names, no call that is not needed.
        read, write, clock = os.read, os.write, monotonic_ns
        heappop, heapreplace, heappush = heapq.heappop, heapq.heapreplace, heapq.heappush
        heap, timers, routes, watched = self._heap, self._timers, self._routes, self._watched
        add_lateness, add_unread = self.lateness.add, self.unread.add
        poll, wait, ready = self._epoll.poll, select.select, [self._epoll.fileno()]
        size = self._largest_packet + 4
        looked_ns = clock()
        more = False  # whether packets came in a burst, so that there are likely more
        while not self._stopping:
            now_ns = clock()
            while timers and timers[0][0] <= now_ns:
                timer = heappop(timers)[2]
                next_ns = timer(now_ns)
                if next_ns is not None:
                    self.at(next_ns, timer)
            while heap and heap[0][0] <= now_ns:
                due_ns, number, lane = heap[0]
                if due_ns != lane.due_ns:
                    heappop(heap)
                    continue
                fifo = lane.fifo
                packet = fifo.take()
                flight = fifo.flight
                if flight:
                    lane.due_ns = flight[0][0]
                    heapreplace(heap, (lane.due_ns, number, lane))
                else:
                    lane.due_ns = 0
                    heappop(heap)
                try:
                    write(lane.fd, packet)
                except OSError:
                    self.refused += 1
                add_lateness(clock() - due_ns)
            now_ns = clock()
            add_unread(now_ns - looked_ns)
            wait_ns = 1_000_000_000
            if heap:
                wait_ns = heap[0][0] - now_ns
            if timers and timers[0][0] - now_ns < wait_ns:
                wait_ns = timers[0][0] - now_ns
            if more or wait_ns <= 0 or wait(ready, (), (), wait_ns / 1e9)[0]:
                events = poll(0)
                more = False
            else:
                events = []
            looked_ns = clock()
            for fd, _ in events:
                lanes = routes.get(fd)
                if lanes is None:
                    watched[fd]()
                    continue
                now_ns = clock()
                try:
                    for _ in range(READ_AT_ONCE):
                        packet = read(fd, size)
                        lane_found = lanes.get(packet[16:20])
                        if lane_found is None:
                            self.stray += 1
                            continue
                        arrival_ns = lane_found.fifo.offer(packet, now_ns)
                        if not lane_found.due_ns and arrival_ns >= 0:
                            lane_found.due_ns = arrival_ns
                            heappush(heap, (arrival_ns, lane_found.number, lane_found))
                        if len(packet) < BULK_BYTES:
                            break
                        more = True
                except BlockingIOError:
                    pass
                except OSError:  # the device is gone, with its namespace
                    self._epoll.unregister(fd)

    def _new_lane(self, link: Link) -> Lane:
        source, destination = link
        digest = hashlib.sha256(f"{self._seed} {source} {destination}".encode()).digest()
        fifo = Fifo(int.from_bytes(digest[:8], "big"), self._overhead_bytes)
        lane = self._lanes[link] = Lane(fifo, self._devices[destination].fd, len(self._lanes))
        self._routes[self._devices[source].fd][self._addresses[destination]] = lane
        return lane

    def _schedule(self, lane: Lane) -> None:
        flight = lane.fifo.flight
        due_ns = flight[0][0] if flight else 0
        if due_ns != lane.due_ns:
            lane.due_ns = due_ns
            if due_ns:
                heapq.heappush(self._heap, (due_ns, lane.number, lane))

    def _kernel_drops(self) -> int:
        drops = 0
        for device in self._devices.values():
            with contextlib.suppress(OSError):
                drops += device.kernel_drops()
        return drops


def raise_priority() -> str:
    """Be woken before ordinary programs, as far as the host allows; what it came to: fifo, nice, normal."""
    syscalls.set_timer_slack(1)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
        return "fifo"
    except OSError:
        pass
    try:
        os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
        return "nice"
    except OSError:
        return "normal"
