"""The files that daemons are started with: one TOML a node, beside the plan and the initial weights."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from orbitrain.outputs import RunFolder, replace_bytes
from orbitrain.runtime.config import Bus, Gather, Link, NodeConfig, Operator, dump_toml
from orbitrain.scenario import ScenarioError
from orbitrain.setting import Setting
from orbitrain.systems.system import Objects, System

FIRST_PORT = 20_000
LAST_PORT = 32_000
"""Below the range from which systems take ports for outgoing connections."""

EMULATED_PORT = 7900
"""Of every node's link server where each has a network namespace, hence an address, of its own."""

PLACE_CHARACTERS = 24
"""A socket's path has at most 104, and a node's name may take 64 of them."""

_PREFIX = "orbitrain-"
OWNER = "run"
"""File in a socket folder that says which run's it is."""


def socket_folder(out: Path) -> Path:
    """A private folder for this run's management and telemetry sockets; their paths must be short.

    The same for every start of a run in the same place, so that one that was killed leaves nothing over.
    Raises ScenarioError if somebody else has it.
    """
    name = hashlib.sha256(str(out.resolve()).encode()).hexdigest()[:12]
    folder = _place() / f"{_PREFIX}{name}"
    sweep()
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise ScenarioError(f"{folder}: belongs to another user")
    (folder / OWNER).write_text(str(out.resolve()), encoding="utf-8")
    return folder


def _place() -> Path:
    """Where temporary files go, unless that has a long name (macOS): then /tmp."""
    place = Path(tempfile.gettempdir())
    return place if len(str(place)) <= PLACE_CHARACTERS else Path("/tmp")


@contextlib.contextmanager
def private_folder() -> Iterator[Path]:
    """A folder that is removed at the end, or by the next sweep should this process be killed."""
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_place()))
    with RunFolder(folder).only_one():
        (folder / OWNER).write_text(str(folder), encoding="utf-8")
        try:
            yield folder
        finally:
            remove(folder)


def sweep(name: str | None = None, *, dry_run: bool = False) -> list[Path]:
    """Remove the socket folders of runs that were killed and never gone on with, all or that of one run.

    Answers which they were; with `dry_run` they stay.
    """
    found = []
    for folder in sorted(_place().glob(f"{_PREFIX}*")):
        if name is not None and folder.name != f"{_PREFIX}{name}":
            continue
        with contextlib.suppress(OSError):  # somebody else's, or gone already
            if folder.stat().st_uid != os.getuid():
                continue
            run = RunFolder(Path((folder / OWNER).read_text(encoding="utf-8")))
            with contextlib.suppress(ScenarioError), _unused(run):
                if not dry_run:
                    remove(folder)
                found.append(folder)
    return found


@contextlib.contextmanager
def _unused(run: RunFolder) -> Iterator[None]:
    """Nobody runs in the folder meanwhile. Raises ScenarioError."""
    if run.path.is_dir():
        with run.only_one():
            yield
    else:
        yield


def remove(folder: Path) -> None:
    """Remove a socket folder, its owner's name last: a daemon that is ending may take its own socket away.

    Raises OSError.
    """
    for path in folder.iterdir():
        if path.name != OWNER:
            path.unlink(missing_ok=True)
    (folder / OWNER).unlink(missing_ok=True)
    folder.rmdir()


def bus_endpoint(sockets: Path) -> str:
    """Where the run's telemetry goes; no node's name has a dot."""
    return f"ipc://{sockets / 'bus.socket'}"


def _free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _ports(seed: str) -> Iterator[int]:
    """Free ports, from a place in the range that depends on the run, so that two runs seldom meet."""
    span = LAST_PORT - FIRST_PORT
    start = int(hashlib.sha256(seed.encode()).hexdigest()[:8], 16) % span
    for n in range(span):
        port = FIRST_PORT + (start + n) % span
        if _free(port):
            yield port
    raise ScenarioError(f"no free port on 127.0.0.1 in {FIRST_PORT}..{LAST_PORT}")


def _kept_address(path: Path) -> str | None:
    """The address that a node of an unfinished run listened on, if it is free."""
    try:
        address = tomllib.loads(path.read_text(encoding="utf-8"))["link"]["listen"]
        return address if _free(int(address.rpartition(":")[2])) else None
    except (OSError, KeyError, ValueError):
        return None


def _neighbours(setting: Setting, name: str) -> list[str]:
    """Whom a node ever meets, by what is or will be believed and by the true plan."""
    plans = [setting.plan, *(update.plan for update in setting.updates)]
    if setting.truth is not None:
        plans.append(setting.truth)
    known = {other for other, _ in setting.scenario.nodes()}
    return sorted(known & {peer for plan in plans for peer in plan.neighbours(name)})


def node_files(setting: Setting, folder: RunFolder) -> dict[str, Path]:
    """Where the configuration of every node is, by name."""
    return {name: folder.nodes.resolve() / f"{name}.toml" for name, _ in setting.scenario.nodes()}


def _loopback_addresses(folder: RunFolder, files: Mapping[str, Path]) -> dict[str, str]:
    kept = {name: _kept_address(file) for name, file in files.items()}
    # A kept address is as free as any other: it must not be given to the node of one that is not.
    fresh = (
        address
        for port in _ports(str(folder.path.resolve()))
        if (address := f"127.0.0.1:{port}") not in kept.values()
    )
    return {name: address or next(fresh) for name, address in kept.items()}


Beginning: TypeAlias = tuple[System, Objects]
"""The system of a run, and what its nodes begin with."""


@dataclass(frozen=True, slots=True)
class Emulated:
    """Where nodes are when links are emulated: the network, and each node's address in it."""

    network: str
    addresses: Mapping[str, str]


def write_nodes(
    setting: Setting,
    folder: RunFolder,
    sockets: Path,
    begins: Beginning,
    emulated: Emulated | None = None,
) -> None:
    """Write nodes/NAME.toml for every node; without `emulated` on loopback, with links that are modelled."""
    scenario, (system, objects) = setting.scenario, begins
    folder.nodes.mkdir(exist_ok=True)
    nodes, files = scenario.nodes(), node_files(setting, folder)
    if emulated is None:
        addresses = _loopback_addresses(folder, files)
    else:
        addresses = {name: f"{emulated.addresses[name]}:{EMULATED_PORT}" for name, _ in nodes}
    desks = {name: f"unix:{sockets / name}" for name, _ in nodes}
    for name, kind in nodes:
        peers = {peer: addresses[peer] for peer in _neighbours(setting, name)}
        config = NodeConfig(
            name=name,
            kind=kind,
            seed=setting.seed,
            plan="../plan.json",
            # What emulated links do no node knows but by trying.
            truth=None if setting.truth is None or emulated is not None else f"../{folder.truth.name}",
            scenario_sha256=scenario.sha256,
            state=name,
            clock="../clock.json",
            link=Link(
                listen=addresses[name],
                peers=peers,
                shaped=None if emulated is None else emulated.network,
                acquisition_s=scenario.links.acquisition_s,
                message_s=scenario.compute.message_s,
            ),
            operator=Operator(listen=desks[name]),
            bus=Bus(endpoint=bus_endpoint(sockets)),
            gather=Gather(
                nodes={other: desk for other, desk in desks.items() if other != name}
                if name == scenario.ground.name
                else {}
            ),
            **system.configured(objects, kind, name),
        )
        values = config.model_dump(exclude_none=True)
        replace_bytes(files[name], dump_toml(values).encode("utf-8"))
