"""One run of a back end, from namespaces to clean-up: what `python -m netem up` does.

To standard output, JSON lines: {"ready": {node: {netns, address}}, ...} when programs can be started in the
namespaces, {"cue": ...} when a link comes up or goes down, {"stats": ...} every few seconds, {"plan": ...}
when another plan holds, {"refused": ...} for one that cannot, {"ended": ...} with the final account. From
standard input, JSON lines: {"plan": FILE, "from_ns": N} replays another plan of the same nodes from that
scenario time on (null: now). When standard input, if it is a pipe or terminal, closes, the session ends as on
SIGTERM.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, Final

from netem.backends import BACKENDS
from netem.outlet import Outlet
from netem.record import Record
from netem.replay import Cue, OnLate, Replay, Timeline
from netem.schedule import Schedule
from netem.tun.relay import raise_priority
from orbitrain.contacts.compact import read_plan
from orbitrain.contacts.plan import ContactPlan
from orbitrain.runtime.clock import (
    POLL_S,
    SECOND_NS,
    Anchor,
    Clock,
    ClockError,
    ClockFile,
    monotonic_ns,
    unix_ns,
)

STATS_S: Final = 5.0
_FLUSH_NS: Final = 20_000_000
_LONGEST_LINE: Final = 1 << 16
_SWITCH_S: Final = 1e-4  # how long reading a plan may keep the relay from its packets


@dataclass(frozen=True, slots=True)
class Options:
    """`clock` None: scenario time is `from_ns` when everything is ready, and runs at the schedule's rate."""

    backend: str
    run_id: str
    schedule: Schedule
    addresses: IPv4Network
    overhead_bytes: int
    seed: int
    clock: Path | None = None
    from_ns: int = 0
    stats: Path | None = None
    stats_s: float = STATS_S
    late_ns: int = 20_000_000
    on_late: OnLate = "mark"
    marks: tuple[str, ...] = ()


class Session:
    """Raises HostError, ClockError, ValueError at first, TooLate from `run`; `close` in any case."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._up = False
        signal.signal(signal.SIGTERM, self._told_to_end)
        signal.signal(signal.SIGINT, self._told_to_end)
        self._outlet = Outlet(sys.stdout.fileno())
        plan = options.schedule.plan
        self._nodes = [node.name for node in plan.nodes]
        self._network = BACKENDS[options.backend].up(
            options.run_id,
            self._nodes,
            options.schedule.links(),
            addresses=options.addresses,
            seed=options.seed,
            overhead_bytes=options.overhead_bytes,
        )
        self._loop = self._network.loop
        self._backend = self._network.backend
        self._replay = Replay(
            options.schedule, self._backend, late_ns=options.late_ns, on_late=options.on_late, cue=self._tell
        )
        self._record = None if options.stats is None else Record(options.stats)
        self._timeline: Timeline | None = None
        self._commands = bytearray()
        self._answers: deque[tuple[dict[str, Any], ContactPlan | str]] = deque()
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._replay_number = 0
        self._surveying: Iterator[None] | None = None
        self._priority = "normal"
        self._begun_ns = monotonic_ns()
        self._up = True

    def run(self) -> None:
        """Until a signal, the end of standard input, or TooLate."""
        options, loop = self._options, self._loop
        self._listen()
        self._priority = raise_priority()
        start_ns = options.from_ns if options.clock is None else ClockFile.read(options.clock).scenario_ns
        self._outlet.say_all(
            {
                "ready": {node: place.document() for node, place in self._network.places.items()},
                "backend": options.backend,
                "priority": self._priority,
                "marks": list(options.marks),
                "schedule": options.schedule.document(),
            }
        )
        self._replay.begin(start_ns)
        now_ns = monotonic_ns()
        loop.at(now_ns, self._await_clock)
        loop.at(now_ns + round(options.stats_s * SECOND_NS), self._account)
        loop.at(now_ns, self._flush)
        try:
            loop.run()
        finally:
            for _ in self._backend.survey():
                pass
            document = self._document()
            self._outlet.say_all({"ended": document})
            if self._record is not None:
                self._record.close(document)

    def close(self) -> None:
        """Removes what this session made."""
        self._network.close()
        signal.set_wakeup_fd(-1)
        os.close(self._wake_read)
        os.close(self._wake_write)

    # --- from outside ---------------------------------------------------------------------------------------

    def _listen(self) -> None:
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        self._loop.watch(self._wake_read, self._woken)
        if sys.stdin is not None:
            self._loop.watch(sys.stdin.fileno(), self._command)

    def _told_to_end(self, number: int, frame: object) -> None:
        if not self._up:
            raise SystemExit(128 + number)  # what is made so far is removed on the way out
        self._loop.stop()

    def _woken(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 4096)
        while self._answers:
            command, answer = self._answers.popleft()
            sys.setswitchinterval(0.005)
            self._take_plan(command, answer)

    def _command(self) -> None:
        try:
            data = os.read(sys.stdin.fileno(), 4096)
        except BlockingIOError:
            return
        if not data:
            self._loop.stop()
            return
        self._commands += data
        while b"\n" in self._commands:
            line, _, rest = bytes(self._commands).partition(b"\n")
            self._commands = bytearray(rest)
            if line.strip():
                self._obey(line)
        if len(self._commands) > _LONGEST_LINE:
            self._commands.clear()
            self._outlet.say({"refused": f"a line of more than {_LONGEST_LINE} bytes"})

    def _obey(self, line: bytes) -> None:
        try:
            command = json.loads(line)
            path, from_ns = command["plan"], command.get("from_ns")
            if not isinstance(path, str) or not (from_ns is None or type(from_ns) is int):
                raise TypeError
        except (ValueError, KeyError, TypeError, AttributeError):
            self._outlet.say({"refused": 'a line: must be {"plan": FILE, "from_ns": N or null}'})
            return
        # In a thread: a large plan takes seconds, and packets do not wait.
        sys.setswitchinterval(_SWITCH_S)
        threading.Thread(target=self._load, args=(command,), daemon=True).start()

    def _load(self, command: dict[str, Any]) -> None:
        try:
            answer: ContactPlan | str = read_plan(Path(command["plan"]).read_bytes())
            if isinstance(answer, ContactPlan):
                _ = answer.sha256  # taken here, not in the loop
                BACKENDS[self._options.backend].check(replace(self._options.schedule, plan=answer))
        except (OSError, ValueError) as error:  # the file, the plan in it, or what no link can be
            answer = f"{command['plan']}: {error}"
        self._answers.append((command, answer))
        with contextlib.suppress(OSError):  # the session may have ended meanwhile
            os.write(self._wake_write, b"\0")

    def _take_plan(self, command: dict[str, Any], answer: ContactPlan | str) -> None:
        if isinstance(answer, ContactPlan):
            nodes = sorted(node.name for node in answer.nodes)
            if nodes == sorted(self._nodes):
                schedule = replace(self._replay.schedule, plan=answer)
                from_ns = command.get("from_ns")
                self._replay.replace(schedule, 0 if from_ns is None else from_ns)
                self._restart_replay()
                self._outlet.say({"plan": {"sha256": answer.sha256, "from_ns": from_ns}})
                return
            answer = f"{command['plan']}: nodes must be those of the run, not {', '.join(nodes)}"[:500]
        self._outlet.say({"refused": answer})

    # --- timers ---------------------------------------------------------------------------------------------

    def _await_clock(self, now_ns: int) -> int | None:
        """Until the run has started its clock; then the replay follows it."""
        options = self._options
        if options.clock is None:
            anchor: Anchor | None = Anchor(unix_ns(), options.from_ns, options.schedule.clock_rate)
        else:
            anchor = ClockFile.read(options.clock).anchor
        if anchor is None:
            return now_ns + round(POLL_S * SECOND_NS)
        if anchor.rate != options.schedule.clock_rate:
            raise ClockError(
                f"{options.clock}: rate: must stay {options.schedule.clock_rate}, not {anchor.rate}"
            )
        self._timeline = Timeline.of(Clock(anchor))
        self._replay.follow(self._timeline)
        started_ns = self._timeline.scenario_of(monotonic_ns())
        if started_ns > anchor.scenario_ns:
            self._replay.begin(
                started_ns
            )  # the run may have been going on for long: no step of the past is late
        self._restart_replay()
        return None

    def _restart_replay(self) -> None:
        """One timer of the replay; those from before a change of plan fall silent."""
        self._replay_number += 1
        number = self._replay_number

        def step(now_ns: int) -> int | None:
            return self._replay.step(now_ns) if number == self._replay_number else None

        due_ns = self._replay.due_ns()
        if due_ns is not None:
            self._loop.at(due_ns, step)

    def _account(self, now_ns: int) -> int:
        """The back end is asked a little at a time: steps of the replay do not wait for all of it."""
        if self._surveying is None:
            self._surveying = self._backend.survey()
            self._loop.at(now_ns, self._survey)
        return now_ns + round(self._options.stats_s * SECOND_NS)

    def _survey(self, now_ns: int) -> int | None:
        assert self._surveying is not None
        if next(self._surveying, self) is not self:
            return monotonic_ns()
        self._surveying = None
        self._outlet.say({"stats": {**self._backend.totals(), "replay": self._replay.document()}})
        if self._record is not None:
            self._record.put(self._document())
        return None

    def _flush(self, now_ns: int) -> int:
        if self._outlet.waiting:
            self._outlet.flush()
        return now_ns + (_FLUSH_NS if self._outlet.waiting else SECOND_NS // 4)

    # --- to outside -----------------------------------------------------------------------------------------

    def _tell(self, cue: Cue) -> None:
        self._outlet.say({"cue": cue.document()})

    def _document(self) -> dict[str, object]:
        used = resource.getrusage(resource.RUSAGE_SELF)
        now_ns = None if self._timeline is None else self._timeline.scenario_of(monotonic_ns())
        return {
            "backend": self._options.backend,
            "run_id": self._options.run_id,
            "scenario_ns": now_ns,
            "running_s": (monotonic_ns() - self._begun_ns) / SECOND_NS,
            "cpu_s": used.ru_utime + used.ru_stime,
            "priority": self._priority,
            "marks": list(self._options.marks),
            "schedule": self._replay.schedule.document(),
            "replay": self._replay.document(),
            "lines_dropped": self._outlet.dropped,
            **self._backend.measured(),
        }
