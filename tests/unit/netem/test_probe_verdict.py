"""The verdict, its reason, and the document; and what the user can mend."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from netem.__main__ import main
from netem.link_state import NO_LOSS, Loss
from netem.probe.estimators import Edge, Losses
from netem.probe.findings import BackendAccount, LinkFindings, Measured, findings
from netem.probe.ledger import EdgeWatch, LinkLedger
from netem.probe.traffic import Traffic
from netem.probe.verdict import document, judged, unshaped
from tests.unit.netem.plans import MS, S, contact, plan_of

LINK = LinkFindings(
    ("a", "b"),
    delays=500,
    delay_p50_ms=0.1,
    rate_error=0.004,
    trains=2,
    probes=600,
    loss="inside",
    edge_errors_ms=(0.5, -1.5),
)
TRUE = Measured(
    rate=1.0,
    seconds=12.0,
    links=(LINK, replace(LINK, link=("b", "a"), rate_error=-0.006, edge_errors_ms=())),
    delays=1000,
    delay_ms=(0.1, 0.2, 0.4),
    planned_delay_ms=20.0,
    account=BackendAccount("tun", 0.3, 0, 5),
)


def with_link(**more: Any) -> Measured:
    return replace(TRUE, links=(replace(LINK, **more), *TRUE.links[1:]))


def test_links_within_all_bounds_are_as_flown_at_rate_one_and_as_scaled_above() -> None:
    assert judged(TRUE).word == "as_flown"
    assert judged(TRUE).reason == (
        "delay error p50 0.1 ms, p99 0.4 ms; rate within 0.6%; loss as planned on 2 of 2 links; "
        "edges within 1.5 ms"
    )
    assert judged(replace(TRUE, rate=10.0)).word == "as_scaled"
    assert judged(replace(TRUE, rate=0.5)).word == "as_scaled"


@pytest.mark.parametrize(
    ("measured", "reason"),
    [
        (replace(TRUE, delay_ms=(0.51, 0.6, 0.9)), "delay: half of all packets were 0.51 ms or more off"),
        (replace(TRUE, delay_ms=(0.1, 3, 5.1)), "delay: one packet of 100 was 5.1 ms or more off, at most 5"),
        (with_link(delay_p50_ms=-19.9), "delay: a to b (-19.9 ms)"),
        (with_link(rate_error=-0.05), "rate: a to b (-5.0%)"),
        (
            with_link(loss="outside", lost=7, loss_planned=0.05),
            "loss: a to b (7 of 600, planned 5.00%)",
        ),
        (
            with_link(runs="outside", burst=1.0, burst_planned=4.0),
            "runs of losses: a to b (1 packets long, planned 4)",
        ),
        (
            with_link(edge_errors_ms=(0.5, -60.0), edges_off=1),
            "edges: a to b (1 of 2, -60 ms)",
        ),
        (
            with_link(edge_errors_ms=(-60.0,), edges_off=1, other_rule=1),
            "edges: a to b (1 of 1, -60 ms (what was in flight went the other way: hold, cut))",
        ),
        (with_link(down_arrived=3), "packets crossed while the plan has it down: a to b (3)"),
        (with_link(reordered=2), "order: a to b (2)"),
        (replace(TRUE, account=BackendAccount("tun", 21.0, 0, 0)), "replay: one step of 100 was 21 ms late"),
        (replace(TRUE, account=BackendAccount("tun", 1.0, 9, 0)), "back end: dropped 9 packets"),
    ],
)
def test_anything_outside_its_bound_makes_the_links_untrue_and_says_so(
    measured: Measured, reason: str
) -> None:
    verdict = judged(measured)
    assert verdict.word == "untrue"
    assert verdict.reason.startswith(reason)


def test_all_faults_are_told_and_a_few_links_of_each_named() -> None:
    links = tuple(replace(LINK, link=(f"n{n}", "z"), rate_error=0.1, reordered=1) for n in range(5))
    assert judged(replace(TRUE, links=links)).reason == (
        "rate: n0 to z (+10.0%), n1 to z (+10.0%), n2 to z (+10.0%) and 2 more; "
        "order: n0 to z (1), n1 to z (1), n2 to z (1) and 2 more"
    )


@pytest.mark.parametrize("delays", [0, 19])
def test_a_run_that_was_hardly_measured_is_never_called_true(delays: int) -> None:
    none = Measured(rate=1.0, seconds=1.0, delays=delays, delay_ms=(0.1, 0.1, 0.1) if delays else None)
    assert judged(none).word == "unchecked"
    assert f"measured {delays} times, at least 20 are needed" in judged(none).reason
    # What contradicts the plan does so however little there was.
    assert judged(replace(none, links=(replace(LINK, loss="outside"),))).word == "untrue"


def test_what_is_not_known_is_null_and_named() -> None:
    link = LinkFindings(("a", "b"), delays=500, delay_p50_ms=0.1, probes=30)
    measured = replace(TRUE, links=(link,), account=BackendAccount())
    verdict = judged(measured)
    assert verdict.word == "as_flown"
    assert verdict.reason.endswith("not known: rate, loss, edges, replay lateness")
    told = document(measured, verdict)
    for key in ("backend", "rate_error", "loss_ok", "edge_error_ms", "replay_lateness_ms", "queue_drops"):
        assert told[key] is None


def test_losses_are_not_judged_where_the_probe_itself_had_no_room() -> None:
    measured = replace(with_link(loss="outside"), probe_overflowed=1)
    assert judged(measured).word == "as_flown"
    assert document(measured, judged(measured))["loss_ok"] is None


def test_the_document_has_the_worst_of_all_links_and_counts() -> None:
    assert document(TRUE, judged(TRUE)) == {
        "backend": "tun",
        "verdict": "as_flown",
        "reason": judged(TRUE).reason,
        "delay_error_ms": {"p50": 0.1, "p95": 0.2, "p99": 0.4},
        "rate_error": -0.006,
        "loss_ok": True,
        "edge_error_ms": -1.5,
        "replay_lateness_ms": 0.3,
        "reordered": 0,
        "queue_drops": 5,
        "checked": {
            "delay": 1000,
            "loss": 2,
            "bursts": 0,
            "rate": 4,
            "edges": 2,
            "links": 2,
            "seconds": 12.0,
        },
    }


def test_nothing_is_claimed_of_links_that_were_not_shaped() -> None:
    told = unshaped("--links none")
    assert (told["verdict"], told["reason"]) == ("unshaped", "--links none")
    assert told["delay_error_ms"] is told["loss_ok"] is told["reordered"] is None


@pytest.mark.parametrize(
    ("rate", "p50_ms", "planned_ms", "word"),
    [
        (10.0, 4.9, 20.0, "as_scaled"),  # 0.49 ms of the host
        (10.0, 5.1, 20.0, "untrue"),
        (60.0, 4.9, 10.0, "as_scaled"),
        (60.0, 5.1, 10.0, "untrue"),  # more than half of the delay
        (60.0, 0.4, 0.1, "as_scaled"),
    ],
)
def test_above_rate_one_bounds_scale_but_delays_must_still_show(
    rate: float, p50_ms: float, planned_ms: float, word: str
) -> None:
    links = (replace(LINK, delay_p50_ms=p50_ms),)
    measured = replace(
        TRUE,
        rate=rate,
        links=links,
        delay_ms=(p50_ms, p50_ms, 4.9 * rate),
        planned_delay_ms=planned_ms,
    )
    assert judged(measured).word == word


# --- from ledgers -------------------------------------------------------------------------------------------


def ledger_of(*errors_ms: float, link: tuple[str, str] = ("a", "b")) -> LinkLedger:
    ledger = LinkLedger(link, Traffic(), 0)
    ledger.next_number = max(1, len(errors_ms))
    for error_ms in errors_ms:
        ledger.delays.add(round(error_ms * MS))
        ledger.planned_delay_ns += 2 * MS
    return ledger


def test_errors_are_told_in_scenario_milliseconds() -> None:
    one = ledger_of(*[0.1] * 50)
    other = ledger_of(*[-0.3] * 49, 2.0, link=("b", "a"))
    measured = findings([one, other, LinkLedger(("c", "d"), Traffic(), 0)], 10.0, 5.0, BackendAccount(), 0)
    assert measured.delays == 100
    assert measured.delay_ms == (1.0, 3.0, 3.0)
    assert measured.planned_delay_ms == 20.0
    assert [(link.name, link.delay_p50_ms) for link in measured.links] == [("a to b", 1.0), ("b to a", -3.0)]


def test_a_links_rate_is_the_median_of_its_trains() -> None:
    ledger = ledger_of()
    ledger.rates += [0.2, 0.01, -0.01]
    (link,) = findings([ledger], 1.0, 5.0, BackendAccount(), 0).links
    assert (link.rate_error, link.trains) == (0.01, 3)


def test_edges_that_the_probes_do_not_tell_are_not_counted_but_named() -> None:
    ledger = ledger_of()
    ledger.not_judged("small")
    ledger.not_judged("small")
    watch = EdgeWatch(0, NO_LOSS, up=True, other_rule_ns=0)
    bursts = Loss("gilbert_elliott", 0.1, 20)
    undecided = Edge(12 * MS, 0, 25 * MS)
    ledger.edges.append((EdgeWatch(0, bursts, up=True, other_rule_ns=0), undecided, undecided))
    for error_ms, least_ms, known_ms in ((1.5, 1, 1), (12, 0, 25), (-60, -60, float("inf"))):
        one = Edge(round(error_ms * MS), least_ms * MS, known_ms * MS)
        ledger.edges.append((watch, one, Edge(0, 0, 1)))
    measured = findings([ledger, ledger], 2.0, 5.0, BackendAccount(), 0)
    link = measured.links[0]
    assert link.document()["edges_unjudged"] == {"late": 1, "losses": 1, "small": 2}
    assert measured.edges_unjudged == {"late": 2, "losses": 2, "small": 4}
    assert link.edge_errors_ms == (3.0, -120.0)
    assert (link.edges_off, link.other_rule) == (1, 1)


def test_losses_among_traffic_count_unless_the_back_end_says_that_the_queue_overflowed() -> None:
    ledger = ledger_of()
    for _ in range(10):
        ledger.losses.add(NO_LOSS, lost=False, before=None)
        ledger.losses_in_traffic.add(NO_LOSS, lost=True, before=None)
    for overflowing, finding in ((frozenset[str](), "outside"), (frozenset({"a b"}), "unknown")):
        account = BackendAccount("tun", overflowing=overflowing)
        assert findings([ledger], 1.0, 5.0, account, 0).links[0].loss == finding


def test_many_links_do_not_make_true_losses_look_untrue() -> None:
    def lossy(lost: int) -> LinkLedger:
        ledger = ledger_of()
        for number in range(200):
            ledger.losses.add(Loss("uniform", 0.1), lost=number < lost, before=None)
        return ledger

    # 33 of 200 is outside the 99 % interval of one, but not of the one in fifty that chance sends there.
    assert not Losses().tests
    assert findings([lossy(33)], 1.0, 5.0, BackendAccount(), 0).loss_ok is False
    assert findings([lossy(33), *[lossy(20)] * 49], 1.0, 5.0, BackendAccount(), 0).loss_ok is not False
    assert findings([lossy(60), *[lossy(20)] * 49], 1.0, 5.0, BackendAccount(), 0).loss_ok is False


def test_the_back_ends_account_is_since_the_probe_began_and_in_scenario_time() -> None:
    before = {"kernel_drops": 3, "refused": 1, "overflow": 10}
    stats = {
        "backend": "tun",
        "kernel_drops": 5,
        "refused": 1,
        "overflow": 10,
        "replay": {"lateness": {"count": 4, "p99_ms": 0.5}},
        "links": {"a b": {"overflow": 10}, "b a": {"overflow": 0}},
    }
    assert BackendAccount.of(stats, before, 10.0) == BackendAccount("tun", 5.0, 2, 0, frozenset({"a b"}))
    assert BackendAccount.of(None, None, 1.0) == BackendAccount()
    assert BackendAccount.of({"replay": {"lateness": {"count": 0}}}, None, 1.0) == BackendAccount()


def test_of_netem_the_account_says_what_it_knows_and_no_more() -> None:
    """Losses and full queues are one count there: where anything was dropped a queue may have been full."""
    before = {"kernel_drops": 2}
    stats = {
        "backend": "kernel",
        "kernel_drops": 2,
        "dropped": 4,
        "links": {"a b": {"dropped": 4}, "b a": {"dropped": 0}},
    }
    account = BackendAccount.of(stats, before, 1.0)
    assert account == BackendAccount("kernel", None, 0, None, frozenset({"a b"}))
    assert judged(replace(TRUE, account=account)).word == "as_flown"
    dropping = BackendAccount.of({**stats, "kernel_drops": 5}, before, 1.0)
    assert "back end: dropped 3 packets" in judged(replace(TRUE, account=dropping)).reason


def test_links_that_somebody_has_changed_are_untrue_however_well_they_measure() -> None:
    complaint = "link a b: delay_ns: 9000000, not 20000000"
    account = BackendAccount.of({"backend": "kernel", "tampered": 1, "complaints": [complaint]}, None, 1.0)
    verdict = judged(replace(TRUE, account=account))
    assert verdict.word == "untrue" and verdict.reason == f"back end: not as it was set: {complaint}"


# --- bad input ----------------------------------------------------------------------------------------------


@pytest.fixture
def good(tmp_path: Path) -> list[str]:
    plan, clock = tmp_path / "plan.json", tmp_path / "clock.json"
    plan.write_bytes(plan_of(contact("a", "b", 0, S, (0, 2 * MS, 50_000_000))).to_json())
    clock.write_text(json.dumps({"unix_ns": None, "scenario_ns": 0, "rate": 1.0, "committed_ns": 0}))
    files = ["--plan", str(plan), "--clock", str(clock), "--out", str(tmp_path / "truth.json")]
    return ["probe", *files, "--run-id", "neverstarted"]


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        ([], "node a has no namespace here: start its links first (python -m netem up)"),
        (["--run-id", "a b"], "run id: must be"),
        (["--budget", "0"], "--budget: must be more than 0"),
        (["--seconds", "0"], "--seconds: more than 0"),
        (["--addresses", "10.0.0.0/31"], "--addresses: 10.0.0.0/31 are too few for 2 nodes"),
        (["--plan", "/nowhere/plan.json"], "/nowhere/plan.json: No such file"),
        (["--plan", "/dev/null"], "must be JSON"),
        (["--clock", "/nowhere/clock.json"], "/nowhere/clock.json: not a clock file"),
    ],
)
def test_what_cannot_be_probed_is_refused_in_one_line(
    good: list[str], more: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*good, *more]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("netem: ") and captured.err.count("\n") == 1
    assert complaint in captured.err
