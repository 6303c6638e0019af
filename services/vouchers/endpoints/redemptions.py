"""Routes of redemptions and adjustments: parse, call, return."""

from datetime import date

from services.vouchers import policies, queries
from services.vouchers.errors import (
    AdjustmentAlreadyReversed,
    AdjustmentNotFound,
    CodeAlreadyUsed,
    CodeNotFound,
    CodeRefunded,
    FreezeOverlaps,
    RedemptionAlreadyReversed,
    RedemptionNotFound,
    SessionsBeyondValidity,
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
    ExtensionCreate,
    FreezeCreate,
    RedemptionCreate,
    RedemptionRead,
    RedemptionResult,
    Reversal,
)
from services.vouchers.service import adjustments, vouchers
from services.vouchers.service import redemptions as service
from shared.auth import ActorDep
from shared.errors import Forbidden, Invalid, Unauthenticated, responses
from shared.fields import Id
from shared.paging import PageDep
from shared.routing import router
from shared.sessions import SessionDep

redemptions = router(
    prefix="/api/vouchers/{voucher_id}",
    tags=["redemptions"],
    responses=responses(Unauthenticated, Forbidden, VoucherNotFound, Invalid),
)

_REDEEM = responses(
    CodeNotFound,
    CodeAlreadyUsed,
    CodeRefunded,
    VoucherUnpaid,
    VoucherDisputed,
    VoucherCancelled,
    VoucherExpired,
    VoucherNotYetValid,
    VoucherFrozen,
    VoucherExhausted,
)


def _spent(result: service.Spent) -> RedemptionResult:
    redemption, code, voucher = result
    fields = ("id", "voucher_id", "kind", "session_date", "therapist_id", "reversal_of", "reason")
    return RedemptionResult(
        **{name: getattr(redemption, name) for name in fields},
        note=redemption.note,
        created_at=redemption.created_at,
        code=code,
        regular_sessions_left=voucher.regular_sessions_left,
        backup_sessions_left=voucher.backup_sessions_left,
        voucher_status=voucher.status,
    )


def _adjusted(result: tuple[Adjustment, date]) -> AdjustmentResult:
    adjustment, valid_until = result
    shown = AdjustmentRead.model_validate(adjustment).model_dump()
    return AdjustmentResult(**shown, valid_until=valid_until)


@redemptions.post("/redemptions", status_code=201, responses=_REDEEM)
async def redeem(
    voucher_id: Id, body: RedemptionCreate, session: SessionDep, actor: ActorDep
) -> RedemptionResult:
    """Spend one session: the one that a code stands for, or the next one."""
    return _spent(await service.redeem(session, actor, voucher_id, body))


@redemptions.get("/redemptions")
async def list_redemptions(
    voucher_id: Id, session: SessionDep, actor: ActorDep, page: PageDep
) -> list[RedemptionRead]:
    """List a voucher's redemptions, newest first; the therapist's notes are not for the client."""
    voucher = await vouchers.readable(session, actor, voucher_id)
    rows = await queries.page_of_redemptions(session, page, voucher)
    shown = [RedemptionRead.model_validate(row) for row in rows]
    if policies.can_read_notes(actor, voucher):
        return shown
    return [row.model_copy(update={"note": None}) for row in shown]


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
    """Take a redemption back: the session and its code are free again."""
    note = body.note if body else None
    return _spent(await service.reverse(session, actor, voucher_id, redemption_id, note))


@redemptions.get("/adjustments")
async def list_adjustments(
    voucher_id: Id, session: SessionDep, actor: ActorDep
) -> list[AdjustmentRead]:
    """List a voucher's freezes and extensions, newest first."""
    voucher = await vouchers.readable(session, actor, voucher_id)
    made = await queries.adjustments_of(session, voucher)
    return [AdjustmentRead.model_validate(adjustment) for adjustment in made]


@redemptions.post(
    "/freezes", status_code=201, responses=responses(VoucherNotActive, FreezeOverlaps)
)
async def freeze_voucher(
    voucher_id: Id, body: FreezeCreate, session: SessionDep, actor: ActorDep
) -> AdjustmentResult:
    """Pause a voucher from one day to another; its last day moves by the length of the pause."""
    return _adjusted(await adjustments.freeze(session, actor, voucher_id, body))


@redemptions.post("/extensions", status_code=201, responses=responses(VoucherNotActive))
async def extend_voucher(
    voucher_id: Id, body: ExtensionCreate, session: SessionDep, actor: ActorDep
) -> AdjustmentResult:
    """Give a voucher a later last day."""
    return _adjusted(await adjustments.extend(session, actor, voucher_id, body))


@redemptions.post(
    "/adjustments/{adjustment_id}/reverse",
    responses=responses(
        AdjustmentNotFound, AdjustmentAlreadyReversed, VoucherNotActive, SessionsBeyondValidity
    ),
)
async def reverse_adjustment(
    voucher_id: Id, adjustment_id: Id, session: SessionDep, actor: ActorDep
) -> AdjustmentResult:
    """Take a freeze or an extension back."""
    return _adjusted(await adjustments.reverse(session, actor, voucher_id, adjustment_id))
