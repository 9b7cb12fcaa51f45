"""One cell of the matrix: a peer through a case, watched from the link's byte counters."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.survival.link import CLIENT, SERVER, Count, Emulated, Shape
from bench.survival.peer import READY, Outcome, Peer, Refused, Stage
from bench.survival.processes import Processes
from bench.survival.shifted import can_shift

MIB: Final = 1 << 20
START_S: Final = 180.0
"""Within which a peer must have begun to push: what it does before is local, and takes some 20 s."""
GRACE_S: Final = 420.0
"""Beyond three times the ideal time and the outage: above every time-out of 300 s that peers have."""

_LOOK_S: Final = 0.05
_MEMORY_S: Final = 0.25
_PUSH_BYTES: Final = 8 * 1024  # since the sender has the update: more than a poll or a heartbeat
_DATA_BYTES: Final = 64 * 1024  # since link-up: more than a handshake, less than a chunk of any peer
_RESTARTS: Final = 5  # of a daemon that ends by itself, as service managers' usual limit has it
_RESTART_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Case:
    """`outage_s` and a kill begin `into_s` after the first bytes of the push."""

    key: str
    title: str
    update_bytes: int = 60 * MIB
    rate_bps: int = 16_000_000
    outage_s: float = 0.0
    kill: str = ""
    down_s: float = 2.0
    """Between the kill and the start by the service manager."""
    into_s: float = 5.0
    clock_s: int = 0

    @property
    def ideal_s(self) -> float:
        return self.update_bytes * 8 / self.rate_bps

    @property
    def within_s(self) -> float:
        return 3 * self.ideal_s + self.outage_s + GRACE_S


CASES: Final = (
    Case("plain", "60 MiB, no outage"),
    Case("out30", "60 MiB, outage of 30 s", outage_s=30),
    Case("out120", "60 MiB, outage of 120 s", outage_s=120),
    Case("out300", "60 MiB, outage of 300 s", outage_s=300),
    Case("slow400k", "20 MiB at 400 kbit/s", update_bytes=20 * MIB, rate_bps=400_000),
    Case("slow64k", "2 MiB at 64 kbit/s", update_bytes=2 * MIB, rate_bps=64_000),
    Case("killclient", "kill -9 of the sender", kill=CLIENT),
    Case("killserver", "kill -9 of the receiver", kill=SERVER),
    Case("clock", "sender's clock an hour ahead", clock_s=3600),
)


@dataclass(frozen=True, slots=True)
class Cell:
    """`state`: complete, lost, open (by the bench's bound neither), or `not run`.

    Bytes are the link's, at L2; None: was not to be measured.
    """

    peer: str
    case: str
    state: str
    reason: str = ""
    held_s: float | None = None
    """From the first bytes of the push to the receiver holding the update; of a lost one to its end."""
    ready_s: float | None = None
    """From the sender having the update to the first bytes of the push."""
    first_data_s: float | None = None
    """From link-up to the first 64 KiB at the receiver."""
    update_bytes: int = 0
    pushed_bytes: int | None = None
    """What the sender gave the link, from when it had the update to the end."""
    arrived_bytes: int | None = None
    server_anonymous_bytes: int | None = None
    client_anonymous_bytes: int | None = None


class NotSo(Exception):
    """The cell says nothing of the peer; one line."""


_numbers = itertools.count()


def run(peer: Peer, case: Case, stop: threading.Event, keep: Path | None = None) -> Cell:
    """Everything that it starts has ended when it returns, or raises.

    `stop`, once set, ends it soon; `keep`: logs go there.
    """
    if case.clock_s and not can_shift():
        return Cell(peer.name, case.key, "not run", "no C compiler (cc) for the shifted clock")
    tag = f"survive{os.getpid()}n{next(_numbers)}"
    folder = Path(tempfile.mkdtemp(prefix=f"orbitrain-{tag}-"))
    (folder / "marks").mkdir()
    link: Emulated | None = None
    processes = Processes(tag, folder, stop)
    try:
        link = Emulated(tag, folder, Shape(rate_bps=case.rate_bps, outage_s=case.outage_s))
        stage = Stage(link, processes, folder, case.update_bytes, case.clock_s)
        return _Course(peer, case, stage, link, stop).run()
    except Refused as error:
        return Cell(peer.name, case.key, "lost", f"{error}", update_bytes=case.update_bytes)
    except (NotSo, RuntimeError, OSError, subprocess.SubprocessError) as error:
        return Cell(peer.name, case.key, "not run", f"{error}"[-300:].strip())
    finally:
        processes.end()
        if link is not None:
            link.close()
        if keep is not None:
            target = keep / f"{peer.name.replace(' ', '-')}-{case.key}"
            target.mkdir(parents=True, exist_ok=True)
            for path in folder.glob("*.log"):
                shutil.copy(path, target / path.name)
        shutil.rmtree(folder, ignore_errors=True)


class _Course:
    """Of one case."""

    def __init__(self, peer: Peer, case: Case, stage: Stage, link: Emulated, stop: threading.Event) -> None:
        self._peer, self._case, self._stage, self._link, self._stop = peer, case, stage, link, stop
        self._ends = {SERVER: 0, CLIENT: 0}
        self._revive_s: dict[str, float] = {}
        self._said: list[str] = []
        self._memory = {SERVER: 0, CLIENT: 0}
        self._memory_due_s = 0.0

    def run(self) -> Cell:
        case, link = self._case, self._link
        self._peer.start(self._stage)
        ready_s, before = self._await_ready()
        if ready_s is None:
            return Cell(
                self._peer.name, case.key, "lost", self._why_not_begun(), update_bytes=case.update_bytes
            )
        push_s = self._await(lambda: link.count().sent - before.sent > _PUSH_BYTES, START_S)
        if push_s is None:
            return Cell(
                self._peer.name, case.key, "lost", self._why_not_begun(), update_bytes=case.update_bytes
            )
        up_s = self._disturb(push_s)
        at_up: int | None = None
        first_s: float | None = None
        outcome: Outcome | None = None
        while (now_s := time.monotonic()) < push_s + case.within_s:
            self._look(now_s)
            if up_s is not None and first_s is None and now_s >= up_s:
                arrived = link.count().arrived
                at_up = arrived if at_up is None else at_up
                if arrived - at_up > _DATA_BYTES:
                    first_s = now_s - up_s
            outcome = self._peer.outcome(self._stage)
            if outcome is not None:
                break
            time.sleep(_LOOK_S)
        after = link.count()
        if outcome is None:
            reasons = [f"not held within {case.within_s:.0f} s", *self._said]
            reasons.append(self._peer.last_words(self._stage))
            outcome = Outcome("open", time.monotonic(), "; ".join(one for one in reasons if one))
        return Cell(
            self._peer.name,
            case.key,
            outcome.state,
            outcome.reason,
            held_s=outcome.at_s - push_s,
            ready_s=push_s - ready_s,
            first_data_s=first_s,
            update_bytes=case.update_bytes,
            pushed_bytes=after.sent - before.sent,
            arrived_bytes=after.arrived - before.arrived,
            server_anonymous_bytes=self._memory[SERVER],
            client_anonymous_bytes=self._memory[CLIENT],
        )

    def _disturb(self, push_s: float) -> float | None:
        """What the case does to the push; when the way is free again."""
        case, stage = self._case, self._stage
        if not (case.outage_s or case.kill):
            return None
        while (now_s := time.monotonic()) < push_s + case.into_s:
            self._look(now_s)
            if self._peer.outcome(stage) is not None:
                raise NotSo("the push had ended before it was to be disturbed")
            time.sleep(_LOOK_S)
        if case.outage_s:
            return self._link.begin_outage()[1]
        stage.processes.kill(self._peer.daemon(case.kill))
        time.sleep(case.down_s)
        self._peer.restart(stage, case.kill)
        return None

    def _await_ready(self) -> tuple[float | None, Count]:
        """(when the sender had the update, the counters just before), or (None, ...)."""
        until_s = time.monotonic() + START_S
        before = self._link.count()
        while time.monotonic() < until_s:
            count = self._link.count()
            if (mark := self._stage.mark(READY)) is not None:
                return mark["s"], before
            before = count
            self._look(time.monotonic())
            if self._peer.outcome(self._stage) is not None:
                break
            time.sleep(_LOOK_S)
        return None, before

    def _await(self, holds: Callable[[], bool], within_s: float) -> float | None:
        until_s = time.monotonic() + within_s
        while (now_s := time.monotonic()) < until_s:
            if holds():
                return now_s
            self._look(now_s)
            if self._peer.outcome(self._stage) is not None:
                return None
            time.sleep(_LOOK_S)
        return None

    def _why_not_begun(self) -> str:
        outcome = self._peer.outcome(self._stage)
        return outcome.reason if outcome else f"no push within {START_S:.0f} s"

    def _service(self, now_s: float) -> None:
        """What a service manager does for daemons that end by themselves. NotSo: someone else ended them."""
        for node, count in self._ends.items():
            name = self._peer.daemon(node)
            if node in self._revive_s:
                if now_s >= self._revive_s[node]:
                    del self._revive_s[node]
                    self._peer.restart(self._stage, node)
            elif count < _RESTARTS and (status := self._stage.processes.exited(name)) is not None:
                if self._stage.processes.ended_from_outside(name):
                    raise NotSo(f"{name} was ended from outside by signal {-status}")
                self._said.append(f"{name} ended with {status}")
                self._ends[node] += 1
                self._revive_s[node] = now_s + _RESTART_S

    def _look(self, now_s: float) -> None:
        if self._stop.is_set():
            raise NotSo("interrupted")
        self._service(now_s)
        if now_s >= self._memory_due_s:
            self._memory_due_s = now_s + _MEMORY_S
            for node in (SERVER, CLIENT):
                used = self._stage.processes.anonymous_bytes(self._peer.daemon(node))
                self._memory[node] = max(self._memory[node], used)
