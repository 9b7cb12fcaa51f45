"""Fading of a service link: how many packets are lost, and how long losses last.

Two states, after E. Lutz et al., "The land mobile satellite communication channel", IEEE Transactions on
Vehicular Technology 40 (2), 1991. In sight of the satellite the signal is Rician; in shadow it is Rayleigh
about a mean that is lognormal. The share of time in sight, and mean and deviation of the shadow, are those of
3GPP TR 38.811 (V15): Table 6.6.1-1 for the probability of line of sight, Tables 6.6.2-2 and 6.6.2-3 for
clutter loss and shadow fading without it. `rural` is its "suburban and rural", `urban` its "urban"; between
its angles we interpolate, below 10 degrees we hold. `open` is always in sight.

Rice factors, durations and the choice of band are our model: the constants below, reasons in docs/links.md.

A packet is lost when fading takes more than the fade margin, that is, while the rate in use cannot be
decoded. The result is a Gilbert-Elliott channel, which loses every packet in its bad state and none in its
good one: a mean loss and the mean length of a run of losses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

ENVIRONMENTS: Final = ("open", "rural", "urban")

# Rice factor in sight: the power of the direct path over that of all the others.
RICE_FACTOR_DB: Final = {"open": 15.0, "rural": 10.0, "urban": 7.0}
# How long a shadow lasts for a device that stands still, while a satellite goes by: a tree, a building.
SHADOW_S: Final = {"open": 0.2, "rural": 5.0, "urban": 20.0}
# How long a fade in sight lasts: the paths' phases turn as the satellite moves.
FADE_S: Final = 0.2
# Some packet always gets through, so that repeating it ends.
LARGEST_LOSS: Final = 0.99
# Loss below a packet in a million is none: no run is long enough to see it.
SMALLEST_LOSS: Final = 1e-6
# TR 38.811 has S band (2 to 4 GHz) and Ka band (26.5 to 40 GHz); this is their geometric middle.
KA_FROM_HZ: Final = 10e9

LARGEST_RICE_FACTOR_DB: Final = 20.0
# Beyond these the tables go on with their last value: a fade by more than 60 dB is an outage of another kind.
_PER_DB: Final = 20
_MARGINS_DB: Final = np.arange(60 * _PER_DB + 1) / _PER_DB
_DEEPEST_DB: Final = -10.0

_ELEVATIONS: Final = np.arange(10.0, 91.0, 10.0)
_IN_SIGHT: Final = {  # Table 6.6.1-1
    "rural": (0.782, 0.869, 0.919, 0.929, 0.935, 0.940, 0.949, 0.952, 0.998),
    "urban": (0.246, 0.386, 0.493, 0.613, 0.726, 0.805, 0.919, 0.968, 0.992),
}
_CLUTTER_DB: Final = {  # Tables 6.6.2-2 (urban) and 6.6.2-3 (suburban and rural): CL without line of sight
    ("rural", "S"): (19.52, 18.17, 18.42, 18.28, 18.63, 17.68, 16.50, 16.30, 16.30),
    ("rural", "Ka"): (29.5, 24.6, 21.9, 20.0, 18.7, 17.8, 17.2, 16.9, 16.8),
    ("urban", "S"): (34.3, 30.9, 29.0, 27.7, 26.8, 26.2, 25.8, 25.5, 25.5),
    ("urban", "Ka"): (44.3, 39.9, 37.5, 35.8, 34.6, 33.8, 33.3, 33.0, 32.9),
}
_DEVIATION_DB: Final = {  # the same tables: sigma_SF without line of sight
    ("rural", "S"): (8.93, 9.08, 8.78, 10.25, 10.56, 10.74, 10.17, 11.52, 11.52),
    ("rural", "Ka"): (10.7, 10.0, 11.2, 11.6, 11.8, 10.8, 10.8, 10.8, 10.8),
    ("urban", "S"): (6.0,) * 9,
    ("urban", "Ka"): (6.0,) * 9,
}


@dataclass(frozen=True, slots=True)
class Fades:
    """Of n links: `loss_mean` (0 to `LARGEST_LOSS`) and `burst_s`, the mean duration of a run of losses."""

    loss_mean: Floats
    burst_s: Floats


def band(frequency_hz: float) -> str:
    """Which columns of TR 38.811 are taken: "S" below `KA_FROM_HZ`, else "Ka"."""
    return "S" if frequency_hz < KA_FROM_HZ else "Ka"


def in_sight(environment: str, elevation_degrees: Floats) -> Floats:
    """Share of time without shadow, 0 to 1 (TR 38.811, Table 6.6.1-1; 1 in the open)."""
    if environment == "open":
        return np.ones_like(elevation_degrees)
    share: Floats = np.interp(elevation_degrees, _ELEVATIONS, _IN_SIGHT[environment])
    return share


def rician_outage(rice_factor_db: float, margin_db: Floats) -> Floats:
    """Probability that a Rician signal of mean power 1 is more than `margin_db` below it.

    It is 1 - Q1(sqrt(2 K), sqrt(2 (K + 1) x)), x = 10^(-margin_db / 10), with Marcum's Q function. As that is
    the chance that a Poisson number of mean K is below one of mean (K + 1) x, it is a sum of positive terms,
    right to the last digits also where it is tiny. Margins of any sign; below -10 dB that of -10 dB (over
    0.9999). ValueError for a Rice factor above 20 dB.
    """
    if not rice_factor_db <= LARGEST_RICE_FACTOR_DB:
        raise ValueError(f"rice_factor_db: must be at most {LARGEST_RICE_FACTOR_DB:g}, not {rice_factor_db}")
    factor = 10.0 ** (rice_factor_db / 10.0)
    level = (factor + 1.0) * 10.0 ** (-np.maximum(margin_db, _DEEPEST_DB) / 10.0)
    flat = np.ravel(level)
    largest = max(factor, float(flat.max(initial=0.0)))
    count = np.arange(1, math.ceil(largest + 12.0 * math.sqrt(largest)) + 60)
    log_factorial = np.cumsum(np.log(count))
    below = np.cumsum(np.exp(-factor + np.concatenate(([0.0], count * math.log(factor) - log_factorial))))
    outage = np.empty_like(flat)
    for start in range(0, len(flat), 512):  # a matrix of a few megabytes at a time
        some = flat[start : start + 512, np.newaxis]
        chance = np.exp(count * np.log(some) - some - log_factorial)
        outage[start : start + 512] = (chance * below[:-1]).sum(axis=1)
    return np.minimum(outage, 1.0).reshape(np.shape(level))


def shadowed_outage(loss_db: Floats, deviation_db: Floats, margin_db: Floats) -> Floats:
    """Probability that a shadowed signal is more than `margin_db` below the unshadowed mean.

    Rayleigh about a mean that is `loss_db` lower, lognormal with `deviation_db` (Suzuki's distribution):
    the mean over z, standard normal, of 1 - exp(-10^((loss_db + deviation_db z - margin_db) / 10)), by
    the trapezoidal rule, which is exact to 1e-9 for such a smooth integrand. The arguments broadcast.
    """
    excess_db = np.asarray(loss_db - margin_db)
    outage = np.zeros(np.broadcast_shapes(np.shape(excess_db), np.shape(deviation_db)))
    points = np.linspace(-7.0, 7.0, 113)
    weights = np.exp(-(points**2) / 2.0)
    for point, weight in zip(points.tolist(), (weights / weights.sum()).tolist(), strict=True):
        outage -= weight * np.expm1(-(10.0 ** ((excess_db + deviation_db * point) / 10.0)))
    return outage


def fades_exactly(
    environment: str, frequency_hz: float, elevation_degrees: Floats, margin_db: Floats
) -> Fades:
    """What `fades` tabulates, without its cap and floor; slow. Arrays of one shape."""
    loss, ends_per_s = _mixed(environment, band(frequency_hz), elevation_degrees, margin_db)
    return Fades(loss, loss / np.maximum(ends_per_s, 1e-300))


def fades(environment: str, frequency_hz: float, elevation_degrees: Floats, margin_db: Floats) -> Fades:
    """Loss and its duration for arrays of one shape, (n,): interpolated in a table of a degree by 0.05 dB.

    `environment` is one of `ENVIRONMENTS`. Margins below 0 count as 0, above 60 dB as 60 dB. The mean is at
    most `LARGEST_LOSS`, and 0 below `SMALLEST_LOSS`. A run of losses is a shadow or a fade: the mean duration
    is weighted by how many of either there are.
    """
    table_loss, table_ends = _tables(environment, band(frequency_hz))
    columns = len(_MARGINS_DB)
    across = np.clip(margin_db * _PER_DB, 0.0, columns - 1.0)
    column = np.minimum(across.astype(np.int64), columns - 2)
    across -= column
    if environment == "open":
        place, down = column, np.zeros_like(across)
    else:
        down = np.clip(elevation_degrees - _ELEVATIONS[0], 0.0, 80.0)
        row = np.minimum(down.astype(np.int64), 79)
        down -= row
        place = row * columns + column
    loss = _between(table_loss, place, columns, across, down)
    ends_per_s = _between(table_ends, place, columns, across, down)
    heard = loss >= SMALLEST_LOSS
    burst_s = np.divide(loss, ends_per_s, out=np.zeros_like(loss), where=heard)
    return Fades(np.where(heard, np.minimum(loss, LARGEST_LOSS), 0.0), burst_s)


def burst_packets(fades: Fades, packets_per_s: Floats) -> Floats:
    """Mean length of a run of losses in packets, at least 1.

    Also at least mean / (1 - mean): a Gilbert-Elliott channel that is good for a packet between two bad
    states cannot lose that share with shorter runs (its chance to turn bad, mean / (burst (1 - mean)), would
    be above 1).
    """
    fewest = np.maximum(1.0, fades.loss_mean / (1.0 - fades.loss_mean))
    packets: Floats = np.maximum(fewest, fades.burst_s * packets_per_s)
    return packets


def _between(
    table: Floats, place: npt.NDArray[np.int64], columns: int, across: Floats, down: Floats
) -> Floats:
    upper = table[place] + across * (table[place + 1] - table[place])
    if len(table) == columns:
        return upper
    lower = table[place + columns] + across * (table[place + columns + 1] - table[place + columns])
    between: Floats = upper + down * (lower - upper)
    return between


@cache
def _tables(environment: str, name: str) -> tuple[Floats, Floats]:
    # Loss and ends of bursts a second, flattened: a row a degree from 10 to 90 (one row in the open).
    rows = np.arange(10.0, 91.0) if environment != "open" else np.array([90.0])
    elevation, margin = np.meshgrid(rows, _MARGINS_DB, indexing="ij")
    loss, ends_per_s = _mixed(
        environment, name, elevation, margin, rician_outage(RICE_FACTOR_DB[environment], _MARGINS_DB)
    )
    return loss.ravel(), ends_per_s.ravel()


def _mixed(
    environment: str, name: str, elevation: Floats, margin: Floats, rician: Floats | None = None
) -> tuple[Floats, Floats]:
    if rician is None:
        rician = rician_outage(RICE_FACTOR_DB[environment], margin)
    if environment == "open":
        lit = rician + np.zeros_like(elevation)
        return lit, lit / FADE_S
    share = in_sight(environment, elevation)
    clutter: Floats = np.interp(elevation, _ELEVATIONS, _CLUTTER_DB[environment, name])
    deviation: Floats = np.interp(elevation, _ELEVATIONS, _DEVIATION_DB[environment, name])
    lit = share * rician
    dark = (1.0 - share) * shadowed_outage(clutter, deviation, margin)
    return lit + dark, lit / FADE_S + dark / SHADOW_S[environment]
