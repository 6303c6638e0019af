"""The voucher types that a resource or a class is limited to."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers import queries
from services.vouchers.models import Base
from shared.errors import Invalid

ReadModel = TypeVar("ReadModel", bound=BaseModel)


async def require_voucher_types(
    session: AsyncSession, organization_id: int, voucher_type_ids: Sequence[int]
) -> list[int]:
    """Return the ids of voucher types in order, each once.

    Raises Invalid unless all of them are of the organization.
    """
    type_ids = sorted(set(voucher_type_ids))
    if type_ids:
        count = await queries.count_voucher_types(session, organization_id, type_ids)
        if count != len(type_ids):
            raise Invalid("voucher_type_ids", "must be voucher types of this organization")
    return type_ids


def read_limited(model: type[ReadModel], row: Base, types: Mapping[int, list[int]]) -> ReadModel:
    """Return a row as the response model has it, with the voucher types of its id in `types`."""
    names = model.model_fields.keys() - {"voucher_type_ids"}
    values: dict[str, Any] = {name: getattr(row, name) for name in names}
    return model(voucher_type_ids=types.get(values["id"], []), **values)
