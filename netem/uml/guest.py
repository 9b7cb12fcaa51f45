"""A command inside User-Mode Linux: a kernel with netem as an ordinary program, the host's files as its root.

Guest root is the invoking user, who needs no rights and no virtualisation. This module says what to start
and what became of it; whoever may start processes starts it:

    guest = Guest(command=("python", "-m", "pytest"), folder=folder, workdir=cwd, environment={...})
    guest.prepare()
    for command in guest.preparations():
        run(command, check=True)
    process = Popen(guest.arguments(), env=os.environ | guest.host_environment(), stdin=PIPE, stdout=PIPE,
                    process_group=0, preexec_fn=guest.child)
    ...; code = guest.exit_code()

The command has a terminal, which is the process's standard input and output, and its standard error in a
file; the kernel's console is nowhere. The process's own status says nothing of the command: without the file
that `exit_code` reads, it did not come to its end. SIGTERM ends a guest within a second; it gets one when its
parent dies. SIGKILL leaves helper processes behind, in the group that the process leads.
"""

from __future__ import annotations

import ctypes
import os
import shlex
import shutil
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from netem import syscalls
from netem.namespaces import HostError
from netem.uml.registers import COMPILER, SHIM, wide_registers

PROGRAM: Final = "linux.uml"
MODULES: Final = Path("/usr/lib/uml/modules")
WANTED: Final = ("ipv6", "veth", "sch_netem", "sch_tbf", "sch_htb", "cls_u32", "ifb", "bridge", "tun")
"""Nothing loads a module by itself in there."""

PACKAGES: Final = "user-mode-linux iproute2 kmod"
"""Of Debian and Ubuntu."""

MEMORY_MB: Final = 2048
LEAST_MEMORY_MB: Final = 128

QUICK_MEMORY: Final = {
    # A fault is dear in there: give back nothing, and map nothing anew.
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
    "MALLOC_TRIM_THRESHOLD_": "4294967296",
    "MALLOC_TOP_PAD_": "67108864",
}

_PR_SET_PDEATHSIG: Final = 1
_CODE, _ERRORS, _SCRIPT = "exit-code", "errors", "init"
INTERRUPT: Final = b"\x03"
"""To the process's standard input: SIGINT for the command, as from a terminal."""
_SHIM, _SHIM_SOURCE = "wide.so", "wide.c"
_HIDDEN: Final = ("/run", "/dev", "/proc", "/sys")
"""File systems of the guest's own lie over these."""

_INIT: Final = """#!/bin/sh
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc && mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /dev/pts /dev/shm
mount -t devpts pts /dev/pts && mount -t tmpfs shm /dev/shm && mount -t tmpfs run /run
ln -sfn /proc/self/fd /dev/fd
ln -sfn /proc/self/fd/0 /dev/stdin; ln -sfn /proc/self/fd/1 /dev/stdout; ln -sfn /proc/self/fd/2 /dev/stderr
stty -opost -echo </dev/ttyS0
mkdir -p /run/m/lib /run/tmp /run/netns && ln -s {modules} /run/m/lib/modules
missing=
for module in {wanted}; do
    modprobe -q -d /run/m $module || missing="$missing $module"
done
[ -z "$missing" ] || echo "guest: modules that did not load:$missing" >>{errors}
ip link set lo up
{environment}
export TMPDIR=/run/tmp
cd {workdir}
setsid -c -w {command} </dev/ttyS0 >/dev/ttyS0 2>>{errors}
echo $? >{code}.fresh && mv {code}.fresh {code}
sync
echo o >/proc/sysrq-trigger
sleep 10
"""


@dataclass(frozen=True, slots=True)
class Guest:
    """`folder`: an empty one of its own, where the guest sees it too. `core`: the host's, for all of it."""

    command: Sequence[str]
    folder: Path
    workdir: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    memory_mb: int = MEMORY_MB
    core: int | None = None
    niceness: int = 0

    def __post_init__(self) -> None:
        if not self.command:
            raise ValueError("command: must not be empty")
        if self.memory_mb < LEAST_MEMORY_MB:
            raise ValueError(f"memory_mb: must be {LEAST_MEMORY_MB} or more, not {self.memory_mb}")
        for name in self.environment:
            if not name.isidentifier():
                raise ValueError(f"environment: must have names of letters, digits and _, not {name!r}")

    def prepare(self) -> None:
        """Write what the guest starts with. HostError: it cannot be had here; OSError."""
        check()
        folder = self.folder.resolve()
        if any(folder.is_relative_to(hidden) for hidden in _HIDDEN):
            raise HostError(f"{folder}: the guest has file systems of its own there; set TMPDIR to another")
        script = folder / _SCRIPT
        script.write_text(self.init_script(), encoding="utf-8")
        script.chmod(0o755)
        if wide_registers():
            (folder / _SHIM_SOURCE).write_text(SHIM, encoding="ascii")

    def preparations(self) -> list[list[str]]:
        """Commands to run before, in order; none on most processors."""
        if not wide_registers():
            return []
        folder = self.folder.resolve()
        shim, source = str(folder / _SHIM), str(folder / _SHIM_SOURCE)
        return [[COMPILER, "-O2", "-shared", "-fPIC", "-mno-avx", "-o", shim, source]]

    def host_environment(self) -> dict[str, str]:
        """What the process itself needs beyond its parent's; nothing of it reaches programs inside."""
        return {"LD_PRELOAD": str(self.folder.resolve() / _SHIM)} if wide_registers() else {}

    def init_script(self) -> str:
        """What the guest's first process does; ends with the machine off."""
        environment = {**QUICK_MEMORY, **self.environment}
        return _INIT.format(
            modules=shlex.quote(str(MODULES)),
            wanted=" ".join(WANTED),
            environment="\n".join(
                f"export {name}={shlex.quote(value)}" for name, value in environment.items()
            ),
            workdir=shlex.quote(str(self.workdir.resolve())),
            command=shlex.join(self.command),
            code=shlex.quote(str(self.folder.resolve() / _CODE)),
            errors=shlex.quote(str(self.errors.resolve())),
        )

    @property
    def errors(self) -> Path:
        """The command's standard error, as it comes."""
        return self.folder / _ERRORS

    def arguments(self) -> list[str]:
        """Of the process to start."""
        return [
            PROGRAM,
            "rootfstype=hostfs",
            "rootflags=/",
            "rw",
            f"mem={self.memory_mb}M",
            "quiet",
            "loglevel=1",
            "selinux=0",
            f"init={self.folder.resolve() / _SCRIPT}",
            "con=null",
            "ssl0=fd:0,fd:1",
        ]

    def child(self) -> None:
        """In the new process, before it becomes the guest: one core, and no longer life than its parent's.

        The guest is one processor, and its parts wait for each other: on two cores it is 3 to 5 times slower.
        """
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGTERM), 0, 0, 0)
        syscalls.set_timer_slack(1)
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[-1] if self.core is None else self.core})
        if self.niceness:
            os.nice(self.niceness)

    def exit_code(self) -> int | None:
        """The command's; None: it did not come to its end."""
        try:
            return int((self.folder / _CODE).read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None


def check() -> None:
    """Whether this host can run a guest. HostError says what to install."""
    if os.uname().machine != "x86_64":
        raise HostError(f"User-Mode Linux: there is none for {os.uname().machine}")
    for program in (PROGRAM, "modprobe", "ip", "setsid"):
        if shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is None:
            raise HostError(f"User-Mode Linux: no {program}; Debian, Ubuntu: apt-get install {PACKAGES}")
    if not any(MODULES.glob("*/kernel/net/sched/sch_netem.ko*")):
        raise HostError(f"User-Mode Linux: no sch_netem in {MODULES}; its kernel comes without netem")
    if wide_registers() and shutil.which(COMPILER) is None:
        raise HostError(
            "User-Mode Linux: this processor has AMX, which its kernel needs help with, and there is no C "
            "compiler; Debian, Ubuntu: apt-get install gcc libc6-dev"
        )
