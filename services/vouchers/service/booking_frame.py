"""What the rules of a booking read of a voucher, its client and its organization."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from zoneinfo import ZoneInfo

from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers import queries
from services.vouchers.models import (
    ClassSession,
    Reservation,
    Resource,
    SessionStatus,
    Voucher,
)
from services.vouchers.scheduling.snapshots import (
    OPEN_STATUSES,
    BookingSnapshot,
    ClientReservation,
    RequestedSession,
    VoucherTerms,
)
from services.vouchers.scheduling.windows import hours_of_rules
from services.vouchers.schemas.booking_policy import BookingPolicy
from services.vouchers.schemas.calendars import BookingSettingsRead
from services.vouchers.service.booking_settings import policy_of, settings_among
from shared.db import now


@dataclass(frozen=True, slots=True)
class BookingFrame:
    """A voucher with everything but the session that decides whether it can book one."""

    organization_id: int
    client_id: int | None
    zone: ZoneInfo
    is_organization_active: bool
    is_client_active: bool
    terms: VoucherTerms
    duration_minutes: int
    policy: BookingPolicy
    settings: BookingSettingsRead
    reservations: Sequence[ClientReservation]
    redeemed_days: Collection[date]
    now: datetime

    def snapshot(self, requested: RequestedSession) -> BookingSnapshot:
        """Return the snapshot by which a session is judged."""
        return BookingSnapshot(
            now=self.now,
            zone=self.zone,
            is_organization_active=self.is_organization_active,
            is_client_active=self.is_client_active,
            voucher=self.terms,
            limits=self.policy,
            session=requested,
            reservations=self.reservations,
            redeemed_days=self.redeemed_days,
        )


async def frame_of(
    session: AsyncSession, voucher: Voucher, *, moved: Reservation | None = None
) -> BookingFrame:
    """Return what the rules read of a voucher, without the reservation that is to be moved.

    Raises OrganizationNotFound.
    """
    moment = now()
    moved_id = moved.id if moved else None
    facts = await queries.get_booking_facts(session, voucher, moment, without_id=moved_id)
    settings = settings_among(facts, voucher.organization_id)
    is_earmarked = moved is not None and moved.status in OPEN_STATUSES
    return BookingFrame(
        organization_id=voucher.organization_id,
        client_id=voucher.client_id,
        zone=ZoneInfo(facts["timezone"]),
        is_organization_active=facts["is_organization_active"],
        is_client_active=facts["is_client_active"],
        terms=terms_of(
            voucher,
            facts["freezes"],
            booked_sessions=voucher.booked_sessions - is_earmarked,
        ),
        duration_minutes=voucher.session_duration_minutes or 60,
        policy=policy_of(settings, voucher.booking_policy),
        settings=settings,
        reservations=queries.reservations_of(facts),
        redeemed_days=facts["redeemed_days"],
        now=moment,
    )


def terms_of(
    voucher: Voucher, freezes: Sequence[tuple[date, date]], *, booked_sessions: int
) -> VoucherTerms:
    """Return the terms and the state of a voucher with the days of its freezes."""
    return VoucherTerms(
        status=voucher.status,
        is_disputed=voucher.disputed_at is not None,
        sessions_left=voucher.regular_sessions_left,
        booked_sessions=booked_sessions,
        valid_from=voucher.valid_from,
        valid_until=voucher.valid_until,
        freezes=freezes,
        frequency=voucher.frequency,
        custom_days=voucher.custom_days,
        hours=hours_of_rules(voucher.booking_rules),
        max_clients=voucher.max_clients_per_session,
        voucher_type_id=voucher.voucher_type_id,
        therapy_class_id=voucher.therapy_class_id,
    )


async def requested_session(session: AsyncSession, row: ClassSession) -> RequestedSession:
    """Return a session that exists as the rules read it."""
    organization_id = row.organization_id
    class_types: Mapping[int, list[int]] = {}
    if row.therapy_class_id is not None:
        ids = [row.therapy_class_id]
        class_types = await queries.types_of_classes(session, organization_id, ids)
    types = await queries.types_of_resources(session, organization_id, row.resource_ids)
    therapist_types = [number for numbers in types.values() for number in numbers]
    return requested_of(row, class_types.get(row.therapy_class_id or 0, ()), therapist_types)


def requested_of(
    row: ClassSession, class_types: Collection[int], therapist_types: Collection[int]
) -> RequestedSession:
    """Return a session as the rules read it, with the voucher types that it is limited to."""
    return RequestedSession(
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        capacity=row.capacity,
        seats_taken=row.seats_taken,
        session_id=row.id,
        is_cancelled=row.status == SessionStatus.CANCELLED,
        therapy_class_id=row.therapy_class_id,
        class_type_ids=class_types,
        therapist_type_ids=therapist_types,
    )


def on_demand_session(
    starts_at: datetime,
    ends_at: datetime,
    therapist: Resource | None,
    therapist_types: Collection[int],
    *,
    is_available: bool,
    is_free: bool,
) -> RequestedSession:
    """Return a session that would be made for the client, as the rules read it."""
    return RequestedSession(
        starts_at=starts_at,
        ends_at=ends_at,
        therapist_type_ids=therapist_types,
        is_therapist_available=is_available and therapist is not None and therapist.is_active,
        is_therapist_free=is_free,
    )
