"""Routes of redemptions and adjustments."""

from datetime import date

from fastapi import Response

from services.vouchers.errors import (
    AdjustmentAlreadyReversed,
    AdjustmentNotFound,
    CodeAlreadyUsed,
    CodeNotFound,
    CodeRefunded,
    CodeTransferred,
    FreezeOverlaps,
    LeastValidityUndercut,
    OrganizationNotFound,
    RedemptionAlreadyReversed,
    RedemptionNotFound,
    ReservationNotFound,
    ReservationSettled,
    ReservationsInFreeze,
    SessionsBeyondValidity,
    SessionsBooked,
    VoucherCancelled,
    VoucherDisputed,
    VoucherExhausted,
    VoucherExpired,
    VoucherFrozen,
    VoucherNotActive,
    VoucherNotFound,
    VoucherNotYetValid,
    VoucherUnpaid,
)
from services.vouchers.models import Adjustment
from services.vouchers.schemas.redemptions import (
    AdjustmentRead,
    AdjustmentResult,
    AdjustmentReversal,
    ExtensionCreate,
    FreezeCreate,
    RedemptionCreate,
    RedemptionRead,
    RedemptionResult,
    Reversal,
)
from services.vouchers.service import adjustments
from services.vouchers.service import redemptions as service
from shared.auth import ActorDep
from shared.errors import Forbidden, Invalid, Unauthenticated, responses
from shared.fields import Id
from shared.json_responses import json_response
from shared.paging import PageDep
from shared.routing import router
from shared.sessions import ReaderDep, SessionDep

redemptions = router(
    prefix="/api/vouchers/{voucher_id}",
    tags=["redemptions"],
    responses=responses(Unauthenticated, Forbidden, VoucherNotFound, Invalid),
)

_REDEEM = responses(
    CodeNotFound,
    CodeAlreadyUsed,
    CodeRefunded,
    CodeTransferred,
    VoucherUnpaid,
    VoucherDisputed,
    VoucherCancelled,
    VoucherExpired,
    VoucherNotYetValid,
    VoucherFrozen,
    VoucherExhausted,
    SessionsBooked,
    OrganizationNotFound,
    ReservationNotFound,
    ReservationSettled,
)


def _redemption(entry: service.LedgerEntry) -> RedemptionResult:
    redemption, voucher = entry.redemption, entry.voucher
    fields = RedemptionRead.model_fields.keys() - {"code"}
    return RedemptionResult(
        **{name: getattr(redemption, name) for name in fields},
        code=entry.code,
        regular_sessions_left=voucher.regular_sessions_left,
        backup_sessions_left=voucher.backup_sessions_left,
        voucher_status=voucher.status,
    )


def _adjustment(result: tuple[Adjustment, date]) -> AdjustmentResult:
    adjustment, valid_until = result
    fields = AdjustmentRead.model_validate(adjustment).model_dump()
    return AdjustmentResult(**fields, valid_until=valid_until)


@redemptions.post("/redemptions", status_code=201, responses=_REDEEM)
async def redeem(
    voucher_id: Id, body: RedemptionCreate, session: SessionDep, actor: ActorDep
) -> RedemptionResult:
    """Redeem one session: that of a code, or the next one. It settles the reservation of the day,
    if the voucher has one."""
    return _redemption(await service.redeem(session, actor, voucher_id, body))


@redemptions.get("/redemptions", response_model=list[RedemptionRead])
async def list_redemptions(
    voucher_id: Id, reader: ReaderDep, actor: ActorDep, page: PageDep, response: Response
) -> Response:
    """List a voucher's redemptions, newest first; the therapist's notes are not for the client."""
    body = await service.list_redemptions(reader, actor, page, voucher_id)
    return json_response(response, body)


@redemptions.post(
    "/redemptions/{redemption_id}/reverse",
    status_code=201,
    responses=responses(RedemptionNotFound, RedemptionAlreadyReversed),
)
async def reverse_redemption(
    voucher_id: Id,
    redemption_id: Id,
    session: SessionDep,
    actor: ActorDep,
    body: Reversal | None = None,
) -> RedemptionResult:
    """Reverse a redemption: the session and its code are usable again, and the reservation that it
    settled is booked again."""
    note = body.note if body else None
    return _redemption(await service.reverse(session, actor, voucher_id, redemption_id, note))


@redemptions.get("/adjustments", response_model=list[AdjustmentRead])
async def list_adjustments(
    voucher_id: Id, reader: ReaderDep, actor: ActorDep, response: Response
) -> Response:
    """List a voucher's freezes and extensions, newest first."""
    body = await adjustments.list_adjustments(reader, actor, voucher_id)
    return json_response(response, body)


@redemptions.post(
    "/freezes",
    status_code=201,
    responses=responses(
        VoucherNotActive, FreezeOverlaps, ReservationsInFreeze, OrganizationNotFound
    ),
)
async def freeze_voucher(
    voucher_id: Id, body: FreezeCreate, session: SessionDep, actor: ActorDep
) -> AdjustmentResult:
    """Freeze a voucher from one day to another; its last day moves by the length of the freeze.

    A freeze over booked sessions is refused with the list `reservations`, unless the body states
    that they are released.
    """
    return _adjustment(await adjustments.freeze(session, actor, voucher_id, body))


@redemptions.post(
    "/extensions",
    status_code=201,
    responses=responses(VoucherNotActive, VoucherExhausted, VoucherDisputed),
)
async def extend_voucher(
    voucher_id: Id, body: ExtensionCreate, session: SessionDep, actor: ActorDep
) -> AdjustmentResult:
    """Move a voucher's last day to a later one. An expired voucher with sessions left is active
    again."""
    return _adjustment(await adjustments.extend(session, actor, voucher_id, body))


@redemptions.post(
    "/adjustments/{adjustment_id}/reverse",
    responses=responses(
        AdjustmentNotFound,
        AdjustmentAlreadyReversed,
        LeastValidityUndercut,
        VoucherNotActive,
        SessionsBeyondValidity,
    ),
)
async def reverse_adjustment(
    voucher_id: Id,
    adjustment_id: Id,
    session: SessionDep,
    actor: ActorDep,
    body: AdjustmentReversal | None = None,
) -> AdjustmentResult:
    """Reverse a freeze or an extension, with a reason if the voucher has expired; it stays
    expired."""
    reason = body.reason if body else None
    return _adjustment(await adjustments.reverse(session, actor, voucher_id, adjustment_id, reason))
