"""One network namespace a node, named after the run: whatever is left of a run can be found and removed.

A namespace is `ob-RUN-NODE` in /run/netns, where `ip netns` looks. RUN is the run's id where that is 1 to 24
letters and digits, else `_` and 12 hex digits of its SHA-256; NODE is the node's name where that is of
letters, digits, `.`, `-` and `_` and begins with a letter or digit, else `_` and 16 hex digits. So RUN never
holds a `-`, and no run's names begin like another's. Its loopback device carries the alias `orbitrain RUN-ID
NODE`, set before the namespace gets its name: only what has both, name and matching alias, is ours.

A process that has a run's namespaces holds `RunLock`, which the kernel takes away however the process ends:
what it holds is not left over. Everything here is done by the calling thread, which comes back to its own
namespace.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import socket
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Final

from netem import syscalls
from netem.netlink import LOOPBACK_INDEX, Netlink

FOLDER: Final = Path("/run/netns")
ADDRESSES: Final = IPv4Network("10.213.0.0/16")
"""Nodes' addresses, unless told otherwise: private (RFC 1918), and rarely used."""

_PREFIX: Final = "ob-"
_ALIAS: Final = "orbitrain"
_RUN_ID = re.compile(r"[!-~]{1,128}")
_PLAIN_RUN = re.compile(r"[A-Za-z0-9]{1,24}")
_PLAIN_NODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_OURS = re.compile(r"ob-(_[0-9a-f]{12}|[A-Za-z0-9]{1,24})-(_[0-9a-f]{16}|[A-Za-z0-9][A-Za-z0-9._-]{0,63})")


class HostError(Exception):
    """What the host lacks or refuses, and what to do about it, in one line."""


@dataclass(frozen=True, slots=True)
class Owned:
    """A namespace of ours. Without `node`: a name that its maker was killed before giving to a namespace."""

    path: Path
    tag: str
    run_id: str = ""
    node: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node's programs run."""

    namespace: Path
    address: IPv4Address

    def document(self) -> dict[str, str]:
        return {"netns": self.namespace.name, "address": str(self.address)}


def tag_of(run_id: str) -> str:
    """RUN in the names of a run's namespaces. ValueError unless 1 to 128 printable ASCII characters."""
    if not _RUN_ID.fullmatch(run_id):
        raise ValueError(
            f"run id: must be 1 to 128 printable ASCII characters without spaces, not {run_id!r}"
        )
    return run_id if _PLAIN_RUN.fullmatch(run_id) else f"_{_digest(run_id)[:12]}"


def namespace_name(run_id: str, node: str) -> str:
    """As `ip netns` shows it. ValueError as `tag_of`."""
    label = node if _PLAIN_NODE.fullmatch(node) else f"_{_digest(node)[:16]}"
    return f"{_PREFIX}{tag_of(run_id)}-{label}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class RunLock:
    """Held while a process of ours has the run's namespaces. HostError where another one holds it."""

    def __init__(self, tag: str) -> None:
        # An abstract name: no file to be left behind.
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._socket.bind(f"\0orbitrain-netem-{tag}")
        except OSError:
            self._socket.close()
            raise HostError(
                f"run {tag}: its links are up, held by another process: end that one first"
            ) from None

    def release(self) -> None:
        self._socket.close()


def held(tag: str) -> bool:
    """Whether a living process has this run's namespaces."""
    try:
        RunLock(tag).release()
    except HostError:
        return True
    return False


class Namespaces:
    """The namespaces that this process makes for a run. Raises HostError, ValueError."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self._lock = RunLock(tag_of(run_id))
        self._made: list[Path] = []

    @contextlib.contextmanager
    def created(self, node: str) -> Iterator[Path]:
        """A new namespace for the node, loopback up; the calling thread is in it inside. HostError."""
        path = FOLDER / namespace_name(self.run_id, node)
        try:
            os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0))
        except FileExistsError:
            raise HostError(
                f"{path}: is left of an earlier run: python -m netem clean --run-id {self.run_id}"
            ) from None
        except OSError as error:
            raise HostError(f"{path}: {error.strerror}") from None
        self._made.append(path)
        with syscalls.network_kept():
            try:
                syscalls.unshare(syscalls.CLONE_NEWNET)
                with Netlink() as netlink:
                    netlink.set_alias(LOOPBACK_INDEX, f"{_ALIAS} {self.run_id} {node}")
                    netlink.set_up(LOOPBACK_INDEX)
                # IPv6 would send its own discoveries over the links, which carry IPv4.
                with contextlib.suppress(OSError):
                    Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text("1", encoding="ascii")
                syscalls.mount(syscalls.OWN_NETWORK, str(path), "none", syscalls.MS_BIND)
            except OSError as error:
                raise HostError(f"namespace {path.name}: {error.strerror}") from None
            yield path

    def remove(self) -> None:
        """All that this object made, and its claim to the run. HostError names the last that would not go."""
        refused: HostError | None = None
        for path in reversed(self._made):
            try:
                _remove(path)
            except HostError as error:
                refused = error
        self._made.clear()
        self._lock.release()
        if refused is not None:
            raise refused


def owned(run_id: str | None = None) -> list[Owned]:
    """Our namespaces of one run, or of all, also of runs that go on. HostError: no right to look."""
    tag = None if run_id is None else tag_of(run_id)
    found: list[Owned] = []
    try:
        paths = sorted(FOLDER.iterdir())
        device = FOLDER.stat().st_dev
    except OSError:
        return []
    for path in paths:
        match = _OURS.fullmatch(path.name)
        if match is None or (tag is not None and match[1] != tag):
            continue
        try:
            status = path.lstat()
            if status.st_dev == device:  # nothing is mounted there
                if stat.S_ISREG(status.st_mode) and status.st_size == 0 and not status.st_mode & 0o777:
                    found.append(Owned(path, match[1]))
                continue
            with syscalls.network_of(str(path)), Netlink() as netlink:
                alias = netlink.device("lo").alias.split(" ")
        except FileNotFoundError:
            continue  # somebody else removed it
        except PermissionError:
            raise HostError("namespaces: no right to look into them: be root") from None
        except OSError:
            continue  # not a network namespace: not ours
        if len(alias) == 3 and alias[0] == _ALIAS and namespace_name(alias[1], alias[2]) == path.name:
            found.append(Owned(path, match[1], alias[1], alias[2]))
    return found


def clean(run_id: str | None = None) -> tuple[list[Owned], list[Owned]]:
    """Remove what is left of a run, or of every run whose process has ended: (removed, kept as it is in use).

    A namespace goes when the last process in it ends; its devices went with the process that moved the
    packets. HostError.
    """
    removed: list[Owned] = []
    kept: list[Owned] = []
    for one in owned(run_id):
        if held(one.tag):
            kept.append(one)
        else:
            _remove(one.path)
            removed.append(one)
    return removed, kept


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        syscalls.unmount(str(path))
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise HostError(
            f"{path}: {error.strerror}; something was mounted over {FOLDER} since: umount it, then "
            "python -m netem clean"
        ) from None


# --- what the host allows -----------------------------------------------------------------------------------


def check_rights() -> None:
    """Whether namespaces can be made here, and left again, probed by doing; makes `FOLDER`. HostError."""
    if not os.path.exists(syscalls.OWN_NETWORK):
        raise HostError(
            "network namespaces: this kernel has none, or no /proc is mounted (CONFIG_NET_NS; mount -t proc)"
        )
    try:
        with syscalls.network_kept():
            pass  # the way back first: it may be closed where the way out is open
        with syscalls.network_kept():
            syscalls.unshare(syscalls.CLONE_NEWNET)
    except OSError as error:
        raise HostError(
            f"network namespaces: {error.strerror}; be root (CAP_SYS_ADMIN, CAP_NET_ADMIN) or start with "
            "--unprivileged or inside `unshare -Urnm`"
        ) from None
    _prepare_folder()


def check_free(network: IPv4Network) -> None:
    """Whether the host has neither addresses in nor routes to these addresses. HostError."""
    with Netlink() as netlink:
        for used, what in netlink.networks():
            if used.overlaps(network):
                raise HostError(f"addresses {network}: in use here ({what}); choose others with --addresses")


def enter_unprivileged() -> None:
    """Move this process into a user, network and mount namespace of its own, where it is root.

    For a process of one thread, before anything else starts threads; its children are inside too, nobody else
    is. HostError.
    """
    uid, gid = os.geteuid(), os.getegid()
    try:
        syscalls.unshare(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNET | syscalls.CLONE_NEWNS)
        with contextlib.suppress(FileNotFoundError):
            Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1", encoding="ascii")
        syscalls.mount("none", "/", "none", syscalls.MS_REC | syscalls.MS_PRIVATE)
        with Netlink() as netlink:
            netlink.set_up(LOOPBACK_INDEX)
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise HostError(
                "user namespace: this process has threads already; start it inside `unshare -Urnm`"
            ) from None
        raise HostError(
            f"user namespace: {error.strerror}; be root, or let users have them (sysctl "
            "user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns=0)"
        ) from None
    _prepare_folder()


def _prepare_folder() -> None:
    """`FOLDER`, writable; in a user namespace a file system of our own: the host's is not ours to write."""
    try:
        if _in_user_namespace():
            if not _is_own_mount(FOLDER):
                with Netlink() as netlink:
                    netlink.set_up(LOOPBACK_INDEX)  # `unshare -n` leaves it down
                if not FOLDER.is_dir():
                    _cover_run()
                syscalls.mount(_ALIAS, str(FOLDER), "tmpfs", 0, "mode=755")
        else:
            FOLDER.mkdir(mode=0o755, exist_ok=True)
        _share_folder()
    except OSError as error:
        raise HostError(
            f"{FOLDER}: {error.strerror}; needs its own mount namespace (--unprivileged, `unshare -Urnm`)"
        ) from None


def _share_folder() -> None:
    """A shared mount on itself, as the first `ip netns add` makes it: later it would cover our names."""
    folder = str(FOLDER)
    try:
        syscalls.mount("none", folder, "none", syscalls.MS_SHARED | syscalls.MS_REC)
    except OSError as error:
        if error.errno != errno.EINVAL:  # it is: not a mount
            raise
        syscalls.mount(folder, folder, "none", syscalls.MS_BIND | syscalls.MS_REC)
        syscalls.mount("none", folder, "none", syscalls.MS_SHARED | syscalls.MS_REC)


def _cover_run() -> None:
    """A /run of our own with all that is in the host's, and an empty netns folder."""
    below = tempfile.mkdtemp(prefix="orbitrain-run-")
    everything = syscalls.MS_BIND | syscalls.MS_REC
    syscalls.mount("/run", below, "none", everything)
    syscalls.mount(_ALIAS, "/run", "tmpfs", 0, "mode=755")
    with os.scandir(below) as entries:
        for entry in entries:
            target = Path("/run") / entry.name
            if entry.is_symlink():
                target.symlink_to(os.readlink(entry.path))
                continue
            if entry.is_dir():
                target.mkdir()
            else:
                target.touch()
            with contextlib.suppress(OSError):
                syscalls.mount(entry.path, str(target), "none", everything)
    with contextlib.suppress(OSError):
        syscalls.unmount(below)
        os.rmdir(below)
    FOLDER.mkdir(mode=0o755)


def _in_user_namespace() -> bool:
    try:
        mapped = Path("/proc/self/uid_map").read_text(encoding="ascii").split()
    except OSError:
        return False  # a kernel without them
    return mapped != ["0", "0", "4294967295"]


def _is_own_mount(folder: Path) -> bool:
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        fields, _, rest = line.partition(" - ")
        if fields.split()[4] == str(folder) and rest.split()[1] == _ALIAS:
            return True
    return False
