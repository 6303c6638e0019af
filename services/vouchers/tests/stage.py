"""The service in a loop of its own, for machines of hypothesis, whose steps are plain functions."""

import asyncio
import json
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any, TypeVar

from services.vouchers.app import NAME, create_app
from services.vouchers.events import CATALOGUE
from services.vouchers.tests.environment import settings_of, transports_of
from services.vouchers.tests.outside import Identity, Organizations, Payments
from services.vouchers.tests.people import People
from shared.db import make_engine
from shared.testing import Database, Tokens, client_of
from shared.transactions import Transactions

Result = TypeVar("Result")


class Stage:
    """The service in a loop of its own: the machine's steps are plain functions."""

    def __init__(self, database: Database, tokens: Tokens) -> None:
        self.database, self.people = database, People(tokens)
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.run(self._open(tokens))

    async def _open(self, tokens: Tokens) -> None:
        settings = settings_of(self.database, tokens)
        self.payments = Payments()
        transports = transports_of(self.payments, Organizations(), Identity())
        app = create_app(settings, transports=transports)
        self.client = await self.stack.enter_async_context(client_of(app))
        engine = make_engine(settings.database_url)
        self.stack.push_async_callback(engine.dispose)
        self.transactions = Transactions(engine, f"carnet/{NAME}", CATALOGUE)
        self.admin = await self.stack.enter_async_context(self.database.admin())

    def run(self, step: Coroutine[Any, Any, Result]) -> Result:
        """Run one step to its end."""
        return self.runner.run(step)

    def rows(self, query: str, *arguments: Any) -> list[dict[str, Any]]:
        """Return what is really in the database, past every policy."""
        return [dict(row) for row in self.run(self.admin.fetch(query, *arguments))]

    def events_of(self, subject: str) -> list[dict[str, Any]]:
        """Return the data of the events about something, oldest first."""
        query = (
            "SELECT body::jsonb -> 'data' AS data FROM outbox"
            " WHERE body::jsonb ->> 'subject' = $1 ORDER BY id"
        )
        return [json.loads(row["data"]) for row in self.rows(query, subject)]

    def close(self) -> None:
        """Leave an empty database and no connection behind."""
        self.run(self.stack.aclose())
        self.run(self.database.clear())
        self.runner.close()
