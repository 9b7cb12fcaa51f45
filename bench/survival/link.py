"""Two namespaces and the link between them, with an outage that begins when it is told to.

The emulator holds the link up at scenario time 0 until its clock is started; the plan's outage begins 0.2 s
after that. So whoever watches the link's byte counters begins an outage wherever in a transfer he likes.
Packets of an outage vanish: no reset, no ICMP.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from netem import syscalls
from netem.namespaces import FOLDER, HostError
from netem.tun.fifo import ETHERNET_BYTES
from orbitrain.contacts.contact import Contact, Sample
from orbitrain.contacts.plan import ContactPlan, PlanNode
from orbitrain.runtime.clock import ClockFile, unix_ns

ROOT: Final = Path(__file__).resolve().parents[2]
SERVER, CLIENT = "server", "client"
_S: Final = 1_000_000_000
_LEAD_NS: Final = _S // 5  # between starting the clock and the outage: longer than a look at the clock's file
_PLAN_S: Final = 100_000  # longer than any case
_TX_BYTES, _TX_PACKETS = 8, 9  # of the words behind a device's name in /proc/net/dev
_RX_BYTES, _RX_PACKETS = 0, 1


@dataclass(frozen=True, slots=True)
class Shape:
    """Of both directions: bit/s at L2, seconds one way."""

    rate_bps: int = 16_000_000
    delay_s: float = 0.020
    outage_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Count:
    """L2 bytes so far: what the client gave the link and took off it, what the server took off it."""

    sent: int
    received: int
    arrived: int


class _Device:
    """A namespace's `tun` device, read without entering the namespace again."""

    def __init__(self, namespace: str) -> None:
        with syscalls.network_of(f"{FOLDER}/{namespace}"):
            self._fd = os.open("/proc/thread-self/net/dev", os.O_RDONLY | os.O_CLOEXEC)

    def counts(self) -> tuple[int, int]:
        """(sent, received) in L2 bytes."""
        for line in os.pread(self._fd, 1 << 16, 0).decode("ascii").splitlines():
            name, _, words = line.partition(":")
            if words and name.strip() != "lo":
                numbers = [int(word) for word in words.split()]
                sent = numbers[_TX_BYTES] + numbers[_TX_PACKETS] * ETHERNET_BYTES
                return sent, numbers[_RX_BYTES] + numbers[_RX_PACKETS] * ETHERNET_BYTES
        raise HostError("the namespace has lost its device")

    def close(self) -> None:
        os.close(self._fd)


class Emulated:
    """The link, up; `close` removes it. HostError."""

    def __init__(self, run_id: str, folder: Path, shape: Shape) -> None:
        self.shape = shape
        self._clock = folder / "clock.json"
        plan = folder / "plan.json"
        plan.write_bytes(_plan(shape).to_json())
        ClockFile(None, 0, 1.0, 0).write(self._clock)
        command = [sys.executable, "-m", "netem", "up", "--links", "tun", "--plan", str(plan)]
        command += ["--run-id", run_id, "--clock", str(self._clock), "--late-ms", "100"]
        pipe = subprocess.PIPE
        self._log = (folder / "netem.log").open("wb")
        self._process = subprocess.Popen(
            command,
            stdin=pipe,
            stdout=pipe,
            stderr=self._log,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            start_new_session=True,  # an interrupt is for the bench: it ends the link after its users
        )
        try:
            assert self._process.stdout is not None
            ready: dict[str, Any] = json.loads(self._process.stdout.readline() or "{}")
            if "ready" not in ready:
                raise HostError(f"the emulator did not start: {(folder / 'netem.log').read_text().strip()}")
            self.places: dict[str, dict[str, str]] = ready["ready"]
            self._devices = {node: _Device(place["netns"]) for node, place in self.places.items()}
        except BaseException:
            self.close()
            raise

    def address(self, node: str) -> str:
        return self.places[node]["address"]

    def inside(self, node: str) -> list[str]:
        """What a command begins with to run in the node's namespace."""
        return ["ip", "netns", "exec", self.places[node]["netns"]]

    def count(self) -> Count:
        sent, received = self._devices[CLIENT].counts()
        return Count(sent, received, self._devices[SERVER].counts()[1])

    def begin_outage(self) -> tuple[float, float]:
        """(when it begins, when the link is up again) on the monotonic clock, in seconds."""
        begins_s = time.monotonic() + _LEAD_NS / _S
        ClockFile(unix_ns(), 0, 1.0, 0).write(self._clock)
        return begins_s, begins_s + self.shape.outage_s

    def close(self) -> None:
        for device in getattr(self, "_devices", {}).values():
            device.close()
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()  # which ends it, and its namespaces with it
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.terminate()
            self._process.wait(10)
        self._process.stdout.close()
        self._log.close()


def _plan(shape: Shape) -> ContactPlan:
    down_ns, end_ns = _LEAD_NS, _PLAN_S * _S
    up_ns = down_ns + round(shape.outage_s * _S)
    windows = [(0, down_ns), (up_ns, end_ns)] if shape.outage_s else [(0, end_ns)]
    contacts = [
        Contact(
            source,
            destination,
            "service",
            start_ns,
            stop_ns,
            (Sample(start_ns, round(shape.delay_s * _S), shape.rate_bps, 0.0, 1.0),),
        )
        for source, destination in ((SERVER, CLIENT), (CLIENT, SERVER))
        for start_ns, stop_ns in windows
    ]
    return ContactPlan(
        version=1,
        scenario_sha256="0" * 64,
        epoch="2026-01-01T00:00:00Z",
        duration_ns=end_ns,
        nodes=(PlanNode(SERVER, "satellite"), PlanNode(CLIENT, "satellite")),
        contacts=tuple(contacts),
    )
