"""Selects of dependants."""

from collections.abc import Sequence

from sqlalchemy import BigInteger, Select, bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.identity.errors import DependantNotFound
from services.identity.models import Dependant
from services.identity.schemas.dependants import DependantRead
from shared.reads import JsonQuery, Reader

_NOT_DELETED = Dependant.deleted_at.is_(None)
_LIST = JsonQuery(
    DependantRead,
    select()
    .select_from(Dependant)
    .where(Dependant.guardian_id == bindparam("guardian_id", type_=BigInteger), _NOT_DELETED),
    dict(Dependant.__table__.columns),
    order=(Dependant.id,),
)


async def list_dependants(reader: Reader, guardian_id: int) -> bytes:
    """Return a guardian's dependants as JSON, newest first."""
    return await _LIST.list(reader, guardian_id=guardian_id)


async def count_dependants(session: AsyncSession, guardian_id: int) -> int:
    """Return how many dependants a guardian has."""
    rows = _of_guardian(guardian_id).subquery()
    return await session.scalar(select(func.count()).select_from(rows)) or 0


async def find_dependant(session: AsyncSession, dependant_id: int) -> Dependant | None:
    """Return a dependant who was not deleted, or None."""
    statement = select(Dependant).where(Dependant.id == dependant_id, _NOT_DELETED)
    return await session.scalar(statement)


async def lock_dependant(session: AsyncSession, guardian_id: int, dependant_id: int) -> Dependant:
    """Return a guardian's dependant, locked for a change; raises DependantNotFound."""
    statement = _of_guardian(guardian_id).where(Dependant.id == dependant_id)
    dependant = await session.scalar(statement.with_for_update())
    if dependant is None:
        raise DependantNotFound
    return dependant


async def lock_dependants(session: AsyncSession, guardian_id: int) -> Sequence[Dependant]:
    """Return all dependants of a guardian, locked for a change, in the order of their ids."""
    statement = _of_guardian(guardian_id).order_by(Dependant.id).with_for_update()
    return (await session.scalars(statement)).all()


def _of_guardian(guardian_id: int) -> Select[Dependant]:
    return select(Dependant).where(Dependant.guardian_id == guardian_id, _NOT_DELETED)
