"""Use cases of booking settings: how an organization takes bookings."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers import access, queries
from services.vouchers.models import BookingSettings, Voucher
from services.vouchers.schemas.booking_policy import BookingPolicy, effective_policy
from services.vouchers.schemas.calendars import BookingSettingsRead
from shared.actors import Actor
from shared.changes import record
from shared.preconditions import Precondition


async def settings_of(session: AsyncSession, organization_id: int) -> BookingSettingsRead:
    """Return an organization's booking settings, or the defaults."""
    settings = await queries.find_booking_settings(session, organization_id)
    return _read(settings or _defaults(organization_id))


def settings_among(facts: Mapping[str, Any], organization_id: int) -> BookingSettingsRead:
    """Return the booking settings among the facts of a booking, or the defaults."""
    if not facts["has_settings"]:
        return _read(_defaults(organization_id))
    return BookingSettingsRead(
        organization_id=organization_id,
        clients_book=facts["clients_book"],
        therapists_edit_hours=facts["therapists_edit_hours"],
        feed_names=facts["feed_names"],
        default_policy=facts["default_policy"],
        version=facts["settings_version"],
    )


def policy_of(settings: BookingSettingsRead, stored: dict[str, Any]) -> BookingPolicy:
    """Return the effective policy of a voucher or a voucher type of the organization."""
    return effective_policy(settings.default_policy, stored)


async def policy_for(
    session: AsyncSession, organization_id: int, voucher: Voucher | None
) -> BookingPolicy:
    """Return the effective policy of a voucher, or without one that of the organization."""
    settings = await settings_of(session, organization_id)
    return policy_of(settings, voucher.booking_policy if voucher else {})


async def get_settings(
    session: AsyncSession, actor: Actor, organization_id: int
) -> BookingSettingsRead:
    """Return an organization's booking settings. Raises OrganizationNotFound or Forbidden."""
    access.require_employee(actor, organization_id)
    return await settings_of(session, organization_id)


async def update_settings(
    session: AsyncSession,
    actor: Actor,
    organization_id: int,
    changes: dict[str, Any],
    precondition: Precondition,
) -> BookingSettingsRead:
    """Change an organization's booking settings.

    Raises OrganizationNotFound, Forbidden, StaleVersion.
    """
    access.require_booking_manager(actor, organization_id)
    await queries.get_organization(session, organization_id)
    settings = await queries.lock_booking_settings(session, organization_id)
    precondition.check(settings.version if settings else 0)
    if settings is None:
        settings = _defaults(organization_id)
        _apply(settings, changes)
        session.add(settings)
        record(session, "CREATE", settings)
        await session.flush()
        return _read(settings)
    _apply(settings, changes)
    if session.is_modified(settings):
        record(session, "UPDATE", settings)
        await session.flush()
    return _read(settings)


def _apply(settings: BookingSettings, changes: dict[str, Any]) -> None:
    for name, value in changes.items():
        setattr(settings, name, value)


def _defaults(organization_id: int) -> BookingSettings:
    return BookingSettings(
        organization_id=organization_id,
        clients_book=True,
        therapists_edit_hours=True,
        feed_names=False,
        default_policy={},
    )


def _read(settings: BookingSettings) -> BookingSettingsRead:
    return BookingSettingsRead(
        organization_id=settings.organization_id,
        clients_book=settings.clients_book,
        therapists_edit_hours=settings.therapists_edit_hours,
        feed_names=settings.feed_names,
        default_policy=settings.default_policy,
        version=settings.version or 0,
    )
