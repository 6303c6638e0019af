"""Refunds by quote: what would be given back, then that and nothing else.

1. A quote says what the unused sessions bring, for the voucher as it is now. 2. Taking it withholds
its sessions, if the voucher is still the same; the event of that transaction lets payments make the
refund if the call never comes. 3. The call makes it, once per quote. 4. Its answer is applied, or
payments' event is: whoever comes first.
"""

from datetime import timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers import policies, queries
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
from services.vouchers.service import payments_client, pro_rata, refunds
from services.vouchers.service.payments_client import PaymentState, RefundState
from services.vouchers.service.vouchers import lock_readable, readable
from shared.actors import Actor
from shared.clients import ServiceClients
from shared.db import now
from shared.errors import Conflict, Forbidden, Invalid
from shared.failpoints import failpoint
from shared.transactions import Transactions
from shared.work import Work

VALID_FOR = timedelta(minutes=15)
KEPT_FOR = timedelta(days=1)
"""How long a quote that nobody took can still be told to have run out."""

# What a cancelled voucher's unused sessions cost may still be given back.
_REFUSALS: dict[str, type[Conflict]] = {
    VoucherStatus.PENDING: VoucherUnpaid,
    VoucherStatus.EXPIRED: VoucherExpired,
    VoucherStatus.COMPLETED: VoucherExhausted,
}


async def quote(
    work: Work, clients: ServiceClients, actor: Actor, voucher_id: int, sessions: int | None
) -> RefundQuote:
    """Say what a voucher's unused sessions bring, or some of them.

    Raises VoucherNotFound, Forbidden, VoucherUnpaid, VoucherExpired, VoucherExhausted,
    VoucherDisputed, RefundUnderWay, NothingToRefund, ServiceUnavailable, and Invalid for more
    sessions than are unused.
    """
    # The voucher as it was before payments was asked: what changes meanwhile outdates the quote.
    # The voucher as it is after would not fit an answer in which its last refund is missing.
    async with work.begin() as session:
        voucher = await _quotable(session, actor, voucher_id)
    payment = await payments_client.find_payment(clients, work.origin, voucher_id)
    if payment is None:
        raise NothingToRefund
    if payment.pending_amount:
        raise RefundUnderWay
    made = _quote_of(voucher, payment, sessions)
    made.quoted_by = actor.user_id
    async with work.begin() as session:
        session.add(made)
        await session.flush()
    return made


async def _quotable(session: AsyncSession, actor: Actor, voucher_id: int) -> Voucher:
    voucher = await readable(session, actor, voucher_id)
    if not policies.can_quote_refund(actor, voucher):
        raise Forbidden("the client, and those with manage_vouchers or manage_payments")
    if refusal := _REFUSALS.get(voucher.status):
        raise refusal
    if voucher.disputed_at is not None:
        raise VoucherDisputed
    # Its sessions are gone here, its money perhaps not yet there: the two would not fit together.
    if await queries.has_taken_quote(session, voucher):
        raise RefundUnderWay
    return voucher


def _quote_of(voucher: Voucher, payment: PaymentState, sessions: int | None) -> RefundQuote:
    unused = voucher.regular_sessions_left
    if sessions is not None and sessions > unused:
        raise Invalid("sessions", f"at most the {unused} unused ones can be given back")
    wanted = unused if sessions is None else sessions
    amount = pro_rata.amount_for(
        payment.captured_amount,
        voucher.total_sessions,
        given_back=voucher.refunded_sessions,
        sessions=wanted,
        paid_back=payment.captured_amount - payment.refundable_amount,
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
        sessions=wanted,
        amount=amount,
        currency=payment.currency,
        rule=pro_rata.RULE,
        valid_until=now() + VALID_FOR,
    )


async def forget_untaken(transactions: Transactions) -> None:
    """Drop the quotes that ran out long ago and that nobody took."""
    async with transactions.system() as session:
        await queries.forget_open_quotes(session, now() - KEPT_FOR)


async def give_back(
    work: Work,
    clients: ServiceClients,
    actor: Actor,
    voucher_id: int,
    quote_id: int,
    reason: str | None,
) -> tuple[RefundQuote, RefundState]:
    """Give back what a quote says.

    Raises VoucherNotFound, RefundQuoteNotFound, Forbidden, RefundQuoteTaken, RefundQuoteExpired,
    RefundQuoteOutdated (the voucher was used or changed since), RefundRefused (the money is not
    there any more, or the payment gateway will not give it back; the sessions are free again), and
    ServiceUnavailable: the refund may be made then, and the same Idempotency-Key tells of it.
    """
    taken = await _begun(work)
    if taken is None:
        await _require_money(work, clients, actor, voucher_id, quote_id)
        taken = await _take(work, actor, voucher_id, quote_id, reason)
    failpoint("quote.withheld")
    made = await payments_client.refund(clients, work.origin, taken)
    failpoint("quote.answered")
    async with work.begin() as session:
        if made.status == "succeeded":
            returned = refunds.Returned(made.amount, made.refunded_amount, taken.id)
            await refunds.refunded(session, taken.voucher_id, returned)
        elif made.status == "failed":
            await refunds.not_refunded(session, taken.voucher_id, taken.id)
    failpoint("quote.concluded")
    if made.status == "failed":
        raise RefundRefused(made.failure_message or "")
    return taken, made


async def _begun(work: Work) -> RefundQuote | None:
    """Return the quote that an interrupted attempt with the same Idempotency-Key took, or None."""
    if work.claim is None or work.claim.resource_id is None:
        return None
    async with work.begin() as session:
        return await session.get_one(RefundQuote, work.claim.resource_id)


async def _require_money(
    work: Work, clients: ServiceClients, actor: Actor, voucher_id: int, quote_id: int
) -> None:
    """Refuse, before anything is written, a refund whose money is not there any more.

    Money that goes away between this and the refund is found by payments, and the sessions that
    were withheld for it are free again. Raises what `give_back` does.
    """
    async with work.begin() as session:
        _, quote = await _takeable(session, actor, voucher_id, quote_id)
    payment = await payments_client.find_payment(clients, work.origin, voucher_id)
    if payment is not None and payment.refundable_amount >= quote.amount:
        return
    async with work.begin() as session:
        # Another refund may have taken the money: of this quote, or so that it is outdated.
        await _takeable(session, actor, voucher_id, quote_id)
    raise RefundRefused("The quoted money is not there any more; the voucher is as it was.")


async def _takeable(
    session: AsyncSession, actor: Actor, voucher_id: int, quote_id: int
) -> tuple[Voucher, RefundQuote]:
    """Return a voucher, locked, and its quote if it may be paid out."""
    voucher = await lock_readable(session, actor, voucher_id)
    actor.require(policies.MANAGE_PAYMENTS, voucher.organization_id)
    quote = await queries.get_quote(session, voucher, quote_id)
    if quote.status != QuoteStatus.OPEN:
        raise RefundQuoteTaken
    if quote.valid_until < now():
        raise RefundQuoteExpired
    if quote.voucher_version != voucher.version:
        raise RefundQuoteOutdated
    return voucher, quote


async def _take(
    work: Work, actor: Actor, voucher_id: int, quote_id: int, reason: str | None
) -> RefundQuote:
    async with work.begin() as session:
        voucher, quote = await _takeable(session, actor, voucher_id, quote_id)
        quote.taken_by = actor.user_id
        await refunds.withhold(session, voucher, quote, reason)
        if work.claim:
            await work.claim.attach(session, quote.id)
    return quote
