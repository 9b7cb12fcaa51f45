"""An HTTP server of one file that knows ranges, and counts what it has handed to TCP and TCP has sent.

python -m bench.peers.range_server ADDRESS PORT FILE COUNT
"""

from __future__ import annotations

import contextlib
import fcntl
import re
import socket
import struct
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

SIOCOUTQNSD: Final = 0x894B
"""Asks a TCP socket for what waits in it and was never sent."""

PIECE_BYTES: Final = 64 * 1024
COUNT_S: Final = 0.2


class Sending:
    """What one connection was given; what it has not sent is taken off."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection: socket.socket | None = connection
        self._handed = 0
        self._unsent = 0

    def hand(self, piece: bytes) -> None:
        """OSError."""
        assert self._connection is not None
        view = memoryview(piece)
        while view:
            taken = self._connection.send(view)
            self._handed += taken
            view = view[taken:]

    def done(self) -> None:
        """All has been handed over: what waits is sent yet."""
        self._connection, self._unsent = None, 0

    @property
    def sent_bytes(self) -> int:
        if self._connection is not None:
            with contextlib.suppress(OSError, ValueError):  # closed: what was found last holds
                answer = fcntl.ioctl(self._connection, SIOCOUTQNSD, struct.pack("i", 0))
                self._unsent = struct.unpack("i", answer)[0]
        return self._handed - self._unsent


def serve(address: str, port: int, file: Path, count: Path) -> None:
    sendings: list[Sending] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            size = file.stat().st_size
            asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            start = int(asked[1]) if asked else 0
            if start >= size:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{size}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206 if asked else 200)
            if asked:
                self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(size - start))
            self.end_headers()
            sending = Sending(self.connection)
            sendings.append(sending)
            with file.open("rb") as data, contextlib.suppress(OSError):
                data.seek(start)
                while piece := data.read(PIECE_BYTES):
                    sending.hand(piece)
                sending.done()

    server = ThreadingHTTPServer((address, port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    while True:
        time.sleep(COUNT_S)
        count.write_text(str(sum(one.sent_bytes for one in list(sendings))))


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]))
