"""`python -m device_node --config FILE`."""

import sys

from device_node.node import COMPOSITION
from orbitrain.runtime import daemon


def main() -> int:
    return daemon.main(COMPOSITION)


if __name__ == "__main__":
    sys.exit(main())
