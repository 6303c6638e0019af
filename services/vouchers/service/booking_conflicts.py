"""The constraints of the database that refuse a booking, as the errors of their refusal.

The use cases read everything under their locks before they write. A constraint decides if two of
them did not have a lock in common: a client who books with two vouchers, for instance.
"""

from collections.abc import Awaitable

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers.errors import (
    AlreadyReserved,
    ClientBusy,
    FrequencyReached,
    SessionFull,
    SessionsBooked,
    SlotTaken,
    UserIsResource,
)
from shared.errors import Conflict
from shared.writes import Writes

_ERRORS: dict[str, type[Conflict]] = {
    "ex_occupations_resource": SlotTaken,
    "ex_reservations_client": ClientBusy,
    "uq_reservations_place": AlreadyReserved,
    "uq_reservations_period": FrequencyReached,
    "uq_resources_organization_id_user_id": UserIsResource,
    "ck_sessions_seats_taken": SessionFull,
    "ck_vouchers_used_sessions": SessionsBooked,
}


async def flush_booking(session: AsyncSession) -> None:
    """Write the changes of a booking. Raises the Conflict of the constraint that refuses them."""
    await _refused_by_constraint(session.flush())


async def send_booking(writes: Writes) -> None:
    """Send the writes of a booking. Raises the Conflict of the constraint that refuses them."""
    await _refused_by_constraint(writes.send())


async def _refused_by_constraint(writing: Awaitable[None]) -> None:
    try:
        await writing
    except IntegrityError as failure:
        cause = getattr(failure.orig, "__cause__", None)
        error = _ERRORS.get(getattr(cause, "constraint_name", None) or "")
        if error is None:
            raise
        raise error from failure
