"""Who may do what: pure functions of the actor and of what the action is about."""

from services.vouchers.models import (
    ClassSession,
    HeldFor,
    Reservation,
    Resource,
    Voucher,
    VoucherStatus,
)
from shared.actors import OWNER, Actor

CLIENT = "client"
THERAPIST = "therapist"
STAFF = "staff"
EMPLOYED = frozenset({OWNER, THERAPIST, STAFF})

MANAGE_VOUCHER_TYPES = "manage_voucher_types"
MANAGE_VOUCHERS = "manage_vouchers"
MANAGE_BOOKINGS = "manage_bookings"
MANAGE_PAYMENTS = "manage_payments"


def can_see_organization(actor: Actor, organization_id: int) -> bool:
    """Members may see their own organization, administrators every organization."""
    return actor.is_admin or actor.organization_id == organization_id


def can_buy(actor: Actor) -> bool:
    """Clients and administrators buy vouchers; employees issue them instead."""
    return actor.is_admin or actor.role == CLIENT


def is_own(actor: Actor, row: Voucher | Reservation) -> bool:
    """Return whether the actor is the client of a voucher or a reservation, or acts for the client.

    A guardian acts for dependants, who have no account.
    """
    return actor.user_id in (row.client_id, row.guardian_id)


def is_made_by_client(reservation: Reservation) -> bool:
    """Return whether the client, or the guardian who acts for the client, made a reservation."""
    booked_by = reservation.booked_by
    return booked_by is not None and booked_by in (reservation.client_id, reservation.guardian_id)


def can_see_all_offers(actor: Actor) -> bool:
    """Administrators and users of no organization see the voucher types of every organization."""
    return actor.is_admin or actor.organization_id is None


def is_employed(actor: Actor, organization_id: int) -> bool:
    """Owners, therapists and staff are employed by their own organization."""
    return actor.role in EMPLOYED and actor.organization_id == organization_id


def can_read(actor: Actor, voucher: Voucher) -> bool:
    """Clients read their own vouchers, employees those of their organization, admins all."""
    own = is_own(actor, voucher)
    return actor.is_admin or own or is_employed(actor, voucher.organization_id)


def can_manage(actor: Actor, organization_id: int) -> bool:
    """Holders of the permission manage_vouchers manage an organization's vouchers."""
    return actor.may(MANAGE_VOUCHERS, organization_id)


def can_manage_bookings(actor: Actor, organization_id: int) -> bool:
    """Holders of the permission manage_bookings manage an organization's sessions."""
    return actor.may(MANAGE_BOOKINGS, organization_id)


def is_therapist(actor: Actor, organization_id: int) -> bool:
    """Therapists give the sessions of their own organization."""
    return actor.role == THERAPIST and actor.organization_id == organization_id


def can_book(actor: Actor, voucher: Voucher) -> bool:
    """The client books; so do therapists and managers of bookings of the voucher's organization.

    A client may do so only where the organization's settings allow it.
    """
    organization_id = voucher.organization_id
    return (
        is_own(actor, voucher)
        or is_therapist(actor, organization_id)
        or can_manage_bookings(actor, organization_id)
    )


def can_edit_calendar(actor: Actor, resource: Resource, *, by_therapists: bool) -> bool:
    """Managers of bookings edit every calendar; therapists their own if the settings allow it."""
    own = by_therapists and resource.user_id == actor.user_id
    return own or can_manage_bookings(actor, resource.organization_id)


def can_subscribe(actor: Actor, organization_id: int) -> bool:
    """Members subscribe to their sessions in their organization, and users of none in each."""
    return actor.is_admin or actor.organization_id in (None, organization_id)


def can_mark(actor: Actor, session: ClassSession) -> bool:
    """The session's therapist and managers of bookings mark who took part."""
    own = session.therapist_id == actor.user_id and is_therapist(actor, session.organization_id)
    return own or can_manage_bookings(actor, session.organization_id)


def can_confirm(actor: Actor, reservation: Reservation) -> bool:
    """Managers of bookings approve. What is held for a client, the client confirms as well, or
    whoever holds it for the client. A guardian confirms for dependants."""
    may_decide = is_own(actor, reservation) or actor.user_id == reservation.booked_by
    own = may_decide and reservation.held_for != HeldFor.APPROVAL
    return own or can_manage_bookings(actor, reservation.organization_id)


def can_redeem(actor: Actor, organization_id: int) -> bool:
    """Managers and therapists redeem the sessions of their own organization's vouchers."""
    therapist = actor.role == THERAPIST and actor.organization_id == organization_id
    return therapist or can_manage(actor, organization_id)


def can_list(actor: Actor, organization_id: int, *, by_code: bool) -> bool:
    """Managers list all vouchers; a therapist finds a single one by a code that a client shows."""
    return can_manage(actor, organization_id) or (by_code and can_redeem(actor, organization_id))


def can_cancel(actor: Actor, voucher: Voucher) -> bool:
    """A client may cancel an own voucher until it is paid; a manager may cancel any voucher."""
    own = is_own(actor, voucher) and voucher.status == VoucherStatus.PENDING
    return own or can_manage(actor, voucher.organization_id)


def can_read_notes(actor: Actor, voucher: Voucher) -> bool:
    """Employees and administrators read the therapist's notes; the client does not."""
    return actor.is_admin or is_employed(actor, voucher.organization_id)


def can_quote_refund(actor: Actor, voucher: Voucher) -> bool:
    """The client, and managers of vouchers or of payments, may request a refund quote."""
    return is_own(actor, voucher) or can_quote_expired(actor, voucher)


def can_quote_expired(actor: Actor, voucher: Voucher) -> bool:
    """Managers of vouchers or of payments may request a refund quote after the last day as well."""
    organization_id = voucher.organization_id
    return can_manage(actor, organization_id) or actor.may(MANAGE_PAYMENTS, organization_id)
