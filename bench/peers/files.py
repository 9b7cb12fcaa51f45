"""What an administrator would take: curl with ranges, and rsync over ssh, begun anew until they are done.

Both are told to give up a connection that stands still, so that they do not wait for the kernel to do it.
"""

from __future__ import annotations

import getpass
import shutil
import subprocess
from pathlib import Path
from typing import Final

from bench.peers.system import Copier, Place, lacking, python

HTTP_PORT: Final = 8_080
SSH_PORT: Final = 2_222

STILL_S: Final = 5
"""Seconds without a byte after which a connection is given up."""

CONNECT_S: Final = 2
AGAIN_S: Final = 0.5

_PRIVSEP: Final = Path("/run/sshd")


class Curl(Copier):
    """The receiver fetches: `curl -C -` goes on where the file ends."""

    def obstacle(self) -> str:
        return lacking("curl", "sh")

    def prepare(self, place: Place) -> None:
        self._settle(place)
        command = python("bench.peers.range_server")
        self._programs.start(place.source, *command, place.source.address, HTTP_PORT, place.file, self._count)
        self._programs.listening(place.source, HTTP_PORT)

    def start(self) -> None:
        fetch = (
            f"curl -sS -C - --connect-timeout {CONNECT_S} --speed-limit 1 --speed-time {STILL_S} "
            f"-o received http://{self._place.source.address}:{HTTP_PORT}/"
        )
        loop = f"cd '{self._place.folder}' && until {fetch}; do sleep {AGAIN_S}; done; touch done"
        self._programs.start(self._place.destination, "sh", "-c", loop)


class Rsync(Copier):
    """The sender pushes: `rsync --partial` over ssh, to an sshd of its own with throwaway keys.

    In place, as the receiver's end of a connection that has gone keeps what has come to itself for minutes.
    """

    def __init__(self) -> None:
        self._made_privsep = False

    def obstacle(self) -> str:
        return lacking("rsync", "ssh", "sshd", "ssh-keygen", "sh")

    def prepare(self, place: Place) -> None:
        self._settle(place)
        folder = place.folder
        for name in ("host", "user"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True
            )
        shutil.copyfile(folder / "user.pub", folder / "authorized")
        lines = (
            f"ListenAddress {place.destination.address}",
            f"Port {SSH_PORT}",
            f"HostKey {folder / 'host'}",
            f"AuthorizedKeysFile {folder / 'authorized'}",
            f"PidFile {folder / 'sshd.pid'}",
            "UsePAM no",
            "StrictModes no",
            "PasswordAuthentication no",
            "PermitRootLogin yes",
            f"ClientAliveInterval {STILL_S - 1}",  # the receiver is to end, and keep what it has, in time
            "ClientAliveCountMax 1",
        )
        (folder / "sshd_config").write_text("\n".join(lines) + "\n")
        if not _PRIVSEP.exists():
            _PRIVSEP.mkdir(mode=0o755)
            self._made_privsep = True
        self._programs.start(
            place.destination, shutil.which("sshd"), "-D", "-e", "-f", folder / "sshd_config"
        )
        self._programs.listening(place.destination, SSH_PORT)

    def start(self) -> None:
        place = self._place
        counted = " ".join(python("bench.peers.counted"))
        ssh = (
            f"{counted} {self._count} ssh -p {SSH_PORT} -i {place.folder / 'user'} "
            f"-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR "
            f"-o ConnectTimeout={CONNECT_S} -o ServerAliveInterval={STILL_S} -o ServerAliveCountMax=1"
        )
        push = (
            f"rsync --partial --inplace --timeout={STILL_S} -e '{ssh}' {place.file} "
            f"{getpass.getuser()}@{place.destination.address}:{self._received}"
        )
        loop = f"until {push}; do sleep {AGAIN_S}; done; touch {self._done}"
        self._programs.start(place.source, "sh", "-c", loop)

    def stop(self) -> None:
        super().stop()
        if self._made_privsep:
            self._made_privsep = False
            shutil.rmtree(_PRIVSEP, ignore_errors=True)
