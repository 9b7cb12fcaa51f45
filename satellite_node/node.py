"""Composition root of the satellite daemon."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orbitrain.machine import Machine
from orbitrain.roles import emsfl_machines, fedmeld_machines, sfft_machines
from orbitrain.runtime.config import ConfigError, sfft_params
from orbitrain.runtime.daemon import Composition, Node


def _machines(node: Node) -> Mapping[str, Machine]:
    config = node.config
    if config.sfft is not None:
        params = sfft_params(config.sfft, config.sfft_task(node.folder))
        return sfft_machines(config.name, params, node.sfft_asks(params))
    if config.emsfl is not None:
        from orbitrain.splitting.epochs import lacking  # other satellites do without

        if config.emsfl.work.algorithm == "ems_fl" and (what := lacking()):
            # It would be missed at the first split, hours into a run.
            raise ConfigError(f"{config.name}: emsfl: {what}")
        return emsfl_machines(config.name, config.emsfl_params(node.folder), node.windows())
    return fedmeld_machines("satellite", config.name, config.fedmeld_params(node.folder), node.services())


def _warm(node: Node) -> Mapping[str, Any]:
    """The samples are loaded, which takes a library longer than the work itself."""
    return {"samples": node.config.sfft_task(node.folder)} if node.config.sfft is not None else {}


COMPOSITION = Composition("satellite", _machines, _warm)
