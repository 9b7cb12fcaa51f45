"""What the simulator's journal and the one on disk must agree on, and what only the one on disk promises."""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import pytest

from orbitrain.machine import NEVER_NS, Fate, Severity
from orbitrain.mailbox import Letter, Mark, Outcome
from orbitrain.memory import MemoryJournal
from orbitrain.step import DeadLetter, Durable, Event, Job, Snapshot, Step
from orbitrain.transport.store import Journal, StoreError, StoreLocked
from orbitrain.transport.store.journal import PAGE_BYTES_MAX, PAGE_ROWS_MAX

AnyJournal: TypeAlias = MemoryJournal | Journal
Reopen: TypeAlias = Callable[[AnyJournal], AnyJournal]


class Walk:
    """Random steps that could be a core's."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.letters: dict[tuple[str, str, int, int], Letter] = {}
        self.sequences: dict[tuple[str, str, int], int] = {}
        self.jobs: dict[tuple[str, str], Job] = {}
        self.now_ns = 0

    def digest(self) -> str:
        return f"{self.random.getrandbits(256):064x}"

    def step(self) -> Step:
        chance = self.random
        self.now_ns += chance.randrange(10**12)
        step = Step(self.now_ns)
        for role in chance.sample(["device", "satellite", "ünï'code"], chance.randrange(3)):
            objects = frozenset(self.digest() for _ in range(chance.randrange(3)))
            step.snapshots[role] = Snapshot(
                chance.randbytes(chance.randrange(40)), chance.randrange(4), objects
            )
        for identity in chance.sample(sorted(self.letters), min(len(self.letters), chance.randrange(3))):
            del self.letters[identity]
            step.ended_letters.append(identity)
        for identity in chance.sample(sorted(self.letters), min(len(self.letters), chance.randrange(2))):
            step.letters[identity] = replace(self.letters[identity], cancelled=chance.choice(list(Fate)))
        for _ in range(chance.randrange(4)):
            mailbox = (chance.choice(["a", "b"]), chance.choice(["device", "satellite"]), chance.randrange(3))
            self.sequences[mailbox] = sequence = self.sequences.get(mailbox, 0) + 1
            letter = Letter(
                "sender",
                f"key-{chance.random()}",
                *mailbox,
                sequence,
                "orbitrain.v1.Poll",
                chance.randbytes(chance.randrange(30)),
                tuple((self.digest(), chance.randrange(10**6)) for _ in range(chance.randrange(3))),
                chance.choice([NEVER_NS, self.now_ns + 5]),
            )
            step.letters[letter.identity] = letter
        self.letters.update(step.letters)
        for _ in range(chance.randrange(3)):
            outcome = chance.choice(list(Outcome))
            source = chance.choice(["x", "y"])
            step.marks.append(Mark(source, "f" * 32, "device", 1, chance.getrandbits(62), outcome, "why\0\n"))
        for identity in chance.sample(sorted(self.jobs), min(len(self.jobs), chance.randrange(2))):
            del self.jobs[identity]
            step.ended_jobs.append(identity)
        for _ in range(chance.randrange(3)):
            params = {"n": [1, 2.5, None, True], "deep": {"x": "é"}, "f": chance.random()}
            job = Job("device", f"job-{chance.randrange(6)}", "train", params, {"m": self.digest()}, 5, 6)
            step.jobs[job.identity] = job
        self.jobs.update(step.jobs)
        for _ in range(chance.randrange(4)):
            named = tuple((self.digest(), chance.randrange(99)) for _ in range(chance.randrange(3)))
            fields = {"round": chance.randrange(9), "list": ["a", {"b": 1e-300}], "text": "naïve \u2028"}
            step.events.append(
                Event(self.now_ns, "device", chance.choice(list(Severity)), "adopted", fields, named)
            )
        if chance.random() < 0.2:
            step.dead_letters.append(DeadLetter(self.now_ns, "device", "text", "error"))
        return step

    def reported(self) -> list[tuple[str, int]]:
        return [(self.digest(), n) for n in range(self.random.randrange(3))]


def open_memory(folder: Path) -> tuple[AnyJournal, Reopen]:
    return MemoryJournal("memory"), lambda journal: journal


def open_disk(folder: Path) -> tuple[AnyJournal, Reopen]:
    path = folder / "journal.sqlite"

    def reopen(journal: AnyJournal) -> AnyJournal:
        assert isinstance(journal, Journal)
        journal.close()
        return Journal(path, "normal")

    return Journal(path, "normal"), reopen


@pytest.mark.parametrize("opened", [open_memory, open_disk])
@pytest.mark.parametrize("seed", range(6))
def test_a_journal_gives_back_what_was_committed(
    tmp_path: Path, opened: Callable[[Path], tuple[AnyJournal, Reopen]], seed: int
) -> None:
    journal, reopen = opened(tmp_path)
    reference = MemoryJournal(journal.load().incarnation)
    assert journal.load() == reference.load() == Durable(reference.durable.incarnation)
    walk = Walk(seed)
    for n in range(25):
        step, reported = walk.step(), walk.reported()
        journal.commit(step, iter(reported))
        reference.commit(step, reported)
        if n % 6 == 0:
            journal = reopen(journal)
        assert journal.load() == reference.load()
    if isinstance(journal, Journal):
        assert [event for _, event in journal.read_events(0, 10**6)] == [e for _, e in reference.events]
        assert journal.dead_letters() == reference.dead_letters
        assert journal.count_events() == len(reference.events)
        journal.close()


def an_event(n: int, **fields: object) -> Event:
    return Event(n, "device", Severity.DIAGNOSTIC, "tick", {"n": n, **fields})


def test_each_journal_has_its_own_incarnation_for_life(tmp_path: Path) -> None:
    with Journal(tmp_path / "a") as a, Journal(tmp_path / "b") as b:
        first = a.load().incarnation
        assert first != b.load().incarnation
    with Journal(tmp_path / "a") as a:
        assert a.load().incarnation == a.incarnation == first


def test_a_journal_is_opened_once(tmp_path: Path) -> None:
    with Journal(tmp_path / "j"), pytest.raises(StoreLocked, match=r"j\.lock"):
        Journal(tmp_path / "j")


def test_a_step_that_is_no_json_leaves_nothing(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        before = journal.load()
        step = Walk(1).step()
        step.events.append(an_event(1, bad=object()))
        with pytest.raises(TypeError):
            journal.commit(step, [("0" * 64, 1)])
        assert journal.load() == before
        assert journal.count_events() == 0
        journal.commit(Step(7), [("0" * 64, 1)])
        assert journal.load() == replace(before, committed_ns=7, reported=(("0" * 64, 1),))


def test_events_and_metrics_are_read_on_from_a_row(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        journal.add_events([an_event(n) for n in range(5)])
        journal.add_metrics(9, [("battery", 0.5), ("heat", float("inf")), ("odd", float("nan"))])
        assert [n for n, _ in journal.read_events(2, 2)] == [3, 4]
        assert journal.read_metrics(1, 1) == [(2, 9, "heat", float("inf"))]
        ((_, _, name, value),) = journal.read_metrics(2, 9)
        assert (name, value != value) == ("odd", True)


def test_pages_are_bounded_and_together_hold_everything(tmp_path: Path) -> None:
    with Journal(tmp_path / "j", "normal") as journal:
        journal.add_events(an_event(n, text="x" * 30_000 * (n < 200)) for n in range(PAGE_ROWS_MAX + 500))
        journal.add_events([an_event(0, text="x" * 3_000_000)])
        journal.add_metrics(1, ((f"m{n}", n) for n in range(PAGE_ROWS_MAX + 5)))
        events, metrics, pages, fields = 0, 0, 0, [""]
        while True:
            page = journal.page("node", events, metrics)
            assert page.ByteSize() < PAGE_BYTES_MAX + 1000
            if not page.events and not page.metrics:
                break
            pages += 1
            assert [e.sequence for e in page.events] == list(range(events + 1, events + 1 + len(page.events)))
            events += len(page.events)
            metrics += len(page.metrics)
            fields = [event.fields_json for event in page.events] or fields
        assert (events, metrics) == (PAGE_ROWS_MAX + 501, PAGE_ROWS_MAX + 5)
        assert "omitted_bytes" in fields[-1]
        assert pages < 12


def test_an_unknown_schema_and_a_foreign_file_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "j"
    Journal(path).close()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE schema_version SET version = 99")
    db.close()
    with pytest.raises(StoreError, match="schema version is 99; this program reads version 1"):
        Journal(path)
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(StoreError, match=str(path)):
        Journal(path)
    foreign = tmp_path / "foreign"
    with sqlite3.connect(foreign) as db:
        db.execute("CREATE TABLE t (x)")
    db.close()
    with pytest.raises(StoreError, match="not a store of orbitrain"):
        Journal(foreign)


@pytest.mark.parametrize("share", [0.001, 0.1, 0.3, 0.5, 0.7, 0.9, 0.999])
def test_a_journal_that_has_been_cut_short_is_refused_and_left_as_it_is(tmp_path: Path, share: float) -> None:
    path = tmp_path / "journal.sqlite"
    with Journal(path) as journal:
        for n in range(1, 40):
            step = Step(n)
            step.events = [Event(n, "device", Severity.DIAGNOSTIC, "tick", {"text": "x" * 500})]
            journal.commit(step, [])
    data = path.read_bytes()
    cut = data[: int(len(data) * share)]
    path.write_bytes(cut)
    for _ in range(2):
        with pytest.raises(StoreError, match=str(path)):
            Journal(path)
        assert path.read_bytes() == cut


def test_a_journal_whose_log_has_been_cut_short_goes_on_from_its_last_whole_step(tmp_path: Path) -> None:
    path, copy = tmp_path / "journal.sqlite", tmp_path / "copy" / "journal.sqlite"
    copy.parent.mkdir()
    with Journal(path) as journal:
        for n in range(1, 10):
            journal.commit(Step(n), [])
        logged = path.with_name("journal.sqlite-wal").read_bytes()
        for size in range(0, len(logged), 1_777):
            copy.write_bytes(path.read_bytes())
            copy.with_name("journal.sqlite-shm").unlink(missing_ok=True)
            copy.with_name("journal.sqlite-wal").write_bytes(logged[:size])
            try:
                with Journal(copy) as found:
                    assert 0 <= found.load().committed_ns <= 9
            except StoreError as error:
                assert str(copy) in str(error)
    with Journal(path) as journal:
        assert journal.load().committed_ns == 9


WRITER = """
import sys
from pathlib import Path
from orbitrain.step import Event, Snapshot, Step
from orbitrain.machine import Severity
from orbitrain.transport.store import Journal

journal = Journal(Path(sys.argv[1]), "normal")
for n in range(1, 10**9):
    step = Step(n)
    step.snapshots["device"] = Snapshot(n.to_bytes(8, "big") * 500, 1, frozenset())
    step.events = [Event(n, "device", Severity.DIAGNOSTIC, "tick", {"n": n, "m": m}) for m in range(20)]
    journal.commit(step, [])
    print(n, flush=True)
"""


def test_a_writer_killed_while_committing_leaves_whole_steps(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    for line in writer.stdout:
        if int(line) >= 50:
            break  # it is at work on a later step now
    writer.send_signal(signal.SIGKILL)
    said = [int(line) for line in writer.stdout if line.endswith("\n")]
    writer.wait()
    writer.stdout.close()
    with Journal(path) as journal:
        durable = journal.load()
        n = durable.committed_ns
        assert n >= max(said, default=50)
        assert durable.snapshots["device"].state == n.to_bytes(8, "big") * 500
        assert journal.count_events() == 20 * n
        journal.commit(Step(n + 1), [])
