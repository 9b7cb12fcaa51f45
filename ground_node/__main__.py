"""`python -m ground_node --config FILE`."""

import sys

from ground_node.node import COMPOSITION
from orbitrain.runtime import daemon


def main() -> int:
    return daemon.main(COMPOSITION)


if __name__ == "__main__":
    sys.exit(main())
