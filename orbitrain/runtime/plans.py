"""The plans of a node: the one it was started with, and the updates it was given since, kept on its disk.

An update is a file of its own, named after its revision and the instant from which it is believed. It is
written and synced under another name first: what has the name is whole, and what is answered is there after a
crash. Which updates have been taken up already follows from the time of the journal's last commit, since the
step that takes one up is the first one at or after its instant.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orbitrain.contacts.compact import read_plan
from orbitrain.contacts.contact import PlanError
from orbitrain.contacts.plan import ContactPlan
from orbitrain.contacts.updates import replaces
from orbitrain.machine import NEVER_NS, Severity
from orbitrain.transport.store.folders import sync_folder

WAITING_MAX = 16
"""Updates that wait for their instant: an uplink a day for a fortnight; each is held in memory."""

_NAME = re.compile(r"(\d{19})-(\d{19})\.plan")

Prepare = Callable[[ContactPlan], Callable[[], None]]
"""Checks an update and computes what follows from it; calling the result puts that in force.

Raises ValueError with one line for a plan that this node cannot go on with.
"""


class PlanRefused(ValueError):
    """An update that this node does not take; one line."""


@dataclass(frozen=True, slots=True)
class _Update:
    at_ns: int
    plan: ContactPlan
    follow: Callable[[], None]


class PlanShelf:
    """What a node believes now, and from when on it will believe what else."""

    def __init__(self, folder: Path, plan: ContactPlan, committed_ns: int) -> None:
        """`plan` is the configured one; updates in `folder` follow it. `plan` is then the one believed.

        A stored update that is damaged, or does not follow, is left out with a remark.
        """
        self._folder = folder
        self._prepare: list[Prepare] = []
        self._remarks: list[tuple[Severity, str, Mapping[str, Any]]] = []
        self.plan = self.newest = plan
        stored: list[tuple[int, ContactPlan]] = []
        for revision, at_ns, path in self._stored():
            try:
                found = read_plan(path.read_bytes())
            except (OSError, PlanError) as error:
                self._doubt(revision, f"{path.name}: {error}")
                continue
            wanted, why = replaces(self.newest, found)
            if not wanted or found.revision != revision:
                if revision > plan.revision:
                    self._doubt(revision, why)
                continue
            self.newest = found
            stored.append((at_ns, found))
        for at_ns, found in stored:
            if at_ns <= committed_ns:
                self.plan = found  # ascending: the newest of those taken up
        self._loaded = [(at_ns, one) for at_ns, one in stored if at_ns > committed_ns]
        self._waiting: list[_Update] = []
        self.past_ns = committed_ns
        """The instant of the last step: an update can only be believed after it."""
        self.stepping = asyncio.Lock()
        """Held during a step, and while an update is put on the shelf: neither overtakes the other."""

    def _stored(self) -> list[tuple[int, int, Path]]:
        """(revision, at_ns, path), ascending."""
        found = []
        for path in self._folder.glob("*.plan") if self._folder.is_dir() else ():
            match = _NAME.fullmatch(path.name)
            if match:
                found.append((int(match[1]), int(match[2]), path))
        return sorted(found)

    def _doubt(self, revision: int, reason: str) -> None:
        fields = {"revision": revision, "reason": reason[:500]}
        self._remarks.append((Severity.WARNING_HI, "plan_unusable", fields))

    def remark_late(self, plan: ContactPlan, late_s: float) -> None:
        """An update came after the instant it was for."""
        fields = {"revision": plan.revision, "late_s": round(late_s, 3)}
        self._remarks.append((Severity.WARNING_LO, "plan_late", fields))

    def take_remarks(self) -> list[tuple[Severity, str, Mapping[str, Any]]]:
        """(severity, kind, fields) of what is to be reported with the next step."""
        remarks, self._remarks = self._remarks, []
        return remarks

    def ask(self, prepare: Prepare) -> None:
        """Have every update examined by this. Before `open`."""
        self._prepare.append(prepare)

    def open(self) -> None:
        """Put the stored updates that wait on the shelf, as far as they can be used."""
        for at_ns, plan in self._loaded:
            try:
                self._add(at_ns, plan, self.examine(plan))
            except PlanRefused as error:
                self._doubt(plan.revision, str(error))
        self._loaded = []

    # ------------------------------------------------------------------------------------- updates

    def examine(self, plan: ContactPlan) -> Callable[[], None]:
        """What puts an update in force, computed now. Raises PlanRefused. It touches nothing of the shelf."""
        try:
            swaps = [prepare(plan) for prepare in self._prepare]
        except ValueError as error:
            raise PlanRefused(str(error)) from None

        def follow() -> None:
            for swap in swaps:
                swap()

        return follow

    def check(self, plan: ContactPlan) -> None:
        """Raises PlanRefused for an update that does not follow the newest plan here, or has no room."""
        wanted, why = replaces(self.newest, plan)
        if not wanted:
            raise PlanRefused(why)
        if len(self._waiting) >= WAITING_MAX:
            raise PlanRefused(f"{WAITING_MAX} updates wait already")

    def draft(self, data: bytes) -> Path:
        """The bytes of an update on disk, synced, under a name that is not looked for at start."""
        self._folder.mkdir(exist_ok=True)
        path = self._folder / "fresh"
        with path.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        return path

    def publish(self, draft: Path, plan: ContactPlan, at_ns: int) -> None:
        """Give a draft its name, durably. What is older than the plan believed goes."""
        draft.rename(self._folder / f"{plan.revision:019d}-{at_ns:019d}.plan")
        sync_folder(self._folder)
        sync_folder(self._folder.parent)  # the first one also made the folder
        for revision, _, path in self._stored():
            if revision < self.plan.revision:
                with contextlib.suppress(OSError):
                    path.unlink()

    def add(self, at_ns: int, plan: ContactPlan, follow: Callable[[], None]) -> None:
        """Put a published update on the shelf."""
        self.newest = plan
        self._add(at_ns, plan, follow)

    def _add(self, at_ns: int, plan: ContactPlan, follow: Callable[[], None]) -> None:
        self._waiting = sorted([*self._waiting, _Update(at_ns, plan, follow)], key=lambda one: one.at_ns)

    def next_ns(self) -> int:
        """When the next update is to be taken up."""
        waiting = [*(at_ns for at_ns, _ in self._loaded), *(update.at_ns for update in self._waiting)]
        return min(waiting, default=NEVER_NS)

    def take(self, t_ns: int) -> list[tuple[int, ContactPlan]]:
        """For a step at `t_ns`: believe the updates whose instant has come, which are returned in order."""
        self.past_ns = t_ns
        taken = []
        while self._waiting and self._waiting[0].at_ns <= t_ns:
            update = self._waiting.pop(0)
            if update.plan.revision > self.plan.revision:  # else a later one had an earlier instant
                update.follow()
                self.plan = update.plan
                taken.append((update.at_ns, update.plan))
        return taken
