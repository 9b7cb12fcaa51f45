"""How fast scenario time may pass on this host before work takes longer than the scenario declares."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from orbitrain.runtime.clock import wall_s
from orbitrain.setting import Setting
from orbitrain.step import Step
from orbitrain.systems.system import Objects, Trial
from orbitrain.transport.rpc import LinkClient, LinkServer
from orbitrain.transport.store.blobs import BlobStore
from orbitrain.transport.store.journal import Journal
from orbitrain.v1 import link_pb2 as wire
from orbitrain.virtual import Workshop

MESSAGES = 20
"""Messages timed: enough for a median that one slow commit does not move."""


class _Desk:
    """Answers letters after a commit, as a node does."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def settles(self, letter: wire.Letter) -> bool:
        return bool(letter.cancelled)

    def make_room(self) -> None:
        """Nothing is kept that could go."""

    def admits(self, source: str) -> str | None:
        return None

    def refused(self, source: str, reason: str) -> None:
        raise AssertionError(reason)

    async def ping(self, request: wire.PingRequest) -> wire.PingReply:
        return wire.PingReply(node="b")

    async def deliver(self, letter: wire.Letter) -> wire.Receipt:
        self._journal.commit(Step(letter.sequence), ())
        return wire.Receipt(outcome=wire.OUTCOME_DELIVERED)

    async def hand(self, letters: Sequence[wire.Letter]) -> list[wire.Receipt]:
        return [await self.deliver(letter) for letter in letters]


@dataclass(frozen=True, slots=True)
class Calibration:
    """Wall seconds on this host, with one thing at a time; `trial` is the job that took `job_s`."""

    dial_s: float
    message_s: float
    job_s: float
    trial: Trial

    def honest_rate(self, setting: Setting) -> tuple[float, str]:
        """The highest rate at which declared times still hold, and which of them sets it.

        Everything of one instant shares the cores: all that the trial is of works at once, and its messages
        go at once.
        """
        scenario, trial = setting.scenario, self.trial
        share = max(1.0, trial.at_once / (os.cpu_count() or 1))
        round_s = 4 * self.message_s + self.job_s
        limits = {
            "compute.message_s": scenario.compute.message_s / (self.message_s * share),
            "links.acquisition_s": scenario.links.acquisition_s / (self.dial_s * share),
            trial.field: trial.declared_s / (self.job_s * share),
        }
        if trial.contacts_s:
            limits["the shortest contact"] = min(trial.contacts_s) / ((self.dial_s + round_s) * share)
        what = min(limits, key=lambda name: limits[name])
        return limits[what], what


async def _link_times() -> tuple[float, float]:
    """(dial and ping, one message with its commit), wall seconds."""
    with tempfile.TemporaryDirectory(prefix="orbitrain-") as folder:
        blobs = BlobStore(Path(folder) / "objects")
        journal = Journal(Path(folder) / "journal.sqlite", "full")
        server = LinkServer("127.0.0.1:0", blobs, _Desk(journal), ["a"])
        address = f"127.0.0.1:{await server.start()}"
        begun_s = wall_s()
        client = LinkClient(address, "a")
        await client.ping(wire.PingRequest(source="a"), 5.0)
        dial_s = wall_s() - begun_s
        times = []
        for n in range(1, MESSAGES + 1):
            begun_s = wall_s()
            letter = wire.Letter(source="a", destination="b", role="r", kind="k", sequence=n)
            await client.deliver(letter, 5.0)
            times.append(wall_s() - begun_s)
        await client.close()
        await server.stop(0.1)
        journal.close()
        blobs.close()
    return dial_s, sorted(times)[len(times) // 2]


def calibrate(workshop: Workshop, objects: Objects) -> Calibration:
    """Measure this host. Raises JobError if the job that is tried fails."""
    dial_s, message_s = asyncio.run(_link_times())
    trial = workshop.system.trial(objects)
    job_s = 0.0
    for _ in range(2):  # the first one loads the data
        begun_s = wall_s()
        workshop.engine.work(trial.kind, trial.params, trial.objects)
        job_s = wall_s() - begun_s
    return Calibration(dial_s, message_s, job_s, trial)
