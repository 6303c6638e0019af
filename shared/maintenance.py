"""The notice at a schema that is being worked on: while it stands, its service does not start.

Whoever works on a schema, as an upgrade does, makes the table, puts the notice up before the first
change and takes it down after the last. It survives whatever interrupts the work: an operator who
starts the services then is told, by each of them, what is unfinished and how to go on.
"""

import asyncio
from dataclasses import dataclass

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.outages import UNREACHABLE

MAKE_TABLE = """
    CREATE TABLE IF NOT EXISTS maintenance (
        only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
        reason text NOT NULL,
        remedy text NOT NULL
    )
"""
_IS_THERE = text("SELECT to_regclass('maintenance') IS NOT NULL")
_NOTICE = text("SELECT reason, remedy FROM maintenance")
_RETRY_SECONDS = 1.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Notice:
    """Why a schema is not to be used, and what ends that."""

    reason: str
    remedy: str


async def find_notice(engine: AsyncEngine) -> Notice | None:
    """Return the notice that stands in the schema of an engine's role, or None."""
    async with engine.connect() as connection:
        if not await connection.scalar(_IS_THERE):
            return None
        row = (await connection.execute(_NOTICE)).one_or_none()
        return None if row is None else Notice(row.reason, row.remedy)


async def refuse_to_start(engine: AsyncEngine) -> None:
    """End this process with the notice's words, if one stands. Raises SystemExit.

    The engine keeps the connection: who puts a notice up and then looks for the sessions of the
    service's role finds every process that passed here before.
    """
    notice = await find_notice(engine)
    if notice is not None:
        await engine.dispose()
        raise SystemExit(f"{notice.reason} {notice.remedy}")


async def refuse_to_start_once_reachable(engine: AsyncEngine) -> None:
    """Do the same, waiting until the database answers: nobody knows what stands there before."""
    while True:
        try:
            await refuse_to_start(engine)
        except UNREACHABLE as error:
            log.warning("database_awaited", cause=repr(error))
            await asyncio.sleep(_RETRY_SECONDS)
        else:
            return
