"""Replays a schedule on a back end: each step at its absolute monotonic instant, its lateness counted.

The replay has no loop and does not sleep: whoever runs it calls `step` at `step`'s own answer, or later. A
step that came late is still applied, whole and in order, and counted; beyond a stated bound it is marked or
ends the replay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from netem.histogram import Histogram
from netem.link_state import Link, LinkState
from netem.schedule import Change, Schedule, Step
from orbitrain.runtime.clock import SECOND_NS, Clock, monotonic_ns

LATE_NS: Final = 20_000_000
"""The bound beyond which a step is marked, unless told otherwise: what outage edges are held to."""

OnLate = Literal["mark", "abort"]


class TooLate(Exception):
    """A step came later than the bound; one line."""


class Backend(Protocol):
    """What moves the packets. All links are down until told otherwise."""

    def prepare(self, changes: Sequence[Change]) -> None:
        """What can be done ahead for these changes, which `apply` will be given next unless plans change.

        Refuses nothing: that is for their instant.
        """

    def apply(self, changes: Sequence[Change], now_ns: int) -> None:
        """Set these links, at once; `now_ns` is monotonic."""

    def survey(self) -> Iterator[None]:
        """Bring the account up to date, a little at a time: in between others may have their turn."""

    def measured(self) -> dict[str, object]:
        """Its own account, as last surveyed, as a JSON object."""

    def totals(self) -> dict[str, object]:
        """The same without each link's: what is told every few seconds."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """Which monotonic instant of this host is which scenario time."""

    monotonic_ns: int
    scenario_ns: int
    rate: float

    @staticmethod
    def of(clock: Clock) -> Timeline:
        """Of the run's clock, also before its anchor's instant."""
        ahead_ns = clock.now_ns() + round(10 * SECOND_NS * clock.rate)
        before_ns = monotonic_ns()
        wait_s = clock.wall_s_until(ahead_ns)
        return Timeline((before_ns + monotonic_ns()) // 2 + round(wait_s * SECOND_NS), ahead_ns, clock.rate)

    def monotonic_of(self, t_ns: int) -> int:
        return self.monotonic_ns + round((t_ns - self.scenario_ns) / self.rate)

    def scenario_of(self, now_ns: int) -> int:
        return self.scenario_ns + round((now_ns - self.monotonic_ns) * self.rate)


@dataclass(frozen=True, slots=True)
class Cue:
    """A link came up or went down at `t_ns`; `next_ns`: when it does the opposite, None for never."""

    link: Link
    up: bool
    t_ns: int
    next_ns: int | None

    def document(self) -> dict[str, object]:
        return {
            "source": self.link[0],
            "destination": self.link[1],
            "up": self.up,
            "t_ns": self.t_ns,
            "next_ns": self.next_ns,
        }


class Replay:
    """`begin` sets the links of an instant, `follow` says when that is, `step` does what is due."""

    def __init__(
        self,
        schedule: Schedule,
        backend: Backend,
        *,
        late_ns: int = LATE_NS,
        on_late: OnLate = "mark",
        cue: Callable[[Cue], None] = lambda cue: None,
    ) -> None:
        self.schedule = schedule
        self.late_ns = late_ns
        self.lateness = Histogram()
        self.late_steps = 0
        self.changes = 0
        self._backend = backend
        self._on_late = on_late
        self._cue = cue
        self._states: dict[Link, LinkState] = {}
        self._timeline: Timeline | None = None
        self._steps: Iterator[Step] = iter(())
        self._next: Step | None = None
        self._next_is_whole = False
        self._coming: tuple[int, Schedule] | None = None

    def begin(self, from_ns: int) -> None:
        """Set the links to what they are at scenario time `from_ns`; what comes after waits for `follow`."""
        self._switch(self.schedule, from_ns)
        assert self._next is not None
        self._do(self._next)
        self._advance()

    def follow(self, timeline: Timeline) -> None:
        """From now on scenario time is this."""
        self._timeline = timeline

    def replace(self, schedule: Schedule, from_ns: int) -> None:
        """Another schedule from scenario time `from_ns` on, at the earliest now. ValueError: another rate."""
        if schedule.clock_rate != self.schedule.clock_rate:
            raise ValueError(
                f"clock_rate: must stay {self.schedule.clock_rate}, not become {schedule.clock_rate}"
            )
        if self._timeline is not None:
            from_ns = max(from_ns, self._timeline.scenario_of(monotonic_ns()))
        self._coming = from_ns, schedule
        if self._next is None or self._next.t_ns >= from_ns:
            self._switch(schedule, from_ns)

    @property
    def finished(self) -> bool:
        """Nothing will change any more."""
        return self._next is None

    def due_ns(self) -> int | None:
        """Monotonic instant of the next step; None: none is known."""
        if self._next is None or self._timeline is None:
            return None
        return self._timeline.monotonic_of(self._next.t_ns)

    def step(self, now_ns: int) -> int | None:
        """Do all that is due, count how late it was; answers `due_ns`. TooLate where that was asked for."""
        while (due_ns := self.due_ns()) is not None and due_ns <= now_ns:
            assert self._next is not None
            t_ns = self._next.t_ns
            late_ns = self._do(self._next) - due_ns
            self.lateness.add(late_ns)
            if late_ns > self.late_ns:
                self.late_steps += 1
                if self._on_late == "abort":
                    raise TooLate(
                        f"the links' step at {t_ns / 1e9:.3f} s was {late_ns / 1e6:.1f} ms late, "
                        f"at most {self.late_ns / 1e6:g} ms are allowed"
                    )
            self._advance()
        return self.due_ns()

    def document(self) -> dict[str, object]:
        return {
            "steps": self.lateness.total,
            "changes": self.changes,
            "lateness": self.lateness.document(),
            "late_bound_ms": self.late_ns / 1e6,
            "late_steps": self.late_steps,
        }

    def _switch(self, schedule: Schedule, from_ns: int) -> None:
        self.schedule = schedule
        self._coming = None
        self._steps = schedule.steps(from_ns)
        self._next = next(self._steps)
        self._next_is_whole = True

    def _advance(self) -> None:
        # Made ahead of time, so that at its instant a step only has to be applied.
        self._next = next(self._steps, None)
        if self._coming is not None and (self._next is None or self._next.t_ns >= self._coming[0]):
            self._switch(self._coming[1], self._coming[0])
        elif self._next is not None:
            self._backend.prepare(self._next.changes)

    def _do(self, step: Step) -> int:
        """Set the step's links; the monotonic instant at which they are set."""
        changes = step.changes
        if self._next_is_whole:
            changes = self._difference(step)
            self._next_is_whole = False
        self._backend.apply(changes, monotonic_ns())
        set_ns = monotonic_ns()
        self.changes += len(changes)
        for change in changes:
            before = self._states.get(change.link)
            self._states[change.link] = change.state
            if change.state.up != (before is not None and before.up):
                next_ns = self.schedule.next_edge_ns(change.link, step.t_ns)
                self._cue(Cue(change.link, change.state.up, step.t_ns, next_ns))
        return set_ns

    def _difference(self, step: Step) -> tuple[Change, ...]:
        """From the links as they are to a schedule's first step, which names those that are up."""
        changes = []
        for change in step.changes:
            before = self._states.get(change.link)
            if before != change.state:
                new_loss = before is None or before.loss != change.state.loss
                changes.append(Change(change.link, change.state, new_loss))
        named = {change.link for change in step.changes}
        for link, state in self._states.items():
            if state.up and link not in named:
                changes.append(Change(link, state.down(self.schedule.outage), False))
        return tuple(changes)
