"""Named link budgets, and budgets from the keys of a scenario's table.

`emsfl` is the channel of EMS-FL (arXiv:2602.19485). All the others are our own example values: round numbers
of plausible equipment, not any operator's, to start from and to change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any, Final

from orbitrain.contacts.linkbudget import DIRECTIONS, Budget, Direction


@dataclass(frozen=True, slots=True)
class Preset:
    """Both directions of a class of links: `up` from the device, the station or the first satellite."""

    about: str
    up: Budget
    down: Budget

    def towards(self, direction: Direction) -> Budget:
        return self.up if direction == "up" else self.down


# 23 dBm through 160 dB into 40 dBi over 5 MHz of thermal noise, -174 dBm/Hz: 10 dB of SNR, ideally
# 17.3 Mb/s. The paper's 5 Mb/s are these with 10 dB less. 3.98 GHz (ours; the paper's carrier is not known to
# us) is where 600 km of free space are 160 dB: without path_loss_db the range decides.
_EMSFL: Final = Budget(
    frequency_hz=3.98e9,
    bandwidth_hz=5e6,
    power_dbm=23,
    transmit_gain_dbi=0,
    receive_gain_dbi=40,
    noise_figure_db=0,
    antenna_temperature_k=290,
    path_loss_db=160,
    backoff_db=10,
    direction="up",
)

_OPTICAL: Final = Budget(capacity="constant", rate_bps=10_000_000_000)

PRESETS: Final[Mapping[str, Preset]] = MappingProxyType(
    {
        "emsfl": Preset(
            "EMS-FL's channel (arXiv:2602.19485): about 5 Mb/s at any range; the paper has no downlink, "
            "here it is as the uplink",
            up=_EMSFL,
            down=replace(_EMSFL, direction="down"),
        ),
        "s-band-service": Preset(
            "2 GHz between a 200 mW device with a small antenna and a multi-beam satellite; example values",
            up=Budget(
                frequency_hz=2.0e9,
                bandwidth_hz=360e3,
                power_dbm=23,
                transmit_gain_dbi=0,
                g_over_t_dbk=0,
                zenith_attenuation_db=0.1,
                pointing_loss_db=1,
                implementation_loss_db=1,
                backoff_db=4,
                efficiency=0.8,
                sharing="ofdma",
                direction="up",
                environment="open",
            ),
            down=Budget(
                frequency_hz=2.2e9,
                bandwidth_hz=5e6,
                eirp_dbw=40,
                receive_gain_dbi=0,
                noise_figure_db=7,
                antenna_temperature_k=290,
                zenith_attenuation_db=0.1,
                pointing_loss_db=1,
                implementation_loss_db=1,
                backoff_db=4,
                efficiency=0.8,
                sharing="ofdma",
                direction="down",
                environment="open",
            ),
        ),
        "ka-feeder": Preset(
            "Ka band between a station with a dish of about a metre and a satellite, DVB-S2; example values",
            up=Budget(
                capacity="modcod",
                frequency_hz=28e9,
                bandwidth_hz=250e6,
                roll_off=0.2,
                eirp_dbw=50,
                g_over_t_dbk=5,
                zenith_attenuation_db=0.5,
                pointing_loss_db=0.5,
                implementation_loss_db=1,
                rain_margin_db=5,
                backoff_db=1,
                direction="up",
            ),
            down=Budget(
                capacity="modcod",
                frequency_hz=18.5e9,
                bandwidth_hz=250e6,
                roll_off=0.2,
                eirp_dbw=28,
                g_over_t_dbk=20,
                zenith_attenuation_db=0.4,
                pointing_loss_db=0.5,
                implementation_loss_db=1,
                rain_margin_db=3,
                backoff_db=1,
                direction="down",
            ),
        ),
        "uhf-telemetry": Preset(
            "435 MHz between a 1 W cubesat and a steered Yagi antenna, 9.6 kb/s; example values",
            up=Budget(
                frequency_hz=435e6,
                bandwidth_hz=25e3,
                power_dbm=44,
                transmit_gain_dbi=14,
                receive_gain_dbi=0,
                noise_figure_db=4,
                antenna_temperature_k=300,
                pointing_loss_db=3,
                implementation_loss_db=12,  # no code: that far from Shannon
                backoff_db=6,
                max_rate_bps=9_600,
                minimum_rate_bps=9_600,
                direction="up",
            ),
            down=Budget(
                frequency_hz=435e6,
                bandwidth_hz=25e3,
                power_dbm=30,
                transmit_gain_dbi=0,
                receive_gain_dbi=14,
                noise_figure_db=2,
                antenna_temperature_k=400,
                pointing_loss_db=3,
                implementation_loss_db=12,  # no code: that far from Shannon
                backoff_db=6,
                max_rate_bps=9_600,
                minimum_rate_bps=9_600,
                direction="down",
            ),
        ),
        "optical-isl": Preset(
            "10 Gb/s by laser between satellites at any range that is in sight; example value",
            up=_OPTICAL,
            down=_OPTICAL,
        ),
    }
)

# A key of a way to say something that puts out, of the preset's, the other way to say it.
_REPLACED: Final = {
    "eirp_dbw": ("power_dbm", "transmit_gain_dbi"),
    "power_dbm": ("eirp_dbw",),
    "transmit_gain_dbi": ("eirp_dbw",),
    "g_over_t_dbk": ("receive_gain_dbi", "noise_figure_db", "antenna_temperature_k"),
    "receive_gain_dbi": ("g_over_t_dbk",),
    "noise_figure_db": ("g_over_t_dbk",),
    "antenna_temperature_k": ("g_over_t_dbk",),
}
FREE_SPACE: Final = "free-space"
_FIELDS: Final = frozenset(field.name for field in fields(Budget)) - {"direction"}


def budget_of(keys: Mapping[str, object], direction: Direction) -> Budget:
    """The budget of one direction from keys: the fields of `Budget`, and `preset`, whose fields they replace.

    `path_loss_db = "free-space"` takes a preset's fixed path loss away, and a key of one way to give EIRP or
    G/T takes the preset's other way away. `direction` is that of the link, not a key. ValueError, one line,
    for a key that is not one (rates in bytes are named as such), and as `Budget`.
    """
    if direction not in DIRECTIONS:
        raise ValueError(f"direction: must be up or down, not {direction!r}")
    for key in keys:
        if key.endswith(("_bytes_per_s", "_byte_per_s", "_bps_bytes")):
            raise ValueError(f"{key}: rates are in bit/s, 8 times the bytes: use rate_bps or max_rate_bps")
        if key != "preset" and key not in _FIELDS:
            raise ValueError(f"{key}: must be a key of a link budget: preset, {', '.join(sorted(_FIELDS))}")
    own: dict[str, Any] = {key: value for key, value in keys.items() if key != "preset"}
    if own.get("path_loss_db") == FREE_SPACE:
        own["path_loss_db"] = None
    own["direction"] = direction
    if "preset" not in keys:
        return Budget(**own)
    name = keys["preset"]
    if not isinstance(name, str) or name not in PRESETS:
        raise ValueError(f"preset: must be {', '.join(PRESETS)}, not {name!r}")
    for key in list(own):
        for other in _REPLACED.get(key, ()):
            own.setdefault(other, None)
    return replace(PRESETS[name].towards(direction), **own)
