"""Requests and responses of voucher types."""

import re
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from services.vouchers.models import (
    MAX_MONTHS,
    MAX_YEARS,
    WEEKDAYS,
    Frequency,
    PaymentMethod,
    Weekday,
    shortest_validity,
)
from services.vouchers.schemas.booking_policy import BookingPolicy
from shared.currencies import WITHOUT_CENTS
from shared.fields import Choice, Currency, Name, RequestBody, Text, without_defaults
from shared.money import Money, amount_schema

_CLOCK_TIME = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")
_CLOCK_PATTERN = f"^{_CLOCK_TIME.pattern}$"
END_OF_DAY = "24:00"


def _clock_time(value: str) -> str:
    if not _CLOCK_TIME.fullmatch(value):
        raise PydanticCustomError("clock_time", "must be a time HH:MM from 00:00 to 23:59")
    return value


ClockTime = Annotated[
    str, AfterValidator(_clock_time), Field(json_schema_extra={"pattern": _CLOCK_PATTERN})
]


_CLOSING_PATTERN = f"^({_CLOCK_TIME.pattern}|{END_OF_DAY})$"


def _closing_time(value: str) -> str:
    return value if value == END_OF_DAY else _clock_time(value)


ClosingTime = Annotated[
    str, AfterValidator(_closing_time), Field(json_schema_extra={"pattern": _CLOSING_PATTERN})
]
"""A time of the wall clock, HH:MM; 24:00 is the end of the day."""


class DayRule(RequestBody):
    """When sessions of one weekday may be booked, in the organization's time zone.

    `end_time` may be 24:00, the end of the day.
    """

    enabled: bool
    start_time: ClockTime | None = Field(default=None, validate_default=True)
    end_time: ClosingTime | None = Field(default=None, validate_default=True)

    @field_validator("start_time", "end_time")
    @classmethod
    def _known_on_an_open_day(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None and info.data.get("enabled"):
            raise PydanticCustomError("missing_time", "is needed, as HH:MM, on an enabled day")
        return value

    @field_validator("end_time")
    @classmethod
    def _after_the_start(cls, value: str | None, info: ValidationInfo) -> str | None:
        start = info.data.get("start_time")
        if value is not None and start is not None and value <= start:
            raise PydanticCustomError("end_before_start", "must be later than start_time")
        return value


def _days_of_the_week(value: Any) -> Any:
    """Refuse unknown weekdays with errors that name them, which the error of a key would not."""
    unknown = [day for day in value if day not in WEEKDAYS] if isinstance(value, dict) else []
    if unknown:
        kind = PydanticCustomError("unknown_day", f"is not a day: use {', '.join(WEEKDAYS)}")
        details = [InitErrorDetails(type=kind, loc=(day,), input=None) for day in unknown]
        raise ValidationError.from_exception_data("booking_rules", details)
    return value


BookingRules = Annotated[dict[Weekday, DayRule], BeforeValidator(_days_of_the_week)]
"""The opening times by weekday; a missing day is closed."""


def _without_repetition(days: list[int]) -> list[int]:
    if len(set(days)) != len(days):
        raise PydanticCustomError("repeated_day", "must name each day once")
    return days


def _in_cents(amount: Decimal) -> Decimal:
    """Return 400 as 400.00: events contain amounts as text, and equal prices must look equal."""
    return amount.quantize(Decimal("0.01"))


Sessions = Annotated[int, Field(ge=1, le=1000)]
BackupSessions = Annotated[int, Field(ge=0, le=1000)]
Minutes = Annotated[int, Field(ge=1, le=1440)]
Clients = Annotated[int, Field(ge=1, le=10_000)]
Days = Annotated[int, Field(ge=1, le=36_500)]
LeastMonths = Annotated[
    int,
    Field(
        ge=1,
        le=MAX_MONTHS,
        description="A paid voucher is valid for at least so many months from its first day. Null"
        " is no such rule. It excludes least_validity_years.",
    ),
]
LeastYears = Annotated[
    int,
    Field(
        ge=1,
        le=MAX_YEARS,
        description="A paid voucher is valid at least until the end of the year that is so many"
        " years after the year of the purchase; 3 in Germany. Null is no such rule.",
    ),
]
Price = Annotated[
    Money,
    Field(ge=0),
    AfterValidator(_in_cents),
    amount_schema(minimum=0, maximum=9_999_999_999.99),
]
IsoWeekday = Annotated[int, Field(ge=1, le=7)]
CustomDays = Annotated[
    list[IsoWeekday], Field(min_length=1, max_length=7), AfterValidator(_without_repetition)
]

NEEDS_DAYS = "is needed with frequency custom: ISO weekdays, 1 (Monday) to 7 (Sunday)"
REFUSES_DAYS = "is allowed with frequency custom only"


def fault_of_days(frequency: str, custom_days: list[int] | None) -> str | None:
    """Return what is wrong with the custom days of a frequency, or None."""
    if frequency == Frequency.CUSTOM and custom_days is None:
        return NEEDS_DAYS
    if frequency != Frequency.CUSTOM and custom_days is not None:
        return REFUSES_DAYS
    return None


def fault_of_price(price: Decimal, currency: str) -> str | None:
    """Return what is wrong with a price in a currency, or None."""
    if currency in WITHOUT_CENTS and price != price.to_integral_value():
        return f"must be a whole number: {currency} has no decimals"
    return None


def fault_of_validity(
    price: Decimal, validity_days: int, months: int | None, years: int | None
) -> tuple[str, str] | None:
    """Return the field and what is wrong with the validity and the least validity, or None.

    A least validity concerns paid vouchers only.
    """
    if months is not None and years is not None:
        return "least_validity_years", "must be null if least_validity_months is set"
    shortest = shortest_validity(months=months, years=years)
    if price and validity_days < shortest:
        return "validity_days", f"must be at least {shortest}, because of the least validity"
    return None


class VoucherTypeCreate(RequestBody):
    """A new voucher type. Durations are minutes, validity is days; the currency is that of the
    organization unless another is given."""

    name: Name
    session_name: Name | None = None
    description: Text | None = None
    total_sessions: Sessions
    backup_sessions: BackupSessions = 0
    session_duration_minutes: Minutes = 60
    max_clients_per_session: Clients = 1
    frequency: Choice[Frequency] = Frequency.WEEKLY
    custom_days: CustomDays | None = Field(default=None, validate_default=True)
    price: Price
    currency: Currency | None = None
    validity_days: Days = 365
    least_validity_months: LeastMonths | None = None
    least_validity_years: LeastYears | None = None
    booking_rules: BookingRules = Field(default_factory=dict)
    booking_policy: BookingPolicy = Field(default_factory=BookingPolicy)

    @field_validator("custom_days")
    @classmethod
    def _as_the_frequency_says(
        cls, value: list[int] | None, info: ValidationInfo
    ) -> list[int] | None:
        frequency = info.data.get("frequency")
        if frequency is not None and (fault := fault_of_days(frequency, value)):
            raise PydanticCustomError("custom_days", fault)
        return value

    def fields(self) -> dict[str, Any]:
        """Return the columns; rules and policy contain only the fields that were sent."""
        rules = self.model_dump(include={"booking_rules"}, exclude_unset=True)
        policy = {"booking_policy": self.booking_policy.stored()}
        return self.model_dump() | {"booking_rules": {}} | rules | policy


class VoucherTypeUpdate(RequestBody):
    """The fields to change; null empties an optional field."""

    model_config = ConfigDict(json_schema_extra=without_defaults)

    name: Name = ""
    session_name: Name | None = None
    description: Text | None = None
    total_sessions: Sessions = 1
    backup_sessions: BackupSessions = 0
    session_duration_minutes: Minutes = 60
    max_clients_per_session: Clients = 1
    frequency: Choice[Frequency] = Frequency.WEEKLY
    custom_days: CustomDays | None = None
    price: Price = Decimal(0)
    currency: Currency = ""
    validity_days: Days = 1
    least_validity_months: LeastMonths | None = None
    least_validity_years: LeastYears | None = None
    booking_rules: BookingRules = Field(default_factory=dict)
    booking_policy: BookingPolicy = Field(default_factory=BookingPolicy)

    def changes(self) -> dict[str, Any]:
        """Return the fields that were sent."""
        changes = self.model_dump(exclude_unset=True)
        if "booking_policy" in changes:
            changes["booking_policy"] = self.booking_policy.stored()
        return changes


def _object(rules: Any) -> Any:
    return rules if isinstance(rules, dict) else {}


RulesRead = Annotated[dict[str, Any], BeforeValidator(_object)]
"""Stored booking rules. A value that is no object, which only version 1 could write, is read as
no rules."""


class VoucherTypeRead(BaseModel):
    """A voucher type as the members of its organization see it."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    organization_id: int
    name: str
    session_name: str | None
    description: str | None
    total_sessions: int
    backup_sessions: int
    session_duration_minutes: int
    max_clients_per_session: int
    frequency: Frequency
    custom_days: list[int] | None
    price: Money
    currency: str
    validity_days: int
    least_validity_months: int | None
    least_validity_years: int | None
    booking_rules: RulesRead
    booking_policy: RulesRead
    is_active: bool
    deactivated_at: datetime | None
    created_at: datetime
    updated_at: datetime
    version: int


class AvailableVoucherType(VoucherTypeRead):
    """A voucher type that can be bought now; booking times are in the organization's time zone.

    `payment_methods` are the methods by which it can be paid now.
    """

    organization_name: str
    timezone: str
    payment_methods: list[PaymentMethod]
