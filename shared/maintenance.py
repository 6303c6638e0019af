"""The maintenance notice of a schema: while it is stored there, its service does not start.

A program that changes a schema, such as an upgrade, creates the table, inserts the notice before
the first change and deletes it after the last. If the program is interrupted the notice remains:
each service that an operator starts then reports what is unfinished and how to continue.
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
class MaintenanceNotice:
    """Why a schema must not be used, and how to end that."""

    reason: str
    remedy: str


async def find_notice(engine: AsyncEngine) -> MaintenanceNotice | None:
    """Return the notice in the schema of an engine's role, or None."""
    async with engine.connect() as connection:
        if not await connection.scalar(_IS_THERE):
            return None
        row = (await connection.execute(_NOTICE)).one_or_none()
        return None if row is None else MaintenanceNotice(row.reason, row.remedy)


async def refuse_to_start(engine: AsyncEngine) -> None:
    """Raise SystemExit with the text of the notice, if there is one.

    The engine does not close the connection, so a program that inserts a notice and then looks for
    sessions of the service's role finds every process that has passed this check.
    """
    notice = await find_notice(engine)
    if notice is not None:
        await engine.dispose()
        raise SystemExit(f"{notice.reason} {notice.remedy}")


async def refuse_to_start_once_reachable(engine: AsyncEngine) -> None:
    """Wait until the database is reachable, then raise SystemExit if there is a notice."""
    while True:
        try:
            await refuse_to_start(engine)
        except UNREACHABLE as error:
            log.warning("database_awaited", cause=repr(error))
            await asyncio.sleep(_RETRY_SECONDS)
        else:
            return
