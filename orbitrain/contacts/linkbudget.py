"""The link budget: from range and elevation to rate and loss, one direction of one class of links.

All in decibels, as in ITU-R P.525 (free space) and any textbook:

    snr_db = EIRP + G/T - path loss - attenuation(elevation) - pointing - implementation - 10 lg(k B)

The rate is Shannon's with a back-off, that of the best MODCOD (`contacts.modcod`), or constant. What the rate
leaves of the signal, the fade margin, decides how much fading (`contacts.fading`) loses. Everything
is a pure function of arrays. Rates are bit/s everywhere. Formulas and keys in words: docs/links.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, Final, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from orbitrain.contacts.fading import ENVIRONMENTS, burst_packets, fades
from orbitrain.contacts.modcod import LADDER

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

CAPACITIES: Final = ("shannon", "modcod", "constant")
SHARINGS: Final = ("none", "tdma", "ofdma")
DIRECTIONS: Final = ("up", "down")
Direction = Literal["up", "down"]
_Value = TypeVar("_Value")

LIGHT_KM_PER_S: Final = 299_792.458
REFERENCE_K: Final = 290.0  # of noise figures (IEEE, ITU-R)
# Boltzmann's constant in dBW per Hz and K: 1.380649e-23 J/K.
BOLTZMANN_DBW: Final = 10.0 * math.log10(1.380649e-23)
# The cosecant law of attenuation holds for a flat Earth; ITU-R P.676 and P.618 take it from 5 degrees on.
COSECANT_FROM_DEGREES: Final = 5.0
# Below, our model: the way through a shell of 6 km (the water and most of the air) about an Earth of 8,500 km
# (its radius with refraction, ITU-R P.618), scaled to meet the cosecant at 5 degrees.
_SHELL: Final = 2.0 * 6.0 / 8500.0
LARGEST_RATE_BPS: Final = 10**15

MOST_SHARERS: Final = 1_000_000

# Of the MODCODs: what each needs (dB) and carries; nothing below the first.
_NEEDS_DB: Final = np.array([modcod.es_n0_db for modcod in LADDER])
_CARRIED: Final = np.array([0.0, *(modcod.efficiency for modcod in LADDER)])

# Least and greatest value of each field.
_BOUNDS: Final[dict[str, tuple[float, float]]] = {
    "frequency_hz": (1e6, 1e15),
    "bandwidth_hz": (1, 1e12),
    "eirp_dbw": (-150, 150),
    "power_dbm": (-150, 150),
    "transmit_gain_dbi": (-50, 150),
    "g_over_t_dbk": (-150, 150),
    "receive_gain_dbi": (-50, 150),
    "noise_figure_db": (0, 50),
    "antenna_temperature_k": (1, 100_000),
    "path_loss_db": (0, 500),
    "zenith_attenuation_db": (0, 100),
    "pointing_loss_db": (0, 100),
    "implementation_loss_db": (0, 100),
    "rain_margin_db": (0, 100),
    "shadowing_margin_db": (0, 100),
    "backoff_db": (0, 100),
    "efficiency": (0.001, 1),
    "roll_off": (0, 1),
    "doppler_limit_hz": (0, 1e12),
    "fixed_loss_mean": (0, 0.99),
    "fixed_loss_burst": (1, 1e9),
}
_WHOLE: Final[dict[str, tuple[int, int]]] = {
    "rate_bps": (1, LARGEST_RATE_BPS),
    "max_rate_bps": (1, LARGEST_RATE_BPS),
    "minimum_rate_bps": (1, LARGEST_RATE_BPS),
    "packet_bytes": (64, 65_535),
}
_CHOICES: Final[dict[str, tuple[str, ...]]] = {
    "capacity": CAPACITIES,
    "sharing": SHARINGS,
    "direction": DIRECTIONS,
    "environment": ENVIRONMENTS,
}
# What a budget without a radio may set.
_NO_RADIO: Final = frozenset(
    {"capacity", "rate_bps", "minimum_rate_bps", "doppler_limit_hz", "sharing", "direction", "packet_bytes"}
    | {"fixed_loss_mean", "fixed_loss_burst"}
)


@dataclass(frozen=True, slots=True)
class LinkStates:
    """A link at n instants, each of one shape, that of what `Budget.at` was given.

    `rate_bps`: of one device, 0 where there is no link. `loss_mean` (0 to 0.99) and `loss_burst` (packets, at
    least 1) as in `contact.Sample`. `snr_db`: in the bandwidth of the device, before margins; NaN for
    `constant`. `fade_margin_db`: how much weaker the signal may get until the rate in use cannot be decoded;
    NaN where there is no link or no radio. `step`: 0 where there is no link; the others jump only where it
    changes. With MODCODs, step k is the k-th of `modcod.LADDER`, else it is 1.
    """

    rate_bps: Integers
    loss_mean: Floats
    loss_burst: Floats
    snr_db: Floats
    fade_margin_db: Floats
    step: Integers


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """One direction of one class of links. ValueError, one line that names the field, where it cannot be.

    `capacity`: `shannon`, `modcod`, or `constant`, which is `rate_bps` and has no radio. Else the radio is
    given as `frequency_hz`, `bandwidth_hz`; `eirp_dbw`, or `power_dbm` with `transmit_gain_dbi` (else 0);
    `g_over_t_dbk`, or `receive_gain_dbi` with `noise_figure_db` (else 0) and `antenna_temperature_k` (else
    290). `path_loss_db`, where it is given, replaces free space at any range.

    Losses that are always there: `zenith_attenuation_db` (grows towards the horizon), `pointing_loss_db`,
    `implementation_loss_db`. Margins that choosing a rate keeps free, and that fading may use up:
    `rain_margin_db`, `shadowing_margin_db`, `backoff_db`. `efficiency`: the part of the bits that is not
    overhead. `roll_off` of a MODCOD's symbols. A rate is at most `max_rate_bps`; below `minimum_rate_bps`
    there is no link. Nor is there where the Doppler shift is beyond `doppler_limit_hz`.

    `sharing` of a satellite's beam by n devices: `none`; `tdma`, a n-th of the time; `ofdma`, a n-th of the
    band, which needs `direction`: `up`, each device keeps its power; `down`, the satellite splits its power.

    `environment`: fading of a service link, with losses counted in packets of `packet_bytes`. Without it
    loss is `fixed_loss_mean` in runs of `fixed_loss_burst` packets.
    """

    capacity: str = "shannon"
    rate_bps: int | None = None
    frequency_hz: float | None = None
    bandwidth_hz: float | None = None
    eirp_dbw: float | None = None
    power_dbm: float | None = None
    transmit_gain_dbi: float | None = None
    g_over_t_dbk: float | None = None
    receive_gain_dbi: float | None = None
    noise_figure_db: float | None = None
    antenna_temperature_k: float | None = None
    path_loss_db: float | None = None
    zenith_attenuation_db: float = 0.0
    pointing_loss_db: float = 0.0
    implementation_loss_db: float = 0.0
    rain_margin_db: float = 0.0
    shadowing_margin_db: float = 0.0
    backoff_db: float = 0.0
    efficiency: float = 1.0
    roll_off: float | None = None
    max_rate_bps: int | None = None
    minimum_rate_bps: int = 1
    doppler_limit_hz: float | None = None
    sharing: str = "none"
    direction: str | None = None
    environment: str | None = None
    packet_bytes: int = 1500
    fixed_loss_mean: float = 0.0
    fixed_loss_burst: float = 1.0

    def __post_init__(self) -> None:
        for field in fields(self):
            _check_value(field.name, getattr(self, field.name), optional=field.default is None)
        self._check_together()

    @property
    def eirp(self) -> float:
        """EIRP in dBW. Only with a radio, as are `g_over_t` and `noise_temperature_k`."""
        if self.eirp_dbw is not None:
            return self.eirp_dbw
        return _given(self.power_dbm) - 30.0 + (self.transmit_gain_dbi or 0.0)

    @property
    def noise_temperature_k(self) -> float:
        """Of the receiver, at the antenna's terminal: T_antenna + 290 K (F - 1)."""
        antenna_k = REFERENCE_K if self.antenna_temperature_k is None else self.antenna_temperature_k
        return antenna_k + REFERENCE_K * (math.pow(10.0, (self.noise_figure_db or 0.0) / 10.0) - 1.0)

    @property
    def g_over_t(self) -> float:
        """Of the receiver, in dB/K."""
        if self.g_over_t_dbk is not None:
            return self.g_over_t_dbk
        return _given(self.receive_gain_dbi) - 10.0 * math.log10(self.noise_temperature_k)

    @property
    def reserve_db(self) -> float:
        """What choosing a rate keeps free: the margins for rain and shadowing, and the back-off."""
        return self.rain_margin_db + self.shadowing_margin_db + self.backoff_db

    def snr_db(self, range_km: Any, elevation_degrees: Any = None) -> Floats:
        """SNR in the whole band at ranges in km and elevations in degrees (None between satellites).

        With the losses that are always there and without margins. The arguments broadcast. ValueError for a
        range that is not above 0, a missing elevation, and a budget without a radio.
        """
        if self.capacity == "constant":
            raise ValueError("capacity: must be shannon or modcod for an SNR, not 'constant'")
        distance = _ranges(range_km)
        bandwidth = _given(self.bandwidth_hz)
        level = self.eirp + self.g_over_t - BOLTZMANN_DBW - 10.0 * math.log10(bandwidth)
        level -= self.pointing_loss_db + self.implementation_loss_db
        if self.path_loss_db is None:
            snr = level - free_space_db(distance, _given(self.frequency_hz))
        else:
            snr = np.full_like(distance, level - self.path_loss_db)
        if self.zenith_attenuation_db > 0:
            if elevation_degrees is None:
                raise ValueError("elevation_degrees: must be given where zenith_attenuation_db is above 0")
            elevation = _numbers("elevation_degrees", elevation_degrees)
            snr = snr - self.zenith_attenuation_db * slant_factor(elevation)
        return snr

    def steps_snr_db(self, sharers: int = 1) -> tuple[float, ...]:
        """The `snr_db` of `LinkStates` at which the rate jumps, ascending; at the first the link begins.

        Shannon's rate has only that one, a constant rate none. ValueError for fewer than one sharer.
        """
        (count,) = _whole_numbers("sharers", [sharers], 1, MOST_SHARERS)
        if self.capacity == "constant":
            return ()
        scale = float(self._bps_per_efficiency(count))
        least = max(self.minimum_rate_bps, int(count) if self.sharing == "tdma" else 1)
        most = math.inf if self.max_rate_bps is None else self.max_rate_bps
        if most < least:
            return ()
        if self.capacity == "shannon":
            return (float(_shannon_db(least / scale)) + self.reserve_db,)
        needs = [modcod.es_n0_db for modcod in LADDER if scale * modcod.efficiency >= least]
        return tuple(es_n0_db - self._symbol_db + self.reserve_db for es_n0_db in needs)

    def at(
        self,
        range_km: Any,
        elevation_degrees: Any = None,
        range_rate_km_per_s: Any = None,
        sharers: Any = 1,
        step: Any = None,
    ) -> LinkStates:
        """The state of the link, for numbers and arrays that broadcast to one shape.

        `range_km` above 0; `elevation_degrees` seen from the ground, None between satellites;
        `range_rate_km_per_s` positive when receding, needed for a `doppler_limit_hz`; `sharers`, how
        many devices are active under the satellite, 1 or more. `step`, where it is given, is taken instead
        of what SNR and Doppler say: how a step goes on past its edge, with at least 1 bit/s. ValueError, one
        line, for an argument that does not fit.
        """
        given: list[Any] = [_ranges(range_km), _whole_numbers("sharers", sharers, 1, MOST_SHARERS)]
        optional = {"elevation_degrees": elevation_degrees, "range_rate_km_per_s": range_rate_km_per_s}
        arrays: dict[str, Any] = {
            name: _numbers(name, values) for name, values in optional.items() if values is not None
        }
        if step is not None:
            steps = len(LADDER) if self.capacity == "modcod" else 1
            arrays["step"] = _whole_numbers("step", step, 0, steps)
        distance, count, *others = np.broadcast_arrays(*given, *arrays.values())
        named = dict(zip(arrays, others, strict=True))
        elevation, forced = named.get("elevation_degrees"), named.get("step")

        if self.sharing == "none":
            count = np.ones_like(count)
        if self.capacity == "constant":
            taken = _Taken.constant(_given(self.rate_bps), distance.shape)
        else:
            taken = self._taken(distance, elevation, count, forced)
        # In its turn, or its part of the band, a device has the rate taken.
        turns = self.sharing == "tdma" or (self.sharing == "ofdma" and self.capacity == "constant")
        rate = taken.rate_bps // count if turns else taken.rate_bps
        if forced is None:
            link = (taken.rate_bps >= self.minimum_rate_bps) & (rate > 0) & (taken.step > 0)
            link &= self._within_doppler(named.get("range_rate_km_per_s"), distance.shape)
        else:
            link, rate = forced > 0, np.maximum(rate, 1)
        rate = np.where(link, rate, 0)
        margin = np.where(link, taken.fade_margin_db, np.nan)
        loss_mean, loss_burst = self._losses(link, rate, elevation, margin)
        return LinkStates(rate, loss_mean, loss_burst, taken.snr_db, margin, np.where(link, taken.step, 0))

    def _taken(
        self, distance: Floats, elevation: Floats | None, count: Integers, forced: Integers | None
    ) -> _Taken:
        snr = self.snr_db(distance, elevation)
        if self.sharing == "ofdma" and self.direction == "up":
            snr = snr + 10.0 * np.log10(count)
        usable = snr - self.reserve_db
        scale = self._bps_per_efficiency(count)
        if self.capacity == "shannon":
            rate = scale * np.log2(1.0 + 10.0 ** (usable / 10.0))
            margin = np.full_like(usable, self.reserve_db)
            if self.max_rate_bps is not None:
                margin += np.maximum(0.0, usable - _shannon_db(self.max_rate_bps / scale))
            step = np.ones(rate.shape, dtype=np.int64)
        else:
            es_n0 = usable + self._symbol_db
            step = np.searchsorted(_NEEDS_DB, es_n0, side="right") if forced is None else forced
            rate = scale * _CARRIED[step]
            margin = self.reserve_db + es_n0 - _NEEDS_DB[np.maximum(step - 1, 0)]
        most = LARGEST_RATE_BPS if self.max_rate_bps is None else self.max_rate_bps
        return _Taken(np.minimum(rate, most).astype(np.int64), snr, margin, step)

    def _bps_per_efficiency(self, count: Any) -> Any:
        # What a bit/s/Hz (Shannon), or a bit a symbol, comes to in bit/s in a device's part of the band.
        band = _given(self.bandwidth_hz) / (count if self.sharing == "ofdma" else np.ones_like(count))
        return band / (1.0 + (self.roll_off or 0.0)) * self.efficiency

    @property
    def _symbol_db(self) -> float:
        # Es/N0 over the SNR in the whole band: there are fewer symbols a second than the band has hertz.
        return 10.0 * math.log10(1.0 + (self.roll_off or 0.0))

    def _within_doppler(self, range_rate: Floats | None, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
        if self.doppler_limit_hz is None:
            return np.ones(shape, dtype=np.bool_)
        if range_rate is None:
            raise ValueError("range_rate_km_per_s: must be given where doppler_limit_hz is")
        within: npt.NDArray[np.bool_] = (
            np.abs(doppler_hz(_given(self.frequency_hz), range_rate)) <= self.doppler_limit_hz
        )
        return within

    def _losses(
        self, link: npt.NDArray[np.bool_], rate: Integers, elevation: Floats | None, margin: Floats
    ) -> tuple[Floats, Floats]:
        if self.environment is None:
            return np.where(link, self.fixed_loss_mean, 0.0), np.where(link, self.fixed_loss_burst, 1.0)
        if elevation is None:
            raise ValueError("elevation_degrees: must be given where environment is")
        mean, burst = np.zeros(link.shape), np.ones(link.shape)
        fade = fades(self.environment, _given(self.frequency_hz), elevation[link], margin[link])
        mean[link] = fade.loss_mean
        burst[link] = burst_packets(fade, rate[link] / (8.0 * self.packet_bytes))
        return mean, burst

    def _check_together(self) -> None:
        if self.capacity == "constant":
            spare = _NO_RADIO if self.doppler_limit_hz is None else _NO_RADIO | {"frequency_hz"}
            for field in fields(self):
                if field.name not in spare and getattr(self, field.name) != field.default:
                    raise ValueError(f"{field.name}: must be left out where capacity is constant (no radio)")
            if self.rate_bps is None:
                raise ValueError("rate_bps: must be given where capacity is constant")
        else:
            if self.rate_bps is not None:
                raise ValueError(f"rate_bps: must be left out where capacity is {self.capacity}")
            for name in ("frequency_hz", "bandwidth_hz"):
                if getattr(self, name) is None:
                    raise ValueError(f"{name}: must be given where capacity is {self.capacity}")
            self._one_of("eirp_dbw", "power_dbm", ("transmit_gain_dbi",))
            self._one_of("g_over_t_dbk", "receive_gain_dbi", ("noise_figure_db", "antenna_temperature_k"))
        if self.doppler_limit_hz is not None and self.frequency_hz is None:
            raise ValueError("frequency_hz: must be given where doppler_limit_hz is")
        if self.roll_off is not None and self.capacity != "modcod":
            raise ValueError("roll_off: must be left out where capacity is not modcod")
        if self.sharing == "ofdma" and self.capacity != "constant" and self.direction is None:
            raise ValueError("direction: must be up or down where sharing is ofdma")
        if self.environment is not None and (self.fixed_loss_mean, self.fixed_loss_burst) != (0, 1):
            raise ValueError(
                "fixed_loss_mean: must be left out, as fixed_loss_burst, where environment is given"
            )
        if self.fixed_loss_mean > self.fixed_loss_burst * (1.0 - self.fixed_loss_mean) * (1.0 + 1e-9):
            raise ValueError(
                "fixed_loss_burst: must be at least fixed_loss_mean / (1 - fixed_loss_mean), "
                f"{self.fixed_loss_mean / (1.0 - self.fixed_loss_mean):.6g}, not {self.fixed_loss_burst}"
            )

    def _one_of(self, whole: str, parts: str, details: tuple[str, ...]) -> None:
        if (getattr(self, whole) is None) == (getattr(self, parts) is None):
            raise ValueError(f"{whole}: must be given, or {parts}, and not both")
        for name in details:
            if getattr(self, whole) is not None and getattr(self, name) is not None:
                raise ValueError(f"{name}: must be left out where {whole} is given")


@dataclass(frozen=True, slots=True)
class _Taken:
    # What a device takes that has the link for itself (tdma: in its turn; ofdma: in its part of the band).
    rate_bps: Integers
    snr_db: Floats
    fade_margin_db: Floats
    step: Integers

    @staticmethod
    def constant(rate_bps: int, shape: tuple[int, ...]) -> _Taken:
        none = np.full(shape, np.nan)
        return _Taken(np.full(shape, rate_bps), none, none, np.ones(shape, dtype=np.int64))


def free_space_db(range_km: Floats, frequency_hz: float) -> Floats:
    """Loss between isotropic antennas, 20 lg(4 pi d f / c) (ITU-R P.525), of ranges above 0."""
    loss: Floats = 20.0 * np.log10(range_km) + 20.0 * math.log10(
        4.0 * math.pi * frequency_hz / LIGHT_KM_PER_S
    )
    return loss


def slant_factor(elevation_degrees: Floats) -> Floats:
    """How many times the zenith's attenuation a slanted way has: 1 / sin(elevation) from 5 degrees on.

    Below, where that law ends, the way through a thin shell about the round Earth (our model, see the
    constants), continuous at 5 degrees and 56 at the horizon. Below the horizon that of the horizon.
    """
    sine = np.sin(np.radians(np.maximum(elevation_degrees, 0.0)))
    sine_from = math.sin(math.radians(COSECANT_FROM_DEGREES))
    scale = _through_shell(sine_from) * sine_from
    factor: Floats = np.where(
        sine >= sine_from, 1.0 / np.maximum(sine, sine_from), _through_shell(sine) / scale
    )
    return factor


def _through_shell(sine: Any) -> Any:
    # ITU-R P.618, the slant path below 5 degrees, over the height of the shell.
    return 2.0 / (np.sqrt(sine * sine + _SHELL) + sine)


def doppler_hz(frequency_hz: float, range_rate_km_per_s: Floats) -> Floats:
    """Shift of a carrier, -f v / c to first order: above 0 while the range (km/s) shrinks."""
    shift: Floats = -frequency_hz / LIGHT_KM_PER_S * range_rate_km_per_s
    return shift


def _shannon_db(efficiency: Any) -> Any:
    # The SNR at which an ideal code carries this many bit/s/Hz; 1,000 stands for all that is out of reach.
    return 10.0 * np.log10(np.expm1(np.minimum(efficiency, 1000.0) * math.log(2.0)))


def _given(value: _Value | None) -> _Value:
    assert value is not None  # by `_check_together`
    return value


def _numbers(name: str, values: Any) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if not bool(np.isfinite(array).all()):
        raise ValueError(f"{name}: must be finite everywhere")
    return array


def _ranges(range_km: Any) -> Floats:
    array = _numbers("range_km", range_km)
    if not bool((array > 0).all()):
        raise ValueError("range_km: must be above 0 everywhere")
    return array


def _whole_numbers(name: str, values: Any, least: int, most: int) -> Integers:
    array = np.asarray(values)
    if array.dtype.kind not in "iu" or not bool(((array >= least) & (array <= most)).all()):
        raise ValueError(f"{name}: must be whole numbers, {least} to {most}")
    return array.astype(np.int64)


def _check_value(name: str, value: object, *, optional: bool) -> None:
    if value is None and optional:
        return
    if name in _CHOICES:
        if value not in _CHOICES[name]:
            raise ValueError(f"{name}: must be {' or '.join(_CHOICES[name])}, not {value!r}")
        return
    kind = "a whole number" if name in _WHOLE else "a number"
    types = int if name in _WHOLE else (int, float)
    least, most = (_WHOLE | _BOUNDS)[name]
    if isinstance(value, bool) or not isinstance(value, types) or not least <= value <= most:
        raise ValueError(f"{name}: must be {kind}, {least:g} to {most:g}, not {value!r}")
