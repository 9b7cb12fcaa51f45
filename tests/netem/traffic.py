"""UDP flows between network namespaces: a process that sends, one that receives, and what arrived when.

    python traffic.py send|receive SPEC.json

A flow is a `Flow` as JSON. The sender writes [[sent ns of each packet] of each flow], and in the same form
how long each call took, the receiver [[(number, arrived ns) of each packet] of each flow], on the host's
real-time clock. Arrival is when the kernel took the packet off its device (SO_TIMESTAMPNS), so that how soon
this process is woken does not count.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import select
import socket
import struct
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from netem.syscalls import network_of

SO_TIMESTAMPNS = 35
SO_RCVBUFFORCE = 33
NUMBER = struct.Struct("=Q")
IP_UDP_BYTES = 28
HELD_UP_NS = 5_000_000
"""A sender that is behind by more goes on from there: all at once, its packets would overflow a queue."""


@dataclass(frozen=True, slots=True)
class Flow:
    source: str
    destination: str
    address: str
    port: int
    packets: int
    interval_ns: int
    payload: int
    start_ns: int = 0


@dataclass(frozen=True, slots=True)
class Seen:
    """Of one flow: when each packet was sent, (number, arrival) in the order of arrival, and how long each
    call to send took: a long one says little about when its packet left."""

    sent_ns: list[int]
    arrived: list[tuple[int, int]]
    took_ns: list[int] = field(default_factory=list)

    @property
    def missing(self) -> list[bool]:
        there = {number for number, _ in self.arrived}
        return [number not in there for number in range(len(self.sent_ns))]

    @property
    def reordered(self) -> int:
        numbers = [number for number, _ in self.arrived]
        return sum(later < earlier for earlier, later in itertools.pairwise(numbers))

    def expected_ns(self, flow: Flow, delay_ns: int, rate_bps: int, overhead: int = 14) -> list[int]:
        """When a link of this delay and rate would have let each packet arrive, queueing included."""
        bits = (flow.payload + IP_UDP_BYTES + overhead) * 8
        free_ns, expected = 0, []
        for sent_ns in self.sent_ns:
            free_ns = max(free_ns, sent_ns) + bits * 1_000_000_000 // rate_bps
            expected.append(free_ns + delay_ns)
        return expected

    def delay_errors_ns(self, flow: Flow, delay_ns: int, rate_bps: int) -> list[int]:
        expected = self.expected_ns(flow, delay_ns, rate_bps)
        return [arrived_ns - expected[number] for number, arrived_ns in self.arrived]


def exchange(flows: list[Flow], folder: Path, tail_s: float = 1.0) -> list[Seen]:
    """Send all flows at once; wait `tail_s` after the last packet was sent."""
    spec = folder / "flows.json"
    spec.write_text(json.dumps([asdict(flow) for flow in flows]))
    command = [sys.executable, __file__]
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [*command, "receive", str(spec)], stdin=pipe, stdout=pipe, text=True, env=here
    ) as receiver:
        assert receiver.stdin and receiver.stdout
        assert receiver.stdout.readline() == "ready\n"
        sent = subprocess.run(
            [*command, "send", str(spec)], stdout=pipe, text=True, env=here, check=True, timeout=100
        )
        receiver.stdin.write(f"{tail_s}\n")
        receiver.stdin.flush()
        arrived = json.loads(receiver.stdout.read())
    times, took = json.loads(sent.stdout)
    return [
        Seen(sent_ns, [(number, at) for number, at in got], took_ns)
        for sent_ns, got, took_ns in zip(times, arrived, took, strict=True)
    ]


def _socket_in(namespace: str) -> socket.socket:
    with network_of(namespace):
        return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


def send(flows: list[Flow]) -> None:
    sockets = [_socket_in(flow.source) for flow in flows]
    padding = [bytes(flow.payload - NUMBER.size) for flow in flows]
    sent: list[list[int]] = [[] for _ in flows]
    took: list[list[int]] = [[] for _ in flows]
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, -15)  # not real-time, of which the relay needs its share
    start_ns = time.monotonic_ns() + 20_000_000
    # Flows take turns, so that they do not all send in the same microsecond.
    turns = sorted(
        (start_ns + flow.start_ns + number * flow.interval_ns + index * flow.interval_ns // len(flows), index)
        for index, flow in enumerate(flows)
        for number in range(flow.packets)
    )
    held_up_ns = 0
    for at_ns, index in turns:
        wait_ns = at_ns + held_up_ns - time.monotonic_ns()
        if wait_ns < -HELD_UP_NS:
            held_up_ns -= wait_ns
        elif wait_ns > 30_000:
            time.sleep(wait_ns / 1e9)
        flow, mine = flows[index], sent[index]
        data = NUMBER.pack(len(mine)) + padding[index]
        now_ns = time.time_ns()
        sockets[index].sendto(data, (flow.address, flow.port))
        mine.append(now_ns)
        took[index].append(time.time_ns() - now_ns)
    json.dump([sent, took], sys.stdout)


def receive(flows: list[Flow]) -> None:
    arrived: list[list[tuple[int, int]]] = [[] for _ in flows]
    epoll = select.epoll()
    of: dict[int, tuple[socket.socket, list[tuple[int, int]]]] = {}
    for flow, mine in zip(flows, arrived, strict=True):
        endpoint = _socket_in(flow.destination)
        endpoint.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        try:
            endpoint.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 25)
        except OSError:
            endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        endpoint.bind((flow.address, flow.port))
        endpoint.setblocking(False)
        epoll.register(endpoint.fileno(), select.EPOLLIN)
        of[endpoint.fileno()] = endpoint, mine
    epoll.register(0, select.EPOLLIN)
    print("ready", flush=True)
    end_s = None
    while end_s is None or time.monotonic() < end_s:
        for fd, _ in epoll.poll(-1 if end_s is None else max(0.0, end_s - time.monotonic())):
            if fd == 0:
                end_s = time.monotonic() + float(sys.stdin.readline() or 0)
                epoll.unregister(0)
                continue
            endpoint, mine = of[fd]
            try:
                for _ in range(64):
                    data, extra, _, _ = endpoint.recvmsg(64, 64)
                    seconds, rest_ns = struct.unpack("=qq", extra[0][2])
                    mine.append((NUMBER.unpack_from(data)[0], seconds * 1_000_000_000 + rest_ns))
            except BlockingIOError:
                pass
    json.dump(arrived, sys.stdout)


if __name__ == "__main__":
    role, spec = sys.argv[1:]
    {"send": send, "receive": receive}[role]([Flow(**one) for one in json.loads(Path(spec).read_text())])
