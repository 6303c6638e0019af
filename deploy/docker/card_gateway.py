"""The card gateway of the development profile: localstripe, reachable by other containers.

    CARD_GATEWAY_WEBHOOK_SECRET=… CARD_GATEWAY_WEBHOOK_URL=… python -m deploy.docker.card_gateway

Stores its state in /var/lib/carnet. Never use it for real money: it requires no key.
"""

import logging
import os
from pathlib import Path

from aiohttp import web
from localstripe import resources, server, webhooks

from deploy.local.card_gateway import EVENTS, SECRET_VARIABLE
from deploy.local.card_gateway_server import StateFile

PORT = 8420
STATE = Path("/var/lib/carnet/card-gateway.pickle")
URL_VARIABLE = "CARD_GATEWAY_WEBHOOK_URL"


def main() -> None:
    """Run until SIGTERM."""
    state = StateFile(STATE)
    resources.Store.dump_to_disk = state.changed
    state.load()
    webhooks.register_webhook(
        "carnet", os.environ[URL_VARIABLE], os.environ[SECRET_VARIABLE], EVENTS
    )
    server.app.cleanup_ctx.append(state.write_changes)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    web.run_app(server.app, host="0.0.0.0", port=PORT, print=None)  # noqa: S104 - a container's


if __name__ == "__main__":
    main()
