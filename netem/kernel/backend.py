"""Sets links in the kernel: one queueing discipline a directed link, on the sending end of its own veth pair.

A batch of changes is one message a link and one system call a node; every one is acknowledged or refused.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from netem.kernel.encoder import Chance, Netem
from netem.kernel.token_bucket import TokenBucket
from netem.link_state import Link, LinkState, up_state
from netem.namespaces import HostError
from netem.netlink import HowQdisc, Netlink, NetlinkError, Qdisc, QdiscBatch, root_qdisc
from netem.schedule import Change

Shaping = type[Netem] | type[TokenBucket]

HANDLES: Final = (0x0B17_0000, 0x0B18_0000)
"""Of our qdiscs. A change needs the one that is there and keeps its packets; the other makes a new one."""

COMPLAINTS: Final = 5
"""Links that an account names which are not what they were told to be; it counts them all."""

DOWN: Final = up_state(0, 1_000_000_000).down("hold")
"""A link that nobody has set yet."""

_NO_KIND: Final = {
    "netem": "load it (modprobe sch_netem) or install it (Fedora, RHEL: kernel-modules-extra; Ubuntu: "
    "linux-modules-extra); without it: --links tun, or --in uml on x86",
    "tbf": "load it (modprobe sch_tbf)",
}


@dataclass(frozen=True, slots=True)
class Port:
    """Where a directed link leaves its source: a device, and a socket to the namespace it is in."""

    netlink: Netlink
    index: int
    device: str


@dataclass(slots=True)
class _End:
    link: Link
    port: Port
    chance: Chance
    handle: int
    state: LinkState
    sent: int = 0  # by qdiscs that a cut has ended
    sent_bytes: int = 0
    drops: int = 0
    flushed: int = 0


@dataclass(slots=True)
class _Order:
    """What one node's kernel is told at once: a request a link, and what then holds of it if accepted."""

    netlink: Netlink
    requests: list[tuple[int, bytes]] = field(default_factory=list)
    links: list[tuple[_End, LinkState, int]] = field(default_factory=list)
    cut: dict[int, _End] = field(default_factory=dict)
    batches: list[QdiscBatch] = field(default_factory=list)


class KernelBackend:
    """A `Backend`: `install` each link, or let `open_link` do so for one that was not foreseen."""

    def __init__(
        self,
        *,
        shaping: Shaping = Netem,
        seed: int = 0,
        packet_overhead: int = 0,
    ) -> None:
        """`seed`: of losses; `packet_overhead`: bytes that a packet takes beyond those of Ethernet."""
        self.changes = 0
        self.calls = 0
        self.open_link: Callable[[Link], object] = _unforeseen
        self._shaping = shaping
        self._seed = seed
        self._overhead = packet_overhead
        self._ends: dict[Link, _End] = {}
        self._prepared: tuple[Sequence[Change], list[_Order]] | None = None

    def install(self, link: Link, port: Port) -> None:
        """The link, down. HostError: the kernel lacks the kind, or the device has somebody's qdisc."""
        chance = Chance(self._seed, link)
        told = self._shaping.of(DOWN, link, packet_overhead=self._overhead)
        body = root_qdisc(port.index, HANDLES[0], self._shaping.KIND, told.options(chance.seed()))
        refused = port.netlink.set_qdiscs(port.netlink.composed([(HowQdisc.ADD, body)]))
        if refused:
            raise HostError(self._why_not(refused[0][1], link, port))
        self._ends[link] = _End(link, port, chance, HANDLES[0], DOWN)

    def prepare(self, changes: Sequence[Change]) -> None:
        """Write the messages for the next `apply`, if it will be given this very sequence."""
        try:
            self._prepared = changes, self._orders(changes)
        except (KeyError, ValueError):
            self._prepared = None  # `apply` opens the link, or refuses the state, at its instant

    def apply(self, changes: Sequence[Change], now_ns: int) -> None:
        """ValueError: a state that no kernel holds, nothing was set. NetlinkError: its link was refused."""
        prepared, self._prepared = self._prepared, None
        if prepared is not None and prepared[0] is changes:
            orders = prepared[1]
        else:
            for change in changes:
                if change.link not in self._ends:
                    self.open_link(change.link)
            orders = self._orders(changes)
        failed: list[str] = []
        number = 0
        for order in orders:
            if order.cut:
                self._keep_counts(order.netlink, order.cut)
            refused = dict(order.netlink.set_qdiscs(order.batches))
            self.calls += 1
            self.changes += len(order.links) - len(refused)
            for place, (end, state, handle) in enumerate(order.links):
                if place not in refused:
                    end.state, end.handle = state, handle
                    continue
                number = number or refused[place]
                source, destination = end.link
                failed.append(f"link {source} {destination}: {os.strerror(refused[place])}")
        if failed:
            more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
            raise NetlinkError(number, f"{failed[0]}{more}")

    def _orders(self, changes: Sequence[Change]) -> list[_Order]:
        """One a node. KeyError: a link without an end. ValueError as `apply`."""
        shaping, overhead = self._shaping, self._overhead
        nodes: dict[int, _Order] = {}
        for change in changes:
            link, state = change.link, change.state
            end = self._ends[link]
            told = shaping.of(
                state,
                link,
                lost_first=end.chance.lost_first(state.loss.mean),
                packet_overhead=overhead,
            )
            netlink, index = end.port.netlink, end.port.index
            order = nodes.get(id(netlink))
            if order is None:
                order = nodes[id(netlink)] = _Order(netlink)
            how, handle, seed = HowQdisc.CHANGE, end.handle, None
            if state.outage == "cut" and end.state.outage != "cut":
                # A new qdisc: what waited or flew in the old one is gone, the link's other direction is not.
                how, seed = HowQdisc.REPLACE, end.chance.seed()
                handle = HANDLES[1] if end.handle == HANDLES[0] else HANDLES[0]
                order.cut[index] = end
            order.requests.append((how, root_qdisc(index, handle, shaping.KIND, told.options(seed))))
            order.links.append((end, state, handle))
        for order in nodes.values():
            order.batches = order.netlink.composed(order.requests)
        return list(nodes.values())

    def verify(self) -> list[str]:
        """Each link whose qdisc is not what it was told, with what differs: read from the kernel."""
        complaints = []
        roots = self._roots()
        for (source, destination), end in self._ends.items():
            name = f"link {source} {destination}"
            found = roots.get((id(end.port.netlink), end.port.index))
            if found is None or found.kind != self._shaping.KIND or found.handle != end.handle:
                what = "no qdisc" if found is None else f"qdisc {found.kind} {found.handle >> 16:x}:"
                complaints.append(f"{name}: {end.port.device} has {what}, not ours")
                continue
            told = self._shaping.of(end.state, (source, destination), packet_overhead=self._overhead)
            differences = self._shaping.read(found.options).differences(told)  # type: ignore[arg-type]
            if differences:
                complaints.append(f"{name}: {'; '.join(differences)}")
        return complaints

    def totals(self) -> dict[str, object]:
        """Of all links, and how many of them are not what they were told to be."""
        complaints = self.verify()
        return {
            "kind": self._shaping.KIND,
            "not_emulated": list(self._shaping.MISSING),
            "changes": self.changes,
            "calls": self.calls,
            "tampered": len(complaints),
            "complaints": complaints[:COMPLAINTS],
        }

    def measured(self) -> dict[str, object]:
        """`dropped`: losses and overflows alike; `flushed`: what a cut took from the air."""
        roots = self._roots()
        links = {}
        for (source, destination), end in self._ends.items():
            found = roots.get((id(end.port.netlink), end.port.index))
            if found is None:
                continue
            links[f"{source} {destination}"] = {
                "delivered": end.sent + found.sent,
                "delivered_bytes": end.sent_bytes + found.sent_bytes,
                "dropped": end.drops + found.drops,
                "flushed": end.flushed,
                "in_flight": found.waiting,
            }
        return {**self.totals(), "links": links}

    def _roots(self) -> dict[tuple[int, int], Qdisc]:
        sockets = {id(end.port.netlink): end.port.netlink for end in self._ends.values()}
        return {
            (key, qdisc.index): qdisc
            for key, netlink in sockets.items()
            for qdisc in netlink.qdiscs()
            if qdisc.handle and qdisc.parent == 0xFFFFFFFF
        }

    def _keep_counts(self, netlink: Netlink, cut: dict[int, _End]) -> None:
        for qdisc in netlink.qdiscs():
            end = cut.get(qdisc.index)
            if end is not None and qdisc.handle == end.handle:
                end.sent += qdisc.sent
                end.sent_bytes += qdisc.sent_bytes
                end.drops += qdisc.drops
                end.flushed += qdisc.waiting

    def _why_not(self, number: int, link: Link, port: Port) -> str:
        kind = self._shaping.KIND
        where = f"link {link[0]} {link[1]}: device {port.device}"
        if number == errno.ENOENT:
            return f"this kernel has no {kind} (module sch_{kind}); {_NO_KIND[kind]}"
        if number == errno.EEXIST:
            found = [one for one in port.netlink.qdiscs() if one.index == port.index and one.handle]
            what = f"{found[0].kind} {found[0].handle >> 16:x}:" if found else "?"
            return f"{where}: carries a qdisc that is not ours ({what}); tc qdisc del dev {port.device} root"
        return f"{where}: {os.strerror(number)}"


def _unforeseen(link: Link) -> None:
    raise KeyError(f"link {link[0]} {link[1]}: was not installed")
