"""Sets links in the kernel: one queueing discipline a directed link, on the sending end of its own veth pair.

A batch of changes is one message a link and one system call a node; every one is acknowledged or refused.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
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
    found: Qdisc | None = None  # as last read, of this handle
    complaint: str = ""  # what was wrong then
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
        self.drops_behind: Callable[[str], int] = _none
        """Packets that a node's devices have taken from their queues and not delivered."""
        self._shaping = shaping
        self._seed = seed
        self._overhead = packet_overhead
        self._ends: dict[Link, _End] = {}
        self._nodes: dict[int, tuple[Netlink, dict[int, _End]]] = {}  # of a socket: by device
        self._tampered: dict[Link, str] = {}
        self._behind: dict[str, int] = {}
        self._prepared: tuple[Sequence[Change], list[_Order]] | None = None

    def install(self, link: Link, port: Port) -> None:
        """The link, down. HostError: the kernel lacks the kind, or the device has somebody's qdisc."""
        chance = Chance(self._seed, link)
        told = self._shaping.of(DOWN, link, packet_overhead=self._overhead)
        body = root_qdisc(port.index, HANDLES[0], self._shaping.KIND, told.options(chance.seed()))
        refused = port.netlink.set_qdiscs(port.netlink.composed([(HowQdisc.ADD, body)]))
        if refused:
            raise HostError(self._why_not(refused[0][1], link, port))
        end = self._ends[link] = _End(link, port, chance, HANDLES[0], DOWN)
        self._nodes.setdefault(id(port.netlink), (port.netlink, {}))[1][port.index] = end

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
        failed: list[tuple[_End, int]] = []
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
                failed.append((end, refused[place]))
        if failed:
            end, number = failed[0]
            more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
            raise NetlinkError(number, f"{self._refusal(end, number)}{more}")

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

    def survey(self) -> Iterator[None]:
        """Read the qdiscs back, those of one node at a time: between two of them others may have their turn.

        What is not as it was told to be is remembered, also where a later change makes it good again.
        """
        for netlink, ends in list(self._nodes.values()):
            self._read(netlink, ends)
            yield

    def verify(self) -> list[str]:
        """Each link whose qdisc is not what it was told, with what differs: read from the kernel now."""
        for _ in self.survey():
            pass
        return [end.complaint for end in self._ends.values() if end.complaint]

    def totals(self) -> dict[str, object]:
        """Of all links, as last surveyed. `dropped`: losses and overflows alike; `flushed`: what a cut took
        from the air; `kernel_drops`: what the kernel had no room for behind the links, which no plan loses;
        `tampered`: links that were not what they were told to be, some of them named.
        """
        ends = self._ends.values()
        return {
            "kind": self._shaping.KIND,
            "not_emulated": list(self._shaping.MISSING),
            "changes": self.changes,
            "calls": self.calls,
            "delivered": sum(end.sent + (end.found.sent if end.found else 0) for end in ends),
            "dropped": sum(end.drops + (end.found.drops if end.found else 0) for end in ends),
            "flushed": sum(end.flushed for end in ends),
            "kernel_drops": sum(self._behind.values()),
            "tampered": len(self._tampered),
            "complaints": list(self._tampered.values())[:COMPLAINTS],
        }

    def measured(self) -> dict[str, object]:
        """The totals, and the same of each link."""
        links = {}
        for (source, destination), end in self._ends.items():
            found = end.found
            links[f"{source} {destination}"] = {
                "delivered": end.sent + (found.sent if found else 0),
                "delivered_bytes": end.sent_bytes + (found.sent_bytes if found else 0),
                "dropped": end.drops + (found.drops if found else 0),
                "flushed": end.flushed,
                "in_flight": found.waiting if found else 0,
            }
        return {**self.totals(), "links": links}

    def _read(self, netlink: Netlink, ends: dict[int, _End]) -> None:
        roots = {one.index: one for one in netlink.qdiscs() if one.is_root}
        for index, end in ends.items():
            found = roots.get(index)
            end.complaint = self._complaint(end, found)
            if found is not None and found.kind == self._shaping.KIND and found.handle == end.handle:
                end.found = found
            if end.complaint:
                self._tampered.setdefault(end.link, end.complaint)
        for node in {end.link[0] for end in ends.values()}:
            self._behind[node] = self.drops_behind(node)

    def _refusal(self, end: _End, number: int) -> str:
        """With what the kernel has instead, if that is why."""
        self._read(*self._nodes[id(end.port.netlink)])
        why = f": {end.complaint.partition(': ')[2]}" if end.complaint else ""
        return f"link {end.link[0]} {end.link[1]}: {os.strerror(number)}{why}"

    def _complaint(self, end: _End, found: Qdisc | None) -> str:
        name = f"link {end.link[0]} {end.link[1]}"
        if found is None or found.kind != self._shaping.KIND or found.handle != end.handle:
            what = "no qdisc" if found is None else f"qdisc {found.kind} {found.handle >> 16:x}:"
            return f"{name}: {end.port.device} has {what}, not ours"
        told = self._shaping.of(end.state, end.link, packet_overhead=self._overhead)
        differences = self._shaping.read(found.options).differences(told)  # type: ignore[arg-type]
        return f"{name}: {'; '.join(differences)}" if differences else ""

    def _keep_counts(self, netlink: Netlink, cut: dict[int, _End]) -> None:
        """Before their qdiscs are replaced. NetlinkError: one is somebody else's, not ours to end."""
        found = {one.index: one for one in netlink.qdiscs() if one.is_root}
        for index, end in cut.items():
            qdisc = found.get(index)
            if qdisc is None or qdisc.kind != self._shaping.KIND or qdisc.handle != end.handle:
                raise NetlinkError(errno.EEXIST, self._refusal(end, errno.EEXIST))
            end.sent += qdisc.sent
            end.sent_bytes += qdisc.sent_bytes
            end.drops += qdisc.drops
            end.flushed += qdisc.waiting
            end.found = None

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


def _none(node: str) -> int:
    return 0


def _unforeseen(link: Link) -> None:
    raise KeyError(f"link {link[0]} {link[1]}: was not installed")
