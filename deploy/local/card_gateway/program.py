"""The card gateway as a process of a local stack."""

import sys
from pathlib import Path

from deploy.local.supervisor import Program, own_environment

SECRET_VARIABLE = "CARD_GATEWAY_WEBHOOK_SECRET"  # noqa: S105 - a name
CONNECT_SECRET_VARIABLE = "CARD_GATEWAY_CONNECT_WEBHOOK_SECRET"  # noqa: S105 - a name
STATE_FILE = "card-gateway.sqlite"


def card_gateway_program(
    folder: Path,
    port: int,
    *,
    webhook_url: str,
    webhook_secret: str,
    connect_url: str | None = None,
    connect_secret: str | None = None,
) -> Program:
    """Describe the process that stores its state in `folder` and listens on 127.0.0.1:`port`.

    `connect_url` receives the events of connected accounts, signed with `connect_secret`.
    """
    connect = ("--connect-url", connect_url) if connect_url else ()
    secrets = {SECRET_VARIABLE: webhook_secret}
    if connect_secret:
        secrets[CONNECT_SECRET_VARIABLE] = connect_secret
    return Program(
        name="card-gateway",
        command=(
            *(sys.executable, "-m", "deploy.local.card_gateway"),
            *("--port", str(port)),
            *("--state", str(folder / STATE_FILE)),
            *("--webhook-url", webhook_url),
            *connect,
        ),
        environment={**own_environment(), **secrets},
        directory=folder,
    )
