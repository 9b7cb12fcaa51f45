"""What this host can do, each found by doing: `python -m orbitrain.testbed.checks NAME`, one process a check.

A check answers with one JSON object. What it makes, namespaces, mounts, devices, is its process's own, and is
gone when that ends.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import importlib
import json
import os
import select
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from netem import syscalls
from netem.namespaces import HostError, Namespaces, check_rights, enter_unprivileged
from netem.netlink import LOOPBACK_INDEX, Netlink
from netem.tun.device import probe
from netem.tun.relay import raise_priority
from orbitrain.runtime.clock import monotonic_ns
from orbitrain.testbed import tcp

NOBODY: Final = 65534
"""The user that root becomes to see what others may do."""

PACKET_S: Final = 5.0
DELAY_NS: Final = 20_000_000
"""Of the queueing discipline that is tried: far beyond what a packet takes without it."""

SLEEPS: Final = 100
SLEEP_NS: Final = 1_000_000
SHORT_SLEEP_NS: Final = 100_000
SOON_NS: Final = 5_000_000
"""A probe's p99 delay error may be that much (docs/emulator.md)."""

PACKAGES: Final = {
    # import name: (what pip calls it, the extra that brings it, what for)
    "torch": ("torch", "train", "training"),
    "sklearn": ("scikit-learn", "digits", "the demo's task"),
    "onnxruntime": ("onnxruntime", "onnx", "devices that run an exported model"),
    "skyfield": ("skyfield", "testbed", "orbits and plans"),
    "matplotlib": ("matplotlib", "plot", "pictures of plans"),
}

UML_MODULES: Final = Path("/usr/lib/uml/modules")


@dataclass(frozen=True, slots=True)
class Finding:
    """`found` and `advice` are one line each; `values` what was measured."""

    ok: bool
    found: str
    advice: str = ""
    values: dict[str, Any] = field(default_factory=dict)


# --- namespaces, devices, queueing disciplines --------------------------------------------------------------


def namespaces_as_root() -> Finding:
    """The way of a run: a named namespace, in a mount namespace of our own so that nobody sees it."""
    try:
        syscalls.unshare(syscalls.CLONE_NEWNS)
        syscalls.mount("none", "/", "none", syscalls.MS_REC | syscalls.MS_PRIVATE)
        syscalls.mount("orbitrain", "/run", "tmpfs", 0, "mode=755")
    except OSError as error:
        return Finding(False, f"mount namespace: {error.strerror}", "be root, with CAP_SYS_ADMIN")
    try:
        check_rights()
        made = Namespaces(f"doctor{os.getpid()}")
        try:
            with made.created("probe"):
                _packet()
        finally:
            made.remove()
    except HostError as error:
        return Finding(False, str(error), "be root, with CAP_SYS_ADMIN and CAP_NET_ADMIN")
    return Finding(True, "made one, a packet passed in it")


def namespaces_without_root() -> Finding:
    """As an ordinary user; root becomes one first."""
    who = f"user {os.geteuid()}"
    if os.geteuid() == 0:
        codecs.lookup("ascii")  # loaded when first used, and that user may not read where Python is
        try:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
        except OSError as error:
            return Finding(False, f"not tried: becoming user {NOBODY}: {error.strerror}", "ask as that user")
        syscalls.own_proc_files()
        who = f"user {NOBODY}"
    try:
        enter_unprivileged()
        _packet()
    except HostError as error:
        found, _, advice = str(error).partition("; ")
        return Finding(False, f"{who}: {found}", advice)
    try:
        check_rights()
        probe()
    except HostError as error:
        found, _, advice = str(error).partition("; ")
        return Finding(False, f"{who}: a namespace and a packet, but {found}", advice)
    return Finding(True, f"{who}: made one, a packet passed in it and through a TUN device")


def tun() -> Finding:
    try:
        _enter()
        probe()
    except HostError as error:
        found, _, advice = str(error).partition("; ")
        return Finding(False, found, advice)
    return Finding(True, "/dev/net/tun: a packet passed")


_NO_MODULE: Final = (
    "modprobe {0} as root on the host (Ubuntu: package linux-modules-extra-$(uname -r), Fedora and RHEL: "
    "kernel-modules-extra; own kernels: {1}); --links tun does without"
)


def netem() -> Finding:
    # struct tc_netem_qopt: latency (in 64 ns), limit in packets, loss, gap, duplicate, jitter.
    options = struct.pack("=6I", DELAY_NS // 64, 1000, 0, 0, 0, 0)
    found = _queue("netem", options, _NO_MODULE.format("sch_netem", "CONFIG_NET_SCH_NETEM"))
    took_ms = found.values.get("took_ms")
    if took_ms is not None and not DELAY_NS / 1e6 <= took_ms < 10 * DELAY_NS / 1e6:
        said = f"a packet that netem was to delay by {DELAY_NS / 1e6:g} ms took {took_ms:.1f} ms"
        return Finding(False, said, "its clock is not to be trusted: use --links tun", found.values)
    return found


def tbf() -> Finding:
    # struct tc_tbf_qopt: two tc_ratespec (cell_log, linklayer 1 for Ethernet, overhead, cell_align, mpu,
    # rate in bytes/s), limit and buffer, mtu; the buffer in 64 ns: 1 ms at 10 Mbit/s is 1,250 bytes.
    spec = struct.pack("=BBHhHI", 0, 1, 0, 0, 0, 1_250_000)
    parms = spec + bytes(12) + struct.pack("=3I", 100_000, 2_000_000 // 64, 0)
    options = struct.pack("=HH", 4 + len(parms), 1) + parms
    return _queue("tbf", options, _NO_MODULE.format("sch_tbf", "CONFIG_NET_SCH_TBF"))


def _queue(kind: str, options: bytes, advice: str) -> Finding:
    """A queueing discipline on the loopback device of a fresh namespace, and a packet through it."""
    try:
        _enter()
        with Netlink() as netlink:
            netlink.set_up(LOOPBACK_INDEX)
            netlink.add_root_qdisc(LOOPBACK_INDEX, kind, options)
        took_ms = _packet() / 1e6
    except HostError as error:
        found, _, how = str(error).partition("; ")
        return Finding(False, f"not tried: {found}", how)
    except OSError as error:
        if error.errno == errno.ENOENT:
            return Finding(False, "the kernel has none, and loads no module for it", advice)
        return Finding(False, str(error.strerror or error), advice)
    return Finding(True, f"a packet passed in {took_ms:.2f} ms", values={"took_ms": took_ms})


def _enter() -> None:
    """A fresh network namespace, as root or without. HostError."""
    try:
        syscalls.unshare(syscalls.CLONE_NEWNET)
    except OSError:
        enter_unprivileged()


def _packet() -> int:
    """How long a datagram takes over the loopback device, ns. HostError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.settimeout(PACKET_S)
        try:
            one.bind(("127.0.0.1", 0))
            begun_ns = monotonic_ns()
            one.sendto(b"probe", one.getsockname())
            one.recv(16)
        except OSError as error:
            raise HostError(f"a packet did not pass: {error}") from None
        return monotonic_ns() - begun_ns


def uml() -> Finding:
    """A Linux that is an ordinary program, with netem where the host's has none."""
    path = shutil.which("linux.uml")
    if path is None:
        return Finding(
            False, "no linux.uml", "only for netem where the kernel has none: apt install user-mode-linux"
        )
    run = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=20, check=False)
    version = (run.stdout.strip().splitlines() or [""])[-1]
    if run.returncode != 0 or not version:
        return Finding(False, f"{path} --version ended with {run.returncode}", "install it again")
    modules = UML_MODULES / version
    if not any(modules.rglob("sch_netem.ko*")):
        return Finding(False, f"{path} {version}, no sch_netem below {modules}", "install its modules")
    return Finding(True, f"{path} {version} with its modules", values={"version": version})


def congestion() -> Finding:
    """What TCP senders here can use; each is asked for on a socket."""
    base = Path("/proc/sys/net/ipv4")
    try:
        listed = tcp.listed("available")
        default = (base / "tcp_congestion_control").read_text(encoding="ascii").strip()
    except OSError as error:
        return Finding(False, f"{base}: {error.strerror}", "needs Linux with /proc")
    taken = []
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as one:
        for name in listed:
            with contextlib.suppress(OSError):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, name.encode())
                taken.append(name)
    allowed = [name for name in tcp.listed("allowed") if name in taken]
    advice = ""
    if tcp.PREFERRED not in taken:
        advice = f"no {tcp.PREFERRED}: modprobe tcp_{tcp.PREFERRED}; say which one a measurement used"
    elif tcp.PREFERRED not in allowed:
        advice = f"for {tcp.PREFERRED} in namespaces, {tcp.how_to_allow(tcp.PREFERRED, allowed)}"
    return Finding(
        bool(taken),
        f"{', '.join(taken)}; in namespaces {', '.join(allowed)}; default {default}",
        advice,
        {"available": taken, "allowed": allowed, "default": default},
    )


# --- time ---------------------------------------------------------------------------------------------------


def clock() -> Finding:
    reads = [monotonic_ns() for _ in range(20_000)]
    step_ns = min(later - earlier for earlier, later in pairwise(reads) if later > earlier)
    plain = _late_ns(SLEEPS, SLEEP_NS)
    priority = raise_priority()
    raised = _late_ns(SLEEPS, SLEEP_NS)
    source = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")
    name = "?"
    with contextlib.suppress(OSError):
        name = source.read_text(encoding="ascii").strip()
    values = {
        "source": name,
        "step_ns": step_ns,
        "late_p50_ms": plain[SLEEPS // 2] / 1e6,
        "late_p99_ms": plain[SLEEPS * 99 // 100] / 1e6,
        "priority": priority,
        "priority_late_p50_ms": raised[SLEEPS // 2] / 1e6,
        "priority_late_p99_ms": raised[SLEEPS * 99 // 100] / 1e6,
    }
    late_ns = raised[SLEEPS * 99 // 100]
    found = (
        f"{name}, steps of {step_ns} ns; {SLEEPS} sleeps of {SLEEP_NS / 1e6:g} ms late by p50 "
        f"{values['late_p50_ms']:.2f} ms, p99 {values['late_p99_ms']:.2f} ms, as the emulator ({priority}) "
        f"{values['priority_late_p50_ms']:.2f} and {values['priority_late_p99_ms']:.2f} ms"
    )
    advice = "" if late_ns <= SOON_NS else "end what else runs here, or let it have real-time priority (root)"
    return Finding(late_ns <= SOON_NS, found, advice, values)


def timers() -> Finding:
    """Without high-resolution timers a sleep lasts until the next tick, 1 to 10 ms later."""
    syscalls.set_timer_slack(1)
    late_ms = _late_ns(SLEEPS, SHORT_SLEEP_NS)[SLEEPS // 2] / 1e6
    found = f"sleeps of {SHORT_SLEEP_NS / 1e6:g} ms are late by {late_ms:.3f} ms (p50)"
    fine = late_ms < 0.5
    return Finding(
        fine,
        f"high resolution: {found}" if fine else found,
        "" if fine else "CONFIG_HIGH_RES_TIMERS, not switched off at boot (highres=off)",
        {"late_p50_ms": late_ms},
    )


def _late_ns(count: int, sleep_ns: int) -> list[int]:
    """How late sleeps end, sorted."""
    late = []
    for _ in range(count):
        due_ns = monotonic_ns() + sleep_ns
        select.select((), (), (), sleep_ns / 1e9)
        late.append(monotonic_ns() - due_ns)
    return sorted(late)


# --- machine and packages -----------------------------------------------------------------------------------


def machine() -> Finding:
    cores = os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cores
    values: dict[str, Any] = {"cores": cores, "usable_cores": usable}
    page = os.sysconf("SC_PAGE_SIZE")
    values["memory_bytes"] = page * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):  # macOS does not say
        values["free_bytes"] = page * os.sysconf("SC_AVPHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        values["quota_cores"] = int(quota) / int(period)
    limit = f", at most {values['quota_cores']:g} of them at a time" if "quota_cores" in values else ""
    free = f", {values['free_bytes'] / 1e9:.1f} GB free" if "free_bytes" in values else ""
    found = f"{usable} of {cores} cores{limit}; {values['memory_bytes'] / 1e9:.1f} GB of memory{free}"
    return Finding(
        True, f"{found}; {os.uname().sysname} {os.uname().release} {os.uname().machine}", "", values
    )


def python() -> Finding:
    version = ".".join(str(part) for part in sys.version_info[:3])
    return Finding(True, f"{version} ({sys.executable})", values={"version": version})


def package(name: str) -> Finding:
    called, extra, purpose = PACKAGES[name]
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        return Finding(False, str(error).splitlines()[0], f"for {purpose}: pip install 'orbitrain[{extra}]'")
    version = str(getattr(module, "__version__", "?"))
    if name == "skyfield":
        version = ".".join(str(part) for part in module.VERSION)
    return Finding(True, f"{called} {version}", values={"version": version})


CHECKS: Final[dict[str, Callable[[], Finding]]] = {
    "python": python,
    "machine": machine,
    "namespaces as root": namespaces_as_root,
    "namespaces without root": namespaces_without_root,
    "tun": tun,
    "netem": netem,
    "tbf": tbf,
    "uml": uml,
    "congestion control": congestion,
    "clock": clock,
    "timers": timers,
}


_EVERYWHERE: Final = ("python", "machine", "clock", "uml")


def main(name: str) -> int:
    if name in PACKAGES:
        found = package(name)
    elif name in _EVERYWHERE or sys.platform.startswith("linux"):
        found = CHECKS[name]()
    else:
        found = Finding(False, f"not on {sys.platform}", "links are emulated on Linux alone")
    print(json.dumps(asdict(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
