"""One request to the service in a process of its own, which a fail point kills.

The settings and the request are read as JSON from stdin.
"""

import asyncio
import json
import sys

from services.vouchers.app import create_app
from services.vouchers.settings import Settings
from services.vouchers.tests.environment import transports_of
from services.vouchers.tests.outside import Identity, Organizations, Payments
from shared.testing import client_of


async def main() -> None:
    """Send the request; the process ends before it has the answer."""
    task = json.load(sys.stdin)
    transports = transports_of(Payments(), Organizations(), Identity())
    app = create_app(Settings(**task["settings"]), transports=transports)
    async with client_of(app) as client:
        await client.request("POST", task["path"], json=task["body"], headers=task["headers"])


if __name__ == "__main__":
    asyncio.run(main())
