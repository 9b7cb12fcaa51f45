"""UDP between two namespaces from one process: packets with a number, their kernel's time of arrival."""

from __future__ import annotations

import itertools
import socket
import struct
import time
from dataclasses import dataclass, field

from netem.kernel.network import KernelNetwork
from netem.syscalls import network_of

SO_SNDBUFFORCE, SO_RCVBUFFORCE, SO_TIMESTAMPNS = 32, 33, 35
HEADERS = 28 + 14
NUMBER = struct.Struct("=Q")
PORT = 5000


@dataclass
class Talk:
    """One way from `source` to `destination`; `send` counts on."""

    network: KernelNetwork
    source: str
    destination: str
    port: int = PORT
    sent_ns: list[int] = field(default_factory=list)
    arrived: list[tuple[int, int]] = field(default_factory=list)  # number, ns

    def __post_init__(self) -> None:
        self.sender, self.receiver = self._socket(self.source), self._socket(self.destination)
        self.sender.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 1 << 26)
        self.receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 26)
        self.receiver.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.receiver.bind((str(self.network.places[self.destination].address), self.port))
        self.sender.connect((str(self.network.places[self.destination].address), self.port))

    def __enter__(self) -> Talk:
        return self

    def __exit__(self, *exception: object) -> None:
        self.sender.close()
        self.receiver.close()

    def _socket(self, node: str) -> socket.socket:
        with network_of(str(self.network.places[node].namespace)):
            return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def send(self, packets: int, payload: int = 60, every_s: float = 0.0) -> None:
        padding = bytes(payload - NUMBER.size)
        next_s = time.monotonic()
        for _ in range(packets):
            if every_s:
                next_s += every_s
                time.sleep(max(0.0, next_s - time.monotonic()))
            self.sent_ns.append(time.time_ns())
            self.sender.send(NUMBER.pack(len(self.sent_ns) - 1) + padding)

    def receive(self, quiet_s: float = 0.5, most: int | None = None) -> list[int]:
        """Numbers in order of arrival, until nothing came for so long, or `most` are here."""
        self.receiver.settimeout(quiet_s)
        numbers: list[int] = []
        try:
            while most is None or len(numbers) < most:
                data, extra, _, _ = self.receiver.recvmsg(64, 64)
                seconds, rest_ns = struct.unpack("=qq", extra[0][2])
                numbers.append(NUMBER.unpack_from(data)[0])
                self.arrived.append((numbers[-1], seconds * 1_000_000_000 + rest_ns))
        except TimeoutError:
            pass
        return numbers

    def delays_ns(self) -> list[int]:
        return [at_ns - self.sent_ns[number] for number, at_ns in self.arrived]


def runs_of_losses(sent: int, arrived: list[int]) -> list[int]:
    there = set(arrived)
    lost = [number not in there for number in range(sent)]
    return [len(list(group)) for is_lost, group in itertools.groupby(lost) if is_lost]


def out_of_order(numbers: list[int]) -> int:
    return sum(later < earlier for earlier, later in itertools.pairwise(numbers))
