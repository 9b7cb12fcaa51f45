"""Flower: the file is the reply of a client, an update that the server's round waits for.

As in bench/survival, whose programs these are. What is not the transfer is not measured: the link is up
before the first contact, so that the nodes know each other and the client has its task; it answers when time
begins.
"""

from __future__ import annotations

import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.peers.system import LOOK_S, Node, Place, lacking
from bench.survival.flower import Flower
from bench.survival.link import CLIENT, SERVER, Shape
from bench.survival.peer import HELD, READY, Refused, Stage
from bench.survival.processes import Processes

GREETING_S: Final = 60.0
"""Of link before the first contact: its daemons start in it, which takes some 20 s on two cores."""


@dataclass(frozen=True, slots=True)
class _Between:
    """The link, as a peer of bench/survival sees one."""

    place: Place
    shape: Shape

    def _node(self, node: str) -> Node:
        return {SERVER: self.place.destination, CLIENT: self.place.source}[node]

    def address(self, node: str) -> str:
        return self._node(node).address

    def inside(self, node: str) -> list[str]:
        return ["nsenter", f"--net={self._node(node).netns}", "--"]


class FlowerRound:
    """`tuned`: as bench/survival tunes it."""

    warm_s = GREETING_S

    def __init__(self, tuned: bool) -> None:
        self._flower = Flower(tuned)
        self._processes: Processes | None = None

    def obstacle(self) -> str:
        try:
            Flower(False).prepare()
        except (OSError, subprocess.CalledProcessError) as error:
            return f"no environment: {error}"
        return lacking()

    def prepare(self, place: Place) -> None:
        self._flower.prepare()
        folder = place.folder
        (folder / "marks").mkdir()
        self._place = place
        self._processes = Processes(f"{folder.parent.name}-{folder.name}", folder, threading.Event())
        link = _Between(place, Shape(rate_bps=place.rate_bps))
        self._go = folder / "go"
        self._stage = Stage(link, self._processes, folder, place.size, file=place.file, go=self._go)

    def greet(self) -> None:
        try:
            self._flower.start(self._stage)
        except (Refused, RuntimeError) as error:
            raise OSError(str(error)) from None
        until_s = time.monotonic() + GREETING_S
        while self._stage.mark(READY) is None:
            if time.monotonic() > until_s:
                raise OSError(f"the client has no task: {self._flower.last_words(self._stage)}")
            time.sleep(LOOK_S)

    def start(self) -> None:
        self._go.touch()

    def is_complete(self) -> bool:
        return self._stage.mark(HELD) is not None

    def received(self) -> Path:
        return self._place.folder / "marks" / "update"

    def sent_bytes(self) -> int | None:
        return None  # it does not say

    def stop(self) -> None:
        if self._processes is not None:
            self._processes.end()
