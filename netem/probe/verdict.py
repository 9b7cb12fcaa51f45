"""Whether the links were what the plan says: a verdict with its reason, from measured values. Pure.

Bounds hold at rate 1. At rate r errors are told in scenario milliseconds, r times those of the host, and so
are the bounds: it is the host that is judged. But where half of the planned delay is less than that bound of
the median, that half is the bound: beyond it links would not show their delays at all. Rate and loss have no
scale. The bounds of edges and losses are in `findings`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from netem.probe.findings import LinkFindings, Measured

Word = Literal["as_flown", "as_scaled", "untrue", "unchecked", "unshaped"]

DELAY_P50_MS: Final = 0.5
DELAY_P99_MS: Final = 5.0
RATE_SHARE: Final = 0.03
LATENESS_MS: Final = 20.0

DELAY_SHARE: Final = 0.5
LEAST_DELAYS: Final = 20
"""Delays that must have been measured, of a link to judge it, of a run for any good verdict."""

_NAMED: Final = 3  # links that a reason names of each kind


@dataclass(frozen=True, slots=True)
class Verdict:
    word: Word
    reason: str


def judged(measured: Measured) -> Verdict:
    """`untrue` with everything that was outside its bound, `unchecked` where hardly anything was measured,
    else `as_flown` (rate 1) or `as_scaled`.
    """
    faults = [*_faults_of_delay(measured), *_faults_of_links(measured), *_faults_of_backend(measured)]
    if faults:
        return Verdict("untrue", "; ".join(faults))
    if measured.delay_ms is None or measured.delays < LEAST_DELAYS:
        return Verdict(
            "unchecked",
            f"delay: measured {measured.delays} times, at least {LEAST_DELAYS} are needed to tell",
        )
    said = [f"delay error p50 {measured.delay_ms[0]:.3g} ms, p99 {measured.delay_ms[2]:.3g} ms"]
    rate_error, edge_ms = measured.worst("rate_error"), measured.worst("edge_error_ms")
    if rate_error is not None:
        said.append(f"rate within {abs(rate_error):.1%}")
    if measured.loss_ok:
        sure = sum(link.loss == "inside" for link in measured.links)
        said.append(f"loss as planned on {sure} of {len(measured.links)} links")
    if edge_ms is not None:
        said.append(f"edges within {abs(edge_ms):.3g} ms")
    missing = [
        what
        for what, value in (
            ("rate", rate_error),
            ("loss", measured.loss_ok),
            ("edges", edge_ms),
            ("replay lateness", measured.account.lateness_ms),
        )
        if value is None
    ]
    if missing:
        said.append(f"not known: {', '.join(missing)}")
    return Verdict("as_flown" if measured.rate == 1 else "as_scaled", "; ".join(said))


def unshaped(reason: str) -> dict[str, object]:
    """`links_truth` of a run whose links were not shaped, or not probed: nothing is claimed."""
    return document(Measured(rate=1.0, seconds=0.0), Verdict("unshaped", reason))


def document(measured: Measured, verdict: Verdict) -> dict[str, object]:
    """`links_truth`, in `result.json`. `checked`: delays and trains measured, links whose loss and runs of
    losses are known, edges, links probed, seconds of the host.
    """
    links = measured.links
    delay = measured.delay_ms
    return {
        "backend": measured.account.name,
        "verdict": verdict.word,
        "reason": verdict.reason,
        "delay_error_ms": None if delay is None else dict(zip(("p50", "p95", "p99"), delay, strict=True)),
        "rate_error": measured.worst("rate_error"),
        "loss_ok": measured.loss_ok,
        "edge_error_ms": measured.worst("edge_error_ms"),
        "replay_lateness_ms": measured.account.lateness_ms,
        "reordered": measured.reordered if links else None,
        "queue_drops": measured.account.overflow,
        "checked": {
            "delay": measured.delays,
            "loss": sum(link.loss != "unknown" for link in links),
            "bursts": sum(link.runs != "unknown" for link in links),
            "rate": sum(link.trains for link in links),
            "edges": sum(len(link.edge_errors_ms) for link in links),
            "links": len(links),
            "seconds": round(measured.seconds, 3),
        },
    }


# --- faults -------------------------------------------------------------------------------------------------


def _faults_of_delay(measured: Measured) -> list[str]:
    if measured.delay_ms is None or measured.delays < LEAST_DELAYS:
        return []
    p50_bound, p99_bound = DELAY_P50_MS * measured.rate, DELAY_P99_MS * measured.rate
    if measured.rate > 1:
        p50_bound = min(p50_bound, max(DELAY_P50_MS, DELAY_SHARE * measured.planned_delay_ms))
    p50, _, p99 = measured.delay_ms
    faults = []
    if p50 > p50_bound:
        faults.append(f"delay: half of all packets were {p50:.3g} ms or more off, at most {p50_bound:.3g}")
    if p99 > p99_bound:
        faults.append(f"delay: one packet of 100 was {p99:.3g} ms or more off, at most {p99_bound:.3g}")
    wrong = [
        (link.name, f"{link.delay_p50_ms:+.3g} ms")
        for link in measured.links
        if link.delay_p50_ms is not None
        and link.delays >= LEAST_DELAYS
        and abs(link.delay_p50_ms) > p50_bound
    ]
    return faults + _named("delay", wrong)


def _faults_of_links(measured: Measured) -> list[str]:
    links = measured.links
    faults = _named(
        "rate",
        [
            (link.name, f"{link.rate_error:+.1%}")
            for link in links
            if link.rate_error is not None and abs(link.rate_error) > RATE_SHARE
        ],
    )
    if not measured.probe_overflowed:
        faults += _named(
            "loss",
            [
                (link.name, f"{link.lost} of {link.probes}, planned {link.loss_planned:.2%}")
                for link in links
                if link.loss == "outside"
            ],
        )
        faults += _named(
            "runs of losses",
            [
                (link.name, f"{link.burst or 0:.3g} packets long, planned {link.burst_planned or 0:.3g}")
                for link in links
                if link.runs == "outside"
            ],
        )
    faults += _named(
        "edges",
        [
            (
                link.name,
                f"{link.edges_off} of {len(link.edge_errors_ms)}, {link.edge_error_ms:+.3g} ms{_rule(link)}",
            )
            for link in links
            if link.edges_off
        ],
    )
    faults += _named(
        "packets crossed while the plan has it down",
        [(link.name, str(link.down_arrived)) for link in links if link.down_arrived],
    )
    return faults + _named("order", [(link.name, str(link.reordered)) for link in links if link.reordered])


def _faults_of_backend(measured: Measured) -> list[str]:
    faults = []
    account = measured.account
    bound_ms = LATENESS_MS * measured.rate
    if account.lateness_ms is not None and account.lateness_ms > bound_ms:
        faults.append(
            f"replay: one step of 100 was {account.lateness_ms:.3g} ms late, at most {bound_ms:.3g}"
        )
    if account.dropped:
        faults.append(f"back end: dropped {account.dropped} packets, as it did not keep up")
    if account.tampered:
        faults.append(f"back end: not as it was set: {'; '.join(account.tampered)}")
    return faults


def _rule(link: LinkFindings) -> str:
    return " (what was in flight went the other way: hold, cut)" if link.other_rule else ""


def _named(what: str, wrong: Sequence[tuple[str, str]]) -> list[str]:
    """One line for all links with the same fault, of which a few are named."""
    if not wrong:
        return []
    named = ", ".join(f"{name} ({how})" for name, how in wrong[:_NAMED])
    rest = len(wrong) - _NAMED
    return [f"{what}: {named}" + (f" and {rest} more" if rest > 0 else "")]
