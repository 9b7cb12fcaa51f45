"""Letters between two nodes whose plan is wrong and who crash: each ends once, and as its sender is told."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from orbitrain.contacts.updates import spliced
from orbitrain.machine import NEVER_NS, Action, Input, Machine, TimerFired, Withdraw
from orbitrain.sim import CrashPoint, Simulation
from tests.trace.world import SECOND_NS
from tests.unit.core.two_nodes import (
    DEVICE,
    SETTINGS,
    Scripted,
    Workshop,
    at_seconds,
    heard,
    letter,
    nothing,
    plan,
)

END_S, DURATION_S = 150, 400
"""All is sent in the first part; the second is one long contact, in which everything is settled."""


@st.composite
def windows(draw: st.DrawFn) -> list[tuple[int, int]]:
    found, t_s = [], 0
    while t_s < END_S - 20:
        start_s = t_s + draw(st.integers(1, 20))
        t_s = start_s + draw(st.integers(2, 15))
        found.append((start_s, min(t_s, END_S)))
    return [window for window in found if window[0] < window[1]]


@st.composite
def letters(draw: st.DrawFn) -> dict[int, list[Action]]:
    sends: dict[int, list[Action]] = {}
    for n in range(draw(st.integers(1, 8))):
        t_s = draw(st.integers(1, END_S))
        expires_ns = draw(st.sampled_from([NEVER_NS, (t_s + 15) * SECOND_NS]))
        objects = [f"x{draw(st.integers(0, 9))}" for _ in range(draw(st.integers(0, 5)))]
        sends.setdefault(t_s, []).append(letter(f"k{n}", *dict.fromkeys(objects), expires_at_ns=expires_ns))
        if draw(st.integers(0, 3)) == 0:
            sends.setdefault(t_s + draw(st.integers(1, 10)), []).append(Withdraw(f"k{n}"))
    return sends


class Punctual(Scripted):
    """Does what it has for a second also if it is down at that second: when it is back."""

    def handle(self, item: Input, now_ns: int) -> list[Action]:
        if isinstance(item, TimerFired):
            now_ns = self.wakes[self.done] * SECOND_NS
        return super().handle(item, now_ns)


faults = st.sets(
    st.tuples(st.sampled_from(["sat", DEVICE]), st.integers(1, 25), st.sampled_from(CrashPoint)), max_size=5
)


@settings(max_examples=150, derandomize=True)
@given(windows(), windows(), letters(), faults, st.none() | st.integers(1, END_S))
def test_every_letter_ends_once_and_is_delivered_if_and_only_if_its_sender_is_told_so(
    believed: list[tuple[int, int]],
    truth: list[tuple[int, int]],
    sends: dict[int, list[Action]],
    crashes: set[tuple[str, int, CrashPoint]],
    told_s: int | None,
) -> None:
    last = (END_S + 1, DURATION_S)
    plans = [plan(*passes, last, duration_s=DURATION_S) for passes in (believed, truth)]
    simulation = Simulation(plans[0], SETTINGS, Workshop(), plans[1])
    if told_s is not None:
        simulation.update(told_s * SECOND_NS, spliced(*plans, told_s * SECOND_NS))

    def satellite() -> dict[str, Machine]:
        return {"role": Punctual(at_seconds(sends), sends, [])}

    simulation.add("sat", satellite, ["kept", *(f"x{n}" for n in range(10))])
    simulation.add(DEVICE, lambda: {"role": Scripted(nothing, (), [])}, ["kept"])
    simulation.crash = lambda *where: where in crashes
    simulation.run()

    delivered = Counter(line.split()[2] for line in heard(simulation, DEVICE) if "Delivered" in line)
    ends = [line.split()[1:3] for line in heard(simulation, "sat") if "Acknow" in line or "Undel" in line]
    sent = [
        action.key for actions in sends.values() for action in actions if not isinstance(action, Withdraw)
    ]
    assert sorted(key for _, key in ends) == sorted(sent), "each letter ends, once"
    for what, key in ends:
        assert delivered[key] == (1 if what == "Acknowledged" else 0), (what, key)
    assert simulation.dead_letters == 0
