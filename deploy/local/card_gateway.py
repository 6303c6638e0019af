"""The program of the local stack's card gateway, localstripe."""

import sys
from pathlib import Path

from deploy.local.supervisor import Program, own_environment

SECRET_VARIABLE = "CARD_GATEWAY_WEBHOOK_SECRET"  # noqa: S105 - a name
# The events that we want to receive; localstripe sends fewer of them than Stripe does.
EVENTS = [
    *(f"payment_intent.{what}" for what in ("succeeded", "payment_failed", "canceled")),
    *(f"payment_intent.{what}" for what in ("requires_action", "processing", "created")),
    *(f"charge.{what}" for what in ("succeeded", "failed", "pending", "captured", "refunded")),
    *(f"charge.{what}" for what in ("refund.updated", "dispute.created", "dispute.closed")),
    *(f"refund.{what}" for what in ("created", "updated", "failed")),
]


def program(folder: Path, port: int, *, webhook_url: str, webhook_secret: str) -> Program:
    """Describe the process that stores its state in `folder` and listens on 127.0.0.1:`port`."""
    return Program(
        name="card-gateway",
        command=(
            *(sys.executable, "-m", "deploy.local.card_gateway_server"),
            *("--port", str(port)),
            *("--state", str(folder / "card-gateway.pickle")),
            *("--webhook-url", webhook_url),
        ),
        environment={**own_environment(), SECRET_VARIABLE: webhook_secret},
        directory=folder,
    )
