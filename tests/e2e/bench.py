"""Daemons put together by hand, as on three machines: a folder each, with copies of all they need."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from orbitrain.contacts.contact import Contact, Sample
from orbitrain.contacts.plan import ContactPlan, PlanNode
from orbitrain.learning.tensors import encode_tensors
from orbitrain.results import Entry
from orbitrain.runtime.clock import SECOND_NS, ClockFile, unix_ns
from orbitrain.runtime.config import FedMeld, Gather, Link, NodeConfig, Operator, RingRegion, Task, dump_toml
from tests.e2e.lab import HERE, Lab, Program, in_order, journal_entries, wait_until
from tests.e2e.own.tides import Tides

SCENARIO_SHA256 = hashlib.sha256(b"three machines").hexdigest()
"""Of no scenario: plan and configurations only have to name the same."""

_given: set[int] = set()


def free_port() -> int:
    """A port below those that systems take for outgoing connections, and given out only once."""
    # From another place in every process, since two may run these tests at once.
    for n in range(8_000):
        port = 12_000 + (os.getpid() * 61 + n) % 8_000
        if port in _given:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port
    raise AssertionError("no free port")


def epoch_now() -> str:
    """A plan's epoch: this second."""
    now = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=unix_ns() // SECOND_NS)
    return now.replace(tzinfo=None).isoformat() + "Z"


def plan_by_hand(
    nodes: Mapping[str, str], passes: Sequence[tuple[str, str, float, float]], epoch: str
) -> ContactPlan:
    """`nodes`: kind by name; `passes`: (satellite, device, start s, end s), both ways at 2 Mbit/s."""
    contacts = []
    for satellite, device, start_s, end_s in passes:
        start_ns, end_ns = round(start_s * SECOND_NS), round(end_s * SECOND_NS)
        samples = (Sample(start_ns, 2_000_000, 2_000_000, 0.0, 1.0),)
        for ends in ((satellite, device), (device, satellite)):
            contacts.append(Contact(*ends, "service", start_ns, end_ns, samples))
    return ContactPlan(
        version=1,
        scenario_sha256=SCENARIO_SHA256,
        epoch=epoch,
        duration_ns=3600 * SECOND_NS,
        nodes=tuple(PlanNode(name, kind) for name, kind in nodes.items()),  # type: ignore[arg-type]
        contacts=tuple(sorted(contacts, key=lambda c: (c.start_ns, c.source, c.destination))),
    )


@dataclass(frozen=True, slots=True)
class Times:
    """Modelled times, scenario seconds."""

    acquisition_s: float = 1.0
    message_s: float = 0.2
    train_s: float = 0.4
    aggregate_s: float = 0.2


@dataclass(slots=True)
class Bench:
    """Nodes on a bench: one folder, one configuration and one program each."""

    lab: Lab
    plan: ContactPlan
    regions: Mapping[str, Sequence[str]]
    rounds: int
    times: Times = Times()
    inputs: int = 6
    clock: Path | None = None
    addresses: dict[str, str] = field(init=False)
    desks: dict[str, str] = field(init=False)
    seen: dict[tuple[str, str], str] = field(default_factory=dict)
    """Where (node, peer) dials instead of the peer's own address."""
    programs: dict[str, Program] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.addresses = {node.name: f"127.0.0.1:{free_port()}" for node in self.plan.nodes}
        self.desks = {node.name: f"127.0.0.1:{free_port()}" for node in self.plan.nodes}

    def kind(self, name: str) -> str:
        return next(node.kind for node in self.plan.nodes if node.name == name)

    def folder(self, name: str) -> Path:
        return self.lab.folder / name

    def place(self, name: str) -> Path:
        """Write a node's folder; returns its configuration file."""
        folder = self.folder(name)
        folder.mkdir()
        (folder / "plan.json").write_bytes(self.plan.to_json())
        shutil.copytree(HERE / "own", folder / "own", ignore=shutil.ignore_patterns("__pycache__"))
        weights = encode_tensors(Tides({"inputs": self.inputs}, self.regions, 3).initial())
        kind = self.kind(name)
        if kind == "device":
            (folder / "initial.safetensors").write_bytes(weights)
        times = self.times
        config = NodeConfig(
            name=name,
            kind=kind,  # type: ignore[arg-type]
            seed=3,
            scenario_sha256=SCENARIO_SHA256,
            clock=None if self.clock is None else str(self.clock),
            initial="initial.safetensors" if kind == "device" else None,
            initial_sha256=hashlib.sha256(weights).hexdigest(),
            link=Link(
                listen=self.addresses[name],
                peers={
                    peer: self.seen.get((name, peer), self.addresses[peer])
                    for peer in self.plan.neighbours(name)
                },
                acquisition_s=times.acquisition_s,
                message_s=times.message_s,
            ),
            operator=Operator(listen=self.desks[name]),
            fedmeld=FedMeld(
                rounds=self.rounds,
                delta=self.rounds + 1,
                alpha=0.5,
                train_s=times.train_s,
                aggregate_s=times.aggregate_s,
                regions=[
                    RingRegion(name=name, devices=list(devices)) for name, devices in self.regions.items()
                ],
            ),
            task=Task(spec="own.tides:Tides", options={"inputs": self.inputs}),
            gather=Gather(
                nodes={node: desk for node, desk in self.desks.items() if node != name}
                if kind == "ground"
                else {}
            ),
        )
        file = folder / "node.toml"
        file.write_text(dump_toml(config.model_dump(exclude_none=True)), encoding="utf-8")
        return file

    def start(self, *names: str) -> None:
        """Start nodes, in new or in existing folders, and wait until they are ready."""
        for name in names:
            file = self.folder(name) / "node.toml"
            if not file.exists():
                self.place(name)
            self.programs[name] = self.lab.start(
                sys.executable, "-m", f"{self.kind(name)}_node", "--config", file
            )
        for name in names:
            wait_until(f"{name} is ready", lambda name=name: self._ready(name))

    def stop(self, *names: str) -> None:
        """End nodes as an operator does; they must end well."""
        for name in names:
            self.programs[name].signal(signal.SIGTERM)
        for name in names:
            assert self.programs[name].wait() == 0, f"{name}: {self.programs[name].complained}"

    def _ready(self, name: str) -> bool:
        program = self.programs[name]
        assert program.code is None, f"{name} ended with {program.code}: {program.complained}"
        return program.said == "ready\n"

    def start_clock(self, rate: float) -> None:
        """Begin scenario time for nodes with a clock file."""
        assert self.clock is not None
        ClockFile(unix_ns(), 0, rate, 0).write(self.clock)

    def entries(self, *names: str) -> list[Entry]:
        return in_order([e for name in names for e in journal_entries(name, self.folder(name) / "state")])
