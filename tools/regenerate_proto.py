"""Regenerate orbitrain/v1 from proto/orbitrain/v1 (needs the `dev` extra).

Written to a temporary folder first, so that a mistake in a .proto leaves the committed code alone.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from importlib.resources import as_file, files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path("orbitrain/v1")
GENERATED = "*_pb2*.py*"
INIT = '"""Generated from proto/orbitrain/v1 by `make proto`. Do not edit."""\n'


def generate(destination: Path) -> int:
    """Run protoc over every .proto of the package; answer its exit status."""
    root = ROOT / "proto"
    protos = sorted(path.relative_to(root).as_posix() for path in (root / PACKAGE).glob("*.proto"))
    if not protos:
        print(f"no .proto files in proto/{PACKAGE}", file=sys.stderr)
        return 1
    with as_file(files("grpc_tools") / "_proto") as well_known:
        return protoc.main(
            [
                "protoc",
                f"--proto_path={root}",
                f"--proto_path={well_known}",
                f"--python_out={destination}",
                f"--grpc_python_out={destination}",
                f"--pyi_out={destination}",
                *protos,
            ]
        )


def main() -> int:
    parser = argparse.ArgumentParser(description="Regenerate orbitrain/v1 from proto/orbitrain/v1.")
    parser.add_argument("--out", type=Path, default=ROOT, metavar="DIR", help="folder that gets orbitrain/v1")
    target = parser.parse_args().out / PACKAGE

    with tempfile.TemporaryDirectory() as scratch:
        status = generate(Path(scratch))
        if status != 0:
            return status
        target.mkdir(parents=True, exist_ok=True)
        for stale in target.glob(GENERATED):
            stale.unlink()  # its .proto may be gone
        for fresh in sorted((Path(scratch) / PACKAGE).glob(GENERATED)):
            shutil.copyfile(fresh, target / fresh.name)
    init = target / "__init__.py"
    if not init.exists():
        init.write_text(INIT, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
