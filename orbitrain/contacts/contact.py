"""One contact: when two nodes can talk, how far and how fast, and the exact arithmetic of a transfer over it.

Units as in `contacts.plan`. Standard library only.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from typing import Final, Literal

LINK_CLASSES: Final = ("service", "feeder", "intra_isl", "inter_isl", "backhaul")

# Everything must fit the signed 64-bit integers of protobuf, SQLite and netlink (292 years in ns).
LARGEST_INTEGER: Final = 2**63 - 1

LinkClass = Literal["service", "feeder", "intra_isl", "inter_isl", "backhaul"]
_NS_PER_S: Final = 1_000_000_000


class PlanError(ValueError):
    """The plan breaks a rule; the text is one line that names the field and what is allowed."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The state of a link at one instant; delay and rate run linearly to the next sample.

    `loss_mean` is the fraction of packets lost (0 to 1) and `loss_burst` the mean length of a run of losses
    in packets (1: single losses); both hold until the next sample.
    """

    t_ns: int
    delay_ns: int
    rate_bps: int
    loss_mean: float
    loss_burst: float


@dataclass(frozen=True, slots=True)
class Contact:
    """One direction of a link from `start_ns` (included) to `end_ns` (excluded).

    `samples` (at least one, strictly ascending, inside the contact) are piecewise linear; before the first
    and after the last one the nearest value holds.

    `margin_ns` is how much earlier or later than stated both edges may come, and `confidence` (0 to 1) how
    surely the contact is there at all, as far as the age of the satellites' elements tells
    (`contacts.validity` has the model). What is known exactly has 0 and 1.
    """

    source: str
    destination: str
    link_class: LinkClass
    start_ns: int
    end_ns: int
    samples: tuple[Sample, ...]
    margin_ns: int = 0
    confidence: float = 1.0
    _profile: _RateProfile | None = field(default=None, init=False, repr=False, compare=False)

    def delay_ns_at(self, t_ns: int) -> int:
        """One-way delay of a bit that leaves at `t_ns`, in ns, rounded to the nearest (half up)."""
        left, right = self._around(t_ns)
        return interpolated(t_ns, left.t_ns, right.t_ns, left.delay_ns, right.delay_ns)

    def rate_bps_at(self, t_ns: int) -> int:
        """Rate at `t_ns` in bit/s, rounded to the nearest (half up)."""
        left, right = self._around(t_ns)
        return interpolated(t_ns, left.t_ns, right.t_ns, left.rate_bps, right.rate_bps)

    def sample_at(self, t_ns: int) -> Sample:
        """The link state at `t_ns`: delay and rate interpolated, loss of the last sample not after it."""
        left = self._around(t_ns)[0]
        return Sample(t_ns, self.delay_ns_at(t_ns), self.rate_bps_at(t_ns), left.loss_mean, left.loss_burst)

    def finish_ns(self, start_ns: int, size_bytes: int) -> int | None:
        """The first whole ns at which the last bit has left the sender; None when the contact ends before.

        Sending starts at `start_ns`, or at the contact's start where that is later. The piecewise-linear rate
        is integrated in exact rational arithmetic, so every machine gets the same answer. ValueError for a
        negative size.
        """
        if size_bytes < 0:
            raise ValueError(f"size_bytes: must be 0 or more, not {size_bytes}")
        return self.finish_of_ns(start_ns, Fraction(size_bytes * 8 * _NS_PER_S))

    def finish_of_ns(self, start_ns: int, volume_bit_e9: Fraction) -> int | None:
        """As `finish_ns`, for a volume in 1e-9 bit (0 or more), which need not be whole."""
        start_ns = max(start_ns, self.start_ns)
        if start_ns > self.end_ns:
            return None
        return self._rates().finish_ns(start_ns, volume_bit_e9.numerator, volume_bit_e9.denominator)

    def latest_start_of_ns(self, finish_ns: int, volume_bit_e9: Fraction) -> int | None:
        """The last whole ns at which sending may start so that the volume (1e-9 bit) has left by `finish_ns`.

        The mirror of `finish_of_ns`; None where the contact is too short.
        """
        finish_ns = min(finish_ns, self.end_ns)
        if finish_ns < self.start_ns:
            return None
        return self._rates().latest_start_ns(finish_ns, volume_bit_e9)

    def volume_bit_e9(self, from_ns: int, to_ns: int) -> Fraction:
        """Exactly what can leave the sender between two instants of the contact, in 1e-9 bit."""
        from_ns, to_ns = max(from_ns, self.start_ns), min(to_ns, self.end_ns)
        if from_ns >= to_ns:
            return Fraction(0)
        rates = self._rates()
        return (Fraction(*rates.doubled_volume(to_ns)) - Fraction(*rates.doubled_volume(from_ns))) / 2

    def volume_bytes(self, from_ns: int, to_ns: int) -> int:
        """Whole bytes that can leave the sender between two instants, as far as they lie in the contact."""
        from_ns, to_ns = max(from_ns, self.start_ns), min(to_ns, self.end_ns)
        if from_ns >= to_ns:
            return 0
        rates = self._rates()
        from_numerator, from_denominator = rates.doubled_volume(from_ns)
        to_numerator, to_denominator = rates.doubled_volume(to_ns)
        difference = to_numerator * from_denominator - from_numerator * to_denominator
        return difference // (from_denominator * to_denominator * 2 * 8 * _NS_PER_S)

    def _around(self, t_ns: int) -> tuple[Sample, Sample]:
        samples = self.samples
        index = bisect_right(samples, t_ns, key=_sample_time)
        return samples[max(index - 1, 0)], samples[min(index, len(samples) - 1)]

    def _rates(self) -> _RateProfile:
        # Built on first use: a daemon asks this of a handful of the plan's tens of thousands of contacts.
        if self._profile is None:
            object.__setattr__(self, "_profile", _RateProfile.of(self))
        assert self._profile is not None
        return self._profile


@dataclass(frozen=True, slots=True)
class _RateProfile:
    """Running integral of a contact's rate over knots that cover all of it.

    `doubled` is twice the volume, in bit * 1e-9, from the contact's start to each knot: the factor two makes
    the trapezoids whole numbers.
    """

    t_ns: tuple[int, ...]
    rate_bps: tuple[int, ...]
    doubled: tuple[int, ...]

    @staticmethod
    def of(contact: Contact) -> _RateProfile:
        knots = [(sample.t_ns, sample.rate_bps) for sample in contact.samples]
        if knots[0][0] > contact.start_ns:
            knots.insert(0, (contact.start_ns, knots[0][1]))
        if knots[-1][0] < contact.end_ns:
            knots.append((contact.end_ns, knots[-1][1]))
        doubled = [0]
        for (t0, rate0), (t1, rate1) in pairwise(knots):
            doubled.append(doubled[-1] + (rate0 + rate1) * (t1 - t0))
        return _RateProfile(tuple(t for t, _ in knots), tuple(rate for _, rate in knots), tuple(doubled))

    def doubled_volume(self, t_ns: int) -> tuple[int, int]:
        """Twice the volume from the contact's start to `t_ns`, as (numerator, denominator)."""
        index = min(bisect_right(self.t_ns, t_ns), len(self.t_ns) - 1) - 1
        span, slope = self._segment(index)
        past = t_ns - self.t_ns[index]
        return self.doubled[index] * span + 2 * self.rate_bps[index] * past * span + slope * past * past, span

    def finish_ns(self, start_ns: int, volume: int, parts: int) -> int | None:
        """When `volume` / `parts` has left."""
        if volume == 0:
            return start_ns
        numerator, denominator = self.doubled_volume(start_ns)
        wanted = numerator * parts + 2 * volume * denominator
        denominator *= parts  # `wanted` is of doubled * denominator
        if self.doubled[-1] * denominator < wanted:
            return None
        # The segment in which the wanted volume is reached: the last knot that is still short of it.
        index = bisect_right(self.doubled, (wanted - 1) // denominator) - 1
        span, slope = self._segment(index)
        missing = wanted - self.doubled[index] * denominator  # > 0
        rate_bps = self.rate_bps[index]
        if slope == 0:
            past = -(-missing // (2 * rate_bps * denominator))
        else:
            past = _first_past(rate_bps, slope, span, missing * span, denominator)
        return self.t_ns[index] + past

    def latest_start_ns(self, finish_ns: int, volume: Fraction) -> int | None:
        if volume == 0:
            return finish_ns
        before = Fraction(*self.doubled_volume(finish_ns)) - 2 * volume  # what may have left by the start
        if before < 0:
            return None
        index = min(bisect_right(self.doubled, before.__floor__()), len(self.t_ns) - 1) - 1
        span, slope = self._segment(index)
        rate_bps = self.rate_bps[index]
        # Past the knot, of `span * before.denominator`:
        allowed = (before.numerator - self.doubled[index] * before.denominator) * span
        low, high = 0, span  # early enough, too late
        while high - low > 1:
            middle = (low + high) // 2
            left = 2 * rate_bps * middle * span + slope * middle * middle
            if left * before.denominator <= allowed:
                low = middle
            else:
                high = middle
        return self.t_ns[index] + low

    def _segment(self, index: int) -> tuple[int, int]:
        return self.t_ns[index + 1] - self.t_ns[index], self.rate_bps[index + 1] - self.rate_bps[index]


def _first_past(rate_bps: int, slope: int, span: int, missing: int, denominator: int) -> int:
    # The volume is a quadratic of the time past the knot and grows throughout, as rates are positive: halving
    # the interval finds the first whole ns in some 40 exact steps, with no root to round.
    low, high = 0, span  # too early, enough
    while high - low > 1:
        middle = (low + high) // 2
        if (2 * rate_bps * middle * span + slope * middle * middle) * denominator >= missing:
            high = middle
        else:
            low = middle
    return high


def interpolated(t_ns: int, t0_ns: int, t1_ns: int, value0: int, value1: int) -> int:
    if t_ns <= t0_ns or value0 == value1:
        return value0
    if t_ns >= t1_ns:
        return value1
    span = t1_ns - t0_ns
    return value0 + (2 * (value1 - value0) * (t_ns - t0_ns) + span) // (2 * span)


def _sample_time(sample: Sample) -> int:
    return sample.t_ns


def check_contact(where: str, contact: Contact, names: AbstractSet[str], duration_ns: int) -> None:
    """Hold one contact to the rules of a plan; PlanError begins with `where`."""
    for key, name in (("source", contact.source), ("destination", contact.destination)):
        if name not in names:
            raise PlanError(f"{where}.{key}: must be the name of a node, not {name!r}")
    if contact.source == contact.destination:
        raise PlanError(f"{where}.destination: must differ from source ({contact.source})")
    if contact.link_class not in LINK_CLASSES:
        raise PlanError(f"{where}.class: must be {choices(LINK_CLASSES)}, not {contact.link_class!r}")
    if contact.start_ns < 0:
        raise PlanError(f"{where}.start_ns: must be 0 or more, not {contact.start_ns}")
    if contact.end_ns <= contact.start_ns:
        raise PlanError(f"{where}.end_ns: must be greater than start_ns ({contact.start_ns})")
    if contact.end_ns > duration_ns:
        raise PlanError(f"{where}.end_ns: must be at most duration_ns ({duration_ns}), not {contact.end_ns}")
    if not 0 <= contact.margin_ns <= LARGEST_INTEGER:
        raise PlanError(f"{where}.margin_ns: must be 0 to {LARGEST_INTEGER}, not {contact.margin_ns}")
    if not 0 <= contact.confidence <= 1:  # nor is nan
        raise PlanError(f"{where}.confidence: must be 0 to 1, not {contact.confidence}")
    if not contact.samples:
        raise PlanError(f"{where}.samples: must have at least one sample")
    earliest_ns = contact.start_ns
    for index, sample in enumerate(contact.samples):
        if not (
            earliest_ns <= sample.t_ns <= contact.end_ns
            and 0 <= sample.delay_ns <= LARGEST_INTEGER
            and 1 <= sample.rate_bps <= LARGEST_INTEGER
            and 0 <= sample.loss_mean <= 1
            and 1 <= sample.loss_burst < float("inf")
        ):
            _refuse_sample(
                f"{where}.samples[{index}]", sample, contact, first=index == 0, earliest_ns=earliest_ns
            )
        earliest_ns = sample.t_ns + 1


def _refuse_sample(where: str, sample: Sample, contact: Contact, *, first: bool, earliest_ns: int) -> None:
    if not contact.start_ns <= sample.t_ns <= contact.end_ns:
        raise PlanError(
            f"{where}.t_ns: must be inside the contact ({contact.start_ns} to {contact.end_ns}), "
            f"not {sample.t_ns}"
        )
    if not first and sample.t_ns < earliest_ns:
        raise PlanError(
            f"{where}.t_ns: must be greater than the sample before ({earliest_ns - 1}), not {sample.t_ns}"
        )
    if not 0 <= sample.delay_ns <= LARGEST_INTEGER:
        raise PlanError(f"{where}.delay_ns: must be 0 to {LARGEST_INTEGER}, not {sample.delay_ns}")
    if not 1 <= sample.rate_bps <= LARGEST_INTEGER:
        # 0 is how several link shapers spell "unlimited": an outage is the end of the contact.
        raise PlanError(f"{where}.rate_bps: must be 1 to {LARGEST_INTEGER}, not {sample.rate_bps}")
    if not 0 <= sample.loss_mean <= 1:
        raise PlanError(f"{where}.loss.mean: must be 0 to 1, not {sample.loss_mean}")
    if not 1 <= sample.loss_burst < float("inf") and not (sample.loss_mean == 0 and sample.loss_burst == 0):
        raise PlanError(
            f"{where}.loss.burst: must be 1 or more packets (0 where mean is 0), not {sample.loss_burst}"
        )


def choices(values: tuple[str, ...]) -> str:
    return ", ".join(values[:-1]) + " or " + values[-1]
