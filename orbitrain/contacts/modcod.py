"""MODCODs: the modulations and codes of a modem, what each needs and what it carries.

The table is that of DVB-S2: ETSI EN 302 307-1, Table 13 (ideal Es/N0 for quasi-error-free reception, a packet
error ratio of 1e-7 after the decoder, over AWGN; normal FECFRAME of 64,800 bits, no pilots). Its efficiencies
follow from the frame: (K_bch - 80) / (64,800 / m + 90) with K_bch of Table 5a and m bits a symbol.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Modcod:
    """A modulation and code: `es_n0_db` it needs (per symbol) and `efficiency`, information bits a symbol."""

    name: str
    es_n0_db: float
    efficiency: float


DVB_S2: Final = (
    Modcod("QPSK 1/4", -2.35, 0.490243),
    Modcod("QPSK 1/3", -1.24, 0.656448),
    Modcod("QPSK 2/5", -0.30, 0.789412),
    Modcod("QPSK 1/2", 1.00, 0.988858),
    Modcod("QPSK 3/5", 2.23, 1.188304),
    Modcod("QPSK 2/3", 3.10, 1.322253),
    Modcod("QPSK 3/4", 4.03, 1.487473),
    Modcod("QPSK 4/5", 4.68, 1.587196),
    Modcod("QPSK 5/6", 5.18, 1.654663),
    Modcod("QPSK 8/9", 6.20, 1.766451),
    Modcod("QPSK 9/10", 6.42, 1.788612),
    Modcod("8PSK 3/5", 5.50, 1.779991),
    Modcod("8PSK 2/3", 6.62, 1.980636),
    Modcod("8PSK 3/4", 7.91, 2.228124),
    Modcod("8PSK 5/6", 9.35, 2.478562),
    Modcod("8PSK 8/9", 10.69, 2.646012),
    Modcod("8PSK 9/10", 10.98, 2.679207),
    Modcod("16APSK 2/3", 8.97, 2.637201),
    Modcod("16APSK 3/4", 10.21, 2.966728),
    Modcod("16APSK 4/5", 11.03, 3.165623),
    Modcod("16APSK 5/6", 11.61, 3.300184),
    Modcod("16APSK 8/9", 12.89, 3.523143),
    Modcod("16APSK 9/10", 13.13, 3.567342),
    Modcod("32APSK 3/4", 12.73, 3.703295),
    Modcod("32APSK 4/5", 13.64, 3.951571),
    Modcod("32APSK 5/6", 14.28, 4.119540),
    Modcod("32APSK 8/9", 15.69, 4.397854),
    Modcod("32APSK 9/10", 16.05, 4.453027),
)


def worthwhile(table: Sequence[Modcod]) -> tuple[Modcod, ...]:
    """The MODCODs that a modem picks as Es/N0 rises: thresholds and efficiencies both strictly ascending.

    Left out are those that need no less than another and carry no more (QPSK 8/9 beside 8PSK 3/5).
    """
    found: list[Modcod] = []
    for modcod in sorted(table, key=lambda one: (one.es_n0_db, -one.efficiency)):
        if not found or modcod.efficiency > found[-1].efficiency:
            found.append(modcod)
    return tuple(found)


LADDER: Final = worthwhile(DVB_S2)
"""What of DVB-S2 is ever used: step k of a link with MODCODs is `LADDER[k - 1]`."""
