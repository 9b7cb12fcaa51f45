"""One object over unshaped loopback through the link and the blob store, beside a bare gRPC stream.

    .venv/bin/python bench/loopback.py [--quick] [--mib N ...] [--repeats N] [--folder DIR] [--json FILE]

Ours has a CRC on every chunk, is hashed, synced and published, and what arrives is committed as it comes. The
peer is a bare grpc.aio stream of the same bytes in messages of the same kind: its sender has them in memory,
its receiver counts and drops them. It has the same channel options, and the chunk size of several that was
fastest here, just before. It runs twice: as one writes it, with the allocator as it comes; and with
`keep_freed_memory`, as ours has it, which is the bound that is left to what verifying and writing cost.

Sender and receiver are two processes, fresh for each run, connected before the clock starts. Runs take turns,
there and back; a ratio is of the rates of one turn. RssAnon is read from outside, every WATCH_S; what a
transfer adds is the most that was seen beyond what the connected process had.

The folder should be on the disk that is meant, not on a tmpfs, where syncing costs nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import mmap
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import grpc
import grpc.aio

from orbitrain.transport.rpc import LinkClient, LinkServer
from orbitrain.transport.rpc.channel import CLIENT_OPTIONS, SERVER_OPTIONS, keep_freed_memory
from orbitrain.transport.store.blobs import BlobStore
from orbitrain.v1 import link_pb2, link_pb2_grpc

MIB = 1024 * 1024
SIZES_MIB = (256, 1024)
REPEATS = 7
QUICK = ((64,), 3)
CHUNKS_KIB = (256, 512, 1024, 2048)
"""Chunk sizes that the peer may choose from."""
TRY_MIB = 256
TRY_REPEATS = 3
WATCH_S = 0.02
PATIENCE_S = 60.0
WARM_BYTES = 6 * 1024 * MIB
"""Memory that is used and freed before each run. The host of a virtual machine may take free pages away; to
have them back, where a file's pages or the allocator's are needed, takes longer than the transfer does."""
TEXTS = {
    "ours": "ours, verified and synced",
    "bare": "bare stream",
    "kept": "bare stream with our allocator setting",
}


@dataclass(frozen=True, slots=True)
class Run:
    """One transfer. Seconds of processor time and added bytes are of (sender, receiver)."""

    took_s: float
    cpu_s: tuple[float, float]
    anon_bytes: tuple[int, int]


# ------------------------------------------------------------------------------------------- receiving


class Admits:
    """A LinkHandler that takes everything."""

    def settles(self, letter: link_pb2.Letter) -> bool:
        return False

    def make_room(self) -> None:
        """Nothing is kept that could go."""

    def admits(self, source: str) -> str | None:
        return None

    def refused(self, source: str, reason: str) -> None:
        raise AssertionError(reason)

    async def ping(self, request: link_pb2.PingRequest) -> link_pb2.PingReply:
        return link_pb2.PingReply()

    async def deliver(self, letter: link_pb2.Letter) -> link_pb2.Receipt:
        return link_pb2.Receipt()


class Bare(link_pb2_grpc.LinkServicer):
    """Counts a stream and drops it."""

    async def Ping(self, request: link_pb2.PingRequest, context: Any) -> link_pb2.PingReply:
        return link_pb2.PingReply()

    async def Put(self, requests: Any, context: Any) -> None:
        received = 0
        while (chunk := await context.read()) is not grpc.aio.EOF:
            received += len(chunk.data)
        await context.write(link_pb2.Progress(arrived_bytes=received))


async def receive(kind: str, folder: Path) -> None:
    """Prints the port; ends when its input does."""
    if kind == "ours":
        blobs = BlobStore(folder)
        server = LinkServer("127.0.0.1:0", blobs, Admits(), ["a"])
        print(await server.start(), flush=True)
        await asyncio.to_thread(sys.stdin.read)
        await server.stop(0)
        blobs.close()
        return
    if kind == "kept":
        keep_freed_memory()
    bare = grpc.aio.server(options=SERVER_OPTIONS)
    link_pb2_grpc.add_LinkServicer_to_server(Bare(), bare)
    print(bare.add_insecure_port("127.0.0.1:0"), flush=True)
    await bare.start()
    await asyncio.to_thread(sys.stdin.read)
    await bare.stop(0)


# --------------------------------------------------------------------------------------------- sending


async def send_ours(address: str, path: Path) -> Callable[[], Awaitable[None]]:
    """Returns what sends, over a connection that is there."""
    digest, size = path.name, (await asyncio.to_thread(path.stat)).st_size
    client = LinkClient(address, "a")
    await client.ping(link_pb2.PingRequest(source="a"), PATIENCE_S)

    async def send() -> None:
        missing = await client.missing([(digest, size)])
        assert await client.put(digest, size, path, PATIENCE_S, missing[digest])

    return send


async def send_bare(address: str, path: Path, chunk_bytes: int) -> Callable[[], Awaitable[None]]:
    data = await asyncio.to_thread(path.read_bytes)
    stub = link_pb2_grpc.LinkStub(grpc.aio.insecure_channel(address, options=CLIENT_OPTIONS))
    await stub.Ping(link_pb2.PingRequest(source="a"))

    async def send() -> None:
        call = stub.Put()
        for start in range(0, len(data), chunk_bytes):
            await call.write(link_pb2.Chunk(offset=start, data=data[start : start + chunk_bytes]))
        await call.done_writing()
        answers = [answer async for answer in call]
        assert answers[-1].arrived_bytes == len(data)

    return send


async def send(kind: str, address: str, path: Path, chunk_bytes: int) -> None:
    """Connects, says so, waits to be told to go, and prints the seconds that it took."""
    if kind == "kept":
        keep_freed_memory()
    go = await (send_ours(address, path) if kind == "ours" else send_bare(address, path, chunk_bytes))
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    begun_s = time.perf_counter()
    await go()
    print(time.perf_counter() - begun_s, flush=True)
    await asyncio.to_thread(sys.stdin.read)


# ------------------------------------------------------------------------------------------- measuring


def anon_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"no RssAnon of {pid}")


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Watch:
    """The most anonymous memory that processes have, from the moment it is made until `stop`."""

    def __init__(self, pids: tuple[int, int]) -> None:
        self._pids = pids
        self._before = [anon_bytes(pid) for pid in pids]
        self._most = list(self._before)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(WATCH_S):
            self._most = [max(a, anon_bytes(pid)) for a, pid in zip(self._most, self._pids, strict=True)]

    def stop(self) -> tuple[int, int]:
        """Bytes added, of both."""
        self._over.set()
        self._thread.join()
        first, second = (a - b for a, b in zip(self._most, self._before, strict=True))
        return first, second


def touch(nbytes: int) -> None:
    """Use and free memory, at most half of what is free: see WARM_BYTES."""
    free_bytes = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    nbytes = min(nbytes, free_bytes // 2)
    with mmap.mmap(-1, nbytes, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE):
        pass


def started(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"{process.args!r} ended")
    return line.strip()


def measure(path: Path, kind: str, chunk_bytes: int = 0) -> Run:
    with tempfile.TemporaryDirectory(prefix="store-", dir=path.parent) as folder:
        receiver = started("--receive", kind, folder)
        sender = started("--send", kind, f"127.0.0.1:{line_of(receiver)}", str(path), str(chunk_bytes))
        try:
            assert line_of(sender) == "ready"
            os.sync()  # what earlier runs wrote and removed is not this one's to pay for
            touch(WARM_BYTES)
            pids = (sender.pid, receiver.pid)
            before_s = [cpu_s(pid) for pid in pids]
            watch = Watch(pids)
            assert sender.stdin is not None
            sender.stdin.write("go\n")
            sender.stdin.flush()
            took_s = float(line_of(sender))
            added = watch.stop()
            first, second = (cpu_s(pid) - b for pid, b in zip(pids, before_s, strict=True))
        finally:
            for process in (sender, receiver):
                process.communicate()
        if kind == "ours":
            kept = Path(folder) / "objects" / path.name[:2] / path.name[2:]
            assert kept.stat().st_size == path.stat().st_size
        return Run(took_s, (first, second), added)


def object_of(folder: Path, mib: int) -> Path:
    """A file of random bytes, named by its digest, synced."""
    random_ = random.Random(mib)
    written, sha256 = folder / "object", hashlib.sha256()
    with written.open("wb") as file:
        for _ in range(mib):
            data = random_.randbytes(MIB)
            sha256.update(data)
            file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return written.rename(folder / sha256.hexdigest())


def best_chunk_kib(kind: str, path: Path, mib: int) -> int:
    rates = {}
    for kib in CHUNKS_KIB:
        rates[kib] = median(mib / measure(path, kind, kib * 1024).took_s for _ in range(TRY_REPEATS))
    print(f"{TEXTS[kind]}, MiB/s: " + ", ".join(f"{r:.0f} in chunks of {k} KiB" for k, r in rates.items()))
    return max(rates, key=rates.__getitem__)


def compare(path: Path, mib: int, chunks_kib: dict[str, int], repeats: int) -> dict[str, Any]:
    kinds = ["ours", *chunks_kib]
    runs: dict[str, list[Run]] = {kind: [] for kind in kinds}
    for turn in range(repeats):
        for kind in kinds if turn % 2 == 0 else reversed(kinds):
            runs[kind].append(measure(path, kind, chunks_kib.get(kind, 0) * 1024))
    print(f"{mib} MiB, {repeats} times each in turns")
    ratios: dict[str, list[float]] = {}
    for kind in kinds:
        rates = [mib / run.took_s for run in runs[kind]]
        cpu = [median(run.cpu_s[end] for run in runs[kind]) for end in (0, 1)]
        added = [max(run.anon_bytes[end] for run in runs[kind]) / MIB for end in (0, 1)]
        print(
            f"  {TEXTS[kind]}: {median(rates):.0f} MiB/s ({min(rates):.0f} to {max(rates):.0f}); sender + "
            f"receiver: processor {cpu[0]:.2f} + {cpu[1]:.2f} s, RssAnon {added[0]:+.0f} {added[1]:+.0f} MiB"
        )
        if kind != "ours":
            ratios[kind] = [b.took_s / o.took_s for o, b in zip(runs["ours"], runs[kind], strict=True)]
    for kind, found in ratios.items():
        print(f"  ours / {TEXTS[kind]}: {median(found):.2f} ({min(found):.2f} to {max(found):.2f})")
    return {
        "mib": mib,
        "chunks_kib": chunks_kib,
        "ratios": {kind: {"median": median(found), "all": found} for kind, found in ratios.items()},
        "runs": {kind: [asdict(run) for run in made] for kind, made in runs.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="64 MiB, three times each")
    parser.add_argument("--mib", type=int, nargs="+", help="sizes of the object, MiB")
    parser.add_argument("--repeats", type=int, help="runs of each kind and size")
    parser.add_argument("--folder", type=Path, help="where objects and stores are made")
    parser.add_argument("--json", type=Path, help="write all figures there")
    parser.add_argument("--receive", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--send", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.receive:
        asyncio.run(receive(options.receive[0], Path(options.receive[1])))
        return
    if options.send:
        kind, address, path, chunk_bytes = options.send
        asyncio.run(send(kind, address, Path(path), int(chunk_bytes)))
        return
    sizes, repeats = QUICK if options.quick else (SIZES_MIB, REPEATS)
    sizes, repeats = options.mib or sizes, options.repeats or repeats
    found = []
    with tempfile.TemporaryDirectory(prefix="orbitrain-", dir=options.folder) as name:
        make = partial(object_of, Path(name))
        tried_mib = min(TRY_MIB, max(sizes))
        tried = make(tried_mib)
        chunks_kib = {kind: best_chunk_kib(kind, tried, tried_mib) for kind in TEXTS if kind != "ours"}
        tried.unlink()
        for mib in sizes:
            path = make(mib)
            found.append(compare(path, mib, chunks_kib, repeats))
            path.unlink()
    if options.json:
        options.json.write_text(json.dumps({"cores": os.cpu_count(), "sizes": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
