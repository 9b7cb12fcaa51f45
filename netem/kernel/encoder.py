"""From a link state to the options of the kernel's netem, and back. Pure; layouts of linux/pkt_sched.h.

What net/sched/sch_netem.c does with them, and what follows:

- A change is not a partial one: delay, jitter, loss and limit that are not named become nothing. Rate,
  correlations, reordering and corruption stay. So every parameter is named in every change.
- A change without TCA_NETEM_LOSS ends a chain of losses (the model becomes the uniform one, of `loss`), and
  one with it puts the chain into its first state. So a chain cannot be left alone while the delay changes.
  Were its first state always the good one, frequent changes would lose too little. But the kernel's two
  states each have their own loss, so the bad one can be the first: whoever changes a link draws which
  (`Chance`), bad with the mean's probability, and the mean stays exact. A run of losses that a change falls
  into ends, or goes on, by chance.
- `rand < p` moves and `rand > h` loses, `rand` being 32 bits: probabilities are exact to 2**-32.
- Losses happen before the packet is queued: a lost packet takes no time of the transmitter.
- The seed (Linux 6.6 and later; others ignore it) starts the generator anew, so only a new one gets it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, fields, replace
from random import Random
from typing import ClassVar, Final

from netem.link_state import Link, LinkState
from netem.netlink import attributes

ALWAYS: Final = 0xFFFFFFFF

LARGEST_JITTER_NS: Final = 2**31 - 1
"""The kernel takes more for this."""

MEAN_ERROR, MEAN_ERROR_FRACTION = 1e-6, 0.01
"""What rounding may make of a mean loss: this, or this part of it. A chain that is hardly ever entered, for
long, is beyond it; losses so rare that they round to none are not.
"""

LEAST_RATE_BPS: Final = 800
"""A kernel's rate is in whole bytes a second: from here on within 0.5 % of what was asked for."""

LARGEST_LIMIT_PACKETS: Final = 2**32 - 1
_TICK_NS: Final = 64  # PSCHED_SHIFT 6; of the 32-bit fields, which the 64-bit attributes override

_CORR, _REORDER, _CORRUPT, _LOSS, _RATE, _ECN, _RATE64 = 1, 3, 4, 5, 6, 7, 8
_LATENCY64, _JITTER64, _SLOT, _SEED = 10, 11, 12, 14
_LOSS_GI, _LOSS_GE = 1, 2

_QOPT: Final = struct.Struct("=IIIIII")  # latency, limit, loss, gap, duplicate, jitter
_GE: Final = struct.Struct("=IIII")  # p, r, h, k1
# Every option at its place: one pack a change. Attributes are (length, type, content).
_FULL: Final = struct.Struct("=IIIIII HH12x HH8x HH8x HHIiIi HHQ HHq HHq")
_FULL_HEADS: Final = {"corr": (16, _CORR), "reorder": (12, _REORDER), "corrupt": (12, _CORRUPT)}
_CHAIN: Final = struct.Struct("=HHHHIIII")
_SEEDED: Final = struct.Struct("=HHQ")


def of_probability(probability: float) -> int:
    """In 2**32 - 1 parts, rounded, as tc does it."""
    return round(probability * ALWAYS)


class Chance:
    """In which state a link's chain of losses starts at each change: seeded, each link its own."""

    __slots__ = ("_random",)

    def __init__(self, seed: int, link: Link) -> None:
        self._random = Random(f"{seed} {link[0]} {link[1]}")

    def lost_first(self, mean: float) -> bool:
        return self._random.random() < mean

    def seed(self) -> int:
        """For a generator of the kernel; not 0."""
        return self._random.getrandbits(64) | 1


@dataclass(frozen=True, slots=True)
class Netem:
    """What a netem has been told, in the kernel's units. `chain`: p, r, h, k1 of its two states, or none.

    In the first state a packet is lost where `rand < k1`, in the second where `rand > h`; `p` leads from the
    first to the second, `r` back.
    """

    KIND: ClassVar[str] = "netem"
    MISSING: ClassVar[tuple[str, ...]] = ()

    delay_ns: int
    jitter_ns: int
    rate_bytes_per_s: int
    limit_packets: int
    loss: int = 0
    chain: tuple[int, int, int, int] | None = None
    packet_overhead: int = 0
    others: int = 0
    """Not 0: somebody set duplication, reordering, corruption, correlation, cells, ECN, slots."""

    @staticmethod
    def of(state: LinkState, link: Link, *, lost_first: bool = False, packet_overhead: int = 0) -> Netem:
        """ValueError, one line, names the link and what the kernel cannot hold."""
        if state.rate_bps < LEAST_RATE_BPS:
            raise _refused(link, "rate_bps", f"at least {LEAST_RATE_BPS}", state.rate_bps)
        if state.jitter_ns > LARGEST_JITTER_NS:
            raise _refused(link, "jitter_ns", f"at most {LARGEST_JITTER_NS}", state.jitter_ns)
        if state.limit_packets > LARGEST_LIMIT_PACKETS:
            raise _refused(link, "limit_packets", f"at most {LARGEST_LIMIT_PACKETS}", state.limit_packets)
        loss, chain = 0, None
        model = state.loss
        if not state.up or model.mean >= 1:
            loss = ALWAYS
        elif model.kind == "uniform" and model.mean > 0:
            loss = of_probability(model.mean)
        elif model.kind == "gilbert_elliott" and model.mean > 0:
            to_bad, to_good = model.transitions()
            p, r = of_probability(to_bad), of_probability(to_good)
            held = p / (p + r) if p else 0.0
            if abs(held - model.mean) > max(MEAN_ERROR, MEAN_ERROR_FRACTION * model.mean):
                what = f"held within {MEAN_ERROR_FRACTION:.0%} in parts of 2**-32 (shorter runs)"
                raise _refused(link, "loss", what, f"{model.mean:g} in runs of {model.burst:g}")
            # The bad state first: lost always (k1), then the good one, where nothing is (h).
            if p:
                chain = (r, p, ALWAYS, ALWAYS) if lost_first else (p, r, 0, 0)
        return Netem(
            state.delay_ns,
            state.jitter_ns,
            (state.rate_bps + 4) // 8,
            state.limit_packets,
            loss,
            chain,
            packet_overhead,
        )

    @property
    def rate_bps(self) -> int:
        return self.rate_bytes_per_s * 8

    @property
    def mean_loss(self) -> float:
        """In the long run."""
        if self.chain is None:
            return self.loss / ALWAYS
        p, r, h, k1 = self.chain
        return (r * k1 + p * (ALWAYS - h)) / ((p + r) * ALWAYS)

    def differences(self, other: Netem) -> list[str]:
        """`name: this, not that` of each field, but for the state in which a chain began."""
        one, two = self._normal(), other._normal()
        return [
            f"{field.name}: {getattr(one, field.name)}, not {getattr(two, field.name)}"
            for field in fields(Netem)
            if getattr(one, field.name) != getattr(two, field.name)
        ]

    def _normal(self) -> Netem:
        if self.chain is None or self.chain[3] != ALWAYS:
            return self
        p, r, h, k1 = self.chain
        return replace(self, chain=(r, p, ALWAYS - k1, ALWAYS - h))

    def options(self, seed: int | None = None) -> bytes:
        """The content of TCA_OPTIONS: every parameter, what is not used as 0."""
        data = _FULL.pack(
            min(self.delay_ns // _TICK_NS, ALWAYS),
            self.limit_packets,
            self.loss,
            0,
            0,
            min(self.jitter_ns // _TICK_NS, ALWAYS),
            *_FULL_HEADS["corr"],
            *_FULL_HEADS["reorder"],
            *_FULL_HEADS["corrupt"],
            20,
            _RATE,
            min(self.rate_bytes_per_s, ALWAYS),
            self.packet_overhead,
            0,
            0,
            12,
            _RATE64,
            self.rate_bytes_per_s,
            12,
            _LATENCY64,
            self.delay_ns,
            12,
            _JITTER64,
            self.jitter_ns,
        )
        if self.chain is not None:
            data += _CHAIN.pack(24, _LOSS, 20, _LOSS_GE, *self.chain)
        if seed is not None:
            data += _SEEDED.pack(12, _SEED, seed)
        return data

    @staticmethod
    def read(options: bytes) -> Netem:
        """From what the kernel answers. ValueError where it is no netem's."""
        if len(options) < _QOPT.size:
            raise ValueError(f"netem options: {len(options)} bytes, at least {_QOPT.size} expected")
        latency, limit, loss, gap, duplicate, jitter = _QOPT.unpack_from(options)
        delay_ns, jitter_ns, rate, overhead = latency * _TICK_NS, jitter * _TICK_NS, 0, 0
        others = gap | duplicate
        chain: tuple[int, int, int, int] | None = None
        for kind, value in attributes(options[_QOPT.size :]):
            if kind in (_CORR, _REORDER, _CORRUPT, _ECN, _SLOT):
                others |= int(any(value))
            elif kind == _LATENCY64:
                (delay_ns,) = struct.unpack("=q", value)
            elif kind == _JITTER64:
                (jitter_ns,) = struct.unpack("=q", value)
            elif kind == _RATE:
                bytes_per_s, overhead, cell_size, cell_overhead = struct.unpack("=IiIi", value)
                rate = max(rate, bytes_per_s)
                others |= cell_size | cell_overhead
            elif kind == _RATE64:
                rate = max(rate, struct.unpack("=Q", value)[0])
            elif kind == _LOSS:
                for model, numbers in attributes(value):
                    if model == _LOSS_GE:
                        chain = _GE.unpack(numbers)
                    else:
                        others |= 1  # the model of four states
        return Netem(delay_ns, jitter_ns, rate, limit, loss, chain, overhead, others)


def _refused(link: Link, name: str, allowed: str, value: object) -> ValueError:
    return ValueError(f"link {link[0]} {link[1]}: {name}: must be {allowed} for netem, not {value}")
