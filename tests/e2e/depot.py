"""Daemons that only send, carry and receive files: a folder each, real links over loopback."""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from orbitrain.contacts.contact import Contact, Sample
from orbitrain.contacts.plan import ContactPlan, PlanNode
from orbitrain.results import Entry
from orbitrain.runtime.clock import SECOND_NS
from orbitrain.runtime.config import Link, NodeConfig, Operator, dump_toml
from tests.e2e.bench import epoch_now, free_port
from tests.e2e.lab import Lab, Program, journal_entries, wait_until

RATE_BPS = 200_000_000


def line_plan(kinds: Mapping[str, str], duration_s: int = 7200) -> ContactPlan:
    """Neighbours in the order given are in contact all the time; the others never."""
    names = list(kinds)
    contacts = []
    for pair in pairwise(names):
        for ends in (pair, pair[::-1]):
            samples = (Sample(0, 1_000_000, RATE_BPS, 0.0, 1.0),)
            contacts.append(Contact(*ends, "service", 0, duration_s * SECOND_NS, samples))
    nodes = tuple(PlanNode(name, kind) for name, kind in kinds.items())  # type: ignore[arg-type]
    return ContactPlan(1, "0" * 64, epoch_now(), duration_s * SECOND_NS, nodes, tuple(contacts))


@dataclass(slots=True)
class Depot:
    """`peers` by node; without a plan every node is always in contact with its peers."""

    lab: Lab
    kinds: Mapping[str, str]
    peers: Mapping[str, Sequence[str]]
    plan: ContactPlan | None = None
    clocks: Mapping[str, Path] = field(default_factory=dict)
    clock_error_s: float = 1.0
    addresses: dict[str, str] = field(init=False)
    programs: dict[str, Program] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.addresses = {name: f"127.0.0.1:{free_port()}" for name in self.kinds}
        desks = {name: f"127.0.0.1:{free_port()}" for name in self.kinds}
        for name, kind in self.kinds.items():
            folder = self.folder(name)
            folder.mkdir()
            if self.plan is not None:
                (folder / "plan.json").write_bytes(self.plan.to_json())
            config = NodeConfig(
                name=name,
                kind=kind,  # type: ignore[arg-type]
                seed=1,
                no_plan=self.plan is None,
                clock=str(self.clocks[name]) if name in self.clocks else None,
                link=Link(
                    listen=self.addresses[name],
                    peers={peer: self.addresses[peer] for peer in self.peers[name]},
                    real=True,
                    acquisition_s=0.0,
                    message_s=0.1,
                    clock_error_s=self.clock_error_s,
                ),
                operator=Operator(listen=desks[name]),
            )
            values = dump_toml(config.model_dump(exclude_none=True))
            self.file(name).write_text(values, encoding="utf-8")

    def folder(self, name: str) -> Path:
        return self.lab.folder / name

    def file(self, name: str) -> Path:
        return self.folder(name) / "node.toml"

    def start(self, *names: str) -> None:
        """Start nodes, and wait until they are ready."""
        for name in names:
            program = f"{self.kinds[name]}_node"
            self.programs[name] = self.lab.start(sys.executable, "-m", program, "--config", self.file(name))
        for name in names:
            wait_until(f"{name} is ready", lambda name=name: self._ready(name))

    def _ready(self, name: str) -> bool:
        program = self.programs[name]
        assert program.code is None, f"{name} ended with {program.code}: {program.complained}"
        return program.said == "ready\n"

    def kill(self, name: str) -> None:
        self.programs[name].process.kill()
        self.programs[name].wait()

    def stop(self) -> None:
        """End all that run; they must end well."""
        for program in self.programs.values():
            if program.code is None:
                program.signal(signal.SIGTERM)
        for name, program in self.programs.items():
            assert program.wait() in (0, -signal.SIGKILL), f"{name}: {program.complained}"

    def send(self, source: str, file: Path, to: str, *options: object) -> Program:
        return self.lab.orbitrain("send", file, "--to", to, "--node", self.file(source), *options)

    def inbox(self, name: str, origin: str) -> Path:
        return self.folder(name) / "inbox" / origin

    def entries(self, name: str) -> list[Entry]:
        return journal_entries(name, self.folder(name) / "state")

    def told(self, name: str, kind: str) -> list[Mapping[str, object]]:
        return [entry.event.fields for entry in self.entries(name) if entry.event.kind == kind]

    def arriving_bytes(self, name: str) -> int:
        """Bytes of partial objects that a node has on disk, or about to be."""
        folder = self.folder(name) / "state" / "blobs" / "incoming"
        try:
            return sum(path.stat().st_size for path in folder.iterdir())
        except FileNotFoundError:
            return 0
