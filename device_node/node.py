"""Composition root of the device daemon."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orbitrain.machine import Machine
from orbitrain.roles import emsfl_machines, fedmeld_machines
from orbitrain.runtime.daemon import Composition, Node


def _machines(node: Node) -> Mapping[str, Machine]:
    config = node.config
    if config.emsfl is not None:
        return emsfl_machines(config.name, config.emsfl_params(node.folder), node.windows())
    params = config.fedmeld_params(node.folder)
    return fedmeld_machines("device", config.name, params, node.services())


def _warm(node: Node) -> Mapping[str, Any]:
    config = node.config
    if config.emsfl is not None:
        return {"experts": config.emsfl_task(node.folder), "device": config.name}
    task = config.task_params(node.folder)
    return {"task": task, "device": config.name, "seed": config.seed}


COMPOSITION = Composition("device", _machines, _warm)
