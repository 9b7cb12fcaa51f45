"""EMS-FL across links of real packets: an upload that is cut, a missed pass, devices that come and go, kills.

They need root or a user namespace. Where neither is to be had: skipped, but failed in CI.
"""

from __future__ import annotations

import hashlib
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from orbitrain.contacts.contact import Contact, Sample
from orbitrain.contacts.plan import ContactPlan, PlanNode
from orbitrain.learning.moe.parts import taken_apart
from orbitrain.learning.moe.updates import merge
from orbitrain.learning.tensors import decode_tensors, encode_tensors
from orbitrain.results import Entry
from orbitrain.runtime.clock import SECOND_NS
from orbitrain.scenario import Scenario, load_scenario
from tests.e2e.lab import Lab, Run, journal_entries, told, tun_or_skip, wait_until

pytestmark = [pytest.mark.full, pytest.mark.timeout(900)]

SATELLITE = "sat-0"
CUT, LATE, GONE, OTHER = "farm-dev-0", "farm-dev-1", "farm-dev-2", "shore-dev-0"
"""Devices: whose upload is cut; that comes late; that leaves; of another cluster, which misses a pass."""

CYCLES = 4
DECAY = 0.5

SCENARIO = f"""
name = "across"
epoch = "2026-01-01T00:00:00Z"
seed = 5
rounds = {CYCLES}
duration_s = 6000
[clock]
rate = 20
[[constellation]]
altitude_km = 550
inclination_degrees = 53
satellites = 1
[[sites]]
name = "coast"
latitude_degrees = 0.0
longitude_degrees = 0.0
[[regions]]
name = "farm"
site = "coast"
devices = 3
[[regions]]
name = "shore"
site = "coast"
devices = 1
[links]
acquisition_s = 2
[compute]
message_s = 2
train_s = 20
pack_s = 5
aggregate_s = 10
survey_s = 20
[protocol]
name = "emsfl"
shared = "gate"
slot_s = 30
rounds_max = 1
wait_s = 60
margin_s = 30
lease_s = 1000
decay = {DECAY}
[task]
task = "orbitrain.learning.moe.domains:Domains"
experts = 4
hidden = 1024
[truth]
plan = "truth.json"
"""

# An upload of two experts has 2 MB: 21 s, but in the pass that is cut 340 s. A wall second is 20 of them.
FAST_BPS, SLOW_BPS = 800_000, 50_000

PASSES = [(500, 900), (1020, 1260), (1300, 1600), (1640, 2120), (2200, 2480), (2560, 2840)]
PASSES += [(3700 + 800 * n, 4000 + 800 * n) for n in range(3)]
"""Seconds in which all can talk, as it is believed: more and longer than needed, should a machine be slow.

In the first one trial samples are counted. Without LATE's, experts are given out `lease_s` after the start.
Those needed are the first six; by the next one the run has long been gathered.
"""

SHORT, KILLED = 2, 3
"""The pass that is cut for one device and missed by another, and that in which the satellite is killed."""

CUT_S = 1480
"""The true end for CUT, after 180 s of a slow link: early enough to be noticed before the believed end."""

Windows = Mapping[str, Sequence[tuple[int, int, int]]]
"""By device: from and to, in seconds, and the rate up."""

BELIEVED: Windows = {device: [(*one, FAST_BPS) for one in PASSES] for device in (CUT, LATE, GONE, OTHER)}
TRUE: Windows = {
    **BELIEVED,
    CUT: [
        *BELIEVED[CUT][:SHORT],
        (PASSES[SHORT][0], CUT_S, SLOW_BPS),
        *BELIEVED[CUT][SHORT + 1 :],
    ],
    OTHER: [*BELIEVED[OTHER][:SHORT], *BELIEVED[OTHER][SHORT + 1 :]],
}


@pytest.fixture(scope="module", autouse=True)
def _links_can_be_made() -> None:
    tun_or_skip()


def plan_of(scenario: Scenario, windows: Windows) -> ContactPlan:
    contacts = []
    for device, spans in windows.items():
        for start_s, end_s, up_bps in spans:
            start_ns, end_ns = start_s * SECOND_NS, end_s * SECOND_NS
            for ends, rate_bps in (((SATELLITE, device), FAST_BPS), ((device, SATELLITE), up_bps)):
                samples = (Sample(start_ns, 40_000_000, rate_bps, 0.0, 1.0),)
                contacts.append(Contact(*ends, "service", start_ns, end_ns, samples))
    return ContactPlan(
        version=1,
        scenario_sha256=scenario.sha256,
        epoch="2026-01-01T00:00:00Z",
        duration_ns=scenario.duration_ns,
        nodes=tuple(PlanNode(name, kind) for name, kind in scenario.nodes()),
        contacts=tuple(contacts),
    )


def across(lab: Lab) -> Run:
    """The run, not started yet."""
    file = lab.folder / "across.toml"
    file.write_text(SCENARIO, encoding="utf-8")
    scenario = load_scenario(file)
    for name, windows in (("believed", BELIEVED), ("truth", TRUE)):
        (lab.folder / f"{name}.json").write_bytes(plan_of(scenario, windows).to_json())
    options = ("--quiet", "--no-baseline", "--no-probe", "--links", "tun", "--plan")
    return Run(lab, file, lab.folder / "out", (*options, lab.folder / "believed.json"))


# --------------------------------------------------------------------------------- what is done to it


def kill(run: Run, name: str) -> int:
    """SIGKILL to a node; returns what it was."""
    pid = wait_until(f"{name} runs", lambda: run.pid(name))
    os.kill(pid, signal.SIGKILL)
    return pid


def away(run: Run, name: str) -> int:
    """Kill a node, and let the process that takes its place come no further than its beginning."""
    before = kill(run, name)
    pid = wait_until(f"{name} is begun again", lambda: p if (p := run.pid(name)) != before else None)
    os.kill(pid, signal.SIGSTOP)
    return pid


def wait_told(run: Run, name: str, kind: str, from_s: float = 0.0, **fields: object) -> Entry:
    """Wait until a node's journal has a report of a kind, not before a scenario time."""

    def found() -> Entry | None:
        assert run.program is not None and run.program.code is None, run.program and run.program.complained
        reports = told(journal_entries(name, run.state(name)), kind, **fields)
        return next((one for one in reports if one.event.t_ns >= from_s * SECOND_NS), None)

    return wait_until(f"{name} reports {kind} {fields or ''} from {from_s:g} s on", found, 240)


@contextmanager
def hoarded(run: Run) -> Iterator[Callable[[str], Path]]:
    """Every object that any node has had meanwhile, by its digest: nodes keep them while they need them."""
    folder = run.lab.folder / "hoard"
    folder.mkdir()
    over = threading.Event()

    def hoard() -> None:
        while not over.wait(0.05):
            for path in run.out.glob("nodes/*/blobs/objects/??/*"):
                with suppress(OSError):  # here already, or gone
                    os.link(path, folder / (path.parent.name + path.name))

    thread = threading.Thread(target=hoard)
    thread.start()
    try:
        yield folder.joinpath
    finally:
        over.set()
        thread.join()


# ------------------------------------------------------------------------------------ what must hold of it


def check_updates(entries: Sequence[Entry]) -> None:
    """Each that was sent has ended, once; each part of one was taken at most once."""
    sent = Counter((entry.node, entry.event.fields["key"]) for entry in told(entries, "update_sent"))
    ended = Counter((entry.node, entry.event.fields["key"]) for entry in told(entries, "update_ended"))
    assert set(sent.values()) == {1}
    assert ended == sent
    parts = {
        (entry.node, *part) for entry in told(entries, "update_sent") for part in entry.event.fields["items"]
    }
    names = ("device", "item", "base_version", "digest")
    taken = [tuple(entry.event.fields[name] for name in names) for entry in told(entries, "update_accepted")]
    assert parts.issuperset(taken)
    assert set(Counter(one[:3] for one in taken).values()) == {1}, taken


def check_commits(run: Run, object_of: Callable[[str], Path]) -> dict[str, str]:
    """Each is one version more, of updates that were taken and in no other; and merged anew here.

    Returns the last digests by item.
    """
    files = [run.out / f"{item}.safetensors" for item in ("backbone", "gate")]
    files += run.out.glob("expert-*.safetensors")
    digests = {file.stem.replace("-", "/"): sha256(file.read_bytes()) for file in files}
    versions = dict.fromkeys(digests, 0)
    waiting: dict[tuple[str, str, int], str] = {}
    last_ns: dict[str, int] = {}
    for n, entry in enumerate(journal_entries(SATELLITE, run.state(SATELLITE))):
        fields = entry.event.fields
        if entry.event.kind == "update_accepted":
            waiting[fields["device"], fields["item"], fields["base_version"]] = fields["digest"]
            assert fields["staleness"] == versions[fields["item"]] - fields["base_version"]
        if not entry.event.kind.endswith("_committed"):
            continue
        item, parts = fields["item"], fields["contributors"]
        assert fields["version"] == versions[item] + 1, fields
        inputs = {f"base/{item}": object_of(digests[item])}
        for k, part in enumerate(parts):
            digest = waiting.pop((part["device"], item, versions[item] - part["staleness"]))
            inputs[f"update/{item}/{k}"] = object_of(digest)
        total = sum(part["samples"] for part in parts)
        weights = [part["samples"] * DECAY ** part["staleness"] / total for part in parts]
        out = run.lab.folder / f"merged-{n}"
        out.mkdir()
        how = {"weights": weights, "clips": [None] * len(parts), "rank": None}
        merged = merge({"items": {item: how}}, inputs, out)
        digests[item] = sha256(merged.outputs[item].read_bytes())
        assert digests[item] == fields["digest"], fields
        versions[item] += 1
        last_ns[item] = entry.event.t_ns
    # What was taken of an expert is in a commit, unless none came after it.
    for device, item, base in waiting:
        if item.startswith("expert/"):
            (late,) = told(run.journals(), "update_accepted", device=device, item=item, base_version=base)
            assert late.event.t_ns >= last_ns[item], late
    return digests


def check_model(run: Run, digests: Mapping[str, str]) -> None:
    """The model of the result is of these items."""
    model = taken_apart(decode_tensors((run.out / "models" / "model.safetensors").read_bytes()))
    assert {item: sha256(encode_tensors(tensors)) for item, tensors in model.items().items()} == digests


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def contributors(entries: Sequence[Entry], from_ns: int = 0) -> set[str]:
    """Devices in commits of experts, from a time on."""
    commits = [entry for entry in told(entries, "expert_committed") if entry.event.t_ns >= from_ns]
    return {part["device"] for entry in commits for part in entry.event.fields["contributors"]}


def check_cut(entries: Sequence[Entry]) -> None:
    """CUT's first upload went up in two passes, and was then of a version before the last."""
    mine = [entry for entry in entries if entry.node == CUT]
    uploads = [
        entry for entry in told(mine, "update_sent") if entry.event.fields["key"].startswith("upload/")
    ]
    key = uploads[0].event.fields["key"]
    cut = told(mine, "transfer_cut", key=key, peer=SATELLITE)[0].event.t_ns / SECOND_NS
    assert CUT_S <= cut < PASSES[KILLED][0]
    experts = uploads[0].event.fields["items"]
    assert experts and all(base == 0 for _, base, _ in experts)
    for item, base, digest in experts:
        (taken,) = told(entries, "update_accepted", device=CUT, item=item, base_version=base, digest=digest)
        assert taken.event.fields["staleness"] >= 1
        assert taken.event.t_ns >= PASSES[KILLED][0] * SECOND_NS
    (end,) = told(mine, "update_ended", key=key)
    assert end.event.fields["fate"] == "delivered"


def test_experts_come_through_cuts_kills_and_devices_that_come_and_go(lab: Lab) -> None:
    run = across(lab)
    with hoarded(run) as object_of:
        run.start()
        wait_until("the clock runs", run.committed_ns, 240)
        late = away(run, LATE)
        split = wait_told(run, SATELLITE, "split")
        assert split.event.fields["reason"] == f"{LATE} did not send counts"
        for device in (CUT, GONE, OTHER):
            wait_told(run, device, "model_adopted")
        os.kill(late, signal.SIGCONT)
        # In the pass after the one that is cut, as soon as something has been taken.
        wait_told(run, SATELLITE, "update_accepted", PASSES[KILLED][0])
        before = kill(run, SATELLITE)
        wait_until("the satellite is back", lambda: run.pid(SATELLITE) not in (None, before))
        adopted = wait_told(run, GONE, "model_adopted", PASSES[KILLED][0])
        left_s = adopted.event.t_ns / SECOND_NS
        left = wait_told(run, GONE, "update_ended", left_s)  # of the gate; what else it has stays with it
        gone = away(run, GONE)
        # Again, as soon as there is a commit of which nobody has heard.
        wait_told(run, SATELLITE, "expert_committed", left_s, cluster="farm")
        kill(run, SATELLITE)
        wait_told(run, SATELLITE, "finished")
        os.kill(gone, signal.SIGCONT)  # to be gathered with the others
        result = run.finish()
    entries = run.journals()
    check_updates(entries)
    check_model(run, check_commits(run, object_of))
    check_cut(entries)
    # Missed, by either side; and the experts of those who missed it are as they were.
    start_ns = PASSES[SHORT][0] * SECOND_NS
    missed = told(entries, "contact_missed", start_ns=start_ns)
    assert sorted((entry.node, entry.event.fields["peer"]) for entry in missed) == [
        (SATELLITE, OTHER),
        (OTHER, SATELLITE),
    ]
    # Late, and in commits since; gone, and in none since.
    (joined,) = told(entries, "member_joined", device=LATE)
    assert joined.event.t_ns > split.event.t_ns
    assert contributors(entries) == {CUT, LATE, GONE, OTHER}
    assert {CUT, LATE, OTHER} <= contributors(entries, left.event.t_ns)
    taken = told(entries, "update_accepted", device=GONE)
    assert all(entry.event.t_ns <= left.event.t_ns for entry in taken)
    assert (result["restarts"], result["links_truth"]["backend"]) == (4, "tun")
    assert min(result["rounds"].values()) == CYCLES
