"""The few Linux calls that the standard library of Python 3.11 lacks: namespaces, mounts, timer slack."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from typing import Final

CLONE_NEWNS: Final = 0x00020000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWNET: Final = 0x40000000

MS_BIND: Final = 4096
MS_REC: Final = 16384
MS_PRIVATE: Final = 1 << 18
MS_SHARED: Final = 1 << 20
MNT_DETACH: Final = 2
_PR_SET_DUMPABLE: Final = 4
_PR_SET_TIMERSLACK: Final = 29

OWN_NETWORK: Final = "/proc/thread-self/ns/net"
"""The network namespace of the calling thread."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    """OSError; a new user namespace needs a process of one thread."""
    _check(_libc.unshare(flags), "unshare")


def setns(fd: int, kind: int) -> None:
    """Move the calling thread. OSError."""
    _check(_libc.setns(fd, kind), "setns")


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    """OSError."""
    _check(
        _libc.mount(source.encode(), target.encode(), kind.encode(), flags, data.encode()), f"mount {target}"
    )


def unmount(target: str) -> None:
    """At once for new users, for the rest when they end. OSError."""
    _check(_libc.umount2(target.encode(), MNT_DETACH), f"umount {target}")


def set_timer_slack(slack_ns: int) -> None:
    """How much later than asked the calling thread may be woken; the default is 50 us."""
    _libc.prctl(_PR_SET_TIMERSLACK, ctypes.c_ulong(slack_ns), 0, 0, 0)


def own_proc_files() -> None:
    """After a change of user: /proc/self belongs to the new one again, as after an exec."""
    _libc.prctl(_PR_SET_DUMPABLE, ctypes.c_ulong(1), 0, 0, 0)


@contextlib.contextmanager
def network_kept() -> Iterator[None]:
    """Whatever network namespace the calling thread goes to inside, it comes back. OSError."""
    home = os.open(OWN_NETWORK, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield
    finally:
        try:
            setns(home, CLONE_NEWNET)
        finally:
            os.close(home)


@contextlib.contextmanager
def network_of(path: str) -> Iterator[None]:
    """The calling thread is in that network namespace inside. OSError."""
    with network_kept():
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            setns(fd, CLONE_NEWNET)
        finally:
            os.close(fd)
        yield
