"""`python -m orbitrain`, and the `orbitrain` command."""

import sys


def main() -> None:
    """Run the command, or say in one line what a light install lacks for it."""
    try:
        from orbitrain.cli import main as command
    except KeyboardInterrupt:
        sys.exit(130)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("orbitrain"):
            raise
        lacks = f"orbitrain: the command needs the extra 'testbed' ({error.name} is not installed)"
        print(lacks, file=sys.stderr)
        sys.exit(2)
    command()


if __name__ == "__main__":
    main()
