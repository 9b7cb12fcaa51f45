"""Draws pass_over_tun.png: a pass over Quito as planned, and as ping and iperf3 see it across `links up`.

    .venv/bin/python docs/pictures/pass_over_tun.py [--rate R] [--data FILE.json]

Takes the demo scenario with `s-band-service` links and 6 dB of margin, brings its first pass over Quito up at
rate R (1: nine minutes), runs ping from the satellite to one device and iperf3 from the satellite to the
other, and draws what they saw over what the plan says. Where ping or iperf3 is missing, sockets of our own
take its place. As root, on Linux. `--data` keeps what was seen; where FILE is there already it is drawn
again, and nothing is measured.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from netem.namespaces import FOLDER
from netem.syscalls import network_of
from orbitrain.contacts.contact import Contact
from orbitrain.contacts.plan import ContactPlan
from orbitrain.outputs import load_plan

HERE = Path(__file__).resolve().parent
SCENARIO = HERE.parents[1] / "deploy" / "scenarios" / "fedmeld-demo.toml"
PINGED, FILLED, REGION = "quito-dev-0", "quito-dev-1", "quito-dev-"
MARGIN = (
    "shadowing_margin_db = 6\n"  # with the preset's own back-off no fade under open sky reaches it: no loss
)
MARGIN_S = 20.0
PING_S = 0.5
ECHO_BYTES = 84 + 14  # of ping's 56 bytes: ICMP, IP and the link layer's 14 with them
SEGMENT = 1448 / 1514  # TCP payload of a full packet, timestamps on, to its bytes on the link


@dataclass
class Seen:
    """`round_trips` are (scenario s, ms), `rates` (scenario s, bit/s of payload)."""

    round_trips: list[tuple[float, float]] = field(default_factory=list)
    rates: list[tuple[float, float]] = field(default_factory=list)
    with_tools: list[str] = field(default_factory=list)
    rate: float = 1.0
    sat: str = ""


@dataclass
class Links:
    """Running `orbitrain links up`."""

    process: subprocess.Popen[str]
    places: dict[str, dict[str, str]]
    unix_s: float
    scenario_s: float
    rate: float

    def now_s(self, unix_s: float | None = None) -> float:
        """Scenario time."""
        return self.scenario_s + ((time.time() if unix_s is None else unix_s) - self.unix_s) * self.rate

    def until(self, t_s: float) -> None:
        while (left_s := (t_s - self.now_s()) / self.rate) > 0:
            time.sleep(min(left_s, 1.0))

    def inside(self, node: str, *command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["ip", "netns", "exec", self.places[node]["netns"], *command],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={"LANG": "C", "PATH": _PATH},
        )  # fmt: skip

    def socket(self, node: str, kind: socket.SocketKind) -> socket.socket:
        with network_of(str(FOLDER / self.places[node]["netns"])):
            return socket.socket(socket.AF_INET, kind)


_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def plan_of_the_pass(folder: Path) -> ContactPlan:
    text = SCENARIO.read_text(encoding="utf-8")
    for old, new in (
        ("service_rate_bps = 500_000\n", ""),
        ("[compute]", '[links.service]\npreset = "s-band-service"\n' + MARGIN + "\n[compute]"),
        ("duration_s = 43200", "duration_s = 3600"),
    ):
        assert old in text, f"{SCENARIO}: {old!r} is not there any more"
        text = text.replace(old, new)
    scenario, plan = folder / "pass.toml", folder / "plan.json"
    scenario.write_text(text, encoding="utf-8")
    subprocess.run(
        [sys.executable, "-m", "orbitrain", "plan", "build", str(scenario), "--out", str(plan)], check=True
    )
    return load_plan(plan)


def first_pass(plan: ContactPlan) -> Contact:
    """Down to the device that iperf3 fills."""
    return next(one for one in plan.contacts if one.destination == FILLED and one.start_ns > 0)


def _clocks(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        if line.startswith('{"clock"'):
            yield json.loads(line)["clock"]


def measure(plan: ContactPlan, folder: Path, rate: float) -> Seen:
    contact = first_pass(plan)
    start_s, end_s = contact.start_ns / 1e9, contact.end_ns / 1e9
    command = [sys.executable, "-m", "orbitrain", "links", "up", str(folder / "plan.json"), "--verbose"]
    command += ["--rate", str(rate), "--from", str(max(0.0, start_s - MARGIN_S)), "--run-id", "pass"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            assert process.stdout is not None and process.stderr is not None
            places = json.loads(process.stdout.readline() or "{}")
            if not places:
                sys.exit(process.stderr.read())
            clock = next(_clocks(process.stderr))
            threading.Thread(target=process.stderr.read, daemon=True).start()
            links = Links(process, places, clock["unix_ns"] / 1e9, clock["scenario_ns"] / 1e9, rate)
            seen = Seen(rate=rate, sat=contact.source)
            done = threading.Event()
            ping = threading.Thread(
                target=pinged if shutil.which("ping") else echoed, args=(links, seen, done)
            )
            ping.start()
            links.until(start_s + 1.0 * rate)
            seconds = (end_s - links.now_s()) / rate
            (filled if shutil.which("iperf3") else poured)(links, seen, seconds)
            links.until(end_s + MARGIN_S)
            done.set()
            ping.join(10)
            return seen
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(20)


# --- with ping and iperf3 -----------------------------------------------------------------------------------


def pinged(links: Links, seen: Seen, done: threading.Event) -> None:
    seen.with_tools.append("ping")
    process = links.inside(seen.sat, "ping", "-D", "-i", str(PING_S), links.places[PINGED]["address"])
    threading.Thread(target=lambda: (done.wait(), process.send_signal(signal.SIGINT)), daemon=True).start()
    assert process.stdout is not None
    for line in process.stdout:
        found = re.match(r"\[([0-9.]+)\].*time=([0-9.]+) ms", line)
        if found is not None:
            seen.round_trips.append((links.now_s(float(found[1])), float(found[2]) * links.rate))
    process.wait()


def filled(links: Links, seen: Seen, seconds: float) -> None:
    seen.with_tools.append("iperf3")
    address = links.places[seen.sat]["address"]
    server = links.inside(seen.sat, "iperf3", "-s", "-1", "-B", address)
    time.sleep(0.5)
    client = links.inside(
        FILLED,
        "iperf3",
        "-c",
        address,
        "-R",
        "-i",
        "1",
        "-t",
        str(int(seconds) + 5),
        "-f",
        "k",
        "--forceflush",
    )
    # When the satellite is gone neither of them hears of it.
    threading.Timer(seconds + 2.0, lambda: (client.kill(), server.kill())).start()
    assert client.stdout is not None
    for line in client.stdout:
        found = re.match(r"\[ *\d+\] +([0-9.]+)-([0-9.]+) +sec .* ([0-9.]+) Kbits/sec\s*$", line)
        if found is not None and float(found[2]) - float(found[1]) < 1.5:
            middle_s = links.now_s() - 0.5 * links.rate
            seen.rates.append((middle_s, float(found[3]) * 1e3 / links.rate))
    for process in (client, server):
        process.wait()


# --- without them -------------------------------------------------------------------------------------------


def echoed(links: Links, seen: Seen, done: threading.Event) -> None:
    """UDP datagrams as long as ping's packets, sent back."""
    place = links.places[PINGED]["address"], 7007
    mirror, mine = (links.socket(node, socket.SOCK_DGRAM) for node in (PINGED, seen.sat))
    mirror.bind(place)
    mine.settimeout(PING_S)

    def reflect() -> None:
        with contextlib.suppress(OSError):
            while True:
                data, sender = mirror.recvfrom(2048)
                mirror.sendto(data, sender)

    threading.Thread(target=reflect, daemon=True).start()
    while not done.wait(PING_S):
        begun_ns = time.monotonic_ns()
        mine.sendto(begun_ns.to_bytes(8, "big") + bytes(48), place)
        with contextlib.suppress(OSError):
            data, _ = mine.recvfrom(2048)
            if int.from_bytes(data[:8], "big") == begun_ns:
                seen.round_trips.append((links.now_s(), (time.monotonic_ns() - begun_ns) / 1e6 * links.rate))
    mirror.close()


def poured(links: Links, seen: Seen, seconds: float) -> None:
    """A TCP connection that is always full, its bytes counted each second where they arrive."""
    place = links.places[seen.sat]["address"], 7008
    server, client = (links.socket(node, socket.SOCK_STREAM) for node in (seen.sat, FILLED))
    server.bind(place)
    server.listen()

    def pour() -> None:
        with contextlib.suppress(OSError):
            connection, _ = server.accept()
            connection.settimeout(seconds + 2)
            while True:
                connection.send(bytes(1 << 16))

    threading.Thread(target=pour, daemon=True).start()
    client.settimeout(1.0)
    client.connect(place)
    end_s = time.monotonic() + seconds
    count, since_s = 0, time.monotonic()
    while (now_s := time.monotonic()) < end_s:
        with contextlib.suppress(TimeoutError):
            count += len(client.recv(1 << 18))
        if now_s - since_s >= 1.0:
            middle_s = links.now_s() - 0.5 * links.rate * (now_s - since_s)
            seen.rates.append((middle_s, count * 8 / (now_s - since_s) / links.rate))
            count, since_s = 0, now_s
    for one in (client, server):
        one.close()


# --- the picture --------------------------------------------------------------------------------------------


def draw(plan: ContactPlan, seen: Seen, out: Path) -> str:
    """Answers how far the measured is from the planned."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    contact = first_pass(plan)
    start_s, end_s = contact.start_ns / 1e9, contact.end_ns / 1e9

    def sample(source: str, destination: str, t_s: float) -> Any:
        found = plan.active(source, destination, round(t_s * 1e9))
        return None if found is None else found.sample_at(round(t_s * 1e9))

    def planned_ms(t_s: float) -> tuple[float, float] | None:
        """Light alone; and with the time that the echo's bits take to be sent, both ways."""
        ways = sample(seen.sat, PINGED, t_s), sample(PINGED, seen.sat, t_s)
        if None in ways:
            return None
        light = sum(way.delay_ns for way in ways) / 1e6
        return light, light + sum(ECHO_BYTES * 8e3 / way.rate_bps for way in ways)

    def planned_bps(t_s: float) -> float | None:
        way = sample(seen.sat, FILLED, t_s)
        return None if way is None else way.rate_bps

    times = [start_s + (end_s - start_s) * n / 600 for n in range(600)]
    trips = [planned_ms(t) for t in times]
    rates = [planned_bps(t) for t in times]
    late = [
        (t, ms - planned[1])
        for t, ms in seen.round_trips
        if (planned := planned_ms(t - ms / 2e3)) is not None
    ]
    # The first seconds are TCP's start, the last ones its end.
    share = [
        (t, bps / (planned * SEGMENT) - 1)
        for t, bps in seen.rates
        if start_s + 10 < t < end_s - 5 and (planned := planned_bps(t)) is not None
    ]
    offs, shares = [off for _, off in late], [off for _, off in share]
    said = (
        f"{_tool(seen, 'ping', 'UDP echo')}: {len(offs)} echoes, median {_median(offs):+.2f} ms from the "
        f"plan, 95 % within {_most(offs):.2f} ms; {_tool(seen, 'iperf3', 'TCP')}: {len(shares)} s, median "
        f"{_median(shares):+.1%}, 95 % within {_most(shares):.1%}"
    )
    blue, orange, grey = "#12426f", "#f0953b", "#8a8a8a"
    figure, rows = plt.subplots(
        4, 1, figsize=(9.2, 7.4), sharex=True, dpi=110, gridspec_kw={"height_ratios": [3.2, 1, 3.2, 1]}
    )
    above, above_off, below, below_off = rows
    for axes in rows:
        axes.axvspan(-MARGIN_S, 0, color="#eeeeee", lw=0)
        axes.axvspan(end_s - start_s, end_s - start_s + MARGIN_S, color="#eeeeee", lw=0)
        axes.grid(color="#dddddd", lw=0.6)
        axes.set_axisbelow(True)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    x = [t - start_s for t in times]

    # The plan as a thin line over what was measured: where they agree the line lies inside the dots.
    def dots(axes: Any, points: list[tuple[float, float]], unit: float, size: float, label: str = "") -> None:
        axes.plot(
            [t - start_s for t, _ in points], [value / unit for _, value in points],
            "o", color=orange, ms=size, mew=0, alpha=0.55, label=label,
        )  # fmt: skip

    dots(above, seen.round_trips, 1, 5, f"measured: {_tool(seen, 'ping', 'UDP echo')}")
    sending = "plan: light, and sending 98 bytes each way"
    above.plot(x, [trip[1] for trip in trips if trip], color=blue, lw=1.1, label=sending)
    above.plot(x, [trip[0] for trip in trips if trip], color=grey, lw=1.1, ls="--", label="plan: light alone")
    above.set_ylim(0, max(trip[1] for trip in trips if trip) * 1.25)
    above.set_ylabel("round trip, ms")
    above.set_title(f"{seen.sat} to {PINGED} and back", loc="left", fontsize=9, color="#444444")
    dots(above_off, late, 1, 3)
    _residual(above_off, 1.0 * seen.rate, "measured less\nplanned, ms", offs)

    dots(below, seen.rates, 1e6, 5, f"measured: {_tool(seen, 'iperf3', 'TCP')}, received each second")
    payload = "plan: payload of TCP, 1,448 of 1,514 bytes"
    below.plot(x, [(bps or 0) * SEGMENT / 1e6 for bps in rates], color=blue, lw=1.1, label=payload)
    below.plot(
        x, [(bps or 0) / 1e6 for bps in rates], color=grey, lw=1.1, ls="--", label="plan: rate of the link"
    )
    below.set_ylim(0, max(bps or 0 for bps in rates) / 1e6 * 1.15)
    below.set_ylabel("Mbit/s")
    below.set_title(f"{seen.sat} to {FILLED}", loc="left", fontsize=9, color="#444444")
    dots(below_off, share, 0.01, 3)
    _residual(below_off, 6.0, "measured over\nplanned, %", [100 * off for off in shares])

    below_off.set_xlabel("seconds of the pass (grey: no contact)")
    below_off.set_xlim(-MARGIN_S, end_s - start_s + MARGIN_S)
    above.legend(loc="upper center", fontsize=8.5, frameon=False)
    below.legend(loc="lower center", fontsize=8.5, frameon=False)
    title = f"A pass at rate {seen.rate:g} across `orbitrain links up`: planned, and measured"
    figure.suptitle(title, fontsize=12)
    figure.align_ylabels(rows)
    figure.tight_layout()
    figure.savefig(out, metadata={"Software": None})
    return said


def _residual(axes: Any, bound: float, label: str, values: list[float]) -> None:
    """What is beyond the axis is counted, not hidden."""
    axes.axhline(0, color="#12426f", lw=0.9)
    axes.set_ylim(-bound, bound)
    axes.set_ylabel(label, fontsize=8)
    beyond = sum(abs(value) > bound for value in values)
    if beyond:
        note = f"{beyond} of {len(values)} beyond"
        axes.annotate(note, (0.99, 0.95), xycoords="axes fraction", ha="right", va="top", fontsize=7.5)


def _tool(seen: Seen, tool: str, other: str) -> str:
    return tool if tool in seen.with_tools else other


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2] if values else float("nan")


def _most(values: list[float]) -> float:
    return sorted(abs(value) for value in values)[len(values) * 95 // 100] if values else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rate", type=float, default=1.0, help="scenario seconds a second (1)")
    parser.add_argument("--out", type=Path, default=HERE / "pass_over_tun.png")
    parser.add_argument("--data", type=Path, help="what was seen, kept; or drawn again if it is there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pass-over-tun-") as folder:
        plan = plan_of_the_pass(Path(folder))
        if options.data is not None and options.data.exists():
            seen = Seen(**json.loads(options.data.read_text(encoding="utf-8")))
        else:
            seen = measure(plan, Path(folder), options.rate)
            if options.data is not None:
                options.data.write_text(json.dumps(vars(seen)), encoding="utf-8")
    print(draw(plan, seen, options.out))
    print(f"{options.out}: {options.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
