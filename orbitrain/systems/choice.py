"""Which system a scenario is of. Imports all of them, and so what plans are made with."""

from orbitrain.scenario.protocols import EmsflProtocol, FedMeldProtocol
from orbitrain.setting import Setting
from orbitrain.systems.emsfl import EmsflSystem
from orbitrain.systems.fedmeld import FedMeldSystem
from orbitrain.systems.sfft import SfftSystem
from orbitrain.systems.system import System


def system_of(setting: Setting) -> System:
    """The one that the scenario's protocol is of."""
    if isinstance(setting.scenario.protocol, FedMeldProtocol):
        return FedMeldSystem(setting)
    if isinstance(setting.scenario.protocol, EmsflProtocol):
        return EmsflSystem(setting)
    return SfftSystem(setting)
