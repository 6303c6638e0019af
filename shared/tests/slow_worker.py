"""`python -m shared.tests.slow_worker FILE`: a worker whose handler never comes to its end."""

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from shared.consumer import Consumer, read_event
from shared.db import make_engine
from shared.events import Event
from shared.settings import ServiceSettings
from shared.tests.messages import QUEUE
from shared.tests.sample import CATALOGUE, NAME
from shared.transactions import Transactions
from shared.worker import Worker, start


def environment_of(settings: ServiceSettings, rabbitmq_url: SecretStr) -> dict[str, str]:
    """Return the environment variables that give the process these settings."""
    secret = {
        "DATABASE_URL": settings.database_url,
        "RABBITMQ_URL": rabbitmq_url,
        "INTERNAL_KEY": settings.internal_key,
    }
    plain = {
        "INTERNAL_JWKS": settings.internal_jwks,
        "JWKS": settings.jwks or "",
        "TOKEN_ISSUER": settings.token_issuer,
        "TOKEN_AUDIENCE": settings.token_audience,
    }
    return {name: value.get_secret_value() for name, value in secret.items()} | plain


async def start_slow_worker(
    begun: Path, environment: Mapping[str, str]
) -> asyncio.subprocess.Process:
    """Start the process; it makes the file `begun` when its handler has begun."""
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", __name__, str(begun), env={**os.environ, **environment}
    )


async def never_done(session: AsyncSession, events: Sequence[Event]) -> None:
    """Begin an effect, record it in a file, and hang."""
    for event in events:
        await session.execute(
            text("INSERT INTO pairs (id) VALUES (:id)"), {"id": event.data.entity_id}
        )
    await asyncio.to_thread(Path(sys.argv[1]).touch)
    await asyncio.sleep(3600)


if __name__ == "__main__":
    settings = ServiceSettings()
    transactions = Transactions(make_engine(settings.database_url), "carnet/sample", CATALOGUE)
    consumer = Consumer(QUEUE, never_done, transactions, settings.rabbitmq_url, read=read_event)
    start(Worker(NAME, settings, transactions, listeners=[], consumers=[consumer]))
