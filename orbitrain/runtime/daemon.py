"""One node as a process: what every kind of daemon does from its configuration to its end.

The composition roots (`satellite_node`, `ground_node`, `device_node`) say which machines and which extra duty
their kind of node has; the rest is here.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from orbitrain.contacts.always import always_in_contact
from orbitrain.contacts.compact import read_plan
from orbitrain.contacts.contact import PlanError
from orbitrain.contacts.plan import ContactPlan
from orbitrain.core import Core
from orbitrain.learning.outcome import JobError
from orbitrain.machine import LocalProtocolError, Machine
from orbitrain.protocols.bundles import ROLE, Custodian
from orbitrain.protocols.sfft import Params as SfftParams
from orbitrain.roles import PlanWindows, RegionServices, SfftAsks
from orbitrain.routes import PlanRoutes
from orbitrain.runtime import clock as clocks
from orbitrain.runtime.clock import SECOND_NS, Anchor, Clock, ClockError, ClockFile
from orbitrain.runtime.compute import Compute, Jobs
from orbitrain.runtime.config import ConfigError, NodeConfig, load_config, sfft_way
from orbitrain.runtime.congestion import flows_here
from orbitrain.runtime.contacts import Times
from orbitrain.runtime.driver import Driver
from orbitrain.runtime.inbox import Inbox
from orbitrain.runtime.operator import OperatorDesk
from orbitrain.runtime.outlook import RealLinks
from orbitrain.runtime.plans import PlanShelf
from orbitrain.runtime.sending import FileDesk
from orbitrain.runtime.telemetry import Telemetry
from orbitrain.transport.bus import Publisher
from orbitrain.transport.rpc import (
    AddressInUse,
    InsecureAddress,
    InvalidAddress,
    LinkServer,
    OperatorServer,
)
from orbitrain.transport.store.blobs import BlobStore
from orbitrain.transport.store.errors import StoreError
from orbitrain.transport.store.journal import Journal

SAMPLE_S = 2.0
"""Wall seconds between two samples of a node's metrics."""

STOP_GRACE_S = 1.0
"""Wall seconds that calls under way may take at the end: a node is gone within 5 s of SIGTERM."""

CONTROL_VARIABLE = "ORBITRAIN_CONTROL"
"""Set by a supervisor that holds this process's standard input: when that closes, the node ends."""

EXIT_USAGE = 2
EXIT_DEFECT = 70


@dataclass(slots=True)
class Node:
    """A node that is being put together, as its composition root sees it."""

    config: NodeConfig
    folder: Path
    plans: PlanShelf
    truth: ContactPlan | None
    """What the links follow, if that is not the plan believed."""
    journal: Journal
    blobs: BlobStore
    jobs: Jobs
    telemetry: Telemetry

    @property
    def plan(self) -> ContactPlan:
        """What the node believes now."""
        return self.plans.plan

    def services(self) -> RegionServices:
        """What its machines ask the plan; it follows the plan's updates."""
        services = RegionServices(self.plan, self.config.regions())
        self.plans.ask(services.prepare)
        return services

    def sfft_asks(self, params: SfftParams) -> SfftAsks:
        """What SFFT's roles ask the plan; it follows the plan's updates."""
        table = self.config.sfft
        assert table is not None
        edge_s = self.config.link.acquisition_s + self.config.link.message_s
        asks = SfftAsks(self.plan, params, sfft_way(table, edge_s))
        self.plans.ask(asks.prepare)
        return asks

    def windows(self) -> PlanWindows:
        """When its contacts end by the plan; it follows the plan's updates."""
        windows = PlanWindows(self.plan, self.config.name)
        self.plans.ask(windows.prepare)
        return windows

    def custodian(self) -> Custodian:
        """Who keeps its bundles; what it asks of the plan follows the plan's updates."""
        routes = plan_routes(self.config, self.plan)
        self.plans.ask(routes.prepare)
        return Custodian(self.config.name, routes)


def plan_routes(config: NodeConfig, plan: ContactPlan) -> PlanRoutes:
    """Of a node's bundles. Modelled links keep to the plan's time; a clock errs over real ones."""
    error_s = config.link.clock_error_s if config.has_real_links and not config.no_plan else 0.0
    edges = round(config.link.acquisition_s * SECOND_NS), round(error_s * SECOND_NS)
    return PlanRoutes(plan, config.name, *edges)


def _real_links(config: NodeConfig) -> RealLinks | None:
    """What a node is told of its links; None where they are modelled."""
    if not config.has_real_links:
        return None
    error_ns = round(config.link.clock_error_s * SECOND_NS)
    return RealLinks(not config.no_plan, config.link.flows or flows_here(), error_ns)


class Duty:
    """Work of a node beside its machines, such as gathering. This one is none."""

    async def run(self, clock: Clock) -> None:
        """Until cancelled."""
        await asyncio.Event().wait()

    async def gather(self) -> list[str]:
        """Bring it to its end; names what could not be reached."""
        return []


@dataclass(frozen=True, slots=True)
class Composition:
    """What makes a kind of node: its machines by role, what its worker is warmed up with, its duty if any."""

    kind: str
    machines: Callable[[Node], Mapping[str, Machine]]
    warm: Callable[[Node], Mapping[str, Any]] = lambda node: {}
    duty: Callable[[Node], Duty] | None = None


def main(composition: Composition) -> int:
    """Run a daemon from the command line. Returns its exit code."""
    parser = argparse.ArgumentParser(
        prog=f"{composition.kind}-node", description=f"An orbitrain {composition.kind} node."
    )
    parser.add_argument("--config", required=True, type=Path, help="the node's TOML file")
    parser.add_argument(
        "--no-plan", action="store_true", help="always in contact with its peers, as far as links carry"
    )
    arguments = parser.parse_args()
    path: Path = arguments.config
    try:
        config = load_config(path, composition.kind, no_plan=arguments.no_plan)
        return asyncio.run(_serve(composition, config, path))
    except (ConfigError, ClockError, StoreError, AddressInUse, InsecureAddress, InvalidAddress) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        return 130


def journal_path(state: Path) -> Path:
    """The journal of a node with this state folder."""
    return state / "journal.sqlite"


def blobs_path(state: Path) -> Path:
    """The objects of a node with this state folder."""
    return state / "blobs"


def _load_plan(config: NodeConfig, path: Path, name: str) -> ContactPlan:
    """A plan's file, named in the configuration at `path`. Raises ConfigError."""
    file = path.parent / name
    try:
        plan = read_plan(file.read_bytes())
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None
    except PlanError as error:
        raise ConfigError(f"{file}: {error}") from None
    if config.scenario_sha256 not in (None, plan.scenario_sha256):
        raise ConfigError(
            f"{file}: scenario_sha256: is the plan of another scenario "
            f"({plan.scenario_sha256[:12]}, not {(config.scenario_sha256 or '')[:12]})"
        )
    if plan.for_node not in (None, config.name):
        raise ConfigError(f"{file}: for_node: is the slice for {plan.for_node}, this node is {config.name}")
    return plan


def _nodes_known(config: NodeConfig, plan: ContactPlan) -> None:
    """Raises ValueError for a plan that does not know a node that this one has to do with."""
    known = {node.name: node.kind for node in plan.nodes}
    # A slice need not speak of a peer that only turns up unannounced, nor of other regions' devices.
    peers = config.link.peers if plan.for_node is None else ()
    regions = config.fedmeld.regions if plan.for_node is None and config.fedmeld else config.regions()
    others = [*_sfft_nodes(config, plan), *_emsfl_nodes(config, plan)]
    devices = [device for region in regions for device in region.devices]
    for name in [config.name, *peers, *devices, *others]:
        if name not in known:
            raise ValueError(f"{name!r} is not a node of the plan")
    if known[config.name] != config.kind:
        raise ValueError(f"kind: the plan says that {config.name} is a {known[config.name]}")


def _sfft_nodes(config: NodeConfig, plan: ContactPlan) -> Sequence[str]:
    """Nodes whose contacts an SFFT role asks the plan about. Raises ValueError for a slice without them."""
    if config.sfft is None:
        return ()
    if plan.for_node is None:
        return config.sfft.names
    if config.name == config.sfft.server:
        raise ValueError("for_node: the server needs the whole plan")
    return next((members for members in config.sfft.planes if config.name in members), ())


def _emsfl_nodes(config: NodeConfig, plan: ContactPlan) -> Sequence[str]:
    """Nodes of EMS-FL that a plan must know; in a slice the satellite, as devices know nobody else."""
    if config.emsfl is None:
        return ()
    table = config.emsfl
    return [table.satellite, *(table.devices if plan.for_node is None else ())]


def _prepare(config: NodeConfig, plan: ContactPlan) -> Callable[[], None]:
    """Examines an update. Raises ValueError."""
    _nodes_known(config, plan)
    return lambda: None


def load_plans(config: NodeConfig, path: Path) -> tuple[ContactPlan, ContactPlan | None]:
    """The configured plan, and the true one where there is one. Raises ConfigError."""
    if config.no_plan:
        return always_in_contact(config.name, config.kind, config.link.peers), None
    plan = _load_plan(config, path, config.plan)
    try:
        _nodes_known(config, plan)
    except ValueError as error:
        raise ConfigError(f"{path}: {error} {path.parent / config.plan}") from None
    if config.truth is None:
        return plan, None
    truth = _load_plan(config, path, config.truth)
    if truth.epoch != plan.epoch:
        raise ConfigError(
            f"{path.parent / config.truth}: epoch: must be the believed plan's, {plan.epoch}, "
            f"not {truth.epoch}"
        )
    return plan, truth


def time_at_rest(config: NodeConfig, epoch: str, committed_ns: int) -> int:
    """Scenario time of a node that does not run: with a run it stands still."""
    return committed_ns if config.clock else max(committed_ns, Clock(Anchor.of_epoch(epoch)).now_ns())


def _preload(config: NodeConfig, folder: Path, blobs: BlobStore) -> list[str]:
    """Put what it begins with into the store. Raises ConfigError."""
    if config.initial is None and config.kind == "device" and config.fedmeld is not None:
        raise ConfigError(f"{config.name}: initial: a device needs the file of initial weights")
    found = [
        _put(config, folder / each.file, each.sha256, "preload.sha256", blobs) for each in config.preload
    ]
    if config.initial is not None:
        wanted = config.initial_sha256
        found.append(_put(config, folder / config.initial, wanted, "initial_sha256", blobs))
    return found


def _put(config: NodeConfig, file: Path, sha256: str | None, field: str, blobs: BlobStore) -> str:
    try:
        digest = blobs.put(file.read_bytes())
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None
    if digest != sha256:
        raise ConfigError(f"{file}: its SHA-256 is {digest}, {field} says {sha256}")
    if blobs.size(digest) > blobs.partial_quota_bytes:
        raise ConfigError(
            f"{config.name}: store: quotas must leave partial objects at least the "
            f"{blobs.size(digest)} bytes of a model, not {blobs.partial_quota_bytes}"
        )
    return digest


async def _serve(composition: Composition, config: NodeConfig, path: Path) -> int:
    folder = path.parent
    plan, truth = load_plans(config, path)
    state = folder / config.state
    state.mkdir(parents=True, exist_ok=True)
    try:
        publisher = None if config.bus is None else Publisher(config.bus.endpoint)
    except ValueError as error:
        raise ConfigError(f"{path}: bus.endpoint: {error}") from None
    with contextlib.ExitStack() as stack:
        if publisher is not None:
            stack.callback(publisher.close)
        quotas = config.store
        blobs = BlobStore(blobs_path(state), quotas.quota_bytes, quotas.partial_quota_bytes)
        stack.callback(blobs.close)
        journal = stack.enter_context(Journal(journal_path(state), config.journal.sync))
        preloaded = _preload(config, folder, blobs)
        compute, telemetry = Compute(), Telemetry(config.name, publisher)
        jobs = Inbox(folder / config.inbox, compute)
        await _check_device(config, path, compute, blobs)
        durable = journal.load()
        plans = PlanShelf(state / "plans", plan, durable.committed_ns)
        plans.ask(partial(_prepare, config))
        node = Node(config, folder, plans, truth, journal, blobs, jobs, telemetry)
        try:
            machines = dict(composition.machines(node)) if config.is_learning else {}
            machines[ROLE] = node.custodian()
            core = Core(config.name, machines, durable, blobs.size)
        except LocalProtocolError as error:
            raise ConfigError(f"{state}: {error}") from None
        plans.open()
        life = _Life(node, core, preloaded, durable.committed_ns, _Stopping())
        warm = asyncio.create_task(_warmed(composition, node, compute), name="warm")
        duty = composition.duty if config.is_learning and config.gather.nodes else None
        try:
            return await life.live(duty(node) if duty is not None else Duty(), path, warm)
        finally:
            await compute.close()
            await asyncio.gather(warm, return_exceptions=True)


async def _check_device(config: NodeConfig, path: Path, compute: Compute, blobs: BlobStore) -> None:
    """Raises ConfigError for a device that the backbone is to be run on and cannot be."""
    if config.sfft is None or config.backbone_device == "cpu":
        return
    digest = config.sfft.backbone
    inputs = {"backbone": blobs.path(digest)} if blobs.has(digest) else {}
    try:
        params = {"backbone_device": config.backbone_device}
        await compute.run("sfft.device", params, inputs, blobs.scratch / "device")
    except JobError as error:
        await compute.close()
        raise ConfigError(f"{path}: sfft.work.backbone_device: {error}") from None


async def _warmed(composition: Composition, node: Node, compute: Compute) -> None:
    """The worker has what it needs. A node that trains nothing has none until a job comes."""
    if node.config.is_learning:
        await compute.run("warm", composition.warm(node), {}, node.blobs.scratch / "warm")


class _Stopping:
    """Set by SIGTERM, SIGINT, or the end of the supervisor's pipe."""

    def __init__(self) -> None:
        self.event = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.event.set)
        if os.environ.get(CONTROL_VARIABLE):
            os.set_blocking(0, False)
            loop.add_reader(0, self._control)

    def _control(self) -> None:
        if not os.read(0, 4096):
            asyncio.get_running_loop().remove_reader(0)
            self.event.set()


class _Life:
    """From ready to the end."""

    def __init__(
        self, node: Node, core: Core, preloaded: list[str], committed_ns: int, stopping: _Stopping
    ) -> None:
        self._node = node
        self._core = core
        self._preloaded = preloaded
        self._committed_ns = committed_ns
        self._stopping = stopping
        self._stepping: asyncio.Task[None] | None = None

    async def live(self, duty: Duty, path: Path, warm: asyncio.Task[None]) -> int:
        node = self._node
        with ThreadPoolExecutor(1, "disk") as disk:
            self._disk = disk
            desk = OperatorDesk(node.config.name, node.journal, self._on_disk, node.plans, duty.gather)
            # Updates of the plan may be given before the clock starts.
            operator = OperatorServer(node.config.operator.listen, desk, node.blobs)
            await operator.start()
            stopped = asyncio.create_task(self._stopping.event.wait())
            starting = asyncio.create_task(self._start_clock(path, warm))
            try:
                await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
                if not starting.done():
                    return 0
                return await self._drive(starting.result(), desk, duty, stopped)
            finally:
                for task in (starting, stopped):
                    task.cancel()
                await asyncio.gather(starting, stopped, return_exceptions=True)
                await operator.stop(STOP_GRACE_S)

    async def _drive(self, clock: Clock, desk: OperatorDesk, duty: Duty, stopped: asyncio.Task[bool]) -> int:
        node, config = self._node, self._node.config
        shaped = config.link.shaped
        driver = Driver(
            self._core,
            node.plans,
            clock,
            (node.journal, node.blobs),
            node.jobs,
            node.telemetry,
            self._disk,
            node.truth,
            _real_links(config),
        )
        self._driver = driver
        driver.reception.peers = {*config.link.peers, *driver.links.neighbours(config.name)}
        link = LinkServer(config.link.listen, node.blobs, driver.reception, driver.reception.peers, shaped)
        await link.start()
        times = Times(round(config.link.acquisition_s * SECOND_NS), round(config.link.message_s * SECOND_NS))
        self._stepping = asyncio.create_task(
            driver.run(config.link.peers, times, self._preloaded, self._committed_ns)
        )
        desk.opened(clock, driver.wake, self._drained, driver.transfers, FileDesk(driver))
        aside = [asyncio.create_task(duty.run(clock)), asyncio.create_task(self._sample(driver, clock))]
        watched: set[asyncio.Task[object]] = {self._stepping, stopped, *aside}
        try:
            while not stopped.done():
                done, _ = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
                watched -= done
                for task in done - {stopped}:
                    failure = task.exception() or (driver.failure if task is self._stepping else None)
                    if failure is not None:
                        traceback.print_exception(failure)
                        return EXIT_DEFECT
            return 0
        finally:
            driver.drain()
            for task in aside:
                task.cancel()
            await asyncio.gather(self._stepping, *aside, return_exceptions=True)
            await link.stop(STOP_GRACE_S)

    async def _on_disk(self, work: Any, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._disk, work, *arguments)

    async def _start_clock(self, path: Path, warm: asyncio.Task[None]) -> Clock:
        """The run's clock once the run starts it, or UTC for a node of its own.

        Time does not begin before the worker is warm; a node that comes back into a run does not wait for it.
        """
        config = self._node.config
        file = None if config.clock is None else path.parent / config.clock
        if file is None or ClockFile.read(file).anchor is None:
            try:
                await asyncio.shield(warm)
            except JobError as error:
                raise ConfigError(f"{path}: task.spec: {error}") from None
        print("ready", flush=True)
        return Clock(Anchor.of_epoch(self._node.plan.epoch)) if file is None else await clocks.started(file)

    async def _drained(self) -> int:
        assert self._stepping is not None
        self._driver.drain()
        await asyncio.gather(self._stepping, return_exceptions=True)
        return self._driver.latest_ns

    async def _sample(self, driver: Driver, clock: Clock) -> None:
        """Metrics into the journal, and to the display, every SAMPLE_S."""
        while True:
            t_ns = clock.now_ns()
            values = self._node.telemetry.sample()
            await driver.on_disk(self._node.journal.add_metrics, t_ns, list(values.items()))
            self._node.telemetry.publish("sample", {"t_ns": t_ns, "values": values})
            await asyncio.sleep(SAMPLE_S)
