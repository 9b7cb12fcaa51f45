"""`orbitrain run`: a scenario on real processes, from its files to its result."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ground_node.gatherer import archive_path
from orbitrain.machine import Digest
from orbitrain.outputs import RunFolder, replace_bytes, write_json
from orbitrain.results import UNSHAPED, Entry, until_the_end
from orbitrain.runtime.clock import SECOND_NS, Clock, ClockFile, unix_ns, wall_s
from orbitrain.runtime.daemon import blobs_path, journal_path
from orbitrain.scenario import ScenarioError
from orbitrain.setting import Setting
from orbitrain.systems.system import System
from orbitrain.testbed.calibration import calibrate
from orbitrain.testbed.cues import Cue, cueing
from orbitrain.testbed.deployment import (
    Beginning,
    bus_endpoint,
    node_files,
    remove,
    socket_folder,
    write_nodes,
)
from orbitrain.testbed.shaping import ShapedLinks, Shaping
from orbitrain.testbed.supervisor import DaemonFailed, Supervisor
from orbitrain.testbed.uplink import Given, give
from orbitrain.transport.bus import Subscriber
from orbitrain.transport.rpc import LinkDown, OperatorClient, PeerRefused
from orbitrain.transport.store.archive import Archive
from orbitrain.transport.store.blobs import BlobStore
from orbitrain.transport.store.errors import StoreError
from orbitrain.transport.store.journal import Journal
from orbitrain.virtual import workshop

START_MARGIN_S = 0.5
"""Wall seconds from the last daemon's being ready to the clock's start: all have read the file by then."""

COMMIT_S = 1.0
"""Wall seconds between two writings of `clock.json`: at most this much time is run again after a crash."""

END_S = 20.0
"""Wall seconds that draining and gathering may take at the end of a run."""

News = Callable[[str, Mapping[str, Any]], None]
"""Called with (kind, fields): what the display shows."""


class Interrupted(Exception):
    """Stopped by the user; the run can be resumed."""


@dataclass(frozen=True, slots=True)
class Ended:
    """What the daemons' part of a run took. `restarts` are daemons started again.

    `links_truth` says how true the links were, as in result.json.
    """

    wall_seconds: float
    restarts: int
    links_truth: Mapping[str, Any]


def begun_with(folder: RunFolder) -> str | None:
    """How the links of a run that was begun in the folder are made; None where none was."""
    try:
        found = json.loads(folder.identity.read_bytes()).get("links")
    except (OSError, ValueError, AttributeError):
        return None
    return found if isinstance(found, str) else None


def run_daemons(
    setting: Setting, folder: RunFolder, rate: float, say: News, shaping: Shaping | None = None
) -> tuple[Ended, System]:
    """Run, or go on with, a scenario in `folder`, which this process has claimed. Returns its system, too.

    Without `shaping` contacts are gated by the plan, and transfers take modelled times. Raises ScenarioError,
    DaemonFailed, or Interrupted.
    """
    with folder.only_one():
        links, begun = "none" if shaping is None else shaping.backend, begun_with(folder)
        if begun not in (None, links):
            raise ScenarioError(
                f"{folder.path}: --links: must be {begun}, which the run was begun with, not {links}"
            )
        sockets = socket_folder(folder.path)
        try:
            with workshop(setting) as shop:
                objects, system = shop.objects(), shop.system
                if not folder.plan.exists():
                    folder.write_plan(setting.plan)
                if setting.truth is not None and not folder.truth.exists():
                    replace_bytes(folder.truth, setting.truth.to_json())
                for name, file in system.files().items():
                    shutil.copyfile(shop.engine.path(objects[name]), folder.path / file)
                honest, what = calibrate(shop, objects).honest_rate(setting)
            say("rate", {"rate": rate, "honest": honest, "what": what})
            if shaping is None:
                write_nodes(setting, folder, sockets, (system, objects))
            ended = asyncio.run(_Run(setting, folder, sockets, (system, objects), say, shaping).run(rate))
            return ended, system
        finally:
            with contextlib.suppress(OSError):  # what is left is swept by the next run
                remove(sockets)


class _Run:
    def __init__(
        self,
        setting: Setting,
        folder: RunFolder,
        sockets: Path,
        begins: Beginning,
        say: News,
        shaping: Shaping | None,
    ) -> None:
        self._setting = setting
        self._folder = folder
        self._sockets = sockets
        self._begins = begins
        files = node_files(setting, folder)
        self._supervisor = Supervisor([(name, kind, files[name]) for name, kind in setting.scenario.nodes()])
        self._say = say
        self._shaping = shaping
        self._shaped: ShapedLinks | None = None
        self._cue: Callable[[Cue], None] = lambda cue: None
        self._finished = asyncio.Event()
        self._interrupts = 0
        self._interrupted = asyncio.Event()

    async def run(self, rate: float) -> Ended:
        async with cueing(None if self._shaping is None else self._shaping.cues) as self._cue:
            return await self._run(rate)

    async def _run(self, rate: float) -> Ended:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._interrupt)
        before = json.loads(self._folder.identity.read_bytes())
        truth: Mapping[str, Any] | None = before.get("links_truth")
        before["links"] = "none" if self._shaping is None else self._shaping.backend
        write_json(self._folder.identity, before)
        begun_s = wall_s()
        subscriber = Subscriber(bus_endpoint(self._sockets))
        listening = asyncio.create_task(self._listen(subscriber))
        await self._supervisor.clear()
        resumed_ns = self._resumed_ns()
        waiting = ClockFile(None, resumed_ns, rate, resumed_ns)
        waiting.write(self._folder.clock)
        try:
            self._say("starting", {"nodes": len(self._setting.scenario.nodes()), "t_ns": resumed_ns})
            if self._shaping is not None:
                links = ShapedLinks(self._setting, self._folder, rate, self._shaping, truth, self._tell)
                await self._unless_interrupted(self._shape(links, resumed_ns))
            await self._unless_interrupted(self._supervisor.start())
            await self._unless_interrupted(self._uplink())
            started = ClockFile(unix_ns() + int(START_MARGIN_S * SECOND_NS), resumed_ns, rate, resumed_ns)
            started.write(self._folder.clock)
            assert started.anchor is not None
            clock = Clock(started.anchor)
            await self._until_the_end(clock, started)
            self._say("ending", {})
            await self._gather(clock)
        finally:
            if self._shaped is not None:
                truth = await self._shaped.judge()
            await self._supervisor.stop()
            if self._shaped is not None:
                await self._shaped.down()
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
            subscriber.close()
            ended = Ended(
                before.get("wall_seconds", 0.0) + wall_s() - begun_s,
                before.get("restarts", 0) + self._supervisor.restarts,
                truth or UNSHAPED,
            )
            write_json(
                self._folder.identity,
                {
                    **before,
                    "wall_seconds": ended.wall_seconds,
                    "restarts": ended.restarts,
                    **({} if truth is None else {"links_truth": truth}),
                },
            )
        if self._interrupted.is_set():
            raise Interrupted
        return ended

    async def _shape(self, links: ShapedLinks, resumed_ns: int) -> None:
        """Bring the links up, and place the nodes in their namespaces."""
        self._shaped = links
        emulated = await links.up(resumed_ns)
        write_nodes(self._setting, self._folder, self._sockets, self._begins, emulated)
        self._supervisor.place(links.namespaces)

    def _tell(self, cue: Cue) -> None:
        self._say("link", cue)
        self._cue(cue)

    def _interrupt(self) -> None:
        self._interrupts += 1
        self._interrupted.set()
        if self._interrupts > 1:
            self._supervisor.kill()

    async def _unless_interrupted(self, work: Any) -> None:
        """Await `work`; give it up when the user interrupts."""
        task, stop = asyncio.create_task(work), asyncio.create_task(self._interrupted.wait())
        try:
            await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()
        finally:
            for one in (task, stop):
                one.cancel()
            await asyncio.gather(task, stop, return_exceptions=True)
        if not task.done() or task.cancelled():
            raise Interrupted

    def _resumed_ns(self) -> int:
        """Where a run goes on: its latest committed time; 0 for a new one. Raises DaemonFailed."""
        latest = ClockFile.read(self._folder.clock).committed_ns if self._folder.clock.exists() else 0
        for name, _ in self._setting.scenario.nodes():
            path = journal_path(self._folder.nodes / name)
            if path.exists():
                try:
                    with Journal(path, "normal") as journal:
                        latest = max(latest, journal.load().committed_ns)
                except StoreError as error:
                    raise DaemonFailed(
                        f"{error}; delete {path.parent} and {name} begins anew, from what the others have"
                    ) from None
        return latest

    async def _uplink(self) -> None:
        """Give every node the updates of the plan that it does not have. Raises DaemonFailed."""
        for update in self._setting.updates:
            addresses = {name: f"unix:{self._sockets / name}" for name, _ in self._setting.scenario.nodes()}
            for name, given in (await give(addresses, update.plan, update.at_ns)).items():
                if given.outcome is not Given.TAKEN and given.outcome is not Given.KNOWN:
                    raise DaemonFailed(
                        f"{name} does not take revision {update.plan.revision} of the plan: {given.reason}"
                    )

    async def _uplink_again(self) -> None:
        """A node that lost its disk has lost its updates."""
        try:
            await self._uplink()
        except DaemonFailed as error:
            self._say("plan_refused", {"reason": str(error)})

    async def _listen(self, subscriber: Subscriber) -> None:
        while True:
            kind, fields = await subscriber.receive()
            self._say(kind, fields)
            if kind == "progress" and fields.get("finished") is True:
                self._finished.set()

    async def _failed(self) -> None:
        """Returns never; raises DaemonFailed when a daemon or the links cannot be kept running."""
        watched = [asyncio.create_task(self._supervisor.failed())]
        if self._shaped is not None:
            watched.append(asyncio.create_task(self._shaped.failed()))
        try:
            await asyncio.gather(*watched)
        finally:
            for task in watched:
                task.cancel()
            await asyncio.gather(*watched, return_exceptions=True)

    async def _until_the_end(self, clock: Clock, started: ClockFile) -> None:
        """Until every region is done, the scenario's time is up, a daemon fails, or the user interrupts."""
        failed = asyncio.create_task(self._failed())
        ends = [asyncio.create_task(self._finished.wait()), asyncio.create_task(self._interrupted.wait())]
        restarts, uplink = 0, asyncio.create_task(asyncio.sleep(0))
        try:
            while clock.now_ns() < self._setting.plan.duration_ns:
                done, _ = await asyncio.wait(
                    {failed, *ends}, timeout=COMMIT_S, return_when=asyncio.FIRST_COMPLETED
                )
                if failed in done:
                    failed.result()
                now_ns = clock.now_ns()
                ClockFile(started.unix_ns, started.scenario_ns, started.rate, now_ns).write(
                    self._folder.clock
                )
                if self._shaped is not None:
                    await self._shaped.tick(now_ns)
                self._say("time", {"t_ns": now_ns, "restarts": self._supervisor.restarts})
                if self._supervisor.restarts > restarts and self._setting.updates and uplink.done():
                    restarts = self._supervisor.restarts
                    uplink = asyncio.create_task(self._uplink_again())
                if done:
                    return
        finally:
            for task in (failed, uplink, *ends):
                task.cancel()
            await asyncio.gather(failed, uplink, *ends, return_exceptions=True)

    async def _gather(self, clock: Clock) -> None:
        """Drain every node, then have the ground read all journals to their end."""
        scenario = self._setting.scenario
        latest = 0
        for name, _ in scenario.nodes():
            if name != scenario.ground.name:
                drained = await self._ask(name, lambda client: client.drain(5.0))
                latest = max(latest, drained.committed_ns if drained is not None else 0)
        gathered = await self._ask(scenario.ground.name, lambda client: client.gather(END_S))
        if gathered is None or gathered.unreachable:
            names = scenario.ground.name if gathered is None else ", ".join(gathered.unreachable)
            self._say("ungathered", {"nodes": names})
        await self._ask(scenario.ground.name, lambda client: client.drain(5.0))
        now_ns = max(clock.now_ns(), latest)
        file = ClockFile.read(self._folder.clock)
        ClockFile(file.unix_ns, file.scenario_ns, file.rate, now_ns).write(self._folder.clock)

    async def _ask(self, name: str, call: Callable[[OperatorClient], Any]) -> Any:
        """One call to a node's desk, repeated while the node is started again; None if it stays away."""
        deadline_s = wall_s() + END_S
        while wall_s() < deadline_s and self._interrupts < 2:
            client = OperatorClient(f"unix:{self._sockets / name}")
            try:
                return await call(client)
            except (LinkDown, PeerRefused):
                await asyncio.sleep(0.2)
            finally:
                await client.close()
        return None


def collect(setting: Setting, folder: RunFolder, system: System) -> tuple[dict[str, Any], int]:
    """Write what was gathered into the run's folder; returns its summary and the scenario time of its end.

    `system` is the run's own.
    """
    scenario = setting.scenario
    ground = folder.nodes / scenario.ground.name
    with Archive(archive_path(ground)) as archive:
        gathered = [Entry(node, incarnation, event) for node, incarnation, event in archive.events()]
        evaluations = {digest: accuracy for digest, accuracy, _ in archive.evaluations()}
        metrics = list(archive.metrics())
    entries, end_ns = until_the_end(gathered, system.watch(), setting.plan.duration_ns)
    summary = system.summarise(entries, evaluations)
    folder.write_events(entries)
    folder.write_metrics(sorted(metrics + system.metrics(entries, evaluations)))
    folder.write_models(_models(setting, folder, system.models(summary)))
    return summary, end_ns


def _models(setting: Setting, folder: RunFolder, digests: Mapping[str, Digest]) -> dict[str, Path]:
    """The file of each model, in whichever stopped node's store it is."""
    found: dict[str, Path] = {}
    for name, _ in reversed(setting.scenario.nodes()):
        wanted = {region: digest for region, digest in digests.items() if region not in found}
        if wanted and (folder.nodes / name).exists():
            blobs = BlobStore(blobs_path(folder.nodes / name))
            found |= {region: blobs.path(digest) for region, digest in wanted.items() if blobs.has(digest)}
            blobs.close()
    return found
