"""Redemptions and adjustments, as they come in and go out."""

from datetime import date, datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from services.vouchers.models import AdjustmentKind, Reason, SessionKind, VoucherStatus
from shared.fields import Choice, Day, Name, RequestBody, Text

Code = Annotated[Name, StringConstraints(max_length=50)]


class RedemptionCreate(RequestBody):
    """One session to spend: by its code, or the next one of a kind.

    `session_date` is a day in the organization's time zone, today by default and never later. A
    backup session takes the place of a regular one that was missed or cancelled late, and says
    which it was.
    """

    code: Code | None = None
    kind: Choice[SessionKind] | None = None
    session_date: Day | None = None
    reason: Choice[Reason] | None = None
    note: Text | None = None


class Reversal(RequestBody):
    """Why a redemption is taken back."""

    note: Text | None = None


class RedemptionRead(BaseModel):
    """One row of the ledger; a reversing row gives back what `reversal_of` spent."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    voucher_id: int
    code: str | None
    kind: SessionKind
    session_date: date
    therapist_id: int | None
    reversal_of: int | None
    reason: Reason | None
    note: str | None
    created_at: datetime


class RedemptionResult(RedemptionRead):
    """A redemption, and what is left after it."""

    regular_sessions_left: int
    backup_sessions_left: int
    voucher_status: VoucherStatus


class FreezeCreate(RequestBody):
    """A pause, both days inclusive: the voucher's last day moves by its length."""

    starts_on: Day
    ends_on: Day
    reason: Name

    @field_validator("ends_on")
    @classmethod
    def _not_before_the_start(cls, value: date, info: ValidationInfo) -> date:
        start = info.data.get("starts_on")
        if start is not None and value < start:
            raise PydanticCustomError("end_before_start", "must not be before starts_on")
        return value


class ExtensionCreate(RequestBody):
    """A later last day."""

    valid_until: Day
    reason: Name


class AdjustmentRead(BaseModel):
    """A freeze or an extension; `days` is what it added to the voucher's validity."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    voucher_id: int
    kind: AdjustmentKind
    starts_on: date | None
    ends_on: date | None
    days: int
    reason: str
    made_by: int
    created_at: datetime
    reversed_at: datetime | None
    reversed_by: int | None


class AdjustmentResult(AdjustmentRead):
    """An adjustment, and the voucher's last day after it."""

    valid_until: date
