"""A node's own configuration: what is refused, and that what is written can be read."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orbitrain.contacts.contact import Contact, Sample
from orbitrain.contacts.plan import ContactPlan, PlanNode
from orbitrain.mailbox import ENVELOPE_BYTES
from orbitrain.runtime.clock import SECOND_NS
from orbitrain.runtime.config import ConfigError, NodeConfig, dump_toml, load_config
from orbitrain.runtime.daemon import load_plans, plan_routes

ROOT = Path(__file__).resolve().parents[3]
LONG = "r" * 40

GOOD: dict[str, Any] = {
    "name": f"{LONG}-dev-0",
    "kind": "device",
    "seed": 7,
    "scenario_sha256": "a" * 64,
    "initial": "initial.safetensors",
    "initial_sha256": "b" * 64,
    "link": {"listen": "127.0.0.1:0", "peers": {"sat-0": "127.0.0.1:9"}},
    "operator": {"listen": "unix:/tmp/desk"},
    "fedmeld": {
        "rounds": 3,
        "delta": 1,
        "alpha": 0.5,
        "train_s": 1.5,
        "aggregate_s": 0.25,
        "regions": [{"name": LONG, "devices": [f"{LONG}-dev-0", f"{LONG}-dev-1"]}],
    },
    "task": {"spec": "orbitrain.learning.digits:Digits", "search_path": "tasks", "options": {"hidden": 8}},
}


def config_file(folder: Path, values: dict[str, Any] | str | bytes) -> Path:
    path = folder / "node.toml"
    text = dump_toml(values) if isinstance(values, dict) else values
    path.write_bytes(text.encode("utf-8") if isinstance(text, str) else text)
    return path


def changed(path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    """GOOD with one value changed, or taken out if it is None."""
    values: Any = copy.deepcopy(GOOD)
    inner = values
    for part in path[:-1]:
        inner = inner[part]
    if value is None:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return values  # type: ignore[no-any-return]


def test_a_good_configuration_is_read_with_its_defaults(tmp_path: Path) -> None:
    config = load_config(config_file(tmp_path, GOOD), "device")
    assert (config.plan, config.state, config.clock, config.journal.sync) == (
        "plan.json",
        "state",
        None,
        "full",
    )
    params = config.fedmeld_params(tmp_path)
    assert (params.train_ns, params.aggregate_ns) == (1_500_000_000, 250_000_000)
    assert config.task_params(tmp_path)["search_path"] == str(tmp_path.resolve() / "tasks")


BAD = [
    (("kind",), "balloon", "kind: must be 'satellite' or 'ground' or 'device', not 'balloon'"),
    (("kind",), "ground", "kind: must be 'device' for this program, not 'ground'"),
    (("name",), "stranger", "name: must be one of the devices in fedmeld.regions, not 'stranger'"),
    (
        ("name",),
        "A",
        "name: must be 1 to 64 lower-case letters, digits and hyphens, the first no hyphen, not 'A'",
    ),
    (("name",), None, "name: is missing, must be a string"),
    (("seed",), -1, "seed: must be a whole number at least 0 and below 9223372036854775808, not -1"),
    (("nonsense",), 1, "nonsense: unknown key, allowed are bus, clock, emsfl, fedmeld"),
    (("scenario_sha256",), "abc", "scenario_sha256: must be 64 lower-case hexadecimal digits, not 'abc'"),
    (("link",), None, "link: is missing, must be a table"),
    (("link", "listen"), "somewhere", "link.listen: must be host:port or unix:/PATH of at most 100 bytes"),
    (("link", "peers", "sat-0"), "::1:9", "link.peers.sat-0: must be host:port or unix:/PATH"),
    (("link", "peers"), {"Sat": "127.0.0.1:9"}, "link.peers.Sat: must be 1 to 64 lower-case letters"),
    (("link", "peers"), 3, "link.peers: must be a table, not 3"),
    (("link", "message_s"), 0, "link.message_s: must be a number above 0, not 0"),
    (("link", "acquisition_s"), 601, "link.acquisition_s: must be a number from 0 to 600, not 601"),
    (("link", "flows"), 33, "link.flows: must be a whole number from 0 to 32, not 33"),
    (("link", "shaped"), "8.8.0.0/16", "link.shaped: 8.8.0.0/16: not an IPv4 network within 10.0.0.0/8"),
    (("link", "shaped"), "10.213.0.0/16", "link.listen: must be an address and port of the emulated network"),
    (("operator", "listen"), "unix:relative", "operator.listen: must be host:port or unix:/PATH"),
    (("operator", "listen"), "unix:/" + "x" * 100, "operator.listen: must be host:port or unix:/PATH"),
    (("bus",), {}, "bus.endpoint: is missing, must be a string"),
    (("journal",), {"sync": "off"}, "journal.sync: must be 'full' or 'normal', not 'off'"),
    (("fedmeld", "rounds"), 0, "fedmeld.rounds: must be a whole number at least 1, not 0"),
    (("fedmeld", "alpha"), 1.5, "fedmeld.alpha: must be a number from 0 to 1, not 1.5"),
    (("fedmeld", "regions"), [], "fedmeld.regions: must be a list of tables, at least one, not []"),
    (
        ("fedmeld", "regions", 0, "devices"),
        [],
        "fedmeld.regions[0].devices: must be a list of strings, at least one",
    ),
    (
        ("fedmeld", "regions", 0, "colour"),
        1,
        "fedmeld.regions[0].colour: unknown key, allowed are devices, name",
    ),
    (("task", "spec"), 3, "task.spec: must be a string, not 3"),
]


@pytest.mark.parametrize("path, value, line", BAD, ids=[line.partition(":")[0] for *_, line in BAD])
def test_a_wrong_value_is_refused_with_what_is_allowed(
    tmp_path: Path, path: tuple[str | int, ...], value: Any, line: str
) -> None:
    file = config_file(tmp_path, changed(path, value))
    with pytest.raises(ConfigError) as caught:
        load_config(file, "device")
    assert str(caught.value).startswith(f"{file}: {line}")
    assert "\n" not in str(caught.value)


# ------------------------------------------------------------------------------- without FedMeld or a plan

PLAIN: dict[str, Any] = {key: value for key, value in GOOD.items() if key not in ("fedmeld", "task")}


@pytest.mark.parametrize("kind", ["device", "satellite", "ground"])
def test_a_node_may_do_without_fedmeld_a_task_and_a_scenario(tmp_path: Path, kind: str) -> None:
    least = {key: GOOD[key] for key in ("name", "seed", "link", "operator")}
    config = load_config(config_file(tmp_path, {**least, "kind": kind}), kind)
    assert (config.fedmeld, config.task, config.scenario_sha256, config.inbox) == (None, None, None, "inbox")
    assert (config.regions(), config.no_plan, config.has_real_links) == ((), False, False)
    assert load_config(config_file(tmp_path, config.model_dump(exclude_none=True)), kind) == config


TOGETHER = [
    ({"task": None}, "task, initial_sha256: must be set where there is [fedmeld]"),
    ({"initial_sha256": None}, "task, initial_sha256: must be set where there is [fedmeld]"),
    ({"no_plan": True}, "no_plan: must be false where there is [fedmeld], which serves by the plan"),
]


@pytest.mark.parametrize(("changes", "line"), TOGETHER, ids=[next(iter(changes)) for changes, _ in TOGETHER])
def test_what_fedmeld_needs_is_there_with_it(tmp_path: Path, changes: dict[str, Any], line: str) -> None:
    values = {key: value for key, value in {**GOOD, **changes}.items() if value is not None}
    file = config_file(tmp_path, values)
    with pytest.raises(ConfigError) as caught:
        load_config(file, "device")
    assert str(caught.value).endswith(line)
    assert "\n" not in str(caught.value)


def test_links_are_real_where_it_is_said_or_follows(tmp_path: Path) -> None:
    link = PLAIN["link"]
    for values, real in (
        (PLAIN, False),
        ({**PLAIN, "link": {**link, "real": True}}, True),
        ({**PLAIN, "no_plan": True}, True),
        ({**PLAIN, "link": SHAPED}, True),
    ):
        assert load_config(config_file(tmp_path, values), "device").has_real_links is real
    assert load_config(config_file(tmp_path, PLAIN), "device", no_plan=True).has_real_links


@pytest.mark.parametrize("value", [-0.1, 3601.0])
def test_a_clock_is_off_by_an_hour_at_most(tmp_path: Path, value: float) -> None:
    link = {**PLAIN["link"], "clock_error_s": value}
    with pytest.raises(ConfigError, match=r"link\.clock_error_s: must be a number from 0 to 3600, not "):
        load_config(config_file(tmp_path, {**PLAIN, "link": link}), "device")


def edges(folder: Path, **changes: Any) -> int | None:
    """When the contact from 100 s to 200 s with sat-0 is counted on until; None if not 10 s into it."""
    plan = ContactPlan(
        1,
        "ab" * 32,
        "2026-01-01T00:00:00Z",
        300 * SECOND_NS,
        (PlanNode(GOOD["name"], "device"), PlanNode("sat-0", "satellite")),
        (Contact(GOOD["name"], "sat-0", "service", 100 * SECOND_NS, 200 * SECOND_NS, SAMPLES),),
    )
    config = load_config(config_file(folder, {**PLAIN, **changes}), "device")
    leg = plan_routes(config, plan).leg("x", "sat-0", 0, 10_000 * 94 - ENVELOPE_BYTES, ())
    return None if leg is None else leg.ends_ns // SECOND_NS


SAMPLES = (Sample(100 * SECOND_NS, 1, 80_000, 0.0, 1.0),)


def test_a_clock_that_errs_counts_over_real_links_only(tmp_path: Path) -> None:
    link = PLAIN["link"]
    assert edges(tmp_path) == 200  # confirmed at 105: 95 s are left
    assert edges(tmp_path, link={**link, "clock_error_s": 9.0}) == 200
    assert edges(tmp_path, link={**link, "real": True, "clock_error_s": 0.4}) == 199
    assert edges(tmp_path, link={**link, "real": True}) is None  # 93 s
    assert edges(tmp_path, no_plan=True, link={**link, "clock_error_s": 9.0}) == 200


def test_a_node_without_a_plan_believes_in_its_peers(tmp_path: Path) -> None:
    file = config_file(tmp_path, {**PLAIN, "no_plan": True})
    plan, truth = load_plans(load_config(file, "device"), file)
    assert (plan.neighbours(GOOD["name"]), truth) == (("sat-0",), None)
    with pytest.raises(ConfigError, match=r"plan\.json: cannot be read"):
        load_plans(load_config(config_file(tmp_path, PLAIN), "device"), file)


@pytest.mark.parametrize("kind", ["device", "satellite", "ground"])
def test_a_node_without_fedmeld_starts_and_ends_when_it_is_told(tmp_path: Path, kind: str) -> None:
    operator = {"listen": f"unix:{tmp_path}/desk"}
    least = {"name": "one", "kind": kind, "seed": 1, "no_plan": True, "operator": operator}
    file = config_file(tmp_path, {**least, "link": {"listen": "127.0.0.1:0"}})
    with subprocess.Popen(
        [sys.executable, "-m", f"{kind}_node", "--config", str(file)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.terminate()
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "", "")


SHAPED: dict[str, Any] = {
    "shaped": "10.213.0.0/16",
    "listen": "10.213.0.3:7900",
    "peers": {"sat-0": "10.213.0.1:7900"},
}


def test_nodes_of_an_emulated_network_have_its_addresses(tmp_path: Path) -> None:
    config = load_config(config_file(tmp_path, changed(("link",), SHAPED)), "device")
    assert (config.link.shaped, config.link.listen) == ("10.213.0.0/16", "10.213.0.3:7900")


@pytest.mark.parametrize(
    "address", ["8.8.8.8:7900", "10.214.0.1:7900", "10.213.0.1:0", "10.213.255.255:80", "sat-0.example:7900"]
)
def test_an_address_outside_the_emulated_network_is_neither_bound_nor_dialled(
    tmp_path: Path, address: str
) -> None:
    for field, values in (
        ("listen", {**SHAPED, "listen": address}),
        ("peers.sat-0", {**SHAPED, "peers": {"sat-0": address}}),
    ):
        file = config_file(tmp_path, changed(("link",), values))
        with pytest.raises(ConfigError) as caught:
            load_config(file, "device")
        assert str(caught.value) == (
            f"{file}: link.{field}: must be an address and port of the emulated network 10.213.0.0/16, "
            f"not {address!r}"
        )


@pytest.mark.parametrize(
    "data, why", [(b"[[[", "not valid TOML: "), (b'name = "\xff"', "not UTF-8")], ids=["toml", "utf-8"]
)
def test_a_file_that_is_no_toml_is_refused(tmp_path: Path, data: bytes, why: str) -> None:
    file = config_file(tmp_path, data)
    with pytest.raises(ConfigError) as caught:
        load_config(file, "device")
    assert str(caught.value).startswith(f"{file}: {why}")


def daemon(kind: str, config: Path) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of a daemon that is expected to end by itself."""
    run = subprocess.run(
        [sys.executable, "-m", f"{kind}_node", "--config", str(config)],
        cwd=config.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return run.returncode, run.stdout, run.stderr


@pytest.mark.parametrize(
    "kind, values, line",
    [
        ("satellite", None, "cannot be read: No such file or directory"),
        ("satellite", GOOD, "kind: must be 'satellite' for this program, not 'device'"),
        (
            "device",
            changed(("fedmeld", "alpha"), 1.5),
            "fedmeld.alpha: must be a number from 0 to 1, not 1.5",
        ),
        ("device", GOOD, "plan.json: cannot be read: No such file or directory"),
    ],
    ids=["no file", "another kind", "a wrong value", "no plan"],
)
def test_a_daemon_says_one_line_ends_with_2_and_writes_nothing(
    tmp_path: Path, kind: str, values: dict[str, Any] | None, line: str
) -> None:
    file = tmp_path / "node.toml" if values is None else config_file(tmp_path, values)
    before = sorted(tmp_path.iterdir())
    code, out, err = daemon(kind, file)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert err.startswith(f"{kind}-node: ") and err.rstrip().endswith(line)
    assert sorted(tmp_path.iterdir()) == before


# --------------------------------------------------------------------------------------------- writing

# TOML has no null and no surrogates; it keeps integers and floats apart.
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
SCALARS = st.booleans() | st.integers(-(1 << 63), (1 << 63) - 1) | st.floats(allow_nan=False) | TEXT
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(TEXT, VALUES, max_size=4))
def test_what_is_written_is_read_back(values: dict[str, Any]) -> None:
    assert tomllib.loads(dump_toml(values)) == values


def test_a_configuration_is_read_back_as_it_was(tmp_path: Path) -> None:
    config = NodeConfig.model_validate(GOOD)
    written = config_file(tmp_path, config.model_dump(exclude_none=True))
    assert load_config(written, "device") == config
