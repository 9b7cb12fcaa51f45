"""From what probes saw to numbers: binomial tests, losses and their runs, spread, rate, edges. Pure.

Times are host ns.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, exp, inf, isinf, lgamma, log, log1p
from typing import Final, Literal

from netem.link_state import Loss

Finding = Literal["inside", "outside", "unknown"]
"""Of a test: the plan is plausible, it is not, or the data cannot tell it from something else."""

RESOLUTION: Final = 0.05
"""A link's loss is known when a loss this much higher, or twice as high, is ruled out."""

EDGE_CHANCE: Final = 0.001
"""A run of planned losses less likely than this is taken for the link being down."""

_TINY: Final = 1e-300
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
    value = upper = 1.0  # of 1 + d1 / (1 + d2 / (1 + ...))
    lower = 0.0
    for step in range(1, 20_000):
        m = step // 2
        if step % 2:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        lower = 1.0 / ((1.0 + term * lower) or _TINY)
        upper = (1.0 + term / upper) or _TINY
        value *= upper * lower
        if abs(upper * lower - 1.0) < 1e-14:
            break
    return min(1.0, front / value)


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


def found(k: float, n: float, p: float, others: Iterable[float], confidence: float) -> Finding:
    """Whether k of n fit the chance p, and if so, whether they rule out all the chances `others`."""
    if n <= 0:
        return "unknown"
    if not inside(k, n, p, confidence):
        return "outside"
    return "unknown" if any(inside(k, n, other, confidence) for other in others) else "inside"


# --- losses -------------------------------------------------------------------------------------------------


def chain(loss: Loss) -> tuple[float, float, float]:
    """Of a link's loss: P(lost after not lost), P(not lost after lost), and how many independent trials one
    packet of many is worth.

    Successive outcomes of Gilbert's chain correlate by r = 1 - P(good to bad) - P(bad to good), so that the
    mean of n has the variance of n (1 - r) / (1 + r) independent ones; at most n are counted.
    """
    if loss.kind != "gilbert_elliott":
        return loss.mean, 1.0 - loss.mean, 1.0
    to_bad, to_good = loss.transitions()
    r = max(0.0, 1.0 - to_bad - to_good)
    return to_bad, to_good, (1.0 - r) / (1.0 + r)


@dataclass(slots=True)
class Turns:
    """Of `trials` packets directly after another one, the `turned` whose outcome was not the same; the plan
    expects `expected`. What a chain's packet does after a given one has a fixed chance, whatever was before:
    exactly binomial.
    """

    trials: int = 0
    turned: int = 0
    expected: float = 0.0

    def add(self, chance: float, *, turned: bool) -> None:
        self.trials += 1
        self.turned += turned
        self.expected += chance

    @property
    def undecided(self) -> bool:
        return 0 < self.expected < self.trials

    def finding(self, other: float, confidence: float) -> Finding:
        """Told apart from a chance `other` times the plan's, and from none at all."""
        if not self.trials:
            return "unknown"
        p = self.expected / self.trials
        return found(self.turned, self.trials, p, (0.0, min(1.0, other * p)), confidence)


class Losses:
    """Outcomes of one link's probes against the plan's loss at each.

    The mean: `lost` of `probes`, of which the plan expects `expected`; they are worth `worth` independent
    trials (`chain`). Where the planned loss changes, the mean of the plan's is taken: the number lost then
    varies less than a binomial (W. Hoeffding, Annals of Mathematical Statistics 27, 1956), so that the test
    is careful. Of packets that directly follow each other, `begun` and `ended` runs of losses tell more.
    """

    __slots__ = ("begun", "ended", "expected", "lost", "probes", "worth")

    def __init__(self) -> None:
        self.probes = self.lost = 0
        self.expected = self.worth = 0.0
        self.begun = Turns()
        self.ended = Turns()

    def add(self, loss: Loss, *, lost: bool, before: tuple[Loss, bool] | None) -> None:
        """`before`: planned loss and outcome of the packet directly before, where that is known."""
        self.probes += 1
        self.lost += lost
        self.expected += loss.mean
        self.worth += chain(loss)[2]
        if before is not None:
            to_bad, to_good, _ = chain(before[0])
            if before[1]:
                self.ended.add(to_good, turned=not lost)
            else:
                self.begun.add(to_bad, turned=lost)

    def joined(self, other: Losses) -> Losses:
        """Both; `other`'s runs are not known."""
        both = Losses()
        both.probes, both.lost = self.probes + other.probes, self.lost + other.lost
        both.expected, both.worth = self.expected + other.expected, self.worth + other.worth
        both.begun, both.ended = self.begun, self.ended
        return both

    @property
    def some(self) -> bool:
        """The plan loses some, and not all."""
        return 0 < self.expected < self.probes

    @property
    def tests(self) -> int:
        """Tests in which chance could make a true link look untrue."""
        return (1 + self.begun.undecided + self.ended.undecided) if self.some else 0

    def mean(self, confidence: float) -> Finding:
        """How often: by the mean, and by how often runs begin."""
        if not self.probes:
            return "unknown"
        p = self.expected / self.probes
        apart = max(RESOLUTION, min(p, 1.0 - p))
        others = [p + apart if p < 0.5 else p - apart, *([0.0] if p >= RESOLUTION else [])]
        scale = self.worth / self.probes
        by_mean = found(self.lost * scale, self.worth, p, others, confidence)
        if not self.some:
            return by_mean
        by_runs = self.begun.finding(2.0, confidence)
        both = {by_mean, by_runs}
        return next(finding for finding in _STRONGEST if finding in both)

    def runs(self, confidence: float) -> Finding:
        """How long, told apart from twice as long. Of a link that should lose nothing or all: unknown."""
        return self.ended.finding(0.5, confidence) if self.some else "unknown"

    def interval(self, confidence: float) -> tuple[float, float]:
        """Of the mean."""
        scale = self.worth / self.probes if self.probes else 0.0
        return binomial_interval(self.lost * scale, self.worth, confidence)

    @property
    def burst(self) -> float | None:
        """Mean run of losses seen, in packets."""
        return self.ended.trials / self.ended.turned if self.ended.turned else None

    @property
    def planned_burst(self) -> float | None:
        return self.ended.trials / self.ended.expected if self.ended.expected else None


_STRONGEST: Final[tuple[Finding, ...]] = ("outside", "inside", "unknown")


def plausible_run(loss: Loss) -> int:
    """The longest run of planned losses at a given place that is not too unlikely (`EDGE_CHANCE`)."""
    if loss.mean < EDGE_CHANCE:
        return 0
    going_on = 1.0 - chain(loss)[1]
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

    The slope of arrival over number by least squares, without number 0. Lost ones that have occupied the
    transmitter leave gaps in the numbers; where they have not, the others are numbered without them. None:
    fewer than four arrived.
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
    """An edge against the plan's, signed (later: more than 0): `error_ns` as estimated, the middle of the
    interval that the probes leave open, whose width is `known_to_ns`; `least_ns` from the plan's instant to
    that interval, 0 inside. Where the interval is open on one side (inf), the estimate is `least_ns`.
    """

    error_ns: int
    least_ns: int
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
        mirrored = edge([(-at_ns, arrived) for at_ns, arrived in probes], -planned_ns, up=True, run=run)
        return mirrored and Edge(-mirrored.error_ns, -mirrored.least_ns, mirrored.known_to_ns)
    # Instants from the planned one: small, so that floats are exact.
    ordered = sorted((at_ns - planned_ns, arrived) for at_ns, arrived in probes)
    first = next((index for index, (_, arrived) in enumerate(ordered) if arrived), len(ordered))
    last_down = first - 1 - run
    high: float = ordered[first][0] if first < len(ordered) else inf
    low: float = ordered[last_down][0] if last_down >= 0 else -inf
    least = max(low, min(high, 0))
    estimate = least if isinf(high - low) else (low + high) / 2
    return Edge(round(estimate), round(least), high - low)
