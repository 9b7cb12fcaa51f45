"""A plain gRPC stream with the library's defaults: on failure its client sends the whole file again.

The first message is the file's size: a server may take a call that broke for one that ended.

python -m bench.peers.grpc_stream serve ADDRESS FILE
python -m bench.peers.grpc_stream send ADDRESS FILE COUNT
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import grpc

from bench.peers.system import Copier, Place, lacking, python

PORT: Final = 50_051
METHOD: Final = "bench.Files", "Put"
CHUNK_BYTES: Final = 256 * 1024
AGAIN_S: Final = 1.0


class GrpcStream(Copier):
    def obstacle(self) -> str:
        return lacking()

    def prepare(self, place: Place) -> None:
        self._settle(place)
        self._done = self._received
        self._address = f"{place.destination.address}:{PORT}"
        command = python("bench.peers.grpc_stream")
        self._programs.start(place.destination, *command, "serve", self._address, self._received)
        self._programs.listening(place.destination, PORT)

    def start(self) -> None:
        command = python("bench.peers.grpc_stream")
        self._programs.start(
            self._place.source, *command, "send", self._address, self._place.file, self._count
        )


def serve(address: str, file: Path) -> None:
    """Each call writes a file of its own, which is the one that is wanted once the call has ended well."""

    def put(chunks: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        fresh = file.with_name(f"{file.name}.{time.monotonic_ns()}")
        size = int(next(chunks))
        with fresh.open("wb") as out:
            for chunk in chunks:
                out.write(chunk)
        if fresh.stat().st_size != size:
            context.abort(grpc.StatusCode.DATA_LOSS, "it broke off")
        fresh.rename(file)
        return b""

    service, method = METHOD
    handler = grpc.stream_unary_rpc_method_handler(put)
    server = grpc.server(ThreadPoolExecutor(16))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    server.add_insecure_port(address)
    server.start()
    server.wait_for_termination()


def send(address: str, file: Path, count: Path) -> None:
    sent = 0

    def chunks() -> Iterator[bytes]:
        nonlocal sent
        yield str(file.stat().st_size).encode()
        with file.open("rb") as data:
            while chunk := data.read(CHUNK_BYTES):
                sent += len(chunk)
                count.write_text(str(sent))
                yield chunk

    with grpc.insecure_channel(address) as channel:
        put: Any = channel.stream_unary("/{}/{}".format(*METHOD))
        while True:
            try:
                put(chunks())
                return
            except grpc.RpcError as error:
                print(error.code(), file=sys.stderr, flush=True)
                time.sleep(AGAIN_S)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2], Path(sys.argv[3]))
    else:
        send(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
