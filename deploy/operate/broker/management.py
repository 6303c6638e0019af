"""Creates users in an operator's own broker by the HTTP API of RabbitMQ's management plugin."""

from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

import httpx

from deploy.local.errors import StartError
from deploy.operate.broker.access import MANAGEMENT_VARIABLE, definitions_for

SECONDS = 30.0


async def provision(management_url: str, passwords: Mapping[str, str], *, host: str) -> None:
    """Create the virtual host, the exchanges, every user and its rights. Safe to repeat.

    Raises StartError when the API cannot be reached or refuses.
    """
    parts = urlsplit(management_url)
    address = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().rstrip("/")
    administrator = (unquote(parts.username or ""), unquote(parts.password or ""))
    try:
        async with httpx.AsyncClient(timeout=SECONDS, auth=administrator) as client:
            response = await client.post(
                f"{address}/api/definitions", json=definitions_for(passwords, host=host)
            )
            response.raise_for_status()
    except httpx.HTTPStatusError as error:
        raise StartError(
            f"The broker's management API refused with status {error.response.status_code}.",
            f"The user of {MANAGEMENT_VARIABLE} must be an administrator of the broker.",
        ) from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise StartError(
            f"The broker's management API cannot be used: {type(error).__name__}.",
            f"Check {MANAGEMENT_VARIABLE}: http://administrator:password@host:15672",
        ) from None
