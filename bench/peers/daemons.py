"""Two daemons of this project, which know the plan of their contacts.

The file is queued at the sending one as by `orbitrain send`.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
import tempfile
import time
from pathlib import Path
from typing import Final

from bench.peers.system import LOOK_S, READY_S, Node, Place, Programs, lacking, python
from orbitrain.machine import NEVER_NS
from orbitrain.protocols.bundles import PRIORITIES
from orbitrain.runtime.config import Link, NodeConfig, Operator, dump_toml
from orbitrain.runtime.daemon import journal_path
from orbitrain.transport.rpc import LinkDown, OperatorClient, PeerRefused
from orbitrain.transport.store.journal import Journal
from orbitrain.v1 import operator_pb2 as wire

PORT: Final = 7_900
MESSAGE_S: Final = 0.1
NAME: Final = "object"
EVENTS_MAX: Final = 100_000

COUNTED: Final = ("contact_started", "contact_ended", "letter_delivered", "letter_undelivered")
"""Events that tell of the bytes moved since the one before."""


class Daemons:
    """`flows`: connections at once; 0: as the nodes' congestion control needs."""

    warm_s = 0.0

    def __init__(self, flows: int = 0) -> None:
        self._flows = flows
        self._sockets: Path | None = None

    def obstacle(self) -> str:
        return lacking()

    def prepare(self, place: Place) -> None:
        self._place = place
        self._programs = Programs(place.folder / "log")
        self._sockets = Path(tempfile.mkdtemp(prefix="ob", dir="/tmp"))  # their paths must be short
        for node, peer in ((place.source, place.destination), (place.destination, place.source)):
            folder = place.folder / node.name
            folder.mkdir()
            config = NodeConfig(
                name=node.name,
                kind="satellite",
                seed=0,
                plan=str(place.plan),
                clock=str(place.clock),
                link=Link(
                    listen=f"{node.address}:{PORT}",
                    peers={peer.name: f"{peer.address}:{PORT}"},
                    shaped=place.network,
                    acquisition_s=0.0,
                    message_s=MESSAGE_S,
                    flows=self._flows,
                ),
                operator=Operator(listen=self._desk(node)),
            )
            (folder / "node.toml").write_text(dump_toml(config.model_dump(exclude_none=True)))
            self._programs.start(node, *python("satellite_node"), "--config", folder / "node.toml")
        limit = time.monotonic() + READY_S
        while self._programs.log.read_bytes().count(b"ready\n") < 2:
            if time.monotonic() > limit:
                raise OSError("the daemons are not ready")
            time.sleep(LOOK_S)

    def greet(self) -> None:
        """They find each other in the contact."""

    def start(self) -> None:
        """What `orbitrain send` asks of the node, without the time in which a command starts."""
        place = self._place
        order = wire.SendOrder(
            destination=place.destination.name,
            name=NAME,
            lane=int(PRIORITIES["normal"]),
            expires_in_ns=NEVER_NS,
            token=secrets.token_hex(16),
        )

        async def ask() -> None:
            client = OperatorClient(self._desk(place.source))
            try:
                reply = await client.send_file(order, place.file, place.size)
            except (LinkDown, PeerRefused) as error:
                raise OSError(str(error)) from None
            finally:
                await client.close()
            if reply.refused:
                raise OSError(reply.refused)

        asyncio.run(ask())

    def _desk(self, node: Node) -> str:
        return f"unix:{self._sockets}/{node.name}"

    def is_complete(self) -> bool:
        return self.received().exists()

    def received(self) -> Path:
        return self._place.folder / self._place.destination.name / "inbox" / self._place.source.name / NAME

    def sent_bytes(self) -> int | None:
        """Of all calls of the sending node, answers to them included; from its journal."""
        path = journal_path(self._place.folder / self._place.source.name / "state")
        with Journal(path, "normal") as journal:
            events = [event for _, event in journal.read_events(0, EVENTS_MAX)]
        return sum(int(event.fields["bytes"]) for event in events if event.kind in COUNTED)

    def stop(self) -> None:
        self._programs.stop()
        if self._sockets is not None:
            shutil.rmtree(self._sockets, ignore_errors=True)
