"""Queries of payments."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Row,
    Text,
    and_,
    bindparam,
    case,
    extract,
    func,
    literal,
    or_,
    select,
    union,
)
from sqlalchemy.ext.asyncio import AsyncSession

from services.payments.errors import PaymentNotFound
from services.payments.gateways import BY_HAND, MESSAGES_FOR_STAFF
from services.payments.models import (
    UNFINISHED,
    Invoice,
    InvoiceKind,
    Method,
    PaymentTransaction,
    Refund,
    RefundStatus,
    Status,
    WebhookEvent,
)
from services.payments.schemas import FailureRead, PaymentRead
from shared.connections import execute_early, fetch
from shared.db import now
from shared.json_rows import json_object
from shared.paging import Page
from shared.reads import Document, FactsQuery, JsonQuery, Reader

NumberedPayment = Row[PaymentTransaction, str | None]
"""A payment and the number of its invoice."""


_NUMBER = (
    select(Invoice.number)
    .where(
        Invoice.transaction_id == PaymentTransaction.id,
        Invoice.kind == InvoiceKind.INVOICE,
    )
    .scalar_subquery()
)


_WITH_PAYMENT = select(PaymentTransaction.voucher_id).where(
    PaymentTransaction.voucher_id == func.any(bindparam("voucher_ids", type_=ARRAY(BigInteger)))
)


_LONGEST_PAUSE = timedelta(minutes=10)
"""The gateway is asked about every unfinished payment at least this often."""


async def lock_payment(
    session: AsyncSession, payment_id: int, organization_id: int | None = None
) -> PaymentTransaction:
    """Return a payment, locked for a change.

    Raises PaymentNotFound, also for a payment of another organization than a given one.
    """
    payment = await session.get(
        PaymentTransaction, payment_id, with_for_update=True, populate_existing=True
    )
    if payment is None or organization_id not in (None, payment.organization_id):
        raise PaymentNotFound
    return payment


async def get_payment(
    session: AsyncSession, payment_id: int, organization_id: int | None = None
) -> PaymentTransaction:
    """Return a payment.

    Raises PaymentNotFound, also for a payment of another organization than a given one.
    """
    payment = await session.get(PaymentTransaction, payment_id)
    if payment is None or organization_id not in (None, payment.organization_id):
        raise PaymentNotFound
    return payment


async def lock_voucher(session: AsyncSession, voucher_id: int) -> None:
    """Keep other transactions from creating a payment for this voucher."""
    lock = f"SELECT pg_advisory_xact_lock(hashtextextended('voucher/{int(voucher_id)}', 3))"
    await execute_early(session, lock)


_HAS_PAYMENT = "SELECT 1 FROM payment_transactions WHERE voucher_id = $1 LIMIT 1"


async def has_payment(session: AsyncSession, voucher_id: int) -> bool:
    """Return whether a voucher has a payment."""
    return bool(await fetch(session, _HAS_PAYMENT, voucher_id))


_LOCK_PAYMENT_OF_VOUCHER = (
    select(PaymentTransaction)
    .where(PaymentTransaction.voucher_id == bindparam("voucher_id"))
    .order_by(PaymentTransaction.id.desc())
    .limit(1)
    .with_for_update()
)


async def lock_payment_of_voucher(
    session: AsyncSession, voucher_id: int
) -> PaymentTransaction | None:
    """Return a voucher's payment, locked, or None."""
    return await session.scalar(_LOCK_PAYMENT_OF_VOUCHER, {"voucher_id": voucher_id})


_LOCK_PAYMENT_BY_GATEWAY_ID = (
    select(PaymentTransaction)
    .where(
        PaymentTransaction.payment_gateway == bindparam("gateway"),
        PaymentTransaction.gateway_transaction_id == bindparam("gateway_id"),
    )
    .with_for_update()
)


async def list_vouchers_with_payment(session: AsyncSession, voucher_ids: Sequence[int]) -> set[int]:
    """Return those of some vouchers that have a payment. Nothing is locked."""
    return set(await session.scalars(_WITH_PAYMENT, {"voucher_ids": voucher_ids}))


async def lock_payment_by_gateway_id(
    session: AsyncSession, gateway: str, gateway_id: str
) -> PaymentTransaction | None:
    """Return the payment that has this id at a gateway, locked, or None."""
    parameters = {"gateway": gateway, "gateway_id": gateway_id}
    return await session.scalar(_LOCK_PAYMENT_BY_GATEWAY_ID, parameters)


async def lock_payment_of_gateway(
    session: AsyncSession, gateway: str, payment_id: int
) -> PaymentTransaction | None:
    """Return a payment of this gateway by our own id, locked, or None."""
    statement = select(PaymentTransaction).where(
        PaymentTransaction.id == payment_id, PaymentTransaction.payment_gateway == gateway
    )
    return await session.scalar(statement.with_for_update())


_NUMBERED_PAYMENT = select(PaymentTransaction, _NUMBER).where(
    PaymentTransaction.id == bindparam("payment_id")
)


async def get_payment_with_number(session: AsyncSession, payment_id: int) -> NumberedPayment:
    """Return a payment and its invoice's number; raises PaymentNotFound."""
    row = (await session.execute(_NUMBERED_PAYMENT, {"payment_id": payment_id})).one_or_none()
    if row is None:
        raise PaymentNotFound
    return row


@dataclass(frozen=True, slots=True)
class PaymentViewer:
    """Who reads payments: a payer sees what to do next, staff see their note and a quarantine.

    `staff_of` is the organization whose payments the user may view, None for no organization.
    """

    user_id: int
    staff_of: int | None
    is_admin: bool

    def values(self) -> dict[str, Any]:
        """Return the parameters of a query."""
        # No organization has the id 0.
        return {
            "viewer_id": self.user_id,
            "staff_of": self.staff_of or 0,
            "views_all": self.is_admin,
        }


@dataclass(frozen=True, slots=True)
class PaymentFilter:
    """Which payments of an organization are listed: created from `since` until before `until`."""

    status: Status | None = None
    method: Method | None = None
    client_id: int | None = None
    since: datetime | None = None
    until: datetime | None = None


_IS_PAYER = PaymentTransaction.client_id == bindparam("viewer_id")
_IS_STAFF = or_(
    bindparam("views_all", type_=Boolean),
    PaymentTransaction.organization_id == bindparam("staff_of"),
)
# Another gateway's response is its own: nothing of it is shown.
_IS_BY_HAND = PaymentTransaction.payment_gateway == BY_HAND
_AWAITS_PAYER = and_(
    _IS_PAYER,
    PaymentTransaction.status == Status.REQUIRES_ACTION,
    PaymentTransaction.void_requested_at.is_(None),
)
_FAILURE = {
    "code": PaymentTransaction.failure_code,
    "message": case(
        *(
            (and_(_IS_STAFF, PaymentTransaction.failure_code == code), literal(message, Text))
            for code, message in MESSAGES_FOR_STAFF.items()
        ),
        else_=func.coalesce(PaymentTransaction.failure_message, ""),
    ),
}
_HAS_FAILED = PaymentTransaction.failure_code.is_not(None)
_FIELDS = {
    **PaymentTransaction.__table__.columns,
    "failure": case((_HAS_FAILED, json_object(FailureRead, _FAILURE))),
    "platform_fee": case((_IS_STAFF, PaymentTransaction.platform_fee)),
    "quarantine_reason": case((_IS_STAFF, PaymentTransaction.quarantine_reason)),
    "note": case(
        (and_(_IS_STAFF, _IS_BY_HAND), PaymentTransaction.gateway_response["note"].astext)
    ),
    "next_action": case((_AWAITS_PAYER, PaymentTransaction.next_action)),
    "invoice_number": _NUMBER,
}
_SOURCE = select().select_from(PaymentTransaction)
_OF_ID = _SOURCE.where(PaymentTransaction.id == bindparam("payment_id"))
_PARTIES = {
    "client_id": PaymentTransaction.client_id,
    "organization_id": PaymentTransaction.organization_id,
}
_DETAIL = JsonQuery(PaymentRead, _OF_ID, _FIELDS, facts=_PARTIES)
_PARTIES_OF = FactsQuery(_OF_ID, _PARTIES)
_LIST = JsonQuery(
    PaymentRead,
    _SOURCE,
    _FIELDS,
    filters={
        "organization_id": PaymentTransaction.organization_id == bindparam("organization_id"),
        "status": PaymentTransaction.status == bindparam("status"),
        "method": PaymentTransaction.payment_method == bindparam("method"),
        "client_id": PaymentTransaction.client_id == bindparam("client_id"),
        "since": PaymentTransaction.created_at >= bindparam("since"),
        "until": PaymentTransaction.created_at < bindparam("until"),
    },
    order=(PaymentTransaction.id,),
)


async def find_document(reader: Reader, viewer: PaymentViewer, payment_id: int) -> Document | None:
    """Return a payment as JSON, with its client and organization, or None."""
    return await _DETAIL.find(reader, payment_id=payment_id, **viewer.values())


async def get_parties(reader: Reader, payment_id: int, organization_id: int | None = None) -> Any:
    """Return the `organization_id` and the `client_id` of a payment.

    Raises PaymentNotFound, also for a payment of another organization than a given one.
    """
    parties = await _PARTIES_OF.find(reader, payment_id=payment_id)
    if parties is None or organization_id not in (None, parties.organization_id):
        raise PaymentNotFound
    return parties


async def page_of_own_payments(reader: Reader, viewer: PaymentViewer, page: Page) -> bytes:
    """Return a page of the viewer's own payments as JSON, newest first."""
    return await _LIST.page(reader, page, client_id=viewer.user_id, **viewer.values())


async def page_of_payments(
    reader: Reader, viewer: PaymentViewer, page: Page, organization_id: int, only: PaymentFilter
) -> bytes:
    """Return a page of an organization's payments as JSON, newest first."""
    return await _LIST.page(
        reader, page, organization_id=organization_id, **asdict(only), **viewer.values()
    )


async def lock_unfinished_payments(
    session: AsyncSession, gateways: Sequence[str], checked_before: datetime, limit: int
) -> Sequence[PaymentTransaction]:
    """Return payments that wait for a gateway and are due for a check, locked.

    The one of each organization that waits longest is first, then the second one of each. The
    longer a payment waits for its payer, the more seldom it is asked about.
    """
    moment, payment = now(), PaymentTransaction
    idle = extract("epoch", moment - payment.checked_at)
    age = extract("epoch", moment - payment.created_at)
    is_due = and_(
        payment.status.in_(UNFINISHED),
        payment.payment_gateway.in_(gateways),
        payment.checked_at < checked_before,
        or_(
            idle > func.least(age / 10, _LONGEST_PAUSE.total_seconds()),
            payment.void_requested_at.is_not(None),
        ),
    )
    place = func.row_number().over(
        partition_by=payment.organization_id, order_by=payment.checked_at
    )
    # PostgreSQL cannot lock rows of a query with a window: they are read, and checked, again.
    ranked = select(payment.id, place.label("place")).where(is_due).subquery("ranked")
    statement = (
        select(payment)
        .join(ranked, ranked.c.id == payment.id)
        .where(is_due)
        .order_by(ranked.c.place, payment.checked_at)
        .limit(limit)
        .with_for_update(of=payment, skip_locked=True)
    )
    return (await session.scalars(statement)).all()


async def lock_closed_payments(
    session: AsyncSession, instant: datetime, limit: int
) -> Sequence[PaymentTransaction]:
    """Return payments by hand that were closed before an instant and are unfinished, locked."""
    payment = PaymentTransaction
    statement = (
        select(payment)
        .where(
            payment.status.in_(UNFINISHED),
            payment.payment_gateway == BY_HAND,
            payment.void_requested_at < instant,
        )
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return (await session.scalars(statement)).all()


async def list_awaited_gateways(session: AsyncSession) -> Sequence[str]:
    """Return the names of the gateways of unfinished payments, refunds and webhooks."""
    payment = PaymentTransaction
    statement = union(
        select(payment.payment_gateway).where(payment.status.in_(UNFINISHED)),
        select(Refund.payment_gateway).where(Refund.status == RefundStatus.PENDING),
        select(WebhookEvent.gateway).where(WebhookEvent.next_attempt_at.is_not(None)),
    )
    return (await session.scalars(statement)).all()
