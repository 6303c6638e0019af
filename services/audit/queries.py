"""Every select of this service."""

import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Date, Select, cast, func, select, text, true, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from services.audit.evidence.chain import GENESIS, Head
from services.audit.evidence.personal import filled, references
from services.audit.models import (
    NO_ORGANIZATION,
    Archive,
    ArchivedRange,
    AuditLog,
    ChainHead,
    Erasure,
    PersonalValue,
)
from services.audit.schemas import Filters
from shared.errors import Invalid
from shared.paging import Page

EXPORT_CHUNK = 1000
_SLOW_READER = text("SET LOCAL idle_in_transaction_session_timeout = '15min'")
"""How long whoever reads an export may take over a thousand rows."""

_COLUMNS = list(AuditLog.__table__.columns)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_EQUAL = ("user_id", "organization_id", "entity_type", "entity_id", "correlation_id")

Row = Mapping[Any, Any]


def _wanted(filters: Filters) -> Select[Any]:
    statement = select(*_COLUMNS)
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
    statement = _wanted(filters)
    if page.after is not None:
        statement = statement.where(*_behind(page.after))
    found = (await session.execute(statement.limit(page.limit + 1))).mappings().all()
    rows = page.cut(found, lambda row: (_microseconds(row["created_at"]), row["id"]))
    return await _with_personal(session, rows)


def _behind(after: tuple[int, ...]) -> tuple[Any, Any]:
    """Return the conditions of a row's lying behind a cursor.

    The first one alone is what lets PostgreSQL pass over the months of newer rows.
    """
    try:
        microseconds, id_ = after
        instant = _EPOCH + timedelta(microseconds=microseconds)
    except (ValueError, OverflowError):
        raise Invalid("cursor", "is not a cursor of this list") from None
    position = tuple_(AuditLog.created_at, AuditLog.id)
    return AuditLog.created_at <= instant, position < tuple_(instant, id_)


def _microseconds(instant: datetime) -> int:
    return (instant - _EPOCH) // _MICROSECOND


async def stream_rows(session: AsyncSession, filters: Filters) -> AsyncIterator[list[Row]]:
    """Yield rows by the thousand, newest first, from a cursor in the server."""
    await session.execute(_SLOW_READER)
    streamed = await session.stream(_wanted(filters), execution_options={"yield_per": EXPORT_CHUNK})
    async for rows in streamed.mappings().partitions():
        yield await _with_personal(session, rows)


async def _with_personal(session: AsyncSession, rows: Sequence[Row]) -> list[Row]:
    """Return the rows with the personal values that their commitments stand for."""
    columns = ("old_values", "new_values")
    wanted = {mark for row in rows for column in columns for mark in references(row[column])}
    if not wanted:
        return list(rows)
    known = await _personal_values(session, wanted)
    return [{**row, **{name: filled(row[name], known) for name in columns}} for row in rows]


async def _personal_values(session: AsyncSession, commitments: Iterable[bytes]) -> dict[bytes, Any]:
    statement = select(PersonalValue.commitment, PersonalValue.value).where(
        PersonalValue.commitment.in_(list(commitments)), PersonalValue.value.is_not(None)
    )
    return {row.commitment: json.loads(row.value) for row in await session.execute(statement)}


@dataclass(frozen=True, slots=True)
class End:
    """Where a chain's head says that it ends, and the highest position that a row has."""

    position: int
    hash: bytes
    newest_row: int


async def end_of_chain(session: AsyncSession, chain: int, organization_id: int | None) -> End:
    """Return the end of a chain, head and rows as of one moment."""
    newest = select(func.max(AuditLog.position)).where(_of(organization_id)).scalar_subquery()
    head = select(ChainHead).where(ChainHead.organization_id == chain).subquery()
    statement = select(head.c.position, head.c.hash, newest).select_from(
        select(1).subquery().outerjoin(head, true())
    )
    position, hash_, newest_row = (await session.execute(statement)).one()
    return End(position or 0, hash_ or GENESIS, newest_row or 0)


def _of(organization_id: int | None) -> ColumnElement[bool]:
    if organization_id is None:
        return AuditLog.organization_id.is_(None)
    return AuditLog.organization_id == organization_id


async def chains(session: AsyncSession) -> list[int | None]:
    """Return the organizations that have a chain, None standing for the rows without one."""
    heads = select(ChainHead.organization_id)
    # A chain whose head was taken away must not go unnoticed.
    rows = select(func.coalesce(AuditLog.organization_id, NO_ORGANIZATION))
    found = await session.scalars(heads.union(rows.distinct()))
    return [id_ if id_ != NO_ORGANIZATION else None for id_ in sorted(found)]


async def stream_chain(
    session: AsyncSession, organization_id: int | None, first: int, last: int
) -> AsyncIterator[Sequence[Row]]:
    """Yield a range of a chain in its order, by the thousand."""
    statement = (
        select(*_COLUMNS)
        .where(_of(organization_id), AuditLog.position.between(first, last))
        .order_by(AuditLog.position, AuditLog.id)
    )
    streamed = await session.stream(statement, execution_options={"yield_per": EXPORT_CHUNK})
    async for rows in streamed.mappings().partitions():
        yield rows


async def hash_at(
    session: AsyncSession, organization_id: int | None, position: int
) -> bytes | None:
    """Return the hash of the row at a position of a chain, or None."""
    statement = select(AuditLog.hash).where(_of(organization_id), AuditLog.position == position)
    return (await session.scalars(statement.limit(1))).first()


async def archived_ranges(session: AsyncSession, chain: int) -> dict[int, ArchivedRange]:
    """Return the pieces of a chain that went to the archive, by their first position."""
    statement = select(ArchivedRange).where(ArchivedRange.organization_id == chain)
    return {piece.first_position: piece for piece in await session.scalars(statement)}


async def archives(session: AsyncSession) -> list[tuple[Archive, list[Row]]]:
    """Return the archives whose own entry in the trail is not archived yet, with their pieces."""
    archived_months = select(Archive.month).scalar_subquery()
    told_in = cast(func.date_trunc("month", func.timezone("UTC", Archive.archived_at)), Date)
    found = await session.scalars(
        select(Archive).where(told_in.not_in(archived_months)).order_by(Archive.id)
    )
    columns = list(ArchivedRange.__table__.columns)
    return [
        (archive, list((await session.execute(_pieces(columns, archive.id))).mappings()))
        for archive in found
    ]


async def archive_files(session: AsyncSession) -> Sequence[Archive]:
    """Return every archive, oldest first."""
    return (await session.scalars(select(Archive).order_by(Archive.id))).all()


def _pieces(columns: Sequence[Any], archive_id: int) -> Select[Any]:
    return select(*columns).where(ArchivedRange.archive_id == archive_id)


async def told_of_archive(session: AsyncSession, archive_id: int) -> tuple[Any, Any] | None:
    """Return the hashes of an archive and of its pieces as the trail has them, or None."""
    statement = select(AuditLog.new_values).where(
        AuditLog.entity_type == "audit_log",
        AuditLog.entity_id == archive_id,
        AuditLog.action == "ARCHIVE",
        AuditLog.organization_id.is_(None),
    )
    told = (await session.scalars(statement)).first()
    return (told.get("sha256"), told.get("pieces_sha256")) if told else None


async def committed_values(
    session: AsyncSession, commitments: Iterable[bytes]
) -> dict[bytes, PersonalValue]:
    """Return what is kept of personal values, by their commitment."""
    statement = select(PersonalValue).where(PersonalValue.commitment.in_(list(commitments)))
    return {value.commitment: value for value in await session.scalars(statement)}


async def erased_users(session: AsyncSession, users: Iterable[int | None]) -> set[int]:
    """Return which of the users were erased."""
    wanted = [user for user in users if user is not None]
    return set(await session.scalars(select(Erasure.user_id).where(Erasure.user_id.in_(wanted))))


async def heads(session: AsyncSession) -> dict[int, Head]:
    """Return the heads of all chains."""
    statement = select(ChainHead.organization_id, ChainHead.position, ChainHead.hash)
    return {id_: Head(position, hash_) for id_, position, hash_ in await session.execute(statement)}
