"""What an operator asks for when a file is to be sent: checked once, wherever it comes from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from orbitrain.machine import NEVER_NS, Lane

COMMAND: Final = "send"
"""Name of the command that queues a file."""

NAME_BYTES_MAX: Final = 200
"""Longest name of a file, UTF-8: file systems take 255, and a receiver may have to add to it."""

PRIORITIES: Final[Mapping[str, Lane]] = {
    "expedited": Lane.ACTIVATION,
    "normal": Lane.UPDATE,
    "bulk": Lane.BULK,
}
"""Classes of service (RFC 5050, 4.2), and the lane of each: normal files share with model updates."""


NODE: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
"""A node's name: that of a bundle's source becomes a folder's."""


class OrderError(ValueError):
    """An order that cannot be taken; one line: field, what is allowed."""


@dataclass(frozen=True, slots=True)
class Order:
    destination: str
    name: str
    """Of the file, one component of a path."""
    lane: Lane
    expires_at_ns: int = NEVER_NS

    def arguments(self) -> dict[str, Any]:
        """As a command's arguments."""
        return {
            "destination": self.destination,
            "name": self.name,
            "lane": int(self.lane),
            "expires_at_ns": self.expires_at_ns,
        }


def order_of(arguments: Mapping[str, Any]) -> Order:
    """The order of a command. Raises OrderError."""
    try:
        destination, name = str(arguments["destination"]), str(arguments["name"])
        lane, expires_at_ns = arguments["lane"], arguments["expires_at_ns"]
    except KeyError as error:
        raise OrderError(f"{error.args[0]}: is missing") from None
    for field, value in (("lane", lane), ("expires_at_ns", expires_at_ns)):
        if not isinstance(value, int):
            raise OrderError(f"{field}: must be a whole number")
    if not NODE.fullmatch(destination):
        raise OrderError(f"destination: {destination[:64]!r} is not the name of a node")
    wrong = why_no_name(name)
    if wrong is not None:
        raise OrderError(f"name: {wrong}")
    if lane not in PRIORITIES.values():
        raise OrderError(f"priority: must be {', '.join(PRIORITIES)}, not lane {lane}")
    if not 0 <= expires_at_ns <= NEVER_NS:
        raise OrderError(f"expires: must be 0 to {NEVER_NS} ns, not {expires_at_ns}")
    return Order(destination, name, Lane(lane), expires_at_ns)


def why_no_name(name: str) -> str | None:
    """Why a text is not the name of a file in an inbox; None if it is one."""
    try:
        size = len(name.encode("utf-8"))
    except UnicodeEncodeError:
        return "must be UTF-8"
    if not 1 <= size <= NAME_BYTES_MAX:
        return f"must have 1 to {NAME_BYTES_MAX} bytes, not {size}"
    if "/" in name or "\\" in name or not name.isprintable():
        return "must be printable, without slashes"
    if name.startswith(".") or name != name.strip():
        return "must not begin with a dot, nor begin or end with a space"
    return None
