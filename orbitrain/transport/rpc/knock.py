"""Whether anything listens at an address now: the cheapest question over a link that may not be there.

gRPC would wait for the kernel to send its SYN again, the first time after a second, and then twice as long
each time (RFC 6298); over a link that is up for moments, or where a second stands for a minute of the
scenario, that is too late. Here every try is one SYN of its own.
"""

from __future__ import annotations

import asyncio
import socket

from orbitrain.transport.rpc.address import split_host, unix_path


async def answers(address: str, wait_s: float) -> bool:
    """Whether a connection to `host:port` comes about within `wait_s` wall seconds; it is closed at once.

    Within less than a second one packet is sent where nobody answers. Raises InvalidAddress.
    """
    if unix_path(address) is not None:
        return True  # no link to ask about
    host, port = split_host(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as knock:
        knock.setblocking(False)
        try:
            await asyncio.wait_for(asyncio.get_running_loop().sock_connect(knock, (host, port)), wait_s)
        except (TimeoutError, OSError):
            return False
    return True
