"""How a voucher ends before its time, whoever ends it."""

from sqlalchemy.ext.asyncio import AsyncSession

from services.vouchers.models import Voucher, VoucherStatus
from shared.changes import record


def cancel(session: AsyncSession, voucher: Voucher, reason: str | None) -> None:
    """Cancel a locked voucher. The event names its client: a reason in somebody's words is theirs,
    and goes from the audit trail with them."""
    voucher.status = VoucherStatus.CANCELLED.value
    record(session, "CANCEL", voucher, client_id=voucher.client_id, reason=reason)
