"""`python -m orbitrain.testbed.inside ARGUMENTS`: the command inside namespaces of an unprivileged user.

A process with threads cannot enter a user namespace, and the command's libraries start some. So this small
one enters user, network and mount namespaces first, and then becomes `orbitrain ARGUMENTS`. As `--try BACKEND
...` it only tries, and says as one JSON object why links cannot be emulated there by each: {back end: reason,
empty for none}.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Final

from netem.namespaces import HostError, enter_unprivileged

TRY: Final = "--try"


def main() -> int:
    arguments = sys.argv[1:]
    try:
        enter_unprivileged()
    except HostError as error:
        print(error, file=sys.stderr)
        return 2
    if arguments[:1] == [TRY]:
        from orbitrain.testbed.host import obstacles

        print(json.dumps(obstacles(arguments[1:])))
        return 0
    os.execv(sys.executable, [sys.executable, "-m", "orbitrain", *arguments])


if __name__ == "__main__":
    sys.exit(main())
