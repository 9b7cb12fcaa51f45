"""What surrounds emulated links: names, limits, findings, and what a node takes from its plan."""

from __future__ import annotations

import asyncio
import errno
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from netem.namespaces import namespace_name
from netem.tun.limits import LIMITS
from orbitrain.contacts.contact import Contact, Sample
from orbitrain.contacts.plan import ContactPlan, PlanNode
from orbitrain.runtime.congestion import flows_here
from orbitrain.runtime.outlook import Road
from orbitrain.scenario import ScenarioError
from orbitrain.testbed import tcp
from orbitrain.testbed.emulator import Probe, Wiring, end
from orbitrain.testbed.host import check_fit, fit
from orbitrain.testbed.shaping import run_id
from orbitrain.testbed.tcp import tcp_settings
from orbitrain.testbed.truth import unchecked, worse
from orbitrain.transport.stripes import FLOWS

MBIT = 1_000_000
SECOND_NS = 1_000_000_000


def plan(rate_bps: int, delay_ns: int, low_bps: int | None = None) -> ContactPlan:
    samples = (
        Sample(0, delay_ns, rate_bps, 0.0, 1.0),
        Sample(50 * SECOND_NS, delay_ns, rate_bps if low_bps is None else low_bps, 0.0, 1.0),
    )
    return ContactPlan(
        version=1,
        scenario_sha256="a" * 64,
        epoch="2026-01-01T00:00:00Z",
        duration_ns=100 * SECOND_NS,
        nodes=(PlanNode("bird", "satellite"), PlanNode("farm", "device"), PlanNode("hut", "device")),
        contacts=(
            Contact("bird", "farm", "service", 0, 60 * SECOND_NS, samples),
            Contact("farm", "bird", "service", 0, 60 * SECOND_NS, samples),
        ),
    )


def test_the_run_in_a_folder_always_has_the_same_namespaces(tmp_path: Path) -> None:
    assert run_id(tmp_path) == run_id(tmp_path / "." / "x" / "..")
    assert run_id(tmp_path) != run_id(tmp_path / "x")
    assert namespace_name(run_id(tmp_path), "sat-0") == f"ob-{run_id(tmp_path)}-sat-0"


def test_a_rate_that_fits_is_taken_and_one_beyond_is_refused_with_one_that_would_do() -> None:
    fast = plan(2 * MBIT, 40_000_000)
    good = fit([fast], 50, "tun")
    assert (good.refused, good.marks) == ((), ())
    check_fit(good, 50)
    most = LIMITS.largest_link_bps // MBIT
    bad = fit([plan(1 * MBIT, 40_000_000), fast], most, "tun")
    assert bad.refused == (f"a link of {2 * most} Mbit/s: at most {most}",)
    assert 0.45 * most <= bad.highest_rate <= 0.5 * most
    assert not fit([fast], bad.highest_rate, "tun").refused
    with pytest.raises(
        ScenarioError, match=rf"^--rate: at {most} the links ask for a link of {2 * most} Mbit"
    ):
        check_fit(bad, most)


def test_a_short_delay_is_said_and_run() -> None:
    low = fit([plan(1 * MBIT, 2_000_000)], 40, "tun")
    assert low.refused == ()
    assert low.marks == ("a delay of 0.050 ms: at least 0.5",)


def test_tcp_waits_less_where_time_is_faster_but_never_less_than_an_answer_may_be_held_back() -> None:
    assert tcp_settings(1)["tcp_rto_min_us"] == "200000"
    assert tcp_settings(2)["tcp_rto_min_us"] == "100000"
    assert tcp_settings(100)["tcp_rto_min_us"] == "50000"
    assert tcp_settings(0.1)["tcp_rto_min_us"] == "200000"


class Kernel:
    """Its files of TCP, and what it lets a fresh namespace have."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, allowed: str, default: str) -> None:
        self.default = folder / "tcp_congestion_control"
        self.default.write_text(f"{default}\n")
        (folder / "tcp_available_congestion_control").write_text("reno bbr cubic\n")
        (folder / "tcp_allowed_congestion_control").write_text(f"{allowed}\n")
        self._allowed = allowed.split()
        patch.setattr(tcp, "_BASE", folder)
        patch.setattr(tcp, "unshare", lambda flags: None)
        patch.setattr(tcp, "network_kept", nullcontext)
        patch.setattr(tcp, "_write", self.write)

    def write(self, name: str, value: str) -> None:
        if value not in ("reno", "bbr", "cubic"):
            raise OSError(errno.ENOENT, "No such file or directory")
        if value not in self._allowed:
            raise OSError(errno.EPERM, "Operation not permitted")
        self.default.write_text(f"{value}\n")


@pytest.mark.parametrize(
    ("allowed", "default", "wanted", "got"),
    [
        ("reno bbr", "reno", "auto", "bbr"),
        ("reno cubic", "cubic", "auto", "cubic"),
        ("reno bbr", "bbr", "reno", "reno"),
    ],
)
def test_congestion_control_is_what_was_asked_for_or_the_best_that_namespaces_may_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: str, default: str, wanted: str, got: str
) -> None:
    Kernel(tmp_path, monkeypatch, allowed, default)
    assert tcp.choose_congestion(wanted) == got


@pytest.mark.parametrize(
    ("wanted", "line"),
    [
        ("warp", "this kernel has no 'warp', it has reno, bbr, cubic (as root: modprobe tcp_warp)"),
        (
            "bbr",
            "the host keeps 'bbr' from its namespaces, they may have reno, cubic (as root: "
            "sysctl -w net.ipv4.tcp_allowed_congestion_control='reno cubic bbr')",
        ),
    ],
)
def test_a_congestion_control_that_namespaces_cannot_have_is_one_line_with_what_would_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: str, line: str
) -> None:
    Kernel(tmp_path, monkeypatch, "reno cubic", "cubic")
    with pytest.raises(ScenarioError) as caught:
        tcp.choose_congestion(wanted)
    assert str(caught.value) == f"links.congestion: {line}"


@pytest.mark.parametrize(("congestion", "flows"), [("bbr\n", 1), ("cubic\n", FLOWS), (None, 1)])
def test_a_node_finds_out_itself_whether_it_needs_several_flows(
    tmp_path: Path, congestion: str | None, flows: int
) -> None:
    file = tmp_path / "tcp_congestion_control"
    if congestion is not None:
        file.write_text(congestion)
    assert flows_here(file) == flows


def test_a_run_is_no_truer_than_its_worst_start() -> None:
    flown, untrue = {"backend": "tun", "verdict": "as_scaled"}, {"backend": "tun", "verdict": "untrue"}
    assert worse(None, flown) is flown
    assert worse(untrue, flown) is untrue
    assert worse(flown, untrue) is untrue
    assert worse(flown, unchecked("tun", "why"))["verdict"] == "unchecked"


async def test_a_probe_that_leaves_nothing_says_why(tmp_path: Path) -> None:
    probe = Probe(Wiring("tun", "nobody", tmp_path, tmp_path / "clock.json"))
    await probe.start(tmp_path / "no-plan.json")
    assert probe.running
    await probe.stop()
    assert not probe.running and probe.found is None
    assert (probe.exit_code, "no-plan.json" in probe.last_words) == (2, True)


async def test_a_process_that_does_not_hear_is_killed() -> None:
    deaf = (
        "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print('ready', flush=True); time.sleep(60)"
    )
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", deaf, stdin=pipe, stdout=pipe)
    assert process.stdout is not None
    await process.stdout.readline()
    await end(process, 0.1)
    assert process.returncode == -9


def test_a_road_is_the_worst_that_the_plan_says_of_it() -> None:
    road = Road.of(plan(2 * MBIT, 40_000_000, MBIT), "farm", "bird")
    assert road == Road(0.04, MBIT, "service")
    assert road.trip_s(125_000) == pytest.approx(0.08 + 1.0)


def test_a_road_that_no_plan_knows_is_taken_to_be_long_and_slow() -> None:
    known = plan(2 * MBIT, 40_000_000)
    assert Road.of(known, "bird", "hut") == Road(link_class="service")
    assert Road.of(known, "bird", "hut").trip_s(0) == 0.6
