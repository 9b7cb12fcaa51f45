"""The virtual-time driver: see `simulation`."""

from orbitrain.sim.node import CrashPoint, Engine, Settings
from orbitrain.sim.simulation import Simulation

__all__ = ["CrashPoint", "Engine", "Settings", "Simulation"]
