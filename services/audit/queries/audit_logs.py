"""Queries of audit rows with their personal data: pages and exports."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import BaseModel
from sqlalchemy import Select, select, text, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from services.audit.evidence.personal import filled, references
from services.audit.models import AuditLog
from services.audit.queries.personal_values import personal_values_of
from services.audit.queries.rows import CHUNK, COLUMNS, Row
from shared.errors import Invalid
from shared.paging import Page

_SLOW_READER = text("SET LOCAL idle_in_transaction_session_timeout = '15min'")
"""How long the reader of an export may take to receive a thousand rows."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_EQUAL = ("user_id", "organization_id", "entity_type", "entity_id", "correlation_id")


class Filters(BaseModel):
    """Which rows are requested; a filter that is None lets every row through."""

    user_id: int | None = None
    action: str | None = None
    entity_type: str | None = None
    entity_id: int | None = None
    correlation_id: str | None = None
    begin: datetime | None = None
    end: datetime | None = None
    organization_id: int | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the filters that are set, as JSON values."""
        return self.model_dump(mode="json", exclude_none=True)

    def within(self, organization_id: int | None) -> "Filters":
        """Return the same filters for one organization, or for all if it is None."""
        return self.model_copy(update={"organization_id": organization_id})


def _select(filters: Filters) -> Select[Any]:
    statement = select(*COLUMNS)
    for name in _EQUAL:
        value = getattr(filters, name)
        if value is not None:
            statement = statement.where(getattr(AuditLog, name) == value)
    if filters.action is not None:
        # All but the upgrade's `migration` are in capitals.
        spellings = {filters.action, filters.action.upper()}
        statement = statement.where(AuditLog.action.in_(sorted(spellings)))
    if filters.begin is not None:
        statement = statement.where(AuditLog.created_at >= filters.begin)
    if filters.end is not None:
        statement = statement.where(AuditLog.created_at < filters.end)
    return statement.order_by(AuditLog.created_at.desc(), AuditLog.id.desc())


async def page_of_rows(session: AsyncSession, page: Page, filters: Filters) -> list[Row]:
    """Return a page of rows, newest first, with their personal data."""
    statement = _select(filters)
    if page.after is not None:
        statement = statement.where(*_behind(page.after))
    rows = (await session.execute(statement.limit(page.limit + 1))).mappings().all()
    page_rows = page.cut(
        rows, lambda row: ((row["created_at"] - _EPOCH) // _MICROSECOND, row["id"])
    )
    return await _with_personal(session, page_rows)


def _behind(after: tuple[int, ...]) -> tuple[Any, Any]:
    """Return the conditions for rows behind a cursor.

    Only the first one lets PostgreSQL skip the months of newer rows.
    """
    try:
        microseconds, id_ = after
        instant = _EPOCH + timedelta(microseconds=microseconds)
    except (ValueError, OverflowError):
        raise Invalid("cursor", "is not a cursor of this list") from None
    position = tuple_(AuditLog.created_at, AuditLog.id)
    return AuditLog.created_at <= instant, position < tuple_(instant, id_)


async def stream_rows(session: AsyncSession, filters: Filters) -> AsyncIterator[list[Row]]:
    """Yield rows by the thousand, newest first, from a cursor in the database server."""
    await session.execute(_SLOW_READER)
    result = await session.stream(_select(filters), execution_options={"yield_per": CHUNK})
    async for rows in result.mappings().partitions():
        yield await _with_personal(session, rows)


async def _with_personal(session: AsyncSession, rows: Sequence[Row]) -> list[Row]:
    """Return the rows with the personal values of their commitments."""
    columns = ("old_values", "new_values")
    commitments = {
        commitment for row in rows for column in columns for commitment in references(row[column])
    }
    if not commitments:
        return list(rows)
    values = await personal_values_of(session, commitments)
    return [{**row, **{name: filled(row[name], values) for name in columns}} for row in rows]
