"""Links of a rate alone, on kernels without netem, with real packets: what is left, and that it is said."""

from __future__ import annotations

import errno
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from netem.kernel.backend import HANDLES
from netem.kernel.network import KernelNetwork
from netem.kernel.token_bucket import TokenBucket
from netem.link_state import LinkState, up_state
from netem.namespaces import owned
from netem.netlink import HowQdisc, NetlinkError, root_qdisc
from netem.schedule import Change
from tests.netem.conftest import HERE, no_netem
from tests.netem.kernel.talk import HEADERS, Talk
from tests.unit.netem.plans import contact, plan_of

MS = 1_000_000
AB = ("a", "b")
Up = Callable[..., KernelNetwork]


def put(network: KernelNetwork, state: LinkState, way: tuple[str, str] = AB) -> None:
    network.backend.apply([Change(way, state, True)], time.monotonic_ns())


def test_the_account_says_what_is_missing(up: Up) -> None:
    network = up(links=[AB], shaping=TokenBucket)
    account = network.backend.measured()
    assert account["kind"] == "tbf" and account["not_emulated"] == ["delay", "jitter", "loss"]


@pytest.mark.parametrize("mbps", [5, 50])
def test_the_rate_is_that_of_bits_on_the_link(up: Up, mbps: int) -> None:
    network = up(links=[AB], shaping=TokenBucket)
    put(network, replace(up_state(0, mbps * 1_000_000), limit_bytes=10_000_000))
    assert network.backend.verify() == []
    packets = mbps * 20
    with Talk(network, *AB) as talk:
        talk.send(packets, 1400)
        assert talk.receive(0.5, packets) == list(range(packets))
        times = [at_ns for _, at_ns in talk.arrived]
    measured = (packets - 1 - packets // 4) * (1400 + HEADERS) * 8e3 / (times[-1] - times[packets // 4])
    assert measured == pytest.approx(mbps, rel=0.06)


def test_full_packets_pass_and_none_while_the_link_is_down(up: Up) -> None:
    network = up(links=[AB], shaping=TokenBucket)
    state = up_state(0, 100_000_000)
    with Talk(network, *AB) as talk:
        talk.send(3, 1472)
        assert talk.receive(0.2) == []
        put(network, state)
        talk.send(3, 1472)
        assert talk.receive(0.2) == [3, 4, 5]
        for outage in ("hold", "cut"):
            put(network, state.down(outage))  # type: ignore[arg-type]
            talk.send(3, 1472)
            assert talk.receive(0.2) == []
            assert network.backend.verify() == []
        put(network, state)
        talk.send(1)
        assert talk.receive(0.2) == [12]


def test_a_cut_takes_what_waits_and_an_end_of_visibility_does_not(up: Up) -> None:
    network = up(links=[AB], shaping=TokenBucket)
    slow = replace(up_state(0, 200_000), limit_bytes=1_000_000)
    put(network, slow)
    with Talk(network, *AB) as talk:
        talk.send(10, 1000)
        put(network, slow.down("hold"))
        assert talk.receive(0.3) == list(range(10))
        put(network, slow)
        talk.send(10, 1000)
        put(network, slow.down("cut"))
        assert len(talk.receive(0.3)) < 5
    links = network.backend.measured()["links"]
    assert isinstance(links, dict) and links["a b"]["flushed"] > 5


def test_a_thousand_changes_are_one_call_a_node_and_every_link_is_as_told(up: Up) -> None:
    network = up("a", "b", "c", links=[AB, ("a", "c"), ("b", "c")], shaping=TokenBucket)
    calls = network.backend.calls
    ways = [AB, ("b", "a"), ("a", "c"), ("c", "a"), ("b", "c"), ("c", "b")]
    changes = [Change(ways[n % 6], up_state(0, 1_000_000 + n), False) for n in range(1000)]
    network.backend.apply(changes, time.monotonic_ns())
    assert network.backend.calls == calls + 3 and network.backend.changes == 1000
    assert network.backend.verify() == []


def test_of_a_thousand_changes_the_refused_ones_are_named(up: Up) -> None:
    network = up("a", "b", "c", links=[AB, ("a", "c")], shaping=TokenBucket)
    network._nodes["a"].netlink.remove_root_qdisc(network._ports[AB].index)
    ways = [AB, ("a", "c")]
    changes = [Change(ways[n % 2], up_state(0, 1_000_000 + n), False) for n in range(1000)]
    with pytest.raises(NetlinkError, match=r"link a b: .* \(and 499 more\)"):
        network.backend.apply(changes, time.monotonic_ns())
    assert network.backend.changes == 500


def test_a_kernel_without_netem_is_told_by_module_and_package(tmp_path: Path) -> None:
    if not no_netem():
        pytest.skip("this kernel has it")
    plan = tmp_path / "plan.json"
    plan.write_bytes(plan_of(contact("a", "b", 0, 10**9, (0, 5 * MS, 10**7))).to_json())
    command = [sys.executable, "-m", "netem", "up", "--links", "kernel", "--plan", str(plan)]
    run = subprocess.run(
        [*command, "--run-id", "without"],
        cwd=HERE.parents[1], capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith("netem: this kernel has no netem (module sch_netem); load it (modprobe")
    assert "kernel-modules-extra" in run.stderr and "linux-modules-extra" in run.stderr
    assert run.stderr.count("\n") == 1 and owned("without") == []


def test_programs_that_stay_when_the_links_end_reach_nobody(up: Up) -> None:
    network = up(links=[AB], shaping=TokenBucket)
    put(network, up_state(0, 10**8))
    with Talk(network, *AB) as talk:
        talk.send(2)
        assert talk.receive(0.2, 2) == [0, 1]
        network.close()
        with pytest.raises(OSError) as refused:
            talk.send(1)
        assert refused.value.errno == errno.ENETUNREACH
        assert talk.receive(0.2) == []


def surveyed(network: KernelNetwork) -> dict[str, Any]:
    for _ in network.backend.survey():
        pass
    return network.backend.measured()


def test_a_link_that_was_tampered_with_stays_named_when_a_change_has_made_it_good(up: Up) -> None:
    network = up(links=[AB], shaping=TokenBucket)
    state = up_state(0, 10**6)
    put(network, state)
    assert surveyed(network)["tampered"] == 0
    _set_by_hand(network, TokenBucket.of(up_state(0, 10**7), AB))
    account = surveyed(network)
    (complaint,) = account["complaints"]
    assert account["tampered"] == 1
    assert complaint.startswith("link a b: rate_bytes_per_s: 1250000, not 125000")
    put(network, replace(state, rate_bps=2 * 10**6))
    assert network.backend.verify() == []
    account = surveyed(network)
    assert (account["tampered"], account["complaints"]) == (1, [complaint])


def _set_by_hand(network: KernelNetwork, told: TokenBucket) -> None:
    netlink, index = network._nodes["a"].netlink, network._ports[AB].index
    body = root_qdisc(index, HANDLES[0], "tbf", told.options())
    assert netlink.set_qdiscs(netlink.composed([(HowQdisc.CHANGE, body)])) == []


def test_the_account_is_read_a_node_at_a_time_and_is_that_of_the_last_survey(up: Up) -> None:
    network = up("a", "b", "c", links=[AB, ("a", "c"), ("b", "c")], shaping=TokenBucket)
    put(network, up_state(0, 10**8))
    with Talk(network, *AB) as talk:
        talk.send(7)
        assert len(talk.receive(0.2, 7)) == 7
    assert network.backend.totals()["delivered"] == 0
    assert len(list(network.backend.survey())) == 3
    assert network.backend.totals()["delivered"] == 7
    assert surveyed(network)["links"]["a b"]["delivered"] == 7


def test_a_cut_between_surveys_counts_no_packet_twice(up: Up) -> None:
    network = up(links=[AB], shaping=TokenBucket)
    state = up_state(0, 10**8)
    put(network, state)
    with Talk(network, *AB) as talk:
        talk.send(7)
        assert len(talk.receive(0.2, 7)) == 7
        assert surveyed(network)["links"]["a b"]["delivered"] == 7
        put(network, state.down("cut"))
        assert network.backend.totals()["delivered"] == 7
        put(network, state)
        talk.send(5)
        assert len(talk.receive(0.2, 5)) == 5
    assert surveyed(network)["links"]["a b"]["delivered"] == 12


def test_what_the_kernel_drops_behind_a_link_is_counted_apart(up: Up) -> None:
    network = up(links=[AB], shaping=TokenBucket)
    put(network, up_state(0, 10**8))
    assert surveyed(network)["kernel_drops"] == 0
    # The other end takes no packet of full size any more.
    network._nodes["b"].netlink.set_up(network._ports[AB[::-1]].index, mtu=500)
    with Talk(network, *AB) as talk:
        talk.send(6, 1400)
        talk.send(2, 100)
        assert talk.receive(0.2) == [6, 7]
    account = surveyed(network)
    assert account["kernel_drops"] == 6
    assert account["links"]["a b"]["dropped"] == 0


def test_somebodys_qdisc_is_neither_changed_nor_ended_by_a_cut(up: Up) -> None:
    network = up(links=[AB], shaping=TokenBucket)
    state = up_state(0, 10**6)
    put(network, state)
    netlink, index = network._nodes["a"].netlink, network._ports[AB].index
    netlink.remove_root_qdisc(index)
    strange = root_qdisc(index, 0x77_0000, "tbf", TokenBucket.of(up_state(0, 10**7), AB).options())
    assert netlink.set_qdiscs(netlink.composed([(HowQdisc.ADD, strange)])) == []
    for new in (replace(state, rate_bps=2 * 10**6), state.down("hold"), state.down("cut")):
        with pytest.raises(NetlinkError) as refused:
            put(network, new)
        assert refused.value.strerror == "link a b: File exists: orbit2 has qdisc tbf 77:, not ours"
    (found,) = [one for one in netlink.qdiscs() if one.index == index and one.is_root]
    assert (found.handle, TokenBucket.read(found.options).rate_bytes_per_s) == (0x77_0000, 10**7 // 8)


def test_what_is_prepared_is_set_at_its_instant_and_not_before(up: Up) -> None:
    network = up(links=[AB], shaping=TokenBucket)
    before, after = (
        [Change(way, up_state(0, rate), False) for way in (AB, AB[::-1])] for rate in (8000, 9000)
    )
    network.backend.apply(before, time.monotonic_ns())
    network.backend.prepare(after)
    assert network.backend.verify() == [] and network.backend.changes == 2
    network.backend.apply(after, time.monotonic_ns())
    assert network.backend.verify() == [] and network.backend.changes == 4
    held = {qdisc.index: qdisc for qdisc in network._nodes["a"].netlink.qdiscs()}
    assert TokenBucket.read(held[network._ports[AB].index].options).rate_bytes_per_s == 9000 // 8


def test_what_is_prepared_and_does_not_come_leaves_no_trace(up: Up) -> None:
    network = up(links=[AB], shaping=TokenBucket)
    state = up_state(0, 10**6)
    put(network, state)
    network.backend.prepare([Change(AB, state.down("cut"), False)])
    put(network, replace(state, rate_bps=10**7))
    network.backend.prepare([Change(AB, replace(state, rate_bps=10**8), False)])
    put(network, state.down("cut"))
    assert network.backend.verify() == []
    with Talk(network, *AB) as talk:
        talk.send(3)
        assert talk.receive(0.2) == []


def test_what_cannot_be_set_is_refused_at_its_instant_and_not_when_it_is_prepared(up: Up) -> None:
    network = up("a", "b", "c", links=[AB], shaping=TokenBucket)
    changes = [Change(AB, replace(up_state(0, 10**6), rate_bps=9), True)]
    network.backend.prepare(changes)
    with pytest.raises(ValueError, match="link a b: rate_bps"):
        network.backend.apply(changes, time.monotonic_ns())
    unforeseen = [Change(("a", "c"), up_state(0, 10**6), True)]
    network.backend.prepare(unforeseen)
    assert ("a", "c") not in network._ports
    network.backend.apply(unforeseen, time.monotonic_ns())
    assert network.backend.verify() == []


def test_where_every_one_of_a_thousand_changes_is_refused_none_goes_unheard(up: Up) -> None:
    network = up(links=[AB], shaping=TokenBucket)
    network._nodes["a"].netlink.remove_root_qdisc(network._ports[AB].index)
    changes = [Change(AB, up_state(0, 1_000_000 + n), False) for n in range(1000)]
    with pytest.raises(NetlinkError, match=r"link a b: .* \(and 999 more\)"):
        network.backend.apply(changes, time.monotonic_ns())
    assert network.backend.changes == 0


def test_a_state_that_no_kernel_holds_is_refused_before_anything_is_set(up: Up) -> None:
    network = up(links=[AB], shaping=TokenBucket)
    changes = [
        Change(AB, up_state(0, 10**6), True),
        Change(("b", "a"), replace(up_state(0, 10**6), rate_bps=9), True),
    ]
    with pytest.raises(ValueError, match="link b a: rate_bps"):
        network.backend.apply(changes, time.monotonic_ns())
    assert network.backend.changes == 0 and network.backend.verify() == []
