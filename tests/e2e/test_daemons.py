"""Daemons started by hand, without `orbitrain run`: on their own, with hostile peers, and how they end."""

from __future__ import annotations

import asyncio
import hashlib
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import grpc
import grpc.aio
import pytest

from orbitrain.machine import NEVER_NS
from orbitrain.protocols.fedmeld.rules import SATELLITE_ROLE
from orbitrain.results import count_bytes
from orbitrain.runtime.clock import SECOND_NS, ClockFile
from orbitrain.transport.rpc import LinkClient, OperatorClient, PeerRefused
from orbitrain.transport.store.archive import Archive
from orbitrain.v1 import fedmeld_pb2, link_pb2, operator_pb2
from tests.e2e.bench import Bench, Times, epoch_now, free_port, plan_by_hand
from tests.e2e.lab import DEADLINE_S, Lab, children, told, wait_gone, wait_until, workers

pytestmark = pytest.mark.timeout(400)

KINDS = {"bird": "satellite", "farm": "device", "seat": "ground"}


async def read_journal(address: str) -> list[operator_pb2.JournalEvent]:
    """All events of a node, asked for over the wire."""
    client = OperatorClient(address)
    events: list[operator_pb2.JournalEvent] = []
    try:
        while True:
            page = await client.read_journal(len(events), 1 << 40, 10.0)
            if not page.events:
                return events
            events += page.events
    finally:
        await client.close()


# ---------------------------------------------------------------------------------------- three machines


def test_three_daemons_in_folders_of_their_own_complete_two_rounds(lab: Lab) -> None:
    plan = plan_by_hand(KINDS, [("bird", "farm", 0, 3000)], epoch_now())
    bench = Bench(lab, plan, {"plain": ["farm"]}, rounds=2)
    bench.start("bird", "farm", "seat")

    def adopted() -> list[int]:
        events = asyncio.run(read_journal(bench.desks["farm"]))
        rounds = [event for event in events if event.kind == "model_adopted"]
        return [len(rounds)] if len(rounds) == 2 else []

    wait_until("the farm has adopted the model of round 2", adopted)

    async def gather() -> list[str]:
        client = OperatorClient(bench.desks["seat"])
        try:
            return list((await client.gather(30.0)).unreachable)
        finally:
            await client.close()

    assert asyncio.run(gather()) == []
    bench.stop(*KINDS)
    own = bench.entries("bird", "farm")
    assert [e.event.fields["round"] for e in told(own, "aggregated")] == [1, 2]
    assert [e.event.fields["round"] for e in told(own, "update_trained")] == [1, 2]
    assert not told(own, "message_refused")
    # The operator's seat has heard of every aggregation, over the wire, and evaluated the models.
    with Archive(bench.folder("seat") / "state" / "archive.sqlite") as archive:
        gathered = [(node, event.kind) for node, _, event in archive.events()]
        assert gathered.count(("bird", "aggregated")) == 2
        assert gathered.count(("farm", "model_adopted")) == 2
        assert len(list(archive.evaluations())) == 2


# ---------------------------------------------------------------------------------------------- the end


def worker_of(name: str, pid: int) -> list[int]:
    return wait_until(f"{name} has a worker", lambda: workers(pid))


def test_a_daemon_and_its_worker_are_gone_soon_after_a_signal(lab: Lab) -> None:
    plan = plan_by_hand(KINDS, [("bird", "farm", 0, 3000)], epoch_now())
    bench = Bench(lab, plan, {"plain": ["farm"]}, rounds=1000)
    for number, code in ((signal.SIGTERM, 0), (signal.SIGKILL, -signal.SIGKILL)):
        bench.start(*KINDS)
        pids = {name: bench.programs[name].pid for name in KINDS}
        at_work = {name: worker_of(name, pid) for name, pid in pids.items()}
        for name, pid in pids.items():
            assert len(children(pid)) == 1
            bench.programs[name].signal(number)
            assert bench.programs[name].wait(5.0) == code, name
            wait_gone(f"the worker of {name}", at_work[name])
    assert not lab.processes()


# -------------------------------------------------------------------------------------------- the enemy


def garbage(size: int) -> bytes:
    """Bytes that are no protobuf: a field that claims more than there is."""
    return b"\x0a\xff\xff\xff\x7f" + b"x" * size


class Mole:
    """A device of the plan that does what it likes. Made inside a running event loop."""

    def __init__(self, bench: Bench, blob: Path) -> None:
        self._address = bench.addresses["bird"]
        self._blob = blob
        self._digest = hashlib.sha256(blob.read_bytes()).hexdigest()
        self._sequence = 0
        self.client = LinkClient(self._address, "mole")

    async def close(self) -> None:
        await self.client.close()

    async def send(
        self,
        body: bytes,
        kind: str,
        *,
        role: str = SATELLITE_ROLE,
        lane: int = 0,
        due_ns: int = 0,
        objects: tuple[tuple[str, int], ...] = (),
        client: LinkClient | None = None,
    ) -> link_pb2.Receipt:
        self._sequence += 1
        sender = self.client if client is None else client
        letter = link_pb2.Letter(
            source=sender.source,
            incarnation=f"mole-{self._sequence}",
            destination="bird",
            role=role,
            lane=lane,
            sequence=1,
            kind=kind,
            body=body,
            objects=[link_pb2.ObjectName(digest=digest, size=size) for digest, size in objects],
            due_ns=due_ns,
            expires_at_ns=NEVER_NS,
        )
        return await sender.deliver(letter, 20.0)

    async def status(self, due_ns: int = 0) -> link_pb2.Receipt:
        record = fedmeld_pb2.ModelRecord(region="hill", round=0, digest=self._digest)
        status = fedmeld_pb2.Status(region="hill", model=record)
        return await self.send(status.SerializeToString(), "orbitrain.v1.fedmeld.Status", due_ns=due_ns)

    async def update(self, region: str, round_number: int) -> link_pb2.Receipt:
        size = self._blob.stat().st_size
        if await self.client.missing([(self._digest, size)]):
            await self.client.put(self._digest, size, self._blob, 10.0)
        update = fedmeld_pb2.Update(
            region=region, round=round_number, base=self._digest, digest=self._digest, samples=10
        )
        kind, objects = "orbitrain.v1.fedmeld.Update", ((self._digest, size),)
        return await self.send(update.SerializeToString(), kind, lane=3, objects=objects)

    async def unknown_kind(self) -> link_pb2.Receipt:
        return await self.send(b"", "orbitrain.v1.fedmeld.Nonsense")

    async def unknown_role(self) -> link_pb2.Receipt:
        return await self.send(b"", "orbitrain.v1.fedmeld.Status", role="admiral")

    async def broken_body(self) -> link_pb2.Receipt:
        return await self.send(garbage(10), "orbitrain.v1.fedmeld.Status")

    async def oversized_body(self) -> link_pb2.Receipt:
        return await self.send(bytes(1024 * 1024 + 1), "orbitrain.v1.fedmeld.Status")

    async def wrong_digest(self) -> link_pb2.Receipt:
        size = self._blob.stat().st_size
        await self.client.missing([("0" * 64, size)])
        await self.client.put("0" * 64, size, self._blob, 10.0)
        return link_pb2.Receipt(outcome=link_pb2.OUTCOME_DELIVERED)

    async def absent_object(self) -> link_pb2.Receipt:
        return await self.send(b"", "orbitrain.v1.fedmeld.Update", objects=(("1" * 64, 10),))

    async def endless_round(self) -> link_pb2.Receipt:
        return await self.update("hill", 99)

    async def unopened_round(self) -> link_pb2.Receipt:
        assert (await self.status()).outcome == link_pb2.OUTCOME_DELIVERED
        return await self.update("hill", 7)

    async def others_region(self) -> link_pb2.Receipt:
        return await self.update("plain", 1)

    async def unknown_source(self) -> link_pb2.Receipt:
        nobody = LinkClient(self._address, "nobody")
        try:
            return await self.send(b"", "orbitrain.v1.fedmeld.Status", client=nobody)
        finally:
            await nobody.close()

    async def far_future(self) -> link_pb2.Receipt:
        return await self.status(due_ns=30 * 86_400 * SECOND_NS)

    async def no_letter_at_all(self) -> None:
        """gRPC itself refuses this; no node can report a call that it cannot read."""
        async with grpc.aio.insecure_channel(
            self._address, options=(("grpc.enable_http_proxy", 0),)
        ) as channel:
            deliver = channel.unary_unary("/orbitrain.v1.Link/Deliver")
            with pytest.raises(grpc.aio.AioRpcError):
                await deliver(garbage(100), timeout=20.0)
            with pytest.raises(grpc.aio.AioRpcError):
                await deliver(bytes(5 * 1024 * 1024), timeout=20.0)


ATTACKS: tuple[tuple[Callable[[Mole], Awaitable[link_pb2.Receipt]], str, str], ...] = (
    (Mole.unknown_kind, "mole", "does not understand"),
    (Mole.unknown_role, "mole", "has no role"),
    (Mole.broken_body, "mole", "cannot be decoded"),
    (Mole.oversized_body, "mole", "a body of 1048577 bytes"),
    (Mole.wrong_digest, "mole", "0000000000"),
    (Mole.absent_object, "mole", "missing objects: 1 of 1"),
    (Mole.endless_round, "mole", "round 99 is not one of"),
    (Mole.unopened_round, "mole", "round 7 of hill was never opened"),
    (Mole.others_region, "mole", "mole is no device of plain"),
    (Mole.unknown_source, "nobody", "unknown peer"),
    (Mole.far_future, "mole", "due"),
)


async def attack(bench: Bench, blob: Path) -> None:
    mole = Mole(bench, blob)
    try:
        for blow, _, _ in ATTACKS:
            try:
                receipt = await blow(mole)
            except PeerRefused:
                continue
            assert receipt.outcome == link_pb2.OUTCOME_REFUSED, (blow.__name__, receipt)
        await mole.no_letter_at_all()
    finally:
        await mole.close()


def test_a_hostile_peer_is_refused_and_reported_and_the_run_goes_on(lab: Lab) -> None:
    kinds = {"bird": "satellite", "farm": "device", "mole": "device"}
    plan = plan_by_hand(kinds, [("bird", "farm", 0, 3000), ("bird", "mole", 0, 3000)], epoch_now())
    bench = Bench(lab, plan, {"plain": ["farm"], "hill": ["mole"]}, rounds=8)
    bench.start("bird", "farm")
    wait_until("round 1 is done", lambda: told(bench.entries("farm"), "model_adopted"))
    blob = lab.folder / "blob"
    blob.write_bytes(b"anything " * 100)

    asyncio.run(attack(bench, blob))

    def reported() -> bool:
        refusals = [e.event.fields for e in told(bench.entries("bird"), "message_refused")]
        return all(
            any(fields["source"] == source and reason in fields["reason"] for fields in refusals)
            for _, source, reason in ATTACKS
        )

    with suppress(AssertionError):
        wait_until("every attack is in the journal", reported, 20.0)
    refusals = [e.event.fields for e in told(bench.entries("bird"), "message_refused")]
    for blow, source, reason in ATTACKS:
        assert any(f["source"] == source and reason in f["reason"] for f in refusals), (
            blow.__name__,
            refusals,
        )
    wait_until(
        "the farm has adopted the last round", lambda: told(bench.entries("farm"), "model_adopted", round=8)
    )
    bench.stop("bird", "farm")
    assert not told(bench.entries("bird", "farm"), "dead_letter")


def test_a_letter_for_another_node_is_refused(lab: Lab) -> None:
    """Two nodes that have changed their addresses must not take each other's letters."""
    plan = plan_by_hand(KINDS, [("bird", "farm", 0, 3000)], epoch_now())
    bench = Bench(lab, plan, {"plain": ["farm"]}, rounds=2)
    bench.start("bird")

    async def misdirected() -> link_pb2.Receipt:
        client = LinkClient(bench.addresses["bird"], "farm")
        record = fedmeld_pb2.ModelRecord(region="plain", digest="0" * 64)
        body = fedmeld_pb2.Status(region="plain", model=record).SerializeToString()
        letter = link_pb2.Letter(
            source="farm", incarnation="x", destination="crow", role=SATELLITE_ROLE, sequence=1,
            kind="orbitrain.v1.fedmeld.Status", body=body, expires_at_ns=NEVER_NS,
        )  # fmt: skip
        try:
            return await client.deliver(letter, 20.0)
        except PeerRefused as error:
            return link_pb2.Receipt(outcome=link_pb2.OUTCOME_REFUSED, reason=str(error))
        finally:
            await client.close()

    assert asyncio.run(misdirected()).outcome == link_pb2.OUTCOME_REFUSED
    wait_until("the refusal is reported", lambda: told(bench.entries("bird"), "message_refused"))
    bench.stop("bird")


def test_a_node_that_answers_at_anothers_address_is_no_contact(lab: Lab) -> None:
    kinds = {"bird": "satellite", "crow": "satellite", "farm": "device"}
    plan = plan_by_hand(kinds, [("bird", "farm", 0, 3000), ("crow", "farm", 0, 3000)], epoch_now())
    bench = Bench(lab, plan, {"plain": ["farm"]}, rounds=2)
    bench.seen["farm", "crow"] = bench.addresses["bird"]
    bench.start("bird", "farm")
    wait_until("the farm reports it", lambda: told(bench.entries("farm"), "contact_refused", peer="crow"))
    wait_until(
        "the farm has met the bird", lambda: told(bench.entries("farm"), "contact_started", peer="bird")
    )
    bench.stop("bird", "farm")
    assert not told(bench.entries("farm"), "contact_started", peer="crow")


# ------------------------------------------------------------------------------------------------ bytes


class CountingProxy:
    """A TCP proxy before one node; counts what passes, both ways."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._pumps: set[asyncio.Task[None]] = set()
        self.bytes = 0
        self.open = 0

    async def serve(self, port: int) -> asyncio.Server:
        return await asyncio.start_server(self._connected, "127.0.0.1", port)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            there, back = await asyncio.open_connection(*self._target)
            await asyncio.gather(self._pump(reader, back), self._pump(there, writer))
        except OSError:
            writer.close()
        finally:
            self.open -= 1

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                self.bytes += len(data)
                sink.write(data)
                await sink.drain()
        with suppress(OSError):
            sink.close()


async def counted_run(bench: Bench, ports: dict[str, int]) -> int:
    """Let the nodes run behind proxies until every contact has ended; returns the bytes of all sockets."""
    proxies = {name: CountingProxy(bench.addresses[name]) for name in ports}
    servers = [await proxies[name].serve(port) for name, port in ports.items()]
    try:
        await asyncio.to_thread(bench.start, *ports)
        bench.start_clock(rate=10.0)
        contacts = {"bird": 2, "farm": 1, "mill": 1}

        def ended() -> bool:
            return all(len(told(bench.entries(n), "contact_ended")) == k for n, k in contacts.items())

        await asyncio.to_thread(wait_until, "all contacts have ended", ended)

        def closed() -> bool:
            return not any(proxy.open for proxy in proxies.values())

        await asyncio.to_thread(wait_until, "all connections are closed", closed)
    finally:
        for server in servers:
            server.close()
    return sum(proxy.bytes for proxy in proxies.values())


def test_bytes_in_the_result_are_those_of_the_sockets(lab: Lab) -> None:
    kinds = {"bird": "satellite", "farm": "device", "mill": "device"}
    plan = plan_by_hand(kinds, [("bird", "farm", 1, 100), ("bird", "mill", 1, 100)], "2026-01-01T00:00:00Z")
    clock = lab.folder / "clock.json"
    ClockFile(None, 0, 10.0, 0).write(clock)
    times = Times(acquisition_s=3, message_s=2, train_s=2, aggregate_s=2)
    # 60 kB of weights: what a small model has, so that messages are not all there is to count.
    bench = Bench(lab, plan, {"plain": ["farm", "mill"]}, 50, times, inputs=15_000, clock=clock)
    ports = {name: free_port() for name in kinds}
    for name in kinds:
        for peer in kinds:
            bench.seen[name, peer] = f"127.0.0.1:{ports[peer]}"
    on_sockets = asyncio.run(asyncio.wait_for(counted_run(bench, ports), DEADLINE_S))
    entries = bench.entries(*kinds)
    bench.stop(*kinds)
    assert len(told(entries, "aggregated")) >= 2
    counted = count_bytes(entries)
    assert counted["service"] == sum(counted.values())
    assert counted["service"] == pytest.approx(on_sockets, rel=0.05)
