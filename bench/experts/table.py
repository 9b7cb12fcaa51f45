"""From runs to the tables of docs/emsfl.md, by the rules of bench/emsfl.py."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Final

from bench.experts.course import PROTOCOLS, Trial

Run = Mapping[str, Any]

SHARES: Final = (0.5, 0.9)
"""Of the baseline's gain."""

BASELINE: Final = "synchronous"


@dataclass(frozen=True, slots=True)
class Cost:
    """What a run took to come to a target; of each device in the mean, but for time."""

    cycles: float
    hours: float
    announced_kb: float
    up_kb: float
    contact_s: float


@dataclass(frozen=True, slots=True)
class Field:
    """All runs of one case."""

    case: str
    runs: Mapping[Trial, Run]
    rates: Sequence[float]
    seeds: Sequence[int]

    def of(self, protocol: str, rate: float) -> list[Run]:
        return [self.runs[Trial(self.case, protocol, rate, seed)] for seed in self.seeds]

    def targets(self) -> list[list[float]]:
        """By seed."""
        rate = max(self.rates, key=lambda one: fmean(at_end(run) for run in self.of(BASELINE, one)))
        return [
            [run["initial"] + share * (at_end(run) - run["initial"]) for share in SHARES]
            for run in self.of(BASELINE, rate)
        ]

    def costs(self, protocol: str, rate: float, number: int) -> list[Cost | None]:
        """To target `number`, by seed."""
        pairs = zip(self.of(protocol, rate), self.targets(), strict=True)
        return [cost(run, targets[number]) for run, targets in pairs]

    def best(self, protocol: str) -> float:
        """The step size that the protocol is shown with."""

        def rank(rate: float) -> tuple[float, ...]:
            slow = len(self.of(protocol, rate)[0]["passes"]) / self.of(protocol, rate)[0]["clusters"] + 1
            means = [
                fmean(slow if one is None else one.cycles for one in self.costs(protocol, rate, number))
                for number in reversed(range(len(SHARES)))
            ]
            return *means, rate

        return min(self.rates, key=rank)


def at_end(run: Run) -> float:
    """Accuracy, mean of the models of the last cycle."""
    return fmean(accuracy for _, accuracy in run["models"][-run["clusters"] :])


def cost(run: Run, target: float) -> Cost | None:
    """None for a target that is not reached."""
    reached = [t_s for t_s, accuracy in run["models"] if accuracy >= target]
    if not reached:
        return None
    by_s, devices = reached[0], run["devices"]

    def total(name: str) -> float:
        return sum(row[1] for row in run[name] if row[0] <= by_s) / devices

    contact_s = sum(row[1] for row in run["trained"] if row[2] and row[0] <= by_s) / devices
    begun = bisect_right(run["passes"], by_s)
    return Cost(
        begun / run["clusters"], by_s / 3600, total("announced") / 1000, total("moved") / 1000, contact_s
    )


def table(case: str, runs: Mapping[Trial, Run], rates: Sequence[float], seeds: Sequence[int]) -> str:
    """What the bench prints of a case, in Markdown."""
    field = Field(case, runs, rates, seeds)
    told = [*_gamma(field), *_bytes(field), *_moved(field)]
    lines = [f"**{case}**. {_targets(field)}", "", *_costs(field), "", *_grid(field), ""]
    return "\n".join([*lines, *(f"- {line}" for line in told), ""])


def _targets(field: Field) -> str:
    initial = [run["initial"] for run in field.of(BASELINE, field.rates[0])]
    by_seed = (
        f"{seed}: {100 * begin:.1f} to {' and '.join(f'{100 * one:.1f} %' for one in targets)}"
        for seed, begin, targets in zip(field.seeds, initial, field.targets(), strict=True)
    )
    return f"Targets by seed: {'; '.join(by_seed)}."


def _costs(field: Field) -> list[str]:
    lines = [
        "| target | protocol | step | cycles (by seed) | hours | announced kB | up kB | contact s | end |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for number, share in enumerate(SHARES):
        for protocol in PROTOCOLS:
            rate = field.best(protocol)
            costs = field.costs(protocol, rate, number)
            got = [one for one in costs if one is not None]
            end = fmean(at_end(run) for run in field.of(protocol, rate))
            by_seed = ", ".join("never" if one is None else f"{one.cycles:.1f}" for one in costs)
            cells = ["-"] * 5
            if got:
                cells = [
                    f"{fmean(one.cycles for one in got):.1f}",
                    f"{fmean(one.hours for one in got):.1f}",
                    f"{fmean(one.announced_kb for one in got):,.0f}",
                    f"{fmean(one.up_kb for one in got):,.0f}",
                    f"{fmean(one.contact_s for one in got):,.0f}",
                ]
            cells[0] += f" ({by_seed})"
            lines.append(f"| {share:.0%} | {protocol} | {rate:g} | {' | '.join(cells)} | {100 * end:.1f} % |")
    return lines


def _grid(field: Field) -> list[str]:
    """Mean cycles to both targets with every step size, and accuracy at the end."""
    lines = [
        f"| cycles to 50 % / 90 %; end | {' | '.join(f'step {rate:g}' for rate in field.rates)} |",
        "| --- |" + " --- |" * len(field.rates),
    ]
    for protocol in PROTOCOLS:
        cells = []
        for rate in field.rates:
            shown = [_mean_cycles(field, protocol, rate, number) for number in range(len(SHARES))]
            end = fmean(at_end(run) for run in field.of(protocol, rate))
            cells.append(f"{' / '.join(shown)}; {100 * end:.1f} %")
        lines.append(f"| {protocol} | {' | '.join(cells)} |")
    return lines


def _mean_cycles(field: Field, protocol: str, rate: float, number: int) -> str:
    costs = field.costs(protocol, rate, number)
    got = [one.cycles for one in costs if one is not None]
    if not got:
        return "never"
    missed = f" ({len(got)} of {len(costs)})" if len(got) < len(costs) else ""
    return f"{fmean(got):.1f}{missed}"


def _gamma(field: Field) -> list[str]:
    """Predicted and measured share of cycles that EMS-FL saves over the baseline."""
    gammas = [run["gamma"]["mean"] for run in field.of("EMS-FL", field.rates[0])]
    predicted = [run["gamma"]["predicted_reduction"] for run in field.of("EMS-FL", field.rates[0])]
    pairs = [("best steps", field.best("EMS-FL"), field.best(BASELINE))]
    pairs += [(f"both {rate:g}", rate, rate) for rate in field.rates]
    measured = []
    for name, mine, theirs in pairs:
        saved = [_saved(field, mine, theirs, number) for number in range(len(SHARES))]
        measured.append(f"{name} {' / '.join(saved)}")
    return [
        f"gamma by seed {', '.join(f'{one:.2f}' for one in gammas)};"
        f" predicted reduction of cycles 1 - 1/gamma {', '.join(f'{one:.0%}' for one in predicted)};"
        f" measured, EMS-FL to the baseline, to both targets: {'; '.join(measured)}."
    ]


def _saved(field: Field, mine: float, theirs: float, number: int) -> str:
    """`-` where a run of either did not come to the target."""
    means = []
    for protocol, rate in (("EMS-FL", mine), (BASELINE, theirs)):
        got = [one.cycles for one in field.costs(protocol, rate, number) if one is not None]
        if len(got) < len(field.seeds):
            return "-"
        means.append(fmean(got))
    return f"{round(1 - means[0] / means[1], 2) + 0.0:.0%}"


def _bytes(field: Field) -> list[str]:
    """Uplink of a device and upload over whole runs with the step sizes shown; tensor bytes loaded."""
    every = {protocol: field.of(protocol, field.best(protocol)) for protocol in PROTOCOLS}
    lines = []
    sizes = {}
    for protocol, runs in every.items():
        uploads = sum(len(run["announced"]) for run in runs)
        announced = sum(row[1] for run in runs for row in run["announced"]) / uploads
        moved = sum(row[1] for run in runs for row in run["moved"]) / uploads
        again = sum(run["repeated"][0] for run in runs) / sum(run["repeated"][1] for run in runs)
        loaded = max(run["loaded_bytes"] for run in runs)
        sizes[protocol] = announced, moved, loaded
        lines.append(
            f"{protocol}: an upload announces {announced:,.0f} B and moves {moved:,.0f} B up;"
            f" {again:.0%} of its updates are the very object of one before; loaded {loaded:,} B."
        )
    mine, theirs = sizes["EMS-FL"], sizes[BASELINE]
    first = every["EMS-FL"][0]
    experts = first["experts"]
    owned = sorted(
        {owners.count(name) for run in every["EMS-FL"] for owners in run["owned"] for name in owners}
    )
    law = (experts - owned[-1]) * 2 * first["expert_bytes"]
    return [
        *lines,
        f"EMS-FL over {BASELINE}: announced {mine[0] / theirs[0]:.3f}, up {mine[1] / theirs[1]:.3f};"
        f" N_k/N is {' or '.join(f'{count / experts:.3f}' for count in owned)}.",
        f"Loaded bytes less: {theirs[2] - mine[2]:,}; (N - N_k)(expert + its gradient) = {law:,};"
        f" ratio {(theirs[2] - mine[2]) / law:.3f}.",
    ]


def _moved(field: Field) -> list[str]:
    """Runs in which experts were given out again: a cluster had committed nothing for long."""
    found = [
        f"{trial.rate:g}, seed {trial.seed}"
        for trial, run in field.runs.items()
        if trial.case == field.case and len(run["owned"]) > 1
    ]
    return [f"Runs of EMS-FL in which experts changed owners, by step: {'; '.join(found) or 'none'}."]
