"""Composition root of the ground daemon: a server or a station, and the duty of gathering."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ground_node.gatherer import Gatherer
from orbitrain.machine import Machine
from orbitrain.roles import sfft_machines
from orbitrain.runtime.config import sfft_params
from orbitrain.runtime.daemon import Composition, Node


def _machines(node: Node) -> Mapping[str, Machine]:
    config = node.config
    if config.sfft is None:
        return {}
    params = sfft_params(config.sfft, config.sfft_task(node.folder))
    return sfft_machines(config.name, params, node.sfft_asks(params))


def _warm(node: Node) -> Mapping[str, Any]:
    if node.config.sfft is not None:
        return {}
    if node.config.emsfl is not None:
        return {"experts": node.config.emsfl_task(node.folder)}
    return {"task": node.config.task_params(node.folder)}


COMPOSITION = Composition("ground", _machines, _warm, Gatherer)
