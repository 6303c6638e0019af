"""Bookings of users who are deleted."""

from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers import queries
from services.vouchers.service.releases import release_reservations
from shared.db import now

CLIENT_DELETED = "client_deleted"


async def end_bookings(session: AsyncSession, user_id: int) -> None:
    """Cancel a deleted user's future reservations in every organization.

    Every voucher with which the user could book is locked: whatever is booked at the same time is
    either cancelled here or refused, because the copy of the user is inactive by then. Reservations
    of sessions that have begun stay, to be marked.
    """
    voucher_ids = await queries.list_vouchers_that_book(session, user_id)
    vouchers = await queries.lock_vouchers(session, voucher_ids)
    # A therapist's resource changes with the copy of the user: it is locked before the sessions.
    own = await queries.resources_of_user(session, user_id)
    for resource in sorted(own, key=lambda row: row.id):
        await queries.lock_resources(session, resource.organization_id, [resource.id])
    reservations = await queries.future_reservations_of(session, user_id, now())
    await release_reservations(session, reservations, vouchers, CLIENT_DELETED)
