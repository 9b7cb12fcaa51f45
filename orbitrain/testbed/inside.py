"""`python -m orbitrain.testbed.inside [ARGUMENTS]`: the command inside namespaces of an unprivileged user.

A process with threads cannot enter a user namespace, and the command's libraries start some. So this small
one enters user, network and mount namespaces first, and then becomes `orbitrain ARGUMENTS`. Without arguments
it only tries, and says in one line what is in the way.
"""

from __future__ import annotations

import os
import sys

from netem.namespaces import HostError, check_rights, enter_unprivileged
from netem.tun.device import probe


def main() -> int:
    arguments = sys.argv[1:]
    try:
        enter_unprivileged()
        if not arguments:
            check_rights()
            probe()
    except HostError as error:
        print(error, file=sys.stderr)
        return 2
    if arguments:
        os.execv(sys.executable, [sys.executable, "-m", "orbitrain", *arguments])
    return 0


if __name__ == "__main__":
    sys.exit(main())
