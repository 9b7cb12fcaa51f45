"""What becomes of a model update that a link outage, a slow link or a crash meets: systems side by side.

    .venv/bin/python bench/survive.py [--only NAME,...] [--cases KEY,...] [--jobs N] [--json FILE]
                                      [--logs FOLDER] [--flower ENV] [--nvflare ENV]

Each system's server and client run in network namespaces of their own and reach each other over an emulated
link only (`python -m netem up --links tun`): 16 Mbit/s and 20 ms each way, unless the case says otherwise.
The client has an update of random bytes; from the first bytes of its push on the link the clock runs. An
outage is silent: packets vanish, no connection is reset. It, or a kill -9 of one side with all that it had
started, comes 5 s into the push; what was killed is started again 2 s later by the same command. A daemon
that ends by itself is started again after 5 s, up to five times.

Told of each cell: whether the receiver came to hold the update, byte for byte; after how many seconds; how
many bytes the sender gave the link at L2, beside the update's (TCP/IP and Ethernet headers alone take 4.4 %);
after how many seconds of a link that is up again the receiver had 64 KiB; and the most anonymous memory (sum
of RssAnon of the side's processes, four looks a second) that either side took.

Systems have environments of their own under ~/.cache/orbitrain-bench, made by venv and pip with the versions
pinned in bench/survival, unless they are given. Needs root, /dev/net/tun and `ip`; the clock's case a C
compiler. A single run of every cell: an indication, not a distribution. Exits with 0 also where systems fail,
as that is what is measured.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.survival.course import CASES, Case, Cell, run
from bench.survival.flower import Flower
from bench.survival.nvflare import NvFlare
from bench.survival.orbitrain import Orbitrain
from bench.survival.peer import Peer
from bench.survival.table import table
from netem.namespaces import HostError, check_rights
from netem.tun.device import probe


def systems(options: argparse.Namespace) -> dict[str, Peer]:
    """A further system is a line here and a module in bench/survival."""
    return {
        "orbitrain": Orbitrain(),
        "flower": Flower(False, options.flower),
        "flower-tuned": Flower(True, options.flower),
        "nvflare": NvFlare(False, options.nvflare),
        "nvflare-tuned": NvFlare(True, options.nvflare),
    }


def chosen(text: str, known: Sequence[str], what: str) -> list[str]:
    """The names in a comma-separated list, or `all`. SystemExit."""
    names = list(known) if text == "all" else text.split(",")
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SystemExit(f"{what}: no {', '.join(unknown)}; there are {', '.join(known)}")
    return names


def measured(peer: Peer, case: Case, stop: threading.Event, logs: Path | None) -> Cell:
    begun_s = time.monotonic()
    cell = run(peer, case, stop, logs)
    print(
        f"{peer.name}, {case.title}: {cell.state} {cell.reason} ({time.monotonic() - begun_s:.0f} s)",
        file=sys.stderr,
        flush=True,
    )
    return cell


def main() -> int:
    parser = argparse.ArgumentParser(description="A model update through outages, beside other systems.")
    parser.add_argument("--only", default="orbitrain,flower", help="systems, with commas; all (%(default)s)")
    keys = ", ".join(case.key for case in CASES)
    parser.add_argument("--cases", default="plain", help=f"of {keys}; all, which takes hours (%(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="cells at once (1); more cost each other time")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the cells, also those of an ended run")
    parser.add_argument("--logs", type=Path, metavar="FOLDER", help="keeps the systems' logs there")
    parser.add_argument("--flower", type=Path, metavar="ENV", help="an environment that has flwr")
    parser.add_argument("--nvflare", type=Path, metavar="ENV", help="an environment that has nvflare")
    options = parser.parse_args()
    known = systems(options)
    peers = [known[name] for name in chosen(options.only, list(known), "--only")]
    keys = chosen(options.cases, [case.key for case in CASES], "--cases")
    cases = [case for case in CASES if case.key in keys]
    try:
        check_rights()
        probe()
        if shutil.which("ip") is None:
            raise HostError("no `ip` here (iproute2)")
    except HostError as error:
        print(f"survive: not measured here: {error}")
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that everything is ended
    versions = {}
    for peer in list(peers):
        try:
            versions[peer.name] = peer.prepare()
        except (subprocess.CalledProcessError, OSError) as error:
            print(f"{peer.name}: no environment: {error}", file=sys.stderr)
            peers.remove(peer)
    cells: list[Cell] = []
    stop = threading.Event()
    pool = ThreadPoolExecutor(options.jobs)
    futures = [pool.submit(measured, peer, case, stop, options.logs) for case in cases for peer in peers]
    try:
        for future in as_completed(futures):
            cells.append(future.result())
            if options.json is not None:
                options.json.write_text(json.dumps([asdict(cell) for cell in cells], indent=1) + "\n")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)
        print(table(cells, cases, peers, versions))
    return 130 if len(cells) < len(futures) else 0


if __name__ == "__main__":
    sys.exit(main())
