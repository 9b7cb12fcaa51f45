"""A node's outgoing links as a shell script that replays them on one device, and the script that undoes it.

One peer: a netem as the device's root qdisc. Several: an htb root that shapes nothing itself, with a class
and a netem leaf for each peer and a filter by the peer's address; what goes to other addresses passes
unshaped. Pure: text from a schedule.

The script waits for each step with the kernel's uptime, which is read without starting a program and counts
in 10 ms: instants are absolute, and as exact as that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from netem.kernel.backend import DOWN
from netem.kernel.encoder import Chance, Netem
from netem.link_state import LinkState
from netem.schedule import Schedule
from netem.scripts.words import netem_words

HANDLE: Final = "b17"
"""Of our root qdisc, by which `undo.sh` knows it."""

_FIRST_LEAF: Final = 0x1000
MOST_PEERS: Final = 2000

_DEVICE: Final = re.compile(r"[A-Za-z0-9_.@-]{1,15}")
_NS_PER_TICK: Final = 10_000_000


@dataclass(frozen=True, slots=True)
class Egress:
    """What leaves a node through a device; `peers` have addresses where there are several. ValueError."""

    node: str
    device: str
    peers: Mapping[str, IPv4Address | None]

    @staticmethod
    def of(schedule: Schedule, node: str, device: str, addresses: Mapping[str, IPv4Address]) -> Egress:
        if not _DEVICE.fullmatch(device):
            raise ValueError(f"--dev: must be 1 to 15 letters, digits, '_', '.', '-', not {device!r}")
        names = sorted(one.name for one in schedule.plan.nodes)
        if node not in names:
            raise ValueError(f"--node: must be a node of the plan, not {node!r}")
        peers = [destination for source, destination in schedule.links() if source == node]
        if not peers:
            raise ValueError(f"--node: {node} never sends to anybody in this plan")
        if len(peers) > MOST_PEERS:
            raise ValueError(f"--node: {node} sends to {len(peers)} others, at most {MOST_PEERS}")
        unknown = sorted(set(addresses) - set(peers))
        if unknown:
            raise ValueError(f"--peer: {unknown[0]}: {node} never sends to it in this plan")
        missing = [peer for peer in peers if peer not in addresses]
        if missing and len(peers) > 1:
            raise ValueError(f"--peer: NAME=ADDRESS is missing of {_named(missing)}, which {node} sends to")
        if len(set(addresses.values())) < len(addresses):
            raise ValueError("--peer: must have an address each, no two the same")
        return Egress(node, device, {peer: addresses.get(peer) for peer in peers})


def _named(names: Sequence[str]) -> str:
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")


class _Peer:
    """One netem on the device: where it hangs, and the handle that it has now."""

    def __init__(self, egress: Egress, number: int, seed: int) -> None:
        self.name, self.address = list(egress.peers.items())[number]
        self._link = egress.node, self.name
        self._chance = Chance(seed, self._link)
        alone = len(egress.peers) == 1
        self._parent = "root" if alone else f"parent {HANDLE}:{number + 1:x}"
        leaf = _FIRST_LEAF + 2 * number
        self._handles = (HANDLE, f"{int(HANDLE, 16) + 1:x}") if alone else (f"{leaf:x}", f"{leaf + 1:x}")
        self._device = egress.device
        self._state = DOWN

    def first(self) -> str:
        return self._line("add", DOWN)

    def change(self, state: LinkState) -> str:
        verb = "change"
        if state.outage == "cut" and self._state.outage != "cut":
            # Another handle makes a new qdisc: what waited or flew in the old one is gone.
            verb, self._handles = "replace", self._handles[::-1]
        self._state = state
        return self._line(verb, state)

    def _line(self, verb: str, state: LinkState) -> str:
        told = Netem.of(state, self._link, lost_first=self._chance.lost_first(state.loss.mean))
        place = f"dev {self._device} {self._parent} handle {self._handles[0]}:"
        return f"qdisc {verb} {place} netem {netem_words(told)}"


def timed_lines(schedule: Schedule, egress: Egress, from_ns: int, seed: int) -> Iterator[tuple[int, str]]:
    """(host ns from the start, tc command), ascending; the first ones, at 0, make the qdiscs."""
    device = egress.device
    peers = [_Peer(egress, number, seed) for number in range(len(egress.peers))]
    by_name = {peer.name: peer for peer in peers}
    if len(peers) > 1:
        yield 0, f"qdisc add dev {device} root handle {HANDLE}: htb default 0"
        for number, peer in enumerate(peers, 1):
            place = f"{HANDLE}:{number:x}"
            # As fast as anything: the leaf is the link.
            yield (
                0,
                f"class add dev {device} parent {HANDLE}: classid {place} htb rate 100gbit "
                "burst 1mb cburst 1mb quantum 60000",
            )
            yield 0, peer.first()
            yield (
                0,
                f"filter add dev {device} parent {HANDLE}: protocol ip prio 1 u32 match ip dst "
                f"{peer.address}/32 flowid {place}",
            )
    else:
        yield 0, peers[0].first()
    for step in schedule.steps(from_ns):
        at_ns = round((step.t_ns - from_ns) / schedule.clock_rate)
        for change in step.changes:
            source, destination = change.link
            if source == egress.node:
                yield at_ns, by_name[destination].change(change.state)


def replay_script(lines: Iterator[tuple[int, str]], egress: Egress, title: str) -> Iterator[str]:
    """The text of `replay.sh`, in parts: a plan may be long."""
    yield _REPLAY.format(title=title, device=egress.device)
    for at_ns, line in lines:
        yield f"{round(at_ns / _NS_PER_TICK)} {line}\n"
    yield _REPLAY_END


def undo_script(egress: Egress, title: str) -> str:
    """The text of `undo.sh`."""
    handles = f"{HANDLE}: | {int(HANDLE, 16) + 1:x}:"
    return _UNDO.format(title=title, device=egress.device, handles=handles)


_REPLAY: Final = """#!/bin/sh
# {title}
# Shapes what leaves by {device}: sh replay.sh [--at UNIX_SECONDS]. As root; needs tc, ip and /proc.
# Interrupted, it undoes what it did; at its end links stay as they are until undo.sh.
here=$(dirname "$0")
complain() {{ echo "replay.sh: $1" >&2; exit 2; }}
ticks() {{ read -r up rest </proc/uptime; now=${{up%.*}}${{up#*.}}; }}

at=
case "$#:$1" in
    0:) ;;
    2:--at) at=$2; case "$at" in '' | *[!0-9]*) complain "--at: must be whole seconds, not $at" ;; esac ;;
    *) complain "usage: sh replay.sh [--at UNIX_SECONDS]" ;;
esac
ip link show dev {device} >/dev/null 2>&1 || complain "{device}: there is no such device"
found=$(tc qdisc show dev {device} | while read -r word kind handle rest; do
    case "$rest" in root*) [ "$handle" = "0:" ] || echo "$kind $handle" ;; esac
done)
[ -z "$found" ] || complain "{device}: carries a qdisc ($found); tc qdisc del dev {device} root"
if [ ! -e "$here/before" ]; then
    set -- $(ip -d link show dev {device})
    segments=
    while [ $# -gt 1 ]; do
        [ "$1" != gso_max_segs ] || segments=$2
        shift
    done
    echo "$segments" >"$here/before" || exit 2
fi
echo $$ >"$here/running" || exit 2 # an earlier one that was interrupted sees that it is over
# A loss is of packets, not of bundles of them.
ip link set dev {device} gso_max_segs 1 || {{ rm -f "$here/before"; exit 2; }}
trap 'sh "$here/undo.sh"; exit 130' INT TERM HUP

ticks
start=$now
if [ -n "$at" ]; then
    second=$(date +%s)
    while [ "$(date +%s)" = "$second" ]; do :; done
    ticks
    start=$((now + (at - second - 1) * 100))
    if [ $start -lt $now ]; then
        sh "$here/undo.sh"
        complain "--at: must not be in the past, it was $(((now - start) / 100)) s ago"
    fi
fi
{{
    late=0 most=0 steps=0
    while read -r due line; do
        due=$((start + due))
        ticks
        while [ "$now" -lt "$due" ]; do
            [ "$(cat "$here/running" 2>/dev/null)" = $$ ] || exit 3 # undone meanwhile
            left=$((due - now - 1))
            [ $left -le 100 ] || left=100
            [ $left -le 0 ] || sleep "$((left / 100)).$(printf %02d $((left % 100)))"
            echo # nothing to tc; without it this is the end
            ticks
        done
        printf '%s\\n' "$line"
        steps=$((steps + 1)) behind=$((now - due))
        [ $behind -le 2 ] || late=$((late + 1))
        [ $behind -le $most ] || most=$behind
    done
    echo "replay.sh: $steps lines, $late of them more than 20 ms late, at most $((most * 10)) ms" >&2
}} <<'END' | tc -batch - &
"""

_REPLAY_END: Final = """END
wait $! && exit 0
sh "$here/undo.sh"
complain "tc refused a line; undone"
"""

_UNDO: Final = """#!/bin/sh
# {title}
# Takes away what replay.sh has put on {device}. As root; may be run at any time, and twice.
here=$(dirname "$0")
rm -f "$here/running"
tc qdisc show dev {device} 2>/dev/null | while read -r word kind handle rest; do
    case "$rest" in root*) ;; *) continue ;; esac
    case "$handle" in {handles}) tc qdisc del dev {device} root ;; esac
done
if [ -e "$here/before" ]; then
    read -r segments <"$here/before"
    [ -z "$segments" ] || ip link set dev {device} gso_max_segs "$segments"
    rm -f "$here/before"
fi
"""
