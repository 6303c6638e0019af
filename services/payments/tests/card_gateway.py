"""localstripe as a process of its own for tests: one address, nothing on disk.

python -m services.payments.tests.card_gateway PORT
"""

import sys

from aiohttp import web
from localstripe import resources, server


def _forget(*_: object) -> None:
    """Keep nothing: by itself localstripe writes all it has to one file of /tmp at each change."""


def main() -> None:
    """Serve until SIGTERM."""
    resources.Store.dump_to_disk = _forget
    web.run_app(server.app, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)


if __name__ == "__main__":
    main()
