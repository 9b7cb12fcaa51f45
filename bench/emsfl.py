"""EMS-FL beside its baselines in virtual time: what each takes to come to the same accuracy.

    .venv/bin/python bench/emsfl.py [--cycles N] [--seeds N,...] [--rates X,...] [--cases NAME,...]
                                    [--json FILE]

The scenario is deploy/scenarios/emsfl-demo.toml (one satellite, three clusters of two devices), made longer;
training is real, links and durations are modelled as in `orbitrain sim`. By each protocol:

- EMS-FL, Algorithm 3: masked, gate frozen; ten rounds from contact to contact at most (`rounds_max`);
- synchronous, the paper's baseline: the connected cluster trains experts and gate, one round a contact;
- FedAvg: the same with ten rounds a contact.

A round is the task's ten steps of descent on batches. The rules, which were fixed before the first table:

1. The baseline's step size for the targets is that of the highest accuracy at the end (mean over seeds; the
   end is the mean of its models of the last cycle).
2. Targets of a seed are the initial accuracy plus 50 % and 90 % of that baseline's gain at the end. They are
   the same for all protocols of the seed.
3. Every protocol, the baseline too, is shown with the step size that comes to the second target in the
   fewest cycles (mean over seeds; what does not get there counts as one cycle more than there are; among
   equals, the fewest to the first target, then the smaller step).

A target is reached by the first model put together that is as accurate. By then: `cycles`, passes that have
begun since the scenario's start, those before the split included, by the number of clusters; hours of the
scenario; of each device in the mean `announced` kB, the files of its updates, `up` kB, what it moved on its
links, and declared seconds of training in contact. Means are over the seeds that reached it. Two cases:
`specialised`, and `unspecialised`, a warm-up after which no expert and no gate knows a domain, so that
nothing is gained by splitting.

One worker, one run at a time: with three seeds and both cases some 20 minutes, by default a sixth of that.
`--json` keeps runs, so that a second call only prints.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.experts.course import CASES, PROTOCOLS, Trial, course
from bench.experts.table import table
from orbitrain.runtime.compute import BlockingCompute
from orbitrain.runtime.engine import WorkerEngine
from orbitrain.transport.store.blobs import BlobStore

CYCLE_S = 6_202
"""From a cluster's pass to its next: the orbit, seen from a turning Earth."""


def main() -> int:
    parser = argparse.ArgumentParser(description="EMS-FL and its baselines to the same accuracy.")
    parser.add_argument("--cycles", type=int, default=20, help="of the satellite (%(default)s)")
    parser.add_argument("--seeds", default="101", help="(%(default)s)")
    parser.add_argument("--rates", default="0.03,0.1,0.3", help="step sizes of experts (%(default)s)")
    parser.add_argument("--cases", default="specialised", help=f"of {', '.join(CASES)} (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keeps the runs, and takes those it has")
    options = parser.parse_args()
    seeds = [int(text) for text in options.seeds.split(",")]
    rates = [float(text) for text in options.rates.split(",")]
    cases = options.cases.split(",")
    if unknown := sorted(set(cases) - set(CASES)):
        parser.error(f"--cases: no {', '.join(unknown)}; there are {', '.join(CASES)}")
    kept = json.loads(options.json.read_text()) if options.json and options.json.exists() else {}
    trials = [
        Trial(case, protocol, rate, seed)
        for case in cases
        for seed in seeds
        for rate in rates
        for protocol in PROTOCOLS
    ]
    found = {}
    with tempfile.TemporaryDirectory(prefix="orbitrain-") as folder, BlockingCompute() as compute:
        blobs = BlobStore(Path(folder))
        engine = WorkerEngine(compute, blobs)
        for trial in trials:
            key = f"{options.cycles} cycles {trial.key}"
            if key not in kept:
                begun_s = time.monotonic()
                kept[key] = course(trial, options.cycles * CYCLE_S, engine)
                print(f"{trial.key}: {time.monotonic() - begun_s:.0f} s", file=sys.stderr, flush=True)
                if options.json is not None:
                    options.json.write_text(json.dumps(kept) + "\n")
            found[trial] = kept[key]
        blobs.close()
    for case in cases:
        print(table(case, found, rates, seeds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
