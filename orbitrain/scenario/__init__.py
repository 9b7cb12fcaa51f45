"""The scenario file: one TOML that says who flies, who stands where, how they talk, and what is learned."""

from orbitrain.scenario.file import (
    DEVICES_MAX,
    SECOND_NS,
    Scenario,
    ScenarioError,
    load_scenario,
    parse_scenario,
)
from orbitrain.scenario.tables import Name, NodeName, Sha256, first_error

__all__ = [
    "DEVICES_MAX",
    "SECOND_NS",
    "Name",
    "NodeName",
    "Scenario",
    "ScenarioError",
    "Sha256",
    "first_error",
    "load_scenario",
    "parse_scenario",
]
