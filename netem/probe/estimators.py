"""From what probes saw to numbers: binomial tests, losses and their runs, spread, rate, edges. Pure.

Times are host ns.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, exp, inf, lgamma, log, log1p
from typing import Final, Literal

from netem.link_state import Loss

Finding = Literal["inside", "outside", "unknown"]
"""Of a test: the plan is plausible, it is not, or the data cannot tell it from something else."""

RESOLUTION: Final = 0.05
"""A link's loss is known when a loss this much higher, or twice as high, is ruled out."""

EDGE_CHANCE: Final = 0.001
"""A run of planned losses less likely than this is taken for the link being down."""

_FINE_NS: Final = 10_000
_FINE_BELOW_NS: Final = 10_000_000


# --- binomial -----------------------------------------------------------------------------------------------


def incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function I_x(a, b), a and b > 0.

    By the continued fraction of DLMF 8.17.22, evaluated by Lentz's method, which converges fast for x < (a +
    1) / (a + b + 2); beyond that by I_x(a, b) = 1 - I_1-x(b, a) (8.17.4).
    """
    if x <= 0:
        return 0.0
    if x >= 1:
        return 1.0
    if x > (a + 1) / (a + b + 2):
        return 1.0 - incomplete_beta(b, a, 1.0 - x)
    front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x)) / a
    tiny = 1e-300
    upper, lower = 1.0, 0.0
    value = 1.0
    for step in range(10_000):
        half = step // 2
        if step == 0:
            term = 1.0
        elif step % 2 == 0:
            term = half * (b - half) * x / ((a + 2 * half - 1) * (a + 2 * half))
        else:
            term = -(a + half) * (a + b + half) * x / ((a + 2 * half) * (a + 2 * half + 1))
        lower = 1.0 / ((1.0 + term * lower) or tiny)
        upper = (1.0 + term / upper) or tiny
        factor = upper * lower
        value = value * factor if step else lower
        if step and abs(factor - 1.0) < 1e-14:
            break
    return min(1.0, front * value)


def tails(k: float, n: float, p: float) -> tuple[float, float]:
    """(P(X <= k), P(X >= k)) of a binomial X of n trials; by the beta function also for k and n not whole."""
    if p <= 0:
        return 1.0, 1.0 if k <= 0 else 0.0
    if p >= 1:
        return (1.0 if k >= n else 0.0), 1.0
    at_most = 1.0 if k >= n else incomplete_beta(n - k, k + 1, 1.0 - p)
    at_least = 1.0 if k <= 0 else incomplete_beta(k, n - k + 1, p)
    return at_most, at_least


def inside(k: float, n: float, p: float, confidence: float = 0.99) -> bool:
    """Whether p lies in `binomial_interval(k, n, confidence)`."""
    return min(tails(k, n, p)) >= (1.0 - confidence) / 2


def binomial_interval(k: float, n: float, confidence: float = 0.99) -> tuple[float, float]:
    """Exact interval for the chance of k of n (C. J. Clopper and E. S. Pearson, Biometrika 26, 1934)."""
    if n <= 0:
        return 0.0, 1.0
    share = (1.0 - confidence) / 2

    def solved(which: int) -> float:
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            # P(X <= k) falls with p, P(X >= k) grows with it.
            if (tails(k, n, middle)[which] < share) == bool(which):
                low = middle
            else:
                high = middle
        return (low + high) / 2

    return (0.0 if k <= 0 else solved(1)), (1.0 if k >= n else solved(0))


def found(k: float, n: float, p: float, other: float, confidence: float) -> Finding:
    """Whether k of n fit the chance p, and if so, whether they rule out the chance `other`."""
    if n <= 0:
        return "unknown"
    if not inside(k, n, p, confidence):
        return "outside"
    return "unknown" if inside(k, n, other, confidence) else "inside"


# --- losses -------------------------------------------------------------------------------------------------


def chain(loss: Loss) -> tuple[float, float]:
    """(P(lost to not lost), independent trials that one packet of many is worth) of a link's loss.

    Successive outcomes of Gilbert's chain correlate by r = 1 - P(good to bad) - P(bad to good), so that the
    mean of n has the variance of n (1 - r) / (1 + r) independent ones; at most n are counted.
    """
    if loss.kind != "gilbert_elliott":
        return 1.0 - loss.mean, 1.0
    to_bad, to_good = loss.transitions()
    r = max(0.0, 1.0 - to_bad - to_good)
    return to_good, (1.0 - r) / (1.0 + r)


@dataclass(slots=True)
class Losses:
    """Outcomes of one link's probes against the plan's loss at each.

    The mean: `lost` of `probes`, of which the plan expects `expected`; they are worth `worth` independent
    trials. Where the planned loss changes, the mean of the plan's is taken: the number lost then varies less
    than a binomial (W. Hoeffding, Annals of Mathematical Statistics 27, 1956), so that the test is careful.

    Runs: a chain's packet after a lost one arrives with a fixed chance, 1 / burst, whatever was before. So
    of `after` packets that came directly after a lost one, those that arrived, `ended`, are exactly binomial.
    """

    probes: int = 0
    lost: int = 0
    expected: float = 0.0
    worth: float = 0.0
    after: int = 0
    ended: int = 0
    expected_ended: float = 0.0

    def add(self, loss: Loss, *, lost: bool, before: Loss | None) -> None:
        """`before`: the planned loss of the packet directly before, where that was lost; else None."""
        to_good, worth = chain(loss)
        self.probes += 1
        self.lost += lost
        self.expected += loss.mean
        self.worth += worth
        if before is not None:
            self.after += 1
            self.ended += not lost
            self.expected_ended += chain(before)[0]

    @property
    def tests(self) -> int:
        """Tests in which chance could make a true link look untrue."""
        means = 0 < self.expected < self.probes
        runs = 0 < self.expected_ended < self.after
        return int(means) + int(runs)

    def mean(self, confidence: float) -> Finding:
        if not self.probes:
            return "unknown"
        p = self.expected / self.probes
        apart = max(RESOLUTION, min(p, 1.0 - p))
        scale = self.worth / self.probes
        return found(
            self.lost * scale, self.worth, p, p + apart if p < 0.5 else p - apart, confidence=confidence
        )

    def runs(self, confidence: float) -> Finding:
        """Told apart from runs twice as long. Of a link that should lose nothing or all: unknown."""
        if not self.after or not 0 < self.expected < self.probes:
            return "unknown"
        to_good = self.expected_ended / self.after
        return found(self.ended, self.after, to_good, to_good / 2, confidence=confidence)

    @property
    def burst(self) -> float | None:
        """Mean run of losses seen, in packets."""
        return self.after / self.ended if self.ended else None

    @property
    def planned_burst(self) -> float | None:
        return self.after / self.expected_ended if self.expected_ended else None


def plausible_run(loss: Loss) -> int:
    """The longest run of planned losses at a given place that is not too unlikely (`EDGE_CHANCE`)."""
    if loss.mean < EDGE_CHANCE:
        return 0
    going_on = 1.0 - chain(loss)[0]
    if going_on >= 1:
        return 1 << 30
    if going_on <= 0:
        return 1
    return 1 + int(log(EDGE_CHANCE / loss.mean) / log(going_on))


# --- delays -------------------------------------------------------------------------------------------------


class Spread:
    """Signed values in ns, rounded to 10 us (three digits from 10 ms on): memory by how they differ."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.total = 0

    def add(self, value_ns: int) -> None:
        if abs(value_ns) < _FINE_BELOW_NS:
            value_ns = round(value_ns / _FINE_NS) * _FINE_NS
        else:
            value_ns = round(value_ns, 3 - len(str(abs(value_ns))))
        self.counts[value_ns] = self.counts.get(value_ns, 0) + 1
        self.total += 1

    def join(self, other: Spread) -> None:
        for value_ns, count in other.counts.items():
            self.counts[value_ns] = self.counts.get(value_ns, 0) + count
        self.total += other.total

    def quantile_ns(self, share: float) -> int | None:
        """The smallest value that this share of all does not exceed; None if empty."""
        return self._reached(sorted(self.counts.items()), share)

    def size_ns(self, share: float) -> int | None:
        """As `quantile_ns`, of the values without their signs."""
        return self._reached(sorted((abs(value), count) for value, count in self.counts.items()), share)

    def _reached(self, counts: Iterable[tuple[int, int]], share: float) -> int | None:
        wanted = max(1, ceil(share * self.total))
        seen = 0
        for value_ns, count in counts:
            seen += count
            if seen >= wanted:
                return value_ns
        return None


# --- rate ---------------------------------------------------------------------------------------------------


def train_bps(arrived: Sequence[tuple[int, int]], packet_bytes: int) -> float | None:
    """Rate at the link layer from a train of equal packets: (number, arrival) of those that arrived.

    The slope of arrival over number by least squares, without number 0. Lost ones have occupied the
    transmitter, so that they leave gaps in the numbers and not in the rate. None: fewer than four arrived.
    """
    points = [(number, at_ns) for number, at_ns in arrived if number > 0]
    n = len(points)
    if n < 4:
        return None
    first_ns = points[0][1]
    mean_x = sum(number for number, _ in points) / n
    mean_y = sum(at_ns - first_ns for _, at_ns in points) / n
    covariance = sum((number - mean_x) * (at_ns - first_ns - mean_y) for number, at_ns in points)
    variance = sum((number - mean_x) ** 2 for number, _ in points)
    if covariance <= 0:
        return inf
    return packet_bytes * 8e9 * variance / covariance


# --- edges --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Edge:
    """How far at least an edge was from the plan's, signed (later: more than 0), and how closely that is known.

    `error_ns` is 0 where the plan's instant lies in the interval that the probes leave open, whose width is
    `known_to_ns` (inf: open on one side).
    """

    error_ns: int
    known_to_ns: float


def edge(probes: Sequence[tuple[int, bool]], planned_ns: int, *, up: bool, run: int) -> Edge | None:
    """Of one edge, from (instant, arrived) of probes around it; None: no probes.

    A probe arrives if the link is up at its instant (for an end by `hold` when it leaves the transmitter, by
    `cut` when it arrives) and it is not lost. Up to `run` planned losses in a row are not taken for the link
    being down.
    """
    if not probes:
        return None
    if not up:  # the same, backwards in time
        mirrored = [(-at_ns, arrived) for at_ns, arrived in reversed(sorted(probes))]
        found = edge(mirrored, -planned_ns, up=True, run=run)
        return None if found is None else Edge(-found.error_ns, found.known_to_ns)
    ordered = sorted(probes)
    first = next((index for index, (_, arrived) in enumerate(ordered) if arrived), len(ordered))
    last_down = first - 1 - run
    high: float = ordered[first][0] if first < len(ordered) else inf
    low: float = ordered[last_down][0] if last_down >= 0 else -inf
    error = planned_ns - max(low, min(high, planned_ns))
    return Edge(-round(error), high - low)
