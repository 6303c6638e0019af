"""Who may do what: pure functions of the actor and what it is about."""

from services.vouchers.models import Voucher, VoucherStatus
from shared.actors import OWNER, Actor

CLIENT = "client"
THERAPIST = "therapist"
STAFF = "staff"
EMPLOYED = frozenset({OWNER, THERAPIST, STAFF})

MANAGE_VOUCHER_TYPES = "manage_voucher_types"
MANAGE_VOUCHERS = "manage_vouchers"
MANAGE_PAYMENTS = "manage_payments"


def can_see_organization(actor: Actor, organization_id: int) -> bool:
    """Members see their organization, administrators every one."""
    return actor.is_admin or actor.organization_id == organization_id


def can_buy(actor: Actor) -> bool:
    """Clients buy for themselves, administrators for anybody; staff issue instead."""
    return actor.is_admin or actor.role == CLIENT


def can_see_all_offers(actor: Actor) -> bool:
    """Whoever belongs to no organization may buy from any; the others buy from their own."""
    return actor.organization_id is None


def is_employed(actor: Actor, organization_id: int) -> bool:
    """Say whether the actor works in an organization."""
    return actor.role in EMPLOYED and actor.organization_id == organization_id


def can_manage(actor: Actor, organization_id: int) -> bool:
    """Say whether the actor manages an organization's vouchers."""
    return actor.may(MANAGE_VOUCHERS, organization_id)


def can_redeem(actor: Actor, organization_id: int) -> bool:
    """Therapists spend the sessions of their own organization's vouchers."""
    therapist = actor.role == THERAPIST and actor.organization_id == organization_id
    return therapist or can_manage(actor, organization_id)


def can_list(actor: Actor, organization_id: int, *, by_code: bool) -> bool:
    """Managers list the vouchers; a therapist may look one up by the code it was shown."""
    return can_manage(actor, organization_id) or (by_code and can_redeem(actor, organization_id))


def can_cancel(actor: Actor, voucher: Voucher) -> bool:
    """A client may cancel its own voucher until it is paid."""
    own = voucher.client_id == actor.user_id and voucher.status == VoucherStatus.PENDING
    return own or can_manage(actor, voucher.organization_id)


def can_read_notes(actor: Actor, voucher: Voucher) -> bool:
    """The therapist's notes are not for the client."""
    return actor.is_admin or is_employed(actor, voucher.organization_id)


def can_quote_refund(actor: Actor, voucher: Voucher) -> bool:
    """A client may ask what it would get back, and who manages the vouchers or the money."""
    own = voucher.client_id == actor.user_id
    organization_id = voucher.organization_id
    return own or can_manage(actor, organization_id) or actor.may(MANAGE_PAYMENTS, organization_id)
