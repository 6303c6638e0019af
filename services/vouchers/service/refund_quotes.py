"""Refunds by quote: the client sees an amount first, and then exactly this amount is refunded.

1. A quote states what the unused sessions are worth, for the voucher as it is now.
2. Taking the quote withholds its sessions, if the voucher is unchanged. The event of that
   transaction lets payments make the refund, should the call of step 3 never arrive.
3. Payments is called to make the refund, once per quote.
4. Its response is applied. So is the event of payments; the first one counts.
"""

from datetime import timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers import access, policies, queries
from services.vouchers.errors import (
    NothingToRefund,
    RefundQuoteExpired,
    RefundQuoteOutdated,
    RefundQuoteTaken,
    RefundRefused,
    RefundUnderWay,
    VoucherDisputed,
    VoucherExhausted,
    VoucherExpired,
    VoucherUnpaid,
)
from services.vouchers.models import QuoteStatus, RefundQuote, Voucher, VoucherStatus
from services.vouchers.schemas.reservations import ReservationRead
from services.vouchers.service import payments_client, pro_rata, refunds
from services.vouchers.service.payments_client import PaymentState, RefundState
from services.vouchers.service.releases import places_for_refund
from services.vouchers.service.reservations import read_reservation
from shared.actors import Actor
from shared.clients import ServiceClients
from shared.db import now
from shared.errors import Conflict, Forbidden, Invalid
from shared.failpoints import failpoint
from shared.tenancy import Tenant, limit_to
from shared.transactions import Transactions
from shared.work import Work

VALID_FOR = timedelta(minutes=15)
STORED_FOR = timedelta(days=1)
"""How long an unused quote is stored after its end, to be answered with refund_quote_expired."""

# The unused sessions of a cancelled voucher can still be refunded, and staff may refund those of an
# expired one.
_REFUSALS: dict[str, type[Conflict]] = {
    VoucherStatus.PENDING: VoucherUnpaid,
    VoucherStatus.COMPLETED: VoucherExhausted,
}


async def quote_refund(
    work: Work, actor: Actor, clients: ServiceClients, voucher_id: int, sessions: int | None
) -> tuple[RefundQuote, list[ReservationRead]]:
    """Create a quote for a number of a voucher's unused sessions, None for all of them.

    Return it with the reservations that the refund would cancel now, the latest first.
    For an expired voucher only staff request it.

    Raises VoucherNotFound, Forbidden, VoucherUnpaid, VoucherExpired, VoucherExhausted,
    VoucherDisputed, RefundUnderWay, NothingToRefund, ServiceUnavailable, and Invalid for more
    sessions than are unused.
    """
    # The voucher is read before payments is called: a change in between makes the quote outdated.
    # Read afterwards, it could contain a refund that the response of payments does not.
    async with work.begin() as session:
        voucher = await _get_quotable(session, actor, voucher_id)
    payment = await payments_client.find_payment(clients, work.origin, voucher_id)
    if payment is None:
        raise NothingToRefund
    if payment.pending_amount:
        raise RefundUnderWay
    quote = _quote_of(voucher, payment, sessions)
    quote.quoted_by = actor.user_id
    async with work.begin() as session:
        session.add(quote)
        await session.flush()
        await limit_to(session, Tenant(voucher.organization_id, actor.user_id))
        places = await places_for_refund(session, voucher, quote.sessions)
    return quote, [read_reservation(*place) for place in places]


async def _get_quotable(session: AsyncSession, actor: Actor, voucher_id: int) -> Voucher:
    voucher = await access.get_readable_voucher(session, actor, voucher_id)
    if not policies.can_quote_refund(actor, voucher):
        raise Forbidden(
            "Only the client and users with the permission manage_vouchers or manage_payments"
            " request a refund quote."
        )
    if refusal := _REFUSALS.get(voucher.status):
        raise refusal
    is_expired = voucher.status == VoucherStatus.EXPIRED
    if is_expired and not policies.can_quote_expired(actor, voucher):
        raise VoucherExpired(
            "The voucher's last day is over. Ask the organization: only its staff refund it now."
        )
    if voucher.received_from_id is not None:
        raise NothingToRefund(
            "The sessions were transferred to the client, and the payment stays with its payer."
            " Return the sessions first, then refund them there."
        )
    if voucher.disputed_at is not None:
        raise VoucherDisputed
    # The sessions of a taken quote are withheld, while its money may not be refunded yet.
    if await queries.has_taken_quote(session, voucher):
        raise RefundUnderWay
    return voucher


def _quote_of(voucher: Voucher, payment: PaymentState, sessions: int | None) -> RefundQuote:
    unused = voucher.regular_sessions_left
    if sessions is None:
        sessions = unused
    if sessions > unused:
        raise Invalid("sessions", f"must not be more than the {unused} unused sessions")
    amount = pro_rata.amount_for(
        payment.captured_amount,
        voucher.total_sessions,
        refunded_sessions=voucher.refunded_sessions,
        sessions=sessions,
        refunded_amount=payment.captured_amount - payment.refundable_amount,
        unit=payment.unit,
    )
    if not amount:
        raise NothingToRefund
    return RefundQuote(
        organization_id=voucher.organization_id,
        voucher_id=voucher.id,
        client_id=voucher.client_id,
        transaction_id=payment.transaction_id,
        voucher_version=voucher.version,
        unused_sessions=unused,
        sessions=sessions,
        amount=amount,
        currency=payment.currency,
        rule=pro_rata.RULE,
        valid_until=now() + VALID_FOR,
    )


async def refund_voucher(
    work: Work,
    actor: Actor,
    clients: ServiceClients,
    voucher_id: int,
    quote_id: int,
    reason: str | None,
) -> tuple[RefundQuote, RefundState]:
    """Refund the amount of a quote.

    Raises VoucherNotFound, RefundQuoteNotFound, Forbidden, RefundQuoteTaken, RefundQuoteExpired,
    RefundQuoteOutdated (the voucher was used or changed since), Invalid (an expired voucher needs
    a reason), RefundRefused (the money is no longer available or the payment gateway refuses; the
    sessions are usable again), and ServiceUnavailable: the refund may have been made then, and the
    same request may be repeated with its Idempotency-Key.
    """
    quote = await _find_taken(work)
    if quote is None:
        await _require_money(work, actor, clients, voucher_id, quote_id)
        quote = await _take(work, actor, voucher_id, quote_id, reason)
    failpoint("quote.withheld")
    refund = await payments_client.refund(clients, work.origin, quote)
    failpoint("quote.answered")
    async with work.begin() as session:
        if refund.status == "succeeded":
            report = refunds.RefundReport(refund.amount, refund.refunded_amount, quote.id)
            await refunds.apply_refund(session, quote.voucher_id, report)
        elif refund.status == "failed":
            await refunds.apply_failed_refund(session, quote.voucher_id, quote.id)
    failpoint("quote.concluded")
    if refund.status == "failed":
        raise RefundRefused(refund.failure_message or "")
    return quote, refund


async def _find_taken(work: Work) -> RefundQuote | None:
    """Return the quote that an interrupted request with the same Idempotency-Key took, or None."""
    if work.claim is None or work.claim.resource_id is None:
        return None
    async with work.begin() as session:
        return await queries.get_quote_by_id(session, work.claim.resource_id)


async def _require_money(
    work: Work, actor: Actor, clients: ServiceClients, voucher_id: int, quote_id: int
) -> None:
    """Raise RefundRefused if the quoted money is no longer available, before anything is written.

    Money that leaves between this check and the refund is noticed by payments; the withheld
    sessions are restored then. Raises also what makes the quote unusable.
    """
    async with work.begin() as session:
        _, quote = await _lock_usable(session, actor, voucher_id, quote_id)
    payment = await payments_client.find_payment(clients, work.origin, voucher_id)
    if payment is not None and payment.refundable_amount >= quote.amount:
        return
    async with work.begin() as session:
        # Another refund may have taken this quote or made it outdated: then report that.
        await _lock_usable(session, actor, voucher_id, quote_id)
    raise RefundRefused("The quoted money is no longer available. The voucher is unchanged.")


async def _take(
    work: Work, actor: Actor, voucher_id: int, quote_id: int, reason: str | None
) -> RefundQuote:
    async with work.begin() as session:
        voucher, quote = await _lock_usable(session, actor, voucher_id, quote_id)
        if voucher.status == VoucherStatus.EXPIRED and reason is None:
            raise Invalid("reason", "is required: the voucher has expired")
        quote.taken_by = actor.user_id
        await refunds.withhold_sessions(session, voucher, quote, reason)
        if work.claim:
            await work.claim.attach(session, quote.id)
    return quote


async def _lock_usable(
    session: AsyncSession, actor: Actor, voucher_id: int, quote_id: int
) -> tuple[Voucher, RefundQuote]:
    """Return a voucher, locked, and its quote if this can be refunded."""
    voucher = await access.lock_readable_voucher(session, actor, voucher_id)
    actor.require(policies.MANAGE_PAYMENTS, voucher.organization_id)
    quote = await queries.get_quote(session, voucher, quote_id)
    if quote.status != QuoteStatus.OPEN:
        raise RefundQuoteTaken
    if quote.valid_until < now():
        raise RefundQuoteExpired
    if quote.voucher_version != voucher.version:
        raise RefundQuoteOutdated
    return voucher, quote


async def delete_expired(transactions: Transactions) -> None:
    """Delete the unused quotes that expired more than a day ago."""
    async with transactions.system() as session:
        await queries.delete_unused_quotes(session, now() - STORED_FOR)
