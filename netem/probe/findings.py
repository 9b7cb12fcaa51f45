"""What was measured, as numbers to be judged: from links' ledgers and the back end's own account. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final, Literal

from netem.link_state import Link
from netem.probe.estimators import Finding, Losses, Spread, plausible_run
from netem.probe.ledger import LinkLedger, Unjudged

EDGE_MS: Final = 20.0
"""An edge is off, at rate 1, when it is surely further than this from the plan's."""

LOSS_CONFIDENCE: Final = 0.99
"""Of all tests of a run together: with m tests each has 1 - 0.01 / m (Bonferroni), so that many links do not
make a true run look untrue."""

MS: Final = 1e6


@dataclass(frozen=True, slots=True)
class LinkFindings:
    """One link; errors in scenario ms; None where not measured. `delay_p50_ms` is signed."""

    link: Link
    delays: int = 0
    delay_p50_ms: float | None = None
    rate_error: float | None = None
    trains: int = 0
    probes: int = 0
    lost: int = 0
    loss_planned: float = 0.0
    loss_interval: tuple[float, float] = (0.0, 1.0)
    loss: Finding = "unknown"
    burst: float | None = None
    burst_planned: float | None = None
    runs: Finding = "unknown"
    edge_errors_ms: tuple[float, ...] = ()
    edges_unjudged: tuple[tuple[Unjudged, int], ...] = ()
    edges_off: int = 0
    """Of them, those that were surely beyond the bound."""
    other_rule: int = 0
    """Of those, ends that fit the plan by the other in-flight rule, and not by the run's."""
    reordered: int = 0
    down_arrived: int = 0
    waited: int = 0
    set_aside: int = 0

    @property
    def name(self) -> str:
        return " to ".join(self.link)

    @property
    def edge_error_ms(self) -> float | None:
        return max(self.edge_errors_ms, key=abs, default=None)

    def document(self) -> dict[str, object]:
        return {
            "delays": self.delays,
            "delay_p50_ms": self.delay_p50_ms,
            "rate_error": self.rate_error,
            "trains": self.trains,
            "probes": self.probes,
            "lost": self.lost,
            "loss_planned": self.loss_planned,
            "loss_interval": list(self.loss_interval),
            "loss": self.loss,
            "burst": self.burst,
            "burst_planned": self.burst_planned,
            "runs": self.runs,
            "edges": len(self.edge_errors_ms),
            "edges_unjudged": dict(self.edges_unjudged),
            "edge_error_ms": self.edge_error_ms,
            "reordered": self.reordered,
            "down_arrived": self.down_arrived,
            "waited": self.waited,
            "set_aside": self.set_aside,
        }


@dataclass(frozen=True, slots=True)
class BackendAccount:
    """What the back end says of itself; None where it does not. `dropped`: packets that it did not read or
    could not write, beyond what the plan loses; `overflow`: full queues, which netem counts among its losses.
    """

    name: str | None = None
    lateness_ms: float | None = None
    dropped: int | None = None
    overflow: int | None = None
    overflowing: frozenset[str] = frozenset()
    """Links whose queues were full, or may have been, as `source destination`."""
    tampered: tuple[str, ...] = ()
    """Links that did not hold what the back end had set, with what differed; a few of them."""

    @staticmethod
    def of(stats: Mapping[str, Any] | None, before: Mapping[str, Any] | None, rate: float) -> BackendAccount:
        """From the accounts that `python -m netem up --stats` keeps: the latest, and one at the start."""
        if stats is None:
            return BackendAccount()

        def since(*keys: str) -> int | None:
            known = [key for key in keys if isinstance(stats.get(key), int)]
            return sum(stats[key] - (before or {}).get(key, 0) for key in known) if known else None

        lateness = (stats.get("replay") or {}).get("lateness") or {}
        p99_ms = lateness.get("p99_ms") if lateness.get("count") else None
        return BackendAccount(
            name=stats.get("backend"),
            lateness_ms=None if p99_ms is None else p99_ms * rate,
            dropped=since("kernel_drops", "refused"),
            overflow=since("overflow"),
            overflowing=frozenset(
                name
                for name, link in (stats.get("links") or {}).items()
                if link.get("overflow", link.get("dropped"))
            ),
            tampered=tuple(str(line) for line in stats.get("complaints") or ()),
        )


@dataclass(frozen=True, slots=True)
class Measured:
    """A run: `rate` of its clock; delay quantiles are of errors without sign, scenario ms."""

    rate: float
    seconds: float
    links: tuple[LinkFindings, ...] = ()
    delays: int = 0
    delay_ms: tuple[float, float, float] | None = None
    planned_delay_ms: float = 0.0
    account: BackendAccount = field(default_factory=BackendAccount)
    probe_overflowed: int = 0
    """Packets that the probe itself had no room for: with any, losses are not judged."""

    def worst(self, key: Literal["rate_error", "edge_error_ms"]) -> float | None:
        values = [value for link in self.links if (value := getattr(link, key)) is not None]
        return max(values, key=abs, default=None)

    @property
    def edges_unjudged(self) -> dict[Unjudged, int]:
        """How many edges passed without being judged, by the reason."""
        total: dict[Unjudged, int] = {}
        for link in self.links:
            for why, count in link.edges_unjudged:
                total[why] = total.get(why, 0) + count
        return total

    @property
    def reordered(self) -> int:
        return sum(link.reordered for link in self.links)

    @property
    def loss_ok(self) -> bool | None:
        """None: no link's loss is known well enough, and none contradicts the plan."""
        if self.probe_overflowed:
            return None
        findings = {finding for link in self.links for finding in (link.loss, link.runs)}
        if "outside" in findings:
            return False
        return True if "inside" in findings else None


def findings(
    ledgers: Sequence[LinkLedger], rate: float, seconds: float, account: BackendAccount, overflowed: int
) -> Measured:
    """From what was collected of each link that was probed."""
    known = [ledger for ledger in ledgers if ledger.next_number]
    losses = [_losses(ledger, account) for ledger in known]
    tests = max(1, sum(one.tests for one in losses))
    confidence = 1.0 - (1.0 - LOSS_CONFIDENCE) / tests
    everything = Spread()
    planned_ns = 0
    for ledger in known:
        everything.join(ledger.delays)
        planned_ns += ledger.planned_delay_ns
    sizes = [everything.size_ns(share) for share in (0.5, 0.95, 0.99)]
    p50, p95, p99 = ((size or 0) * rate / MS for size in sizes)
    return Measured(
        rate=rate,
        seconds=seconds,
        links=tuple(_findings(*both, rate, confidence) for both in zip(known, losses, strict=True)),
        delays=everything.total,
        delay_ms=(p50, p95, p99) if everything.total else None,
        planned_delay_ms=planned_ns * rate / MS / everything.total if everything.total else 0.0,
        account=account,
        probe_overflowed=overflowed,
    )


def _losses(ledger: LinkLedger, account: BackendAccount) -> Losses:
    """What was seen among other traffic counts unless the back end says that queues overflowed."""
    if " ".join(ledger.link) in account.overflowing:
        return ledger.losses
    return ledger.losses.joined(ledger.losses_in_traffic)


def _findings(ledger: LinkLedger, losses: Losses, rate: float, confidence: float) -> LinkFindings:
    middle = ledger.delays.quantile_ns(0.5)
    edges = []
    unjudged = dict(ledger.edges_unjudged)
    edges_off = other_rule = 0
    bound_ns = EDGE_MS * MS
    for watch, edge, other in ledger.edges:
        if edge.known_to_ns > bound_ns and abs(edge.least_ns) <= bound_ns:
            why: Unjudged = "losses" if plausible_run(watch.loss) else "late"  # the probes do not tell
            unjudged[why] = unjudged.get(why, 0) + 1
            continue
        off = abs(edge.least_ns) > bound_ns
        edges.append(edge.error_ns * rate / MS)
        edges_off += off
        other_rule += off and abs(other.least_ns) <= bound_ns
    return LinkFindings(
        link=ledger.link,
        delays=ledger.delays.total,
        delay_p50_ms=None if middle is None else middle * rate / MS,
        rate_error=median(ledger.rates) if ledger.rates else None,
        trains=len(ledger.rates),
        probes=losses.probes,
        lost=losses.lost,
        loss_planned=losses.expected / losses.probes if losses.probes else 0.0,
        loss_interval=losses.interval(confidence),
        loss=losses.mean(confidence),
        burst=losses.burst,
        burst_planned=losses.planned_burst,
        runs=losses.runs(confidence),
        edge_errors_ms=tuple(edges),
        edges_unjudged=tuple(sorted(unjudged.items())),
        edges_off=edges_off,
        other_rule=other_rule,
        reordered=ledger.reordered,
        down_arrived=ledger.down_arrived,
        waited=ledger.waited,
        set_aside=ledger.set_aside,
    )
