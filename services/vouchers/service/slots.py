"""Use cases of slots: which sessions a voucher, or a voucher type before it is bought, can book."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from heapq import merge
from itertools import chain, dropwhile, islice
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import orjson
from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers import access, policies, queries
from services.vouchers.errors import VoucherTypeNotFound
from services.vouchers.models import ClassSession, Resource, VoucherType
from services.vouchers.scheduling.day_rules import closed_by
from services.vouchers.scheduling.eligibility import days_taken, reasons_against
from services.vouchers.scheduling.slots import SlotSearch, free_starts
from services.vouchers.scheduling.snapshots import (
    OPEN_STATUSES,
    RequestedSession,
    VoucherTerms,
)
from services.vouchers.scheduling.wallclock import instant_of
from services.vouchers.scheduling.windows import Interval, hours_of_rules
from services.vouchers.schemas.reservations import Slot, SlotDay
from services.vouchers.service import availability
from services.vouchers.service.booking_frame import BookingFrame, frame_of, requested_of
from services.vouchers.service.booking_settings import policy_of, settings_of
from shared.actors import Actor
from shared.db import now
from shared.paging import Page
from shared.tenancy import Tenant, limit_to

MOST_SESSIONS = 1000
Days = tuple[date, date]
"""The first and the last day of a search, both inclusive."""


class Opening(NamedTuple):
    """A slot as it is found: a session with free seats, or a free time of a therapist.

    `start` and `end` are instants. `subject` is the session's id or the therapist's negative id: of
    one start there is one opening of each subject at most, so openings are in the order of both. A
    search finds thousands, of which a response has some.
    """

    start: int
    subject: int
    end: int
    therapist_id: int | None
    session: ClassSession | None = None

    def columns(self, frame: BookingFrame) -> dict[str, Any]:
        """Return the fields of the slot of a response, with times of the organization's clock."""
        row, zone = self.session, frame.zone
        if row is not None:
            starts_at, ends_at = row.starts_at.astimezone(zone), row.ends_at.astimezone(zone)
        else:
            starts_at = datetime.fromtimestamp(self.start, zone)
            ends_at = datetime.fromtimestamp(self.end, zone)
        return {
            "starts_at": starts_at,
            "ends_at": ends_at,
            "therapist_id": self.therapist_id,
            "session_id": row.id if row else None,
            "seats_left": row.seats_left if row else 1,
        }

    def read(self, frame: BookingFrame) -> Slot:
        """Return the slot of a response."""
        return Slot(**self.columns(frame))


async def list_slots(
    session: AsyncSession,
    actor: Actor,
    page: Page,
    voucher_id: int,
    days: Days,
    therapist_id: int | None,
) -> bytes:
    """Return a page of what a voucher can book as JSON, in the order of the starts.

    Raises VoucherNotFound, and Forbidden for staff who do not book.
    """
    frame = await _frame(session, actor, voucher_id)
    return _page_of(page, frame, await _streams(session, frame, days, therapist_id))


async def list_slot_days(
    session: AsyncSession, actor: Actor, voucher_id: int, days: Days
) -> list[SlotDay]:
    """Return the days of a month view, each with the number of its slots, or why it has none.

    Raises VoucherNotFound, and Forbidden for staff who do not book.
    """
    frame = await _frame(session, actor, voucher_id)
    by_day: dict[date, list[Opening]] = defaultdict(list)
    for opening in await openings_between(session, frame, days, None):
        by_day[datetime.fromtimestamp(opening.start, frame.zone).date()].append(opening)
    days_off = _days_taken(frame)
    result = []
    for day in _each_day(days):
        openings, reason = by_day[day], closed_by(frame.terms, day, days_off)
        first = openings[0].read(frame).starts_at if openings else None
        code = reason.code.value if reason else None
        result.append(SlotDay(date=day, slots=len(openings), first_starts_at=first, closed_by=code))
    return result


async def list_offered_slots(
    session: AsyncSession,
    actor: Actor,
    page: Page,
    voucher_type_id: int,
    days: Days,
    therapist_id: int | None,
) -> bytes:
    """Return a page of what a voucher of a type could book if it were bought today, as JSON.

    Raises VoucherTypeNotFound.
    """
    voucher_type = await _visible_type(session, actor, voucher_type_id)
    frame = await _frame_of_type(session, voucher_type)
    return _page_of(page, frame, await _streams(session, frame, days, therapist_id))


async def _visible_type(session: AsyncSession, actor: Actor, voucher_type_id: int) -> VoucherType:
    """Return a voucher type that the actor can see, and limit the session to its organization."""
    organization_id = None if policies.can_see_all_offers(actor) else actor.organization_id
    await limit_to(session, Tenant(organization_id, actor.user_id, organization_id is None))
    voucher_type = await session.get(VoucherType, voucher_type_id)
    if voucher_type is None or not voucher_type.is_active:
        raise VoucherTypeNotFound
    await limit_to(session, Tenant(voucher_type.organization_id, actor.user_id))
    return voucher_type


async def _frame(session: AsyncSession, actor: Actor, voucher_id: int) -> BookingFrame:
    voucher = await access.get_bookable_voucher(session, actor, voucher_id)
    await limit_to(session, Tenant(voucher.organization_id, actor.user_id))
    return await frame_of(session, voucher)


async def _frame_of_type(session: AsyncSession, voucher_type: VoucherType) -> BookingFrame:
    organization = await queries.get_organization(session, voucher_type.organization_id)
    settings = await settings_of(session, voucher_type.organization_id)
    zone, moment = ZoneInfo(organization.timezone), now()
    today = moment.astimezone(zone).date()
    terms = VoucherTerms(
        status="active",
        is_disputed=False,
        sessions_left=voucher_type.total_sessions,
        booked_sessions=0,
        valid_from=today,
        valid_until=today + timedelta(days=voucher_type.validity_days - 1),
        frequency=voucher_type.frequency,
        custom_days=voucher_type.custom_days,
        hours=hours_of_rules(voucher_type.booking_rules),
        max_clients=voucher_type.max_clients_per_session,
        voucher_type_id=voucher_type.id,
    )
    return BookingFrame(
        organization_id=organization.id,
        client_id=None,
        zone=zone,
        is_organization_active=organization.is_active,
        is_client_active=True,
        terms=terms,
        duration_minutes=voucher_type.session_duration_minutes,
        policy=policy_of(settings, voucher_type.booking_policy),
        settings=settings,
        reservations=(),
        redeemed_days=(),
        now=moment,
    )


def _page_of(page: Page, frame: BookingFrame, streams: Sequence[Iterable[Opening]]) -> bytes:
    """Return the page of slots that a request asks for; a slot's place is its start and subject."""
    openings: Iterator[Opening] = merge(*streams)
    if after := page.position(2):
        openings = dropwhile(lambda opening: _place(opening) <= after, openings)
    slots = page.cut(list(islice(openings, page.limit + 1)), _place)
    return orjson.dumps([opening.columns(frame) for opening in slots], option=orjson.OPT_UTC_Z)


def _place(opening: Opening) -> tuple[int, int]:
    return opening.start, opening.subject


async def openings_between(
    session: AsyncSession, frame: BookingFrame, days: Days, therapist_id: int | None
) -> list[Opening]:
    """Return everything that a voucher can book on some days, in the order of the starts."""
    return sorted(chain(*await _streams(session, frame, days, therapist_id)))


async def _streams(
    session: AsyncSession, frame: BookingFrame, days: Days, therapist_id: int | None
) -> list[Iterable[Opening]]:
    """Return what a voucher can book on some days as streams, each in the order of the starts.

    A stream makes its openings as they are taken: a page needs a small part of them.
    """
    if not _can_book_anything(frame):
        return []
    streams: list[Iterable[Opening]] = []
    streams.append(await _open_sessions(session, frame, days, therapist_id))
    if frame.terms.max_clients == 1:
        streams += await _free_times(session, frame, days, therapist_id)
    return streams


def _can_book_anything(frame: BookingFrame) -> bool:
    """Return whether nothing but the time is against a booking."""
    terms, most = frame.terms, frame.policy.max_open
    pending = [
        item
        for item in frame.reservations
        if item.is_of_voucher and item.status in OPEN_STATUSES and item.ends_at > frame.now
    ]
    return (
        frame.is_organization_active
        and frame.is_client_active
        and terms.status == "active"
        and not terms.is_disputed
        and terms.booked_sessions < terms.sessions_left
        and (most is None or len(pending) < most)
    )


async def _open_sessions(
    session: AsyncSession, frame: BookingFrame, days: Days, therapist_id: int | None
) -> list[Opening]:
    """Return the sessions with free seats that the voucher can book."""
    first, last = (
        datetime.combine(day, datetime.min.time(), frame.zone)
        for day in (days[0], days[1] + timedelta(days=1))
    )
    rows = await queries.list_open_sessions(
        session,
        frame.organization_id,
        max(first, frame.now),
        last,
        capacities=capacities_of(frame),
        therapist_id=therapist_id,
        limit=MOST_SESSIONS,
    )
    if not rows:
        return []
    candidates = await requested_sessions(session, frame.organization_id, rows)
    return [
        Opening(instant_of(row.starts_at), row.id, instant_of(row.ends_at), row.therapist_id, row)
        for row in rows
        if not reasons_against(frame.snapshot(candidates[row.id]))
    ]


def capacities_of(frame: BookingFrame) -> tuple[int, int]:
    """Return the least and the greatest number of clients of a session that a voucher can book."""
    most = frame.terms.max_clients
    return (1, 2**31 - 1) if most is None else (1, 1) if most == 1 else (2, most)


async def requested_sessions(
    session: AsyncSession, organization_id: int, rows: Sequence[ClassSession]
) -> Mapping[int, RequestedSession]:
    """Return sessions that exist as the rules read them, by their ids."""
    class_ids = {row.therapy_class_id for row in rows if row.therapy_class_id is not None}
    resource_ids = {number for row in rows for number in row.resource_ids}
    of_classes = await queries.types_of_classes(session, organization_id, class_ids)
    of_resources = await queries.types_of_resources(session, organization_id, resource_ids)
    return {
        row.id: requested_of(
            row,
            of_classes.get(row.therapy_class_id or 0, ()),
            [number for r in row.resource_ids for number in of_resources.get(r, ())],
        )
        for row in rows
    }


async def _free_times(
    session: AsyncSession, frame: BookingFrame, days: Days, therapist_id: int | None
) -> list[Iterator[Opening]]:
    """Return the free times of each therapist on the grid of the organization."""
    therapists = await queries.list_therapists_of(
        session, frame.organization_id, frame.terms.voucher_type_id
    )
    matches = [t for t in therapists if therapist_id in (None, t.user_id)]
    if not matches:
        return []
    calendars = await availability.calendars_of(
        session, frame.organization_id, matches, availability.Stretch(frame.zone, *days)
    )
    search = search_of(frame, days)
    busy = client_times(frame)
    length = frame.duration_minutes * 60
    return [
        _openings_of(therapist, free_starts(calendars[therapist.id], search), length, busy)
        for therapist in matches
    ]


def _openings_of(
    therapist: Resource, starts: Iterable[int], length: int, busy: Sequence[Interval]
) -> Iterator[Opening]:
    """Yield the openings of a therapist that begin at some instants and meet nothing busy."""
    user_id = therapist.user_id
    for start in starts:
        end = start + length
        if not busy or not any(start < until and first < end for first, until in busy):
            yield Opening(start, -(user_id or 0), end, user_id)


def search_of(frame: BookingFrame, days: Days) -> SlotSearch:
    """Return the search for starts that the voucher and the booking policy allow."""
    policy, days_off = frame.policy, _days_taken(frame)
    today = frame.now.astimezone(frame.zone).date()
    last = min(days[1], today + timedelta(days=policy.opens_days))
    first = max(days[0], today)
    days_closed = [day for day in _each_day((first, last)) if closed_by(frame.terms, day, days_off)]
    # A session that begins in this second has begun.
    earliest = instant_of(frame.now + timedelta(minutes=policy.closes_minutes)) + 1
    return SlotSearch(
        zone=frame.zone,
        first_day=first,
        last_day=last,
        duration_minutes=frame.duration_minutes,
        step_minutes=policy.slot_minutes,
        earliest=earliest,
        latest=2**40,
        rules=frame.terms.hours,
        closed_days=days_closed,
    )


def client_times(frame: BookingFrame) -> list[tuple[int, int]]:
    """Return when the client is in other sessions of the organization."""
    return [
        (instant_of(item.starts_at), instant_of(item.ends_at))
        for item in frame.reservations
        if item.status in OPEN_STATUSES and not item.may_overlap
    ]


def _days_taken(frame: BookingFrame) -> set[date]:
    nothing = RequestedSession(frame.now, frame.now)
    return days_taken(frame.snapshot(nothing))


def _each_day(days: Days) -> Iterable[date]:
    first, last = days
    return (first + timedelta(days=number) for number in range((last - first).days + 1))


async def next_slots(
    session: AsyncSession, frame: BookingFrame, wanted: datetime, therapist_id: int | None
) -> list[Slot]:
    """Return the three slots that follow the time that a client wanted, within two weeks."""
    start = max(wanted, frame.now)
    first = start.astimezone(frame.zone).date()
    days = (first, first + timedelta(days=14))
    openings = merge(*await _streams(session, frame, days, therapist_id))
    following = dropwhile(lambda each: each.start < start.timestamp(), openings)
    return [each.read(frame) for each in islice(following, 3)]
