"""Requests and responses of redemptions and adjustments."""

from datetime import date, datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from services.vouchers.models import AdjustmentKind, Reason, SessionKind, VoucherStatus
from shared.fields import BodyId, Choice, Day, Name, RequestBody, Text

Code = Annotated[Name, StringConstraints(max_length=50)]


class RedemptionCreate(RequestBody):
    """One session to redeem: that of a code, or the next one of a kind.

    `session_date` is a day in the organization's time zone, today by default and never later. A
    backup session replaces a regular one that was missed or cancelled late: `reason` states which.

    If the voucher has a booked reservation on that day, the redemption settles it: as attended, or
    as the reason states. `reservation_id` is needed if it has several.
    """

    code: Code | None = None
    kind: Choice[SessionKind] | None = None
    session_date: Day | None = None
    reservation_id: BodyId | None = None
    reason: Choice[Reason] | None = None
    note: Text | None = None


class Reversal(RequestBody):
    """Why a redemption is reversed."""

    note: Text | None = None


class RedemptionRead(BaseModel):
    """A redemption or, with `reversal_of`, the reversal of that redemption.

    `reservation_id` is the reservation that the redemption settled.
    """

    model_config = ConfigDict(from_attributes=True)

    id: int
    voucher_id: int
    code: str | None
    kind: SessionKind
    session_date: date
    therapist_id: int | None
    reversal_of: int | None
    reservation_id: int | None
    reason: Reason | None
    note: str | None
    created_at: datetime


class RedemptionResult(RedemptionRead):
    """A redemption, and the voucher's remaining sessions after it."""

    regular_sessions_left: int
    backup_sessions_left: int
    voucher_status: VoucherStatus


class FreezeCreate(RequestBody):
    """A freeze, both days inclusive; the voucher's last day moves by its length.

    With `release_reservations` the reservations of these days are cancelled without charge. Without
    it a freeze over reservations is refused, with the list of them.
    """

    starts_on: Day
    ends_on: Day
    reason: Name
    release_reservations: bool = False

    @field_validator("ends_on")
    @classmethod
    def _not_before_the_start(cls, value: date, info: ValidationInfo) -> date:
        start = info.data.get("starts_on")
        if start is not None and value < start:
            raise PydanticCustomError("end_before_start", "must not be before starts_on")
        return value


class ExtensionCreate(RequestBody):
    """The new, later last day of a voucher. That of an expired voucher must not be over."""

    valid_until: Day
    reason: Name


class AdjustmentReversal(RequestBody):
    """Why a freeze or an extension is reversed; required for an expired voucher."""

    reason: Name | None = None


class AdjustmentRead(BaseModel):
    """A freeze or an extension; `days` is the number of days that it added to the validity."""

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
