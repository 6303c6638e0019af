"""Routes of refunds by quote."""

from services.vouchers.errors import (
    NothingToRefund,
    RefundQuoteExpired,
    RefundQuoteNotFound,
    RefundQuoteOutdated,
    RefundQuoteTaken,
    RefundRefused,
    RefundUnderWay,
    VoucherDisputed,
    VoucherExhausted,
    VoucherExpired,
    VoucherNotFound,
    VoucherUnpaid,
)
from services.vouchers.schemas.refunds import (
    RefundFromQuote,
    RefundQuoteCreate,
    RefundQuoteRead,
    VoucherRefund,
)
from services.vouchers.service import refund_quotes
from shared.auth import ActorDep
from shared.errors import Forbidden, Invalid, ServiceUnavailable, Unauthenticated, responses
from shared.fields import Id
from shared.routing import router
from shared.sessions import ClientsDep, WorkDep

refunds = router(
    prefix="/api/vouchers/{voucher_id}",
    tags=["refunds"],
    responses=responses(Unauthenticated, Forbidden, VoucherNotFound, Invalid, ServiceUnavailable),
)


@refunds.post(
    "/refund-quote",
    status_code=201,
    responses=responses(
        VoucherUnpaid,
        VoucherExpired,
        VoucherExhausted,
        VoucherDisputed,
        RefundUnderWay,
        NothingToRefund,
    ),
)
async def quote_refund(
    voucher_id: Id,
    work: WorkDep,
    actor: ActorDep,
    clients: ClientsDep,
    body: RefundQuoteCreate | None = None,
) -> RefundQuoteRead:
    """Quote the refund of the voucher's unused regular sessions, pro rata of what was paid.

    Sessions that are not booked are refunded first. `releases` lists the reservations that the
    refund would cancel.
    """
    sessions = body.sessions if body else None
    quote, releases = await refund_quotes.quote_refund(work, actor, clients, voucher_id, sessions)
    read = RefundQuoteRead.model_validate(quote)
    read.releases = releases
    return read


@refunds.post(
    "/refunds",
    status_code=201,
    responses=responses(
        RefundQuoteNotFound,
        RefundQuoteTaken,
        RefundQuoteExpired,
        RefundQuoteOutdated,
        RefundRefused,
    ),
)
async def refund_voucher(
    voucher_id: Id, body: RefundFromQuote, work: WorkDep, actor: ActorDep, clients: ClientsDep
) -> VoucherRefund:
    """Refund the amount of a quote, unless the voucher was used or changed since."""
    quote, refund = await refund_quotes.refund_voucher(
        work, actor, clients, voucher_id, body.quote_id, body.reason
    )
    return VoucherRefund(
        id=refund.id,
        quote_id=quote.id,
        transaction_id=quote.transaction_id,
        amount=quote.amount,
        currency=quote.currency,
        sessions=quote.sessions,
        status=refund.status,
        refunded_amount=refund.refunded_amount,
    )
