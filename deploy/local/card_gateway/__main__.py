"""Run the card gateway of local stacks and tests. Never use it for real money: any key is accepted.

    python -m deploy.local.card_gateway --port 8420 --state FILE --webhook-url URL

Environment variables have the secrets of the webhooks, and may have their addresses:
CARD_GATEWAY_WEBHOOK_URL, CARD_GATEWAY_WEBHOOK_SECRET for the platform's own events,
CARD_GATEWAY_CONNECT_WEBHOOK_URL, CARD_GATEWAY_CONNECT_WEBHOOK_SECRET for connected accounts.
Without an address no webhook endpoint exists until one is created by the API.
"""

import argparse
import logging
import os

import uvicorn

from deploy.local.card_gateway.app import Endpoint, create_app
from deploy.local.card_gateway.events import CONNECT_EVENTS, EVENTS
from deploy.local.card_gateway.store import Store

WEBHOOK_DELAY_SECONDS = 0.5
"""Stripe's webhooks usually arrive when the response has been read."""


def main() -> None:
    """Run until SIGTERM."""
    arguments = _arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    addresses = (
        (arguments.webhook_url, "", EVENTS),
        (arguments.connect_url, "CONNECT_", CONNECT_EVENTS),
    )
    endpoints = tuple(
        Endpoint(url, os.environ[f"CARD_GATEWAY_{kind}WEBHOOK_SECRET"], events, bool(kind))
        for url, kind, events in addresses
        if url
    )
    store = Store(arguments.state)
    app = create_app(
        store,
        endpoints=endpoints,
        public_url=arguments.public_url,
        webhook_delay=arguments.webhook_delay,
    )
    uvicorn.run(
        app, host=arguments.host, port=arguments.port, access_log=False, log_level="warning"
    )
    store.close()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Run a local card gateway with Stripe's API.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--state", default=":memory:", help="a SQLite file (default: none)")
    parser.add_argument("--webhook-url", default=os.environ.get("CARD_GATEWAY_WEBHOOK_URL"))
    parser.add_argument("--connect-url", default=os.environ.get("CARD_GATEWAY_CONNECT_WEBHOOK_URL"))
    parser.add_argument("--public-url", help="the address of the pages for people")
    parser.add_argument(
        "--webhook-delay", type=float, default=WEBHOOK_DELAY_SECONDS, help="in seconds"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
