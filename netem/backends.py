"""The ways of moving packets between nodes' namespaces, and what each of them needs and can do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Final, Protocol

from netem.kernel import limits as kernel_limits
from netem.kernel import network as kernel
from netem.kernel.encoder import Netem
from netem.limits import Limits
from netem.link_state import Link, LinkState
from netem.loop import Loop
from netem.namespaces import Place
from netem.replay import Backend
from netem.schedule import Schedule
from netem.tun import device as tun_device
from netem.tun import limits as tun_limits
from netem.tun import network as tun


class Network(Protocol):
    """A plan's nodes, each in a namespace, with links between them."""

    @property
    def places(self) -> Mapping[str, Place]: ...

    @property
    def backend(self) -> Backend: ...

    @property
    def loop(self) -> Loop: ...

    def close(self) -> None:
        """Remove every namespace and device made."""


class Up(Protocol):
    """Brings a network up, all links down. Raises HostError, ValueError."""

    def __call__(
        self,
        run_id: str,
        nodes: Sequence[str],
        links: Sequence[Link],
        *,
        addresses: IPv4Network,
        seed: int,
        overhead_bytes: int,
    ) -> Network: ...


@dataclass(frozen=True, slots=True)
class BackendKind:
    """`probe` raises HostError where it cannot be had, tried; `netem.namespaces.check_rights` comes first.

    `holds` raises ValueError, one line, for a state of a link that it cannot hold. `lost_take_time`: a packet
    that is lost has used the transmitter, as one that is lost in the air does.
    """

    limits: Limits
    probe: Callable[[], None]
    up: Up
    holds: Callable[[LinkState, Link], object]
    lost_take_time: bool

    def check(self, schedule: Schedule) -> None:
        """ValueError, one line, where the schedule has a state that no host of this back end can hold."""
        for link, state in schedule.extremes():
            self.holds(state, link)


def _any(state: LinkState, link: Link) -> None:
    """User space holds what is a link's state at all."""


BACKENDS: Final[Mapping[str, BackendKind]] = {
    # In the order in which `auto` prefers them.
    "kernel": BackendKind(
        kernel_limits.LIMITS, kernel.probe, kernel.KernelNetwork.up, holds=Netem.of, lost_take_time=False
    ),
    "tun": BackendKind(tun_limits.LIMITS, tun_device.probe, tun.TunNetwork.up, _any, lost_take_time=True),
}
