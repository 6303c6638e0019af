"""Looks for secrets everywhere a running system keeps or sends anything."""

import base64
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from aio_pika.abc import AbstractQueue
from pydantic import SecretStr

from deploy.local.stack import Stack
from deploy.local.system import SERVICES
from deploy.tests.stack.conftest import Rows
from shared import bus

Places = list[str]


def spellings(secret: str) -> list[str]:
    """A secret as it is, as PostgreSQL shows bytes, in base64, and with JSON's escapes of it."""
    raw = secret.encode()
    # Without the last characters, which depend on what follows.
    encoded = base64.b64encode(raw).decode().rstrip("=")[:-2]
    return [secret, raw.hex(), encoded]


def names_found(text: str, secrets: dict[str, str]) -> list[str]:
    """The names of the secrets that a text holds."""
    return [name for name, secret in secrets.items() if any(s in text for s in spellings(secret))]


async def in_tables(rows: Rows, secrets: dict[str, str]) -> Places:
    """Every table of every service, each row as text."""
    tables = await rows(
        "SELECT quote_ident(schemaname) || '.' || quote_ident(tablename) AS name FROM pg_tables"
        " WHERE schemaname = ANY($1)",
        list(SERVICES),
    )
    assert len(tables) > len(SERVICES)
    patterns = [f"%{_escaped(s)}%" for secret in secrets.values() for s in spellings(secret)]
    places: Places = []
    for table in tables:
        query = f"SELECT t::text AS row FROM {table['name']} t WHERE t::text LIKE ANY($1) LIMIT 3"
        found = await rows(query, patterns)
        places += [f"{table['name']}: {names_found(row['row'], secrets)}" for row in found]
    return places


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")


def in_logs(folder: Path, secrets: dict[str, str]) -> Places:
    """Every log below a data folder: those of our processes, of the database and of the broker.

    The card gateway is the outside world, and card numbers are its business.
    """
    files = [file for file in folder.rglob("*") if _is_log(file)]
    assert files
    return [
        f"{file.name}: {found}"
        for file in files
        if (found := names_found(file.read_text(errors="replace"), secrets))
    ]


def _is_log(file: Path) -> bool:
    if not file.is_file() or file.name.startswith("card-gateway"):
        return False
    return file.suffix == ".log" or "logs" in file.parts


class Listener:
    """A queue that gets every event there is."""

    def __init__(self, queue: AbstractQueue) -> None:
        self._queue = queue
        self.texts: list[str] = []

    async def collect(self) -> list[str]:
        """Take what has come; returns all that ever came."""
        while (message := await self._queue.get(no_ack=True, fail=False)) is not None:
            self.texts.append(f"{message.routing_key} {message.headers} {message.body.decode()}")
        return self.texts


@asynccontextmanager
async def listening(stack: Stack) -> AsyncIterator[Listener]:
    """Listen to every event from now on."""
    url = SecretStr(stack.system.rabbitmq_url)
    async with bus.connected(url, name="test") as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(await bus.events_exchange(channel), "#")
        yield Listener(queue)


def in_texts(texts: Iterable[str], secrets: dict[str, str]) -> Places:
    """Texts such as events and answers."""
    return [f"{text[:80]}: {found}" for text in texts if (found := names_found(text, secrets))]
