"""Queries of archives and of the pieces of chains that they hold."""

from collections.abc import Sequence
from datetime import date
from typing import Any

from sqlalchemy import Date, cast, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.audit.models import Archive, ArchivedRange, AuditLog
from services.audit.queries.rows import Row


async def archived_ranges(session: AsyncSession, chain: int) -> dict[int, ArchivedRange]:
    """Return the pieces of a chain that are in an archive, by their first position."""
    statement = select(ArchivedRange).where(ArchivedRange.organization_id == chain)
    return {piece.first_position: piece for piece in await session.scalars(statement)}


async def recent_archives(session: AsyncSession) -> list[tuple[Archive, list[Row]]]:
    """Return the archives whose own row in the trail is not archived yet, with their pieces."""
    archived_months = select(Archive.month).scalar_subquery()
    month = cast(func.date_trunc("month", func.timezone("UTC", Archive.archived_at)), Date)
    archives = await session.scalars(
        select(Archive).where(month.not_in(archived_months)).order_by(Archive.id)
    )
    pieces = select(*ArchivedRange.__table__.columns)
    return [
        (
            archive,
            list(
                (
                    await session.execute(pieces.where(ArchivedRange.archive_id == archive.id))
                ).mappings()
            ),
        )
        for archive in archives
    ]


async def list_archives(session: AsyncSession) -> Sequence[Archive]:
    """Return every archive, oldest first."""
    return (await session.scalars(select(Archive).order_by(Archive.id))).all()


async def find_archive_hashes(session: AsyncSession, archive_id: int) -> tuple[Any, Any] | None:
    """Return the hashes of an archive and of its pieces as the trail has them, or None."""
    statement = select(AuditLog.new_values).where(
        AuditLog.entity_type == "audit_log",
        AuditLog.entity_id == archive_id,
        AuditLog.action == "ARCHIVE",
        AuditLog.organization_id.is_(None),
    )
    values = (await session.scalars(statement)).first()
    return (values.get("sha256"), values.get("pieces_sha256")) if values else None


async def count_archives(session: AsyncSession, month: date) -> int:
    """Return how many archives a month has; late events of a month make another one."""
    statement = select(func.count()).where(Archive.month == month)
    return (await session.execute(statement)).scalar_one()
