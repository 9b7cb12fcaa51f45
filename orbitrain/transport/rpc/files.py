"""A file on its way over the management plane, in pieces: from the operator's disk to the node's."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import grpc

from orbitrain.transport.objects import CHUNK_BYTES_MAX
from orbitrain.transport.rpc.channel import CHUNK_BYTES_DEFAULT, Rejection
from orbitrain.transport.store.blobs import OBJECT_BYTES_MAX
from orbitrain.transport.store.incoming import raise_full
from orbitrain.v1 import operator_pb2


def pieces(order: operator_pb2.SendOrder, path: Path, size: int) -> Iterator[operator_pb2.FilePiece]:
    """The file as it is sent. Raises OSError if it cannot be read, or does not have `size` bytes any more."""
    left = size
    with path.open("rb") as file:
        while True:
            data = file.read(min(CHUNK_BYTES_DEFAULT, left))
            if left and not data:
                raise OSError(f"{path}: it has become shorter while it was read")
            left -= len(data)
            yield operator_pb2.FilePiece(order=order, size=size, data=data)
            if not left:
                return


async def received(
    requests: AsyncIterator[operator_pb2.FilePiece],
    path: Path,
    admit: Callable[[operator_pb2.SendOrder, int], None],
) -> operator_pb2.SendOrder:
    """Write a file as it comes. `admit` sees order and size before anything is kept, and may raise Refusal.

    Raises Rejection, StorageFull and OSError.
    """
    head: operator_pb2.FilePiece | None = None
    written = 0
    # Without a buffer: what did not fit would be written once more as it is closed, and fail there.
    with path.open("xb", buffering=0) as file:
        async for piece in requests:
            if head is None:
                head = piece
                if not 0 <= head.size <= OBJECT_BYTES_MAX:
                    raise _broken(f"size: must be 0 to {OBJECT_BYTES_MAX} bytes, not {head.size}")
                admit(head.order, head.size)
            if (piece.order, piece.size) != (head.order, head.size):
                raise _broken("a stream carries one file")
            written += len(piece.data)
            if len(piece.data) > CHUNK_BYTES_MAX or written > head.size:
                raise _broken(f"a piece of {len(piece.data)} bytes of a file")
            try:
                await asyncio.to_thread(_write, file, piece.data)
            except OSError as error:
                raise_full(error)
        if head is None or written != head.size:
            raise _broken(f"a file that ends after {written} bytes")
        try:
            await asyncio.to_thread(os.fsync, file.fileno())
        except OSError as error:
            raise_full(error)
    return head.order


def _write(file: io.FileIO, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def _broken(reason: str) -> Rejection:
    return Rejection(grpc.StatusCode.INVALID_ARGUMENT, reason)
