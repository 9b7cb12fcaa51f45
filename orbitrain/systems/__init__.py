"""The systems that a scenario may name."""

from orbitrain.scenario.protocols import FedMeldProtocol
from orbitrain.setting import Setting
from orbitrain.systems.fedmeld import FedMeldSystem
from orbitrain.systems.sfft import SfftSystem
from orbitrain.systems.system import System


def system_of(setting: Setting) -> System:
    """The one that the scenario's protocol is of."""
    if isinstance(setting.scenario.protocol, FedMeldProtocol):
        return FedMeldSystem(setting)
    return SfftSystem(setting)


__all__ = ["System", "system_of"]
