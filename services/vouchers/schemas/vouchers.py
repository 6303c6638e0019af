"""Requests and responses of vouchers and purchases."""

from datetime import date, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, SecretStr, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from services.vouchers.models import Frequency, PaymentMethod, PaymentStatus, VoucherStatus
from services.vouchers.schemas.reservations import ReservationResult, SessionChoice
from services.vouchers.schemas.voucher_types import RulesRead
from shared.card_tokens import CardToken
from shared.fields import BodyId, Choice, RequestBody, Text
from shared.money import Money


class PurchaseCreate(RequestBody):
    """What a client buys. A guardian names the dependant for whom the voucher is, an administrator
    any client.

    `payment_token` is the card gateway's token for a card; without one the payment is pending until
    it is confirmed. The token is passed on and not stored. With `voucher_type_version`, the version
    that the buyer saw, a voucher type that has changed since is not sold. The session of
    `reservation` is held for the client, and booked when the voucher is paid.
    """

    voucher_type_id: BodyId
    voucher_type_version: BodyId | None = None
    client_id: BodyId | None = None
    payment_method: Choice[PaymentMethod]
    payment_token: CardToken | None = None
    notes: Text | None = None
    reservation: SessionChoice | None = None

    @field_validator("payment_token")
    @classmethod
    def _for_cards(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        method = info.data.get("payment_method")
        if value is not None and method not in (None, PaymentMethod.CREDIT_CARD):
            raise PydanticCustomError("token_without_card", "goes with credit_card only")
        return value


class VoucherIssue(RequestBody):
    """A voucher that staff issue to a client, paid in cash or by transfer."""

    client_id: BodyId
    voucher_type_id: BodyId
    payment_method: Literal[PaymentMethod.CASH, PaymentMethod.BANK_TRANSFER]
    notes: Text | None = None


class VoucherUpdate(RequestBody):
    """The notes, the only field of a sold voucher that can be changed; null empties them."""

    notes: Text | None


class Cancellation(RequestBody):
    """Why a voucher is cancelled."""

    reason: Text | None = None


class VoucherRead(BaseModel):
    """A voucher with the terms of its sale and its remaining sessions."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    organization_id: int
    client_id: int | None
    voucher_type_id: int | None
    voucher_type_version: int | None
    received_from_id: int | None
    name: str
    session_name: str | None
    total_sessions: int
    backup_sessions: int
    used_sessions: int
    used_backup_sessions: int
    refunded_sessions: int
    booked_sessions: int
    transferred_sessions: int
    regular_sessions_left: int
    backup_sessions_left: int
    session_duration_minutes: int | None
    max_clients_per_session: int | None
    frequency: Frequency | None
    custom_days: list[int] | None
    price: Money | None
    currency: str | None
    validity_days: int | None
    least_validity_months: int | None
    least_validity_years: int | None
    booking_rules: RulesRead
    booking_policy: RulesRead
    purchase_date: date
    valid_from: date | None
    valid_until: date | None
    least_valid_until: date | None
    status: VoucherStatus
    payment_method: PaymentMethod | None
    payment_status: PaymentStatus
    payment_amount: Money | None
    payment_date: datetime | None
    invoice_number: str | None
    disputed_at: datetime | None
    notes: str | None
    created_at: datetime
    updated_at: datetime
    version: int


class MyVoucher(VoucherRead):
    """The client's own voucher, with the days of the last session and of the next possible one."""

    organization_name: str | None
    last_session_date: date | None
    next_session_date: date | None


class OrganizationVoucher(VoucherRead):
    """A voucher in the list of those who manage it."""

    client_name: str | None


class CodeRead(BaseModel):
    """One session of a voucher."""

    model_config = ConfigDict(from_attributes=True)

    code: str
    is_backup: bool
    is_used: bool
    is_refunded: bool
    is_transferred: bool


class VoucherDetail(VoucherRead):
    """A voucher with its codes; there are none before it is active."""

    codes: list[CodeRead]


class NextAction(BaseModel):
    """What the payer must do: follow a link, or confirm in the card gateway's library."""

    model_config = ConfigDict(from_attributes=True)

    type: str
    redirect_url: str | None
    client_secret: str | None


class PaymentRead(BaseModel):
    """The state of a purchase's payment."""

    model_config = ConfigDict(from_attributes=True)

    transaction_id: int
    status: str
    next_action: NextAction | None


class VoucherPurchased(VoucherDetail):
    """A sold voucher, the state of its payment, and the reservation that was ordered with it."""

    payment: PaymentRead
    reservation: ReservationResult | None = None
