"""`python -m satellite_node --config FILE`."""

import sys

from orbitrain.runtime import daemon
from satellite_node.node import COMPOSITION


def main() -> int:
    return daemon.main(COMPOSITION)


if __name__ == "__main__":
    sys.exit(main())
