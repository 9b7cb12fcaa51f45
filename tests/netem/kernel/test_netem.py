"""What the kernel's netem does to real packets when our encoder and back end speak to it."""

from __future__ import annotations

import errno
import math
import socket
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from netem.kernel.backend import HANDLES
from netem.kernel.encoder import ALWAYS, Netem
from netem.kernel.network import KernelNetwork
from netem.link_state import Link, LinkState, Loss, up_state
from netem.namespaces import HostError
from netem.netlink import Netlink, NetlinkError
from netem.replay import Replay, Timeline
from netem.schedule import Change, Schedule, Stepped
from netem.syscalls import network_of
from tests.netem.kernel.talk import HEADERS, Talk, out_of_order, runs_of_losses
from tests.unit.netem.plans import contact, plan_of

pytestmark = pytest.mark.netem

MS = 1_000_000
IP_RECVERR = 11
AB, BA = ("a", "b"), ("b", "a")
Up = Callable[..., KernelNetwork]


def put(network: KernelNetwork, **states: LinkState) -> None:
    """ab=..., ba=...: a link by its two letters."""
    changes = [Change((name[0], name[1]), state, True) for name, state in states.items()]
    network.backend.apply(changes, time.monotonic_ns())


def link(network: KernelNetwork, way: Link = AB) -> dict[str, int]:
    for _ in network.backend.survey():
        pass
    found = network.backend.measured()["links"]
    assert isinstance(found, dict)
    return dict(found[" ".join(way)])


def held(network: KernelNetwork, way: Link = AB) -> Netem:
    """What the kernel says that it holds."""
    with network_of(str(network.places[way[0]].namespace)), Netlink() as netlink:
        found = next(one for one in netlink.qdiscs() if one.kind == "netem")
    assert found.handle in HANDLES
    return Netem.read(found.options)


def tc(network: KernelNetwork, node: str, *arguments: str) -> str:
    command = ["ip", "netns", "exec", network.places[node].namespace.name, "tc", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout


def test_every_change_keeps_every_parameter_that_it_does_not_change(up: Up) -> None:
    network = up(links=[AB])
    state = replace(up_state(20 * MS, 5_000_000, Loss.of(0.05, 4)), jitter_ns=3 * MS)
    for changed in (
        state,
        replace(state, delay_ns=35 * MS),
        replace(state, rate_bps=7_000_000),
        replace(state, jitter_ns=0),
        replace(state, limit_packets=77),
        replace(state, loss=Loss("uniform", 0.125)),
        replace(state, loss=Loss()),
        state.down("hold"),
        state.down("cut"),
        state,
    ):
        put(network, ab=changed)
        assert held(network).differences(Netem.of(changed, AB)) == []
        assert network.backend.verify() == []


def test_delay_and_rate_are_held_in_64_bits(up: Up) -> None:
    network = up(links=[AB])
    state = LinkState(1_200_000_000_000, 100_000_000_000, Loss(), 10**6, 1000)
    put(network, ab=state)
    assert held(network).delay_ns == 1_200_000_000_000
    assert held(network).rate_bps == 100_000_000_000
    with Talk(network, *AB) as talk:
        talk.send(3)
        assert talk.receive(0.2) == []
        assert link(network)["in_flight"] == 3
        put(network, ab=state.down("cut"))
        assert link(network)["in_flight"] == 0 and link(network)["flushed"] == 3


def test_tc_says_the_same_in_the_same_bytes(up: Up) -> None:
    network = up("a", "b", "c", links=[AB, ("a", "c")])
    state = replace(
        up_state(20 * MS, 1_000_000, Loss("gilbert_elliott", 1 / 3, 2)), jitter_ns=5 * MS, limit_packets=100
    )
    for lost_first in (False, True):
        for _ in range(200):  # which state is the first is drawn
            put(network, ab=state)
            if (held(network).chain or (0,))[-1] == (ALWAYS if lost_first else 0):
                break
        # p, r, 1-h, 1-k of the chain's two states
        chain = ["50%", "25%", "0%", "100%"] if lost_first else ["25%", "50%", "100%", "0%"]
        told = ["netem", "limit", "100", "delay", "20ms", "5ms", "rate", "1mbit", "loss", "gemodel", *chain]
        tc(network, "a", "qdisc", "replace", "dev", "orbit3", "root", "handle", "b17:", *told)
        with network_of(str(network.places["a"].namespace)), Netlink() as netlink:
            ours, theirs = (one.options for one in netlink.qdiscs() if one.kind == "netem")
        assert Netem.read(ours).chain == Netem.read(theirs).chain
        # All but a seed of the kernel's own, where it has one.
        seed = 12 if len(ours) > 152 else 0
        assert ours[: len(ours) - seed] == theirs[: len(theirs) - seed]


@pytest.mark.parametrize("delay_ms", [5, 20, 100])
def test_a_round_trip_takes_the_delays_and_no_more(up: Up, delay_ms: int) -> None:
    network = up(links=[AB])
    found_ms = []
    for _ in range(3):  # other programs of this machine make it longer, never shorter
        put(network, ab=up_state(0, 1_000_000_000), ba=up_state(0, 1_000_000_000))
        bare_ns = round_trip_ns(network)
        put(network, ab=up_state(delay_ms * MS, 1_000_000_000))
        found_ms.append((round_trip_ns(network) - bare_ns) / MS)
        print(f"{delay_ms} ms: {found_ms[-1]:.3f} ms more than {bare_ns / MS:.3f} ms")
        if abs(found_ms[-1] - delay_ms) < 0.3:
            return
    pytest.fail(f"three times: {found_ms} ms")


def round_trip_ns(network: KernelNetwork) -> int:
    """One way and the other, the lower quartile of each; a packet a ms, so that no processor falls asleep."""
    total = 0
    for way, port in ((AB, 5000), (BA, 5001)):
        with Talk(network, *way, port=port) as talk:
            talk.send(200, every_s=0.001)
            assert len(talk.receive(0.3)) == 200
            total += sorted(talk.delays_ns())[50]
    return total


@pytest.mark.parametrize(("mbps", "packets"), [(1, 60), (5, 200), (50, 1000)])
def test_a_rate_is_the_rate_of_bits_on_the_link(up: Up, mbps: int, packets: int) -> None:
    network = up(links=[AB])
    put(network, ab=replace(up_state(10 * MS, mbps * 1_000_000), limit_packets=5000))
    with Talk(network, *AB) as talk:
        talk.send(packets, 1400)
        assert talk.receive(1.0, packets) == list(range(packets))
        times = [at_ns for _, at_ns in talk.arrived]
    # The first packets leave before the train is complete: the rest tells the rate.
    begin = packets // 4
    measured = (packets - 1 - begin) * (1400 + HEADERS) * 8 * 1e3 / (times[-1] - times[begin])
    print(f"{mbps} Mbit/s: {measured:.3f}")
    assert measured == pytest.approx(mbps, rel=0.06)


def chain_bounds(mean: float, burst: float, packets: int) -> tuple[float, float]:
    """Four standard deviations of the mean loss, and of the mean run, of Gilbert's chain."""
    to_bad, to_good = Loss("gilbert_elliott", mean, burst).transitions()
    kept = 1 - to_bad - to_good  # of what one packet's fate says of the next one's
    of_mean = math.sqrt(mean * (1 - mean) / packets * (1 + kept) / (1 - kept))
    of_run = math.sqrt(burst * (burst - 1) / (packets * mean / burst))
    return 4 * of_mean, 4 * of_run


def test_losses_come_in_runs_of_the_stated_mean_and_length(up: Up) -> None:
    network = up(links=[AB])
    mean, burst, packets = 0.05, 4.0, 30_000
    put(network, ab=replace(up_state(0, 10_000_000_000, Loss.of(mean, burst)), limit_packets=100_000))
    arrived: list[int] = []
    with Talk(network, *AB) as talk:
        for _ in range(packets // 1000):
            talk.send(1000)
            arrived += talk.receive(0.02)
    runs = runs_of_losses(packets, arrived)
    of_mean, of_run = chain_bounds(mean, burst, packets)
    print(
        f"mean {sum(runs) / packets:.4f} +- {of_mean:.4f}, runs {statistics.mean(runs):.2f} +- {of_run:.2f}"
    )
    assert sum(runs) / packets == pytest.approx(mean, abs=of_mean)
    assert statistics.mean(runs) == pytest.approx(burst, abs=of_run)
    assert link(network)["dropped"] == sum(runs)


def test_changes_ten_packets_apart_leave_the_mean_loss_as_it_is(up: Up) -> None:
    network = up(links=[AB])
    mean, burst, packets = 0.05, 4.0, 30_000
    state = replace(up_state(0, 10_000_000_000, Loss.of(mean, burst)), limit_packets=100_000)
    arrived: list[int] = []
    with Talk(network, *AB) as talk:
        for number in range(packets // 10):
            put(network, ab=replace(state, delay_ns=number % 7))
            talk.send(10)
            if number % 100 == 99:
                arrived += talk.receive(0.02)
    lost = packets - len(arrived)
    of_mean, _ = chain_bounds(mean, burst, packets)
    print(f"mean {lost / packets:.4f} +- {of_mean:.4f}")
    assert lost / packets == pytest.approx(mean, abs=of_mean)  # 0.031 if each change began in the good state


def test_losses_of_single_packets_are_independent_with_offload_off(up: Up) -> None:
    network = up(links=[AB])
    packets = 20_000
    put(network, ab=replace(up_state(0, 10_000_000_000, Loss("uniform", 0.01)), limit_packets=100_000))
    arrived: list[int] = []
    with Talk(network, *AB) as talk:
        for _ in range(packets // 1000):
            talk.send(1000)
            arrived += talk.receive(0.02)
    runs = runs_of_losses(packets, arrived)
    assert sum(runs) / packets == pytest.approx(0.01, abs=4 * math.sqrt(0.01 * 0.99 / packets))
    assert statistics.mean(runs) < 1.15
    segments = subprocess.run(
        ["ip", "-n", network.places["a"].namespace.name, "-d", "link", "show", "orbit2"],
        capture_output=True, text=True, check=True, timeout=20,
    ).stdout  # fmt: skip
    assert "gso_max_segs 1 " in segments


def test_what_flies_arrives_when_visibility_ends_and_nothing_after(up: Up) -> None:
    network = up(links=[AB])
    state = up_state(300 * MS, 100_000_000)
    put(network, ab=state)
    with Talk(network, *AB) as talk:
        talk.send(50)
        put(network, ab=state.down("hold"))
        talk.send(20)
        assert talk.receive(1.0) == list(range(50))
        put(network, ab=state)
        talk.send(5)
        assert talk.receive(1.0) == list(range(70, 75))


def test_what_flies_is_gone_when_the_modem_is_off_and_the_other_way_is_untouched(up: Up) -> None:
    network = up(links=[AB])
    state = up_state(300 * MS, 100_000_000)
    put(network, ab=state, ba=state)
    with Talk(network, *AB) as talk, Talk(network, *BA) as back:
        talk.send(50)
        back.send(30)
        put(network, ab=state.down("cut"))
        talk.send(20)
        assert talk.receive(0.8) == []
        assert back.receive(0.1) == list(range(30))
        assert link(network)["flushed"] == 50
        put(network, ab=state)
        talk.send(5)
        assert talk.receive(1.0) == list(range(70, 75))
        assert network.backend.verify() == []


def test_with_a_rate_neither_a_shorter_delay_nor_jitter_changes_the_order(up: Up) -> None:
    network = up(links=[AB])
    long, short = up_state(60 * MS, 20_000_000), up_state(20 * MS, 20_000_000)
    put(network, ab=long)
    with Talk(network, *AB) as talk:
        talk.send(200, every_s=0.0005)
        put(network, ab=short)
        talk.send(200, every_s=0.0005)
        numbers = talk.receive(0.5)
        assert len(numbers) == 400 and out_of_order(numbers) == 0
        put(network, ab=replace(up_state(30 * MS, 20_000_000), jitter_ns=10 * MS))
        talk.send(600, every_s=0.0005)
        numbers = talk.receive(0.5)
        assert len(numbers) == 600 and out_of_order(numbers) == 0


def test_the_limit_counts_what_waits_and_what_flies(up: Up) -> None:
    network = up(links=[AB])
    put(network, ab=replace(up_state(400 * MS, 1_000_000_000), limit_packets=100))
    with Talk(network, *AB) as talk:
        talk.send(300)
        assert talk.receive(1.0) == list(range(100))
    assert link(network)["dropped"] == 200


def test_a_full_queue_is_told_to_the_sender_and_a_loss_is_not(up: Up) -> None:
    """What netem loses it has accepted; what does not fit it refuses, and the sender sees ENOBUFS."""
    lossy = replace(up_state(20 * MS, 10_000_000), loss=Loss("uniform", 1.0))
    short = replace(up_state(400 * MS, 10_000_000), limit_packets=10)
    network = up(links=[AB])
    place = str(network.places["b"].address), 9
    for state, refused in ((lossy, 0), (short, 40)):
        put(network, ab=state)
        with network_of(str(network.places["a"].namespace)):
            sending = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with sending:
            sending.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)  # else a socket is not told
            errors = [number for _ in range(50) if (number := sending_error(sending, place))]
        assert errors == [errno.ENOBUFS] * refused


def sending_error(sending: socket.socket, place: tuple[str, int]) -> int:
    try:
        sending.sendto(bytes(100), place)
    except OSError as error:
        return error.errno or 0
    return 0


def test_a_link_that_nobody_has_set_carries_nothing(up: Up) -> None:
    network = up(links=[AB])
    put(network, ab=up_state(MS, 10_000_000))
    with Talk(network, *BA) as talk:
        talk.send(5)
        assert talk.receive(0.3) == []


def test_a_link_that_was_not_foreseen_is_made_when_it_is_set(up: Up) -> None:
    network = up("a", "b", "c")
    put(network, ac=up_state(MS, 10_000_000))
    with Talk(network, "a", "c") as talk:
        talk.send(5)
        assert talk.receive(0.3) == list(range(5))


def test_a_device_with_somebodys_qdisc_is_refused_and_left_as_it_is(up: Up) -> None:
    network = up(links=[AB])
    port = network._ports[AB]
    tc(network, "a", "qdisc", "replace", "dev", "orbit2", "root", "handle", "77:", "netem", "delay", "9ms")
    with pytest.raises(
        HostError, match=r"link a b: device orbit2: carries a qdisc that is not ours \(netem 77:\)"
    ):
        network.backend.install(AB, port)
    assert network.backend.verify() == ["link a b: orbit2 has qdisc netem 77:, not ours"]
    for state in (up_state(MS, 10_000_000), up_state(MS, 10_000_000).down("cut")):
        with pytest.raises(NetlinkError) as refused:
            put(network, ab=state)
        assert refused.value.strerror == "link a b: File exists: orbit2 has qdisc netem 77:, not ours"
    assert "delay 9ms" in tc(network, "a", "qdisc", "show", "dev", "orbit2")


def test_what_somebody_else_changes_is_named(up: Up) -> None:
    network = up(links=[AB])
    put(network, ab=up_state(20 * MS, 10_000_000, Loss.of(0.1, 3)))
    tc(network, "a", "qdisc", "change", "dev", "orbit2", "root", "handle", "b17:", "netem", "delay", "9ms")
    (complaint,) = network.backend.verify()
    assert "delay_ns: 9000000, not 20000000" in complaint and "chain: None, not" in complaint


def test_one_refused_link_does_not_keep_the_others_from_being_set(up: Up) -> None:
    network = up("a", "b", "c", links=[AB, ("a", "c")])
    tc(network, "a", "qdisc", "del", "dev", "orbit2", "root")
    with pytest.raises(NetlinkError, match=r"link a b: "):
        put(network, ab=up_state(MS, 10**7), ac=up_state(5 * MS, 10**7))
    complaints = network.backend.verify()
    assert complaints == ["link a b: orbit2 has no qdisc, not ours"]


def test_a_plan_replayed_opens_and_closes_the_link_at_its_edges(up: Up) -> None:
    network = up(links=[AB])
    plan = plan_of(contact("a", "b", 300 * MS, 800 * MS, (300 * MS, 10 * MS, 10_000_000)))
    replay = Replay(Schedule(plan, how=Stepped(100 * MS)), network.backend)
    replay.begin(0)
    begun_ns = time.monotonic_ns()
    unix_ahead_ns = time.time_ns() - begun_ns
    replay.follow(Timeline(begun_ns, 0, 1.0))
    with Talk(network, *AB) as talk:
        while (now_ns := time.monotonic_ns()) < begun_ns + 1_000 * MS:
            replay.step(now_ns)
            talk.send(1, every_s=0.001)
        numbers = talk.receive(0.2)
    passed_ms = [(talk.sent_ns[number] - unix_ahead_ns - begun_ns) / MS for number in numbers]
    print(f"{passed_ms[0]:.1f} to {passed_ms[-1]:.1f} ms, {replay.document()}")
    assert passed_ms[0] == pytest.approx(300, abs=15) and passed_ms[-1] == pytest.approx(800, abs=15)
    assert numbers == list(range(numbers[0], numbers[-1] + 1))
    assert replay.finished and network.backend.verify() == []
