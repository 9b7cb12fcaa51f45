"""The links of one start of a run: what they follow, what is told of them, how true they were."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from orbitrain.outputs import RunFolder, replace_bytes, write_json
from orbitrain.plans import kept
from orbitrain.runtime.clock import SECOND_NS
from orbitrain.scenario import ScenarioError
from orbitrain.setting import Setting, Update
from orbitrain.testbed.cues import Cue
from orbitrain.testbed.deployment import Emulated
from orbitrain.testbed.emulator import CLEAR_S, Emulator, Probe, Wiring
from orbitrain.testbed.supervisor import DaemonFailed
from orbitrain.testbed.tcp import set_tcp
from orbitrain.testbed.truth import unchecked, worse

PROBE_LEAD_S: Final = 3.0
"""Wall seconds before another plan is followed at which the probe of the one before ends: `tick` comes about
once a second."""


@dataclass(frozen=True, slots=True)
class Shaping:
    """Links of real packets between network namespaces, moved by `backend`.

    `probed`: measured while the run goes on. `cues`: the endpoint where outsiders learn of links.
    `congestion`: TCP's congestion control in the namespaces; None: what they have anyway.
    """

    backend: str
    probed: bool = True
    cues: str | None = None
    congestion: str | None = None


def run_id(folder: Path) -> str:
    """Names the namespaces of a run: the same for every start of a run in the same place."""
    return hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]


class ShapedLinks:
    """`up`, then `tick` about once a second and wait on `failed`; `judge` and at last `down` in any case."""

    def __init__(
        self,
        setting: Setting,
        folder: RunFolder,
        rate: float,
        shaping: Shaping,
        truth: Mapping[str, Any] | None,
        tell: Callable[[Cue], None],
    ) -> None:
        """`truth`: what earlier starts of the run have found; `tell` is called when a link comes or goes."""
        self.truth = truth
        self._setting = setting
        self._folder = folder
        self._rate = rate
        self._shaping = shaping
        self._wiring = Wiring(shaping.backend, run_id(folder.path), folder.path, folder.clock, setting.seed)
        self._emulator = Emulator(self._wiring, lambda what, value: tell(value) if what == "cue" else None)
        self._probe = Probe(self._wiring)
        self._tcp: dict[str, str] = {}
        self._followed = 0
        """Updates of the plan that the links know of."""
        self._measured = 0
        """... and that the probe knows of."""
        self._kept: Sequence[Update] = ()
        self._kept_ns = 0

    async def up(self, resumed_ns: int) -> Emulated:
        """Bring the links up, as they are at `resumed_ns`. Raises ScenarioError, DaemonFailed."""
        if not await self._emulator.clear(CLEAR_S):
            raise ScenarioError(
                f"{self._folder.path}: --out: the links of an earlier start are still up, and their process "
                "lives"
            )
        plan = self._first_plan(resumed_ns)
        self._measured = self._followed
        try:
            places = await self._emulator.start(plan)
        except DaemonFailed as error:
            raise self._told(error) from None
        self._tcp = set_tcp(self._emulator.namespaces.values(), self._rate, self._shaping.congestion)
        await self._follow(resumed_ns)
        if self._shaping.probed:
            await self._probe.start(plan)
        addresses = {node: place["address"] for node, place in places.items()}
        return Emulated(self._wiring.addresses, addresses)

    @property
    def namespaces(self) -> Mapping[str, Path]:
        """Of the nodes, by name."""
        return self._emulator.namespaces

    async def failed(self) -> None:
        """Returns never; raises DaemonFailed when the links are gone."""
        try:
            await self._emulator.failed()
        except DaemonFailed as error:
            raise self._told(error) from None

    async def tick(self, now_ns: int) -> None:
        """Look for what has changed by scenario time `now_ns`."""
        await self._follow(now_ns)
        await self._measure(now_ns)

    async def judge(self) -> Mapping[str, Any] | None:
        """End the probe; how true the links of the whole run were, None where they never came up."""
        if self._probe.running:
            await self._probe.stop()
            found = self._probe.found
            self.truth = worse(
                self.truth,
                self._unchecked(f"the probe left nothing: {self._probe.last_words}")
                if found is None
                else found["links_truth"],
            )
        elif self.truth is None and self.namespaces:
            self.truth = self._unchecked("not asked for")
        return self.truth

    async def down(self) -> None:
        """End the links, and what is left of them."""
        await self._emulator.stop()
        record = self._emulator.record
        if record:
            write_json(
                self._folder.path / "links.json",
                {"run_id": self._wiring.run_id, **record, "tcp": self._tcp},
            )

    def _unchecked(self, why: str) -> dict[str, Any]:
        return unchecked(self._shaping.backend, why)

    def _told(self, error: DaemonFailed) -> DaemonFailed:
        return DaemonFailed(f"{error} (see {self._wiring.log})")

    # --- the plan -------------------------------------------------------------------------------------------

    def _first_plan(self, t_ns: int) -> Path:
        """The file of the plan that links follow from `t_ns` on: the true one, else what is believed then."""
        if self._setting.truth is not None:
            return self._folder.truth.resolve()
        due = [update for update in self._updates() if update.at_ns <= t_ns]
        self._followed = len(due)
        return self._file_of(due[-1]) if due else self._folder.plan.resolve()

    def _file_of(self, update: Update) -> Path:
        """A file of an update's plan for the emulator."""
        folder = self._folder.path / "links"
        folder.mkdir(exist_ok=True)
        path = folder / f"plan-{update.plan.revision}.json"
        replace_bytes(path, update.plan.to_json())
        return path.resolve()

    async def _follow(self, now_ns: int) -> None:
        """Where there is no true plan, links follow the updates of the believed one, one at a time."""
        if self._setting.truth is not None:
            return
        updates = self._updates()
        if self._followed < len(updates) and (
            self._followed == 0 or now_ns >= updates[self._followed - 1].at_ns
        ):
            # Of those whose instant has come only the last counts.
            due = sum(update.at_ns <= now_ns for update in updates)
            self._followed = max(due, self._followed + 1)
            update = updates[self._followed - 1]
            await self._emulator.follow(self._file_of(update), update.at_ns)

    def _updates(self) -> Sequence[Update]:
        """Those of the run, with what the operator has given since."""
        try:
            changed_ns = self._folder.updates.stat().st_mtime_ns
            if changed_ns != self._kept_ns:
                self._kept_ns = changed_ns
                plans = kept(self._folder)
                self._kept = () if plans is None else plans.updates
        except (OSError, ScenarioError):
            pass  # just being written: the next look will do
        mine = self._setting.updates
        return self._kept if len(self._kept) > len(mine) else mine

    async def _measure(self, now_ns: int) -> None:
        """A probe holds links to one plan: another one takes over when another plan is followed."""
        if not self._shaping.probed or self._measured >= self._followed:
            return
        update = self._updates()[self._followed - 1]
        if now_ns >= update.at_ns:
            await self.judge()
            self._measured = self._followed
            await self._probe.start(self._file_of(update))
        elif self._probe.running and now_ns + int(PROBE_LEAD_S * self._rate * SECOND_NS) >= update.at_ns:
            await self.judge()
