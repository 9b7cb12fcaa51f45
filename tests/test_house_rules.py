"""House rules that import contracts cannot express, read from the syntax tree of every file.

A technology has one owner: a module, or the package that replaces it when it grows. Rules about modules
that do not exist yet hold trivially.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PRODUCT = ("orbitrain", "satellite_node", "ground_node", "device_node", "netem")
EVERYTHING = (*PRODUCT, "tests", "tools", "bench", "deploy")
GENERATED = "orbitrain/v1"


@dataclass(frozen=True, slots=True)
class Ownership:
    technology: str
    names: tuple[str, ...]  # dotted; a name covers everything below it
    owners: tuple[str, ...]  # without .py


OWNERSHIPS = (
    Ownership("gRPC", ("grpc", "grpc_health"), ("orbitrain/transport/rpc", GENERATED)),
    Ownership("ZeroMQ", ("zmq",), ("orbitrain/transport/bus",)),
    Ownership("SQLite", ("sqlite3",), ("orbitrain/transport/store",)),
    Ownership(
        "reading time",
        (
            "time",
            "datetime.datetime.now",
            "datetime.datetime.utcnow",
            "datetime.datetime.today",
            "datetime.date.today",
            "asyncio.get_running_loop.time",
            "asyncio.get_event_loop.time",
        ),
        ("orbitrain/runtime/clock",),
    ),
    Ownership(
        "starting processes",
        (
            "subprocess",
            "multiprocessing",
            "concurrent.futures.ProcessPoolExecutor",
            "asyncio.create_subprocess_exec",
            "asyncio.create_subprocess_shell",
            "os.system",
            "os.popen",
            "os.fork",
            "os.forkpty",
            "os.posix_spawn",
            "os.posix_spawnp",
            "os.execv",
            "os.execve",
            "os.execvp",
            "os.execvpe",
            "pty",
        ),
        ("orbitrain/runtime/compute", "orbitrain/testbed"),
    ),
    Ownership("netlink", ("socket.AF_NETLINK", "pyroute2"), ("netem/netlink",)),
)

# Reading a pickle runs what it says. torch's own files are pickles too.
PICKLES = Ownership(
    "pickle",
    (
        "pickle",
        "_pickle",
        "cloudpickle",
        "dill",
        "marshal",
        "shelve",
        "joblib",
        "torch.load",
        "torch.save",
        "torch.jit.load",
        "torch.serialization",
    ),
    (),
)

PURE = (
    "orbitrain/machine",
    "orbitrain/mailbox",
    "orbitrain/flights",
    "orbitrain/memory",
    "orbitrain/transfers",
    "orbitrain/transport/expected",
    "orbitrain/core",
    "orbitrain/step",
    "orbitrain/protocols",
    "orbitrain/contacts",
    "orbitrain/flow",
    "orbitrain/splitting",
    "orbitrain/sim",
    "orbitrain/transport/objects",
    "orbitrain/transport/stripes",
)
IMPURE_NAMES = (
    "asyncio", "time", "random", "os", "socket", "subprocess", "threading", "sqlite3", "grpc", "zmq",
)  # fmt: skip

# A daemon is small; what is large is loaded by its worker or by the command on a person's machine.
DAEMONS = ("satellite_node", "ground_node", "device_node")
HEAVY = ("torch", "onnxruntime", "sklearn", "scipy", "skyfield", "sgp4", "matplotlib", "typer", "rich")


LOOPS = ("asyncio.get_running_loop", "asyncio.get_event_loop")


@cache  # each rule looks at every source
def uses(source: str) -> tuple[tuple[int, str], ...]:
    """Every imported module and every dotted use of one, aliases resolved: (line, dotted name)."""
    return tuple(_uses(source))


def _uses(source: str) -> Iterator[tuple[int, str]]:
    tree = ast.parse(source)
    known: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
                if alias.asname:
                    known[alias.asname] = alias.name
                else:
                    known[alias.name.split(".")[0]] = alias.name.split(".")[0]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}"
                known[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    for node in ast.walk(tree):
        # `loop = asyncio.get_running_loop()` keeps its meaning under the new name.
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.value, ast.Call)
            and (called := dotted(node.value.func, known)) in LOOPS
        ):
            known.update({target.id: called for target in node.targets if isinstance(target, ast.Name)})
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and (name := dotted(node, known)):
            yield node.lineno, name
        elif isinstance(node, ast.Call):
            called = dotted(node.func, known)
            first = node.args[0] if node.args else None
            if called in ("__import__", "importlib.import_module") and isinstance(first, ast.Constant):
                yield node.lineno, str(first.value)
            for keyword in node.keywords:
                allowed = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
                if keyword.arg == "allow_pickle" and not allowed:
                    yield node.lineno, "pickle"


def dotted(node: ast.expr, known: dict[str, str]) -> str:
    """The dotted name an expression stands for, or '' where it is not one."""
    if isinstance(node, ast.Name):
        return known.get(node.id, node.id if node.id == "__import__" else "")
    if isinstance(node, ast.Attribute):
        parent = dotted(node.value, known)
        return f"{parent}.{node.attr}" if parent else ""
    if isinstance(node, ast.Call):
        return dotted(node.func, known)
    return ""


def covers(name: str, used: str) -> bool:
    return used == name or used.startswith(f"{name}.")


def owns(owner: str, path: str) -> bool:
    return path == f"{owner}.py" or path.startswith(f"{owner}/")


def breaches(rule: Ownership, path: str, source: str) -> list[str]:
    if any(owns(owner, path) for owner in rule.owners):
        return []
    found = {
        (line, name) for line, used in uses(source) for name in rule.names if covers(name, used)
    }  # one line may use a name twice
    return [f"{path}:{line}: {name}" for line, name in sorted(found)]


def sources(folders: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")


@pytest.mark.parametrize("rule", OWNERSHIPS, ids=lambda rule: rule.technology)
def test_a_technology_has_one_owner(rule: Ownership) -> None:
    found = [breach for path, source in sources(PRODUCT) for breach in breaches(rule, path, source)]
    assert not found, f"{rule.technology} belongs to {' and '.join(rule.owners)}:\n" + "\n".join(found)


def test_there_is_no_pickle_anywhere() -> None:
    found = [breach for path, source in sources(EVERYTHING) for breach in breaches(PICKLES, path, source)]
    assert not found, "\n".join(found)


def test_every_folder_of_code_is_a_regular_package() -> None:
    """The import contracts do not see into a folder without __init__.py."""
    folders = {Path(path).parent for path, _ in sources(PRODUCT)}
    missing = [
        folder.as_posix() for folder in sorted(folders) if not (ROOT / folder / "__init__.py").exists()
    ]
    assert not missing, f"no __init__.py in {missing}"


def test_pure_modules_have_no_clock_chance_socket_thread_or_file() -> None:
    rule = Ownership("the outside world", IMPURE_NAMES, ())
    pure = [(path, source) for path, source in sources(PRODUCT) if any(owns(module, path) for module in PURE)]
    found = [breach for path, source in pure for breach in breaches(rule, path, source)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("daemon", DAEMONS)
def test_importing_a_daemon_loads_no_heavy_library(daemon: str) -> None:
    if not (ROOT / daemon / "__main__.py").exists():
        pytest.skip(f"there is no {daemon} yet")
    program = f"import sys, {daemon}.__main__; print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == []


CAUGHT = {
    "gRPC": ("import grpc.aio", "from grpc_health.v1 import health"),
    "ZeroMQ": ("import zmq.asyncio as bus", "def later():\n    import zmq"),
    "SQLite": ("from sqlite3 import connect",),
    "reading time": (
        "import time",
        "from time import monotonic",
        "import datetime as d\nd.datetime.now(d.UTC)",
        "from datetime import datetime as D, UTC\nD.now(UTC)",
        "from datetime import date\ndate.today()",
        "import asyncio\nasyncio.get_running_loop().time()",
        "import asyncio\nloop = asyncio.get_running_loop()\nloop.time()",
    ),
    "starting processes": (
        "from subprocess import run",
        "import asyncio\nasync def f(): await asyncio.create_subprocess_exec('x')",
        "from asyncio import create_subprocess_exec as start",
        "import os\nos.fork()",
        "from concurrent.futures import ProcessPoolExecutor",
    ),
    "netlink": ("import socket\nsocket.socket(socket.AF_NETLINK)",),
    "pickle": (
        "import pickle",
        "from cloudpickle import dumps",
        "import torch as t\nt.load('x', weights_only=True)",
        "from torch import load",
        "import numpy as np\nnp.load('x', allow_pickle=True)",
        "import numpy as np\nnp.load('x', allow_pickle=trusted)",
        "import importlib\nimportlib.import_module('pickle')",
        "__import__('marshal')",
    ),
}


@pytest.mark.parametrize("rule", (*OWNERSHIPS, PICKLES), ids=lambda rule: rule.technology)
def test_each_rule_catches_its_breaches(rule: Ownership) -> None:
    for source in CAUGHT[rule.technology]:
        assert breaches(rule, "orbitrain/learning/train.py", source), source
    for owner in rule.owners:
        for path in (f"{owner}.py", f"{owner}/inner.py"):
            assert not breaches(rule, path, CAUGHT[rule.technology][0])


def test_rules_leave_neighbours_alone() -> None:
    innocent = (
        "import datetime\nx = datetime.datetime.fromisoformat('2030-01-01')\n"
        "import asyncio, socket, os\nasyncio.sleep(1)\nos.fsync(3)\nsocket.AF_INET\n"
        "import torch, numpy as np\ntorch.tensor(1)\nnp.load('x', allow_pickle=False)\n"
        "from orbitrain.runtime import time_scale\nfrom . import time\nrecord.time()\n"
    )
    for rule in (*OWNERSHIPS, PICKLES):
        assert not breaches(rule, "orbitrain/learning/train.py", innocent), rule.technology
